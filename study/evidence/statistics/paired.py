"""Paired differences: how the mean of a metric differs between two sides that measure the same comparisons in two ways."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from study.evidence.statistics import bootstrap
from study.evidence.statistics.bootstrap import DRAWS, METRICS, SEED, Resampled, Sampled
from study.evidence.statistics.intervals import LEVEL, Axis, interval
from study.evidence.statistics.metrics import Compared

DIFFERENCE = "difference"  # of any metric: its draws are taken as they are
Ends = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Side:
    """One way of measuring the comparisons. rows: whether its removed rows are a sample; unsigned: its correlations as |r|."""

    values: Compared
    rows: bool
    unsigned: bool = False

    def resample(self, seeds: np.ndarray, tests: np.ndarray, sampled: Sampled, draws: int) -> Resampled:
        chosen = Sampled(sampled.seeds, sampled.tests, self.rows)
        return bootstrap.resample(
            self.values, seeds, tests, chosen, np.random.default_rng(SEED), draws, unsigned=self.unsigned
        )


def differences(
    one: Side, other: Side, seeds: np.ndarray, tests: np.ndarray, sampled: Sampled, draws: int = DRAWS
) -> dict[str, tuple[float, float, float]]:
    """mean(other) − mean(one) over K comparisons, and its 95% interval, by metric.

    Comparison k and column j are the same seed, test row and removed row on both sides; every comparison is usable on both.
    Each draw takes the same seeds, test rows and, where both sides sample them, removed rows on both, so that what the sides
    share leaves the interval. seeds, tests: [K] labels as in `crossed_bootstrap`. Ends are NaN where nothing is resampled.
    """
    first, second = (side.resample(seeds, tests, sampled, draws) for side in (one, other))
    return {metric: _difference(metric, first, second) for metric in METRICS}


def _difference(metric: str, one: Resampled, other: Resampled) -> tuple[float, float, float]:
    estimate = other.mean[metric] - one.mean[metric]
    names = dict.fromkeys([*one.alone, *other.alone])
    if not names:
        return estimate, np.nan, np.nan
    alone = [_axis(metric, one, other, name) for name in names]
    return estimate, *interval(DIFFERENCE, estimate, other.crossed[metric] - one.crossed[metric], alone)


def _axis(metric: str, one: Resampled, other: Resampled, name: str) -> Axis:
    """Draws of the difference when this axis alone is resampled; a side that does not sample it stays at its mean."""
    axes = [side.alone[name][metric] if name in side.alone else None for side in (one, other)]
    first, second = (
        side.mean[metric] if axis is None else axis.draws for side, axis in zip((one, other), axes, strict=True)
    )
    known = next(axis for axis in axes if axis is not None)
    return Axis(known.shares, np.asarray(second - first), known.lopsided)


def median_interval(values: np.ndarray, seeds: np.ndarray, tests: np.ndarray, sampled: Sampled, draws: int = DRAWS) -> Ends:
    """The central 95% of the median of values [K] over resampled seeds and test rows; removed rows stay as they are."""
    return _central(_medians(values, seeds, tests, sampled, draws))


def median_difference(
    one: np.ndarray, other: np.ndarray, seeds: np.ndarray, tests: np.ndarray, sampled: Sampled, draws: int = DRAWS
) -> tuple[float, float, float]:
    """median(other) − median(one) over the same K comparisons, and the central 95% of it, both sides drawn together."""
    if not len(one):
        return np.nan, np.nan, np.nan
    first, second = (_medians(values, seeds, tests, sampled, draws) for values in (one, other))
    return float(np.median(other) - np.median(one)), *_central(second - first)


def _medians(values: np.ndarray, seeds: np.ndarray, tests: np.ndarray, sampled: Sampled, draws: int) -> np.ndarray:
    """[draws], a value drawn m times counting m times; empty where nothing is resampled."""
    weights = bootstrap.weights(np.isfinite(values), seeds, tests, sampled, np.random.default_rng(SEED), draws)
    if weights is None:
        return np.empty(0)
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[:, order], axis=1)
    half = below[:, -1:] / 2
    low, high = (below >= half).argmax(axis=1), (below > half).argmax(axis=1)
    return np.where(half[:, 0] > 0, (values[order][low] + values[order][high]) / 2, np.nan)


def _central(draws: np.ndarray) -> Ends:
    known = draws[np.isfinite(draws)]
    if not known.size:
        return np.nan, np.nan
    low, high = np.percentile(known, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return float(low), float(high)
