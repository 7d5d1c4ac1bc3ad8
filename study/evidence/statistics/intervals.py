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


Construction = Callable[[str, float, np.ndarray, Sequence[Axis]], tuple[float, float]]


def interval(metric: str, estimate: float, draws: np.ndarray, axes: Sequence[Axis]) -> tuple[float, float]:
    """f⁻¹(f(estimate) ∓ t·s), f the scale of the metric, each end with a t and s of its own side: 95% two-sided.

    f is Fisher's z for a correlation, the arcsine of the root for a share, the logarithm for an error. With v twice
    the mean of max(±(f(draw) − median), 0)², + for the upper end, and v_a the same when axis a of m_a units is resampled
    alone,

        s² = v + Σ v_a/(m_a − 1),        degrees of freedom of t = (Σ v_a)² / Σ v_a²/(m_a − 1).

    The sum in s² makes up for a resample of m units spreading by (m − 1)/m of what a sample does; one axis with draws
    that spread evenly gives Student's interval. t as Welch and Satterthwaite have it: few seeds widen the interval as
    far as they matter. The sides are apart because one removed row can hold a correlation down: the draws without it lie
    far up on Fisher's scale, which says nothing about how low the correlation could be.
    Both ends are NaN where the estimate is, or where fewer than two draws are defined; draws at which f is infinite
    are left out. Coverage by simulation, beside that of other constructions: `benchmarks/coverage.py`.
    References: Fisher 1915; Satterthwaite 1946; Owen 2007 (the crossed v counts interactions more than once).
    """
    scale = SCALES.get(metric, PLAIN)
    centre = float(_scaled(scale, np.asarray(estimate)))
    values = _finite(scale, draws)
    if np.isnan(centre) or len(values) < 2:
        return np.nan, np.nan
    alone = [(_finite(scale, axis.draws), axis.units - 1) for axis in axes]
    ends = [centre + side * _reach(values, alone, side) for side in (-1, 1)]
    return float(scale.back(np.asarray(ends[0]))), float(scale.back(np.asarray(ends[1])))


def _reach(values: np.ndarray, alone: list[tuple[np.ndarray, int]], side: int) -> float:
    """t·s of one side."""
    spread = np.array([_one_sided(draws, side) for draws, _ in alone])
    freedom = np.array([units for _, units in alone], dtype=np.float64)
    weight = (spread**2 / freedom).sum()
    degrees = spread.sum() ** 2 / weight if weight > 0 else freedom.min()
    return float(stdtrit(degrees, 0.5 + LEVEL / 200) * np.sqrt(_one_sided(values, side) + (spread / freedom).sum()))


def _one_sided(values: np.ndarray, side: int) -> float:
    """Twice the mean of the squared distance from the median, 0 on the other side: the variance if both sides are alike."""
    if len(values) < 2:
        return 0.0
    return 2 * float(np.mean(np.maximum(side * (values - np.median(values)), 0.0) ** 2))


def _finite(scale: Scale, draws: np.ndarray) -> np.ndarray:
    values = _scaled(scale, draws)
    return values[np.isfinite(values)]


def _scaled(scale: Scale, values: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(scale.there(values))
