"""From the draws of a bootstrap to an interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

LEVEL = 95.0
TAIL = 0.5 + LEVEL / 200
LARGEST_CORRECTION = 2.0

Transform = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Scale:
    """Where the draws of a metric spread alike whatever its value, and the way back."""

    there: Transform
    back: Transform


def _arcsine(shares: np.ndarray) -> np.ndarray:
    return np.arcsin(np.sqrt(shares))


def _share(angles: np.ndarray) -> np.ndarray:
    return np.sin(np.clip(angles, 0.0, np.pi / 2)) ** 2


CORRELATION = Scale(np.arctanh, np.tanh)
SCALES = {
    "pearson": CORRELATION,
    "spearman": CORRELATION,
    "sign_agreement": Scale(_arcsine, _share),
    "recall": Scale(_arcsine, _share),
    "mean_absolute_error": Scale(np.log, np.exp),
    "relative": Scale(np.log, np.exp),
}
PLAIN = Scale(np.asarray, np.asarray)


@dataclass(frozen=True, eq=False)
class Axis:
    """One resampled axis: the draws of the metric when it alone is resampled.

    shares [m]: the part of all comparisons that each of its m units stands for, 1 in all. lopsided: whether single units
    may hold the metric to one side, as removed rows do, so that each side of the draws is taken by itself.
    """

    shares: np.ndarray
    draws: np.ndarray
    lopsided: bool = False

    @property
    def correction(self) -> float:
        """Variance of the mean over that of its resamples: m/(m − 1) where all m units have equal shares.

        The resamples of a mean of m values of variance σ² and shares w vary by Σ w²(x − x̄)², on average
        σ² Σ w²(1 − 2w + Σw²), where the mean itself has σ² Σw²: a unit of large share draws x̄ to itself. At most that of
        two equal shares: where one unit takes nearly all, the resamples do not tell how others would differ from it.
        """
        w = self.shares
        return min(float((w**2).sum() / self._trace), LARGEST_CORRECTION)

    @property
    def freedom(self) -> float:
        """Satterthwaite's degrees of freedom of Σ w²(x − x̄)²: m − 1 where shares are equal, fewer where not."""
        w = self.shares
        two, three, four, five = ((w**power).sum() for power in (2, 3, 4, 5))
        square = four * (1 + 4 * two) - 4 * five + 2 * three**2 - 4 * two**2 * three + two**4
        return float(self._trace**2 / square)

    @property
    def _trace(self) -> float:
        w = self.shares
        return float((w**2 * (1 - 2 * w + (w**2).sum())).sum())


Construction = Callable[[str, float, np.ndarray, Sequence[Axis]], tuple[float, float]]


def interval(metric: str, estimate: float, draws: np.ndarray, axes: Sequence[Axis]) -> tuple[float, float]:
    """f⁻¹(f(estimate) ∓ t·s), f the scale of the metric, each end with a t and s of its own side: 95% two-sided.

    f is Fisher's z for a correlation, the arcsine of the root for a share, the logarithm for an error. With v twice
    the mean of max(±(f(draw) − median), 0)², + for the upper end, v_a the same when axis a is resampled alone, c_a its
    correction and ν_a its degrees of freedom,

        s² = v + Σ (c_a − 1) v_a,        degrees of freedom of t = (Σ v_a)² / Σ v_a²/ν_a.

    The sum in s² makes up for a resample spreading less than a sample does; one axis of equal shares gives Student's
    interval. t as Welch and Satterthwaite have it: few seeds widen the interval as far as they matter.
    The sides are apart because one removed row can hold a correlation down: the draws without it lie far up on Fisher's
    scale, which says nothing about how low the correlation could be. The skew of a handful of seeds may be chance, though:
    v_a of an axis that is not `lopsided` is at least what alone gives Student's interval of the metric itself, both sides
    alike, and v gets what its own side of that axis falls short of it.
    Both ends are NaN where the estimate is, or where fewer than two draws are defined; draws at which f is infinite
    are left out. Coverage by simulation, beside that of other constructions: `benchmarks/coverage.py`.
    References: Fisher 1915; Satterthwaite 1946; Bell and McCaffrey 2002 (unequal shares); Owen 2007 (the crossed v
    counts interactions more than once).
    """
    scale = SCALES.get(metric, PLAIN)
    centre = float(_scaled(scale, np.asarray(estimate)))
    values = _finite(scale, draws)
    if np.isnan(centre) or len(values) < 2:
        return np.nan, np.nan
    ends = [centre + side * _reach(values, axes, scale, estimate, side) for side in (-1, 1)]
    return float(scale.back(np.asarray(ends[0]))), float(scale.back(np.asarray(ends[1])))


def _reach(values: np.ndarray, axes: Sequence[Axis], scale: Scale, estimate: float, side: int) -> float:
    """t·s of one side."""
    own = np.array([_one_sided(_finite(scale, axis.draws), side) for axis in axes])
    even = [0.0 if axis.lopsided else _even(axis, scale, estimate, side) for axis in axes]
    spread = np.maximum(own, even)
    freedom = np.array([axis.freedom for axis in axes])
    missing = np.array([axis.correction for axis in axes]) - 1
    weight = (spread**2 / freedom).sum()
    degrees = spread.sum() ** 2 / weight if weight > 0 else freedom.min()
    whole = max(_one_sided(values, side) + (spread - own).sum(), 0.0) + (missing * spread).sum()
    return float(stdtrit(degrees, TAIL) * np.sqrt(whole))


def _even(axis: Axis, scale: Scale, estimate: float, side: int) -> float:
    """v_a that alone gives Student's interval of the metric itself; 0 where that would leave the bounds of the metric."""
    times = float(stdtrit(axis.freedom, TAIL) * np.sqrt(axis.correction))
    end = estimate + side * times * float(np.nanstd(axis.draws))
    change = float(_scaled(scale, np.asarray(end)) - _scaled(scale, np.asarray(estimate)))
    return (change / times) ** 2 if np.isfinite(change) else 0.0


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
