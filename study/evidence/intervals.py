"""From the draws of a bootstrap to an interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

LEVEL = 95.0

Transform = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Scale:
    """Where the draws of a metric spread alike whatever its value, and the way back."""

    there: Transform
    back: Transform


def _arcsine(shares: np.ndarray) -> np.ndarray:
    return np.arcsin(np.sqrt(np.clip(shares, 0.0, 1.0)))


def _share(angles: np.ndarray) -> np.ndarray:
    return np.sin(np.clip(angles, 0.0, np.pi / 2)) ** 2


CORRELATION = Scale(np.arctanh, np.tanh)
SCALES = {
    "pearson": CORRELATION,
    "spearman": CORRELATION,
    "sign_agreement": Scale(_arcsine, _share),
    "mean_absolute_error": Scale(np.log, np.exp),
}
PLAIN = Scale(np.asarray, np.asarray)


@dataclass(frozen=True, eq=False)
class Axis:
    """One resampled axis: how many units it has, and the draws of the metric when it alone is resampled."""

    units: int
    draws: np.ndarray


def interval(metric: str, estimate: float, draws: np.ndarray, axes: Sequence[Axis]) -> tuple[float, float]:
    """f⁻¹(f(estimate) ± t·s), f the scale of the metric: 95% two-sided.

    f is Fisher's z for a correlation, the arcsine of the root for a share, the logarithm for an error. With v the
    variance of f(draws), and v_a that when axis a of m_a units is resampled alone,

        s² = v + Σ v_a/(m_a − 1),        degrees of freedom of t = (Σ v_a)² / Σ v_a²/(m_a − 1).

    The sum in s² makes up for a resample of m units spreading by (m − 1)/m of what a sample does; one axis gives
    Student's interval. t as Welch and Satterthwaite have it: few seeds widen the interval as far as they matter.
    Both ends are NaN where the estimate is, or where fewer than two draws are defined; draws at which f is infinite
    are left out.

    Chosen by simulation, 500 experiments (600 where rows are fixed) of 400 draws each, so ± 1: % in which the percentile
    interval, and this one, covered the true mean correlation of that many rows. Seeds differ in noise, rows in effect
    (Student's t with 4 degrees of freedom, starred: normal).

        seeds × rows   mean r   Pearson         mean ρ   Spearman
        20 × 30        0.79     91.6 → 93.2     0.73     95.8 → 97.6
        20 × 30        0.996    91.8 → 92.4     0.990    95.0 → 98.4
        10 × 30*       0.95     92.4 → 95.0     0.93     97.8 → 96.4
        10 × 149       0.97     88.4 → 91.2     0.955    92.0 → 93.2
        20 × 149       0.80     94.0 → 95.2     0.74     95.8 → 96.2
        20 × 149*      0.994    90.0 → 92.0     0.992    94.8 → 92.4
        50 × 30        0.9996   88.8 → 90.2     0.998    88.0 → 100
        20 × 30 fixed  0.84     90.7 → 93.5     0.72     90.5 → 93.8
        10 × 30 fixed  0.996    83.2 → 91.7     0.989    87.3 → 93.8
        5 × 30 fixed   0.96     75.0 → 90.3     0.957    75.0 → 90.8

    Three crossed axes, 10 seeds × 60 rows × 5 test rows: Pearson 94, Spearman 96. The first line again, with other draws:
    Pearson 91.0 and 92.2, Spearman 95.8 and 97.0. The basic interval covered 71 to 92, bias-corrected percentiles 74 to
    98. Short of 92 stay five seeds of very unequal noise and Pearson of few heavy-tailed rows near one; beyond 98 goes
    Spearman within 0.01 of one.
    References: Fisher 1915; Satterthwaite 1946; Owen 2007 (the crossed v counts interactions more than once).
    """
    scale = SCALES.get(metric, PLAIN)
    with np.errstate(divide="ignore", invalid="ignore"):
        centre = float(scale.there(np.asarray(estimate)))
    variance = _variance(scale, draws)
    if np.isnan(centre) or np.isnan(variance):
        return np.nan, np.nan
    alone = np.nan_to_num([_variance(scale, axis.draws) for axis in axes])
    freedom = np.array([axis.units - 1 for axis in axes], dtype=np.float64)
    spread = np.sqrt(variance + (alone / freedom).sum())
    weight = (alone**2 / freedom).sum()
    degrees = alone.sum() ** 2 / weight if weight > 0 else freedom.min()
    reach = stdtrit(degrees, 0.5 + LEVEL / 200) * spread
    return float(scale.back(centre - reach)), float(scale.back(centre + reach))


def _variance(scale: Scale, draws: np.ndarray) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        values = scale.there(draws)
    values = values[np.isfinite(values)]
    return float(values.var(ddof=1)) if values.size > 1 else np.nan
