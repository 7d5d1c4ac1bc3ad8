"""Crossed bootstrap: how far the mean of a cell could move with other seeds, test rows and removed rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from study.evidence.statistics import counted
from study.evidence.statistics.intervals import Axis, Construction, interval
from study.evidence.statistics.metrics import Compared, measured

DRAWS = 1000
SEED = 20210511  # of every interval, so that cells are compared under common draws and a rebuild changes nothing
CROSSED, ALONE = slice(0, 2), slice(2, 4)  # of the sums and weights of one pass
CORRELATIONS = ("pearson", "spearman")
METRICS = counted.METRICS  # those that have an interval: the others would each cost more than all of these


@dataclass(frozen=True)
class Sampled:
    """Which axes of a cell are samples of something larger. One chosen by a rule is not resampled."""

    seeds: bool
    tests: bool
    rows: bool


@dataclass(frozen=True, eq=False)
class Resampled:
    """The mean over comparisons of each metric: as measured, in every draw, and in those of each resampled axis alone.

    alone: by the name of the axis, in the order seeds, tests, rows; empty where nothing is resampled.
    """

    mean: dict[str, float]
    crossed: dict[str, np.ndarray]
    alone: dict[str, dict[str, Axis]]


def crossed_bootstrap(
    values: Compared,
    seeds: np.ndarray,
    tests: np.ndarray,
    sampled: Sampled,
    generator: np.random.Generator,
    draws: int = DRAWS,
    ends: Construction = interval,
    unsigned: bool = False,
) -> dict[str, tuple[float, float]]:
    """The 95% interval of the mean over K comparisons, by metric; `ends` makes it from the draws.

    Each draw resamples seeds, test rows and removed rows (those that `sampled` names) once, with replacement, for all
    comparisons together. A comparison drawn m times counts m times in the mean; undefined ones are left out of it.

    values: [K, R], column j the same removed row in all. seeds, tests: [K], labels of the units that are resampled: of
    a comparison's seed (or of the minimum that several seeds share: see `minima`) and of its test row. An axis whose
    usable comparisons have one label cannot be resampled. Both ends are NaN when no axis is. unsigned: |r| in place of
    each correlation r, before any mean. Reference: Owen 2007, "The pigeonhole bootstrap".
    """
    found = resample(values, seeds, tests, sampled, generator, draws, unsigned)
    if not found.alone:
        return dict.fromkeys(METRICS, (np.nan, np.nan))
    return {m: ends(m, found.mean[m], found.crossed[m], [axis[m] for axis in found.alone.values()]) for m in METRICS}


def resample(
    values: Compared,
    seeds: np.ndarray,
    tests: np.ndarray,
    sampled: Sampled,
    generator: np.random.Generator,
    draws: int = DRAWS,
    unsigned: bool = False,
) -> Resampled:
    """The draws behind `crossed_bootstrap`."""
    found = _unsigned(measured(values), unsigned)
    usable = np.isfinite(found["pearson"])
    by_seed, by_test = _both(usable, seeds, tests, sampled, generator, draws)
    alone = {
        name: {m: Axis(axis.shares(usable), _means(found[m], *axes)) for m in METRICS}
        for name, axis, axes in _each(by_seed, by_test)
    }
    crossed = {m: _means(found[m], by_seed, by_test) for m in METRICS}
    if sampled.rows:
        rows = values.predicted.shape[1]
        crossed, resampled = _means_of_resampled(values, usable, by_seed, by_test, generator, unsigned)
        alone["rows"] = {m: Axis(np.full(rows, 1 / rows), resampled[m], lopsided=True) for m in METRICS}
    return Resampled({m: _mean(found[m]) for m in METRICS}, crossed, alone)


def mean_interval(
    metric: str,
    values: np.ndarray,
    seeds: np.ndarray,
    tests: np.ndarray,
    sampled: Sampled,
    generator: np.random.Generator,
    draws: int = DRAWS,
) -> tuple[float, float]:
    """The 95% interval of the mean of values [K], one per comparison, NaN where undefined; rows stay as they are.

    As `crossed_bootstrap` without its resampled rows: for what is not a metric of pairs. metric: says on which scale.
    """
    by_seed, by_test = _both(np.isfinite(values), seeds, tests, sampled, generator, draws)
    alone = _axes(values, by_seed, by_test)
    return interval(metric, _mean(values), _means(values, by_seed, by_test), alone) if alone else (np.nan, np.nan)


def ratio_interval(
    metric: str,
    top: np.ndarray,
    bottom: np.ndarray,
    seeds: np.ndarray,
    tests: np.ndarray,
    sampled: Sampled,
    generator: np.random.Generator,
    draws: int = DRAWS,
) -> tuple[float, float]:
    """The 95% interval of the mean over K comparisons of √(Σ_r top / Σ_r bottom), with the draws of `crossed_bootstrap`.

    top, bottom: [K, R], column j the same removed row in all, both 0 where a comparison leaves it out. A comparison whose
    sum below is 0 is undefined. metric: says on which scale.
    """
    values = _roots(top.sum(axis=1), bottom.sum(axis=1))
    by_seed, by_test = _both(np.isfinite(values), seeds, tests, sampled, generator, draws)
    alone, crossed = _axes(values, by_seed, by_test), _means(values, by_seed, by_test)
    if sampled.rows:
        rows = top.shape[1]
        counts = _resample(rows, generator, draws).T
        drawn = _roots(top @ counts, bottom @ counts)
        weight = by_seed.times[:, by_seed.unit].T * by_test.times[:, by_test.unit].T
        crossed = _weighted_mean(drawn, weight)
        alone.append(Axis(np.full(rows, 1 / rows), _weighted_mean(drawn, np.ones_like(weight)), lopsided=True))
    return interval(metric, _mean(values), crossed, alone) if alone else (np.nan, np.nan)


def weights(
    usable: np.ndarray,
    seeds: np.ndarray,
    tests: np.ndarray,
    sampled: Sampled,
    generator: np.random.Generator,
    draws: int = DRAWS,
) -> np.ndarray | None:
    """[draws, K] how often each draw takes each comparison, as `mean_interval` draws them; None where nothing varies."""
    by_seed, by_test = _both(usable, seeds, tests, sampled, generator, draws)
    if not (by_seed.varies or by_test.varies):
        return None
    return by_seed.times[:, by_seed.unit] * by_test.times[:, by_test.unit]


def _both(
    usable: np.ndarray,
    seeds: np.ndarray,
    tests: np.ndarray,
    sampled: Sampled,
    generator: np.random.Generator,
    draws: int,
) -> tuple[_Counts, _Counts]:
    """Of seeds and of test rows; an axis of one label stays."""
    by_seed, by_test = (
        _counts(labels, on and len(np.unique(labels[usable])) > 1, generator, draws)
        for labels, on in ((seeds, sampled.seeds), (tests, sampled.tests))
    )
    return by_seed, by_test


@dataclass(frozen=True)
class _Counts:
    """How often each draw takes each unit of one axis: times [draws, units]; unit [K], the unit of a comparison."""

    times: np.ndarray
    unit: np.ndarray
    varies: bool

    @property
    def units(self) -> int:
        return self.times.shape[1]

    def shares(self, usable: np.ndarray) -> np.ndarray:
        """[units] the part of the usable comparisons [K] that each unit stands for."""
        counts = np.bincount(self.unit[usable], minlength=self.units)
        return counts[counts > 0] / max(usable.sum(), 1)

    def fixed(self) -> _Counts:
        return _Counts(np.ones_like(self.times), self.unit, False)


def _counts(labels: np.ndarray, sampled: bool, generator: np.random.Generator, draws: int) -> _Counts:
    names, unit = np.unique(labels, return_inverse=True)
    if not sampled:
        return _Counts(np.ones((draws, len(names))), unit, False)
    return _Counts(_resample(len(names), generator, draws), unit, True)


def _resample(units: int, generator: np.random.Generator, draws: int) -> np.ndarray:
    """[draws, units] how often each unit is drawn."""
    drawn = generator.integers(units, size=(draws, units)) + units * np.arange(draws)[:, None]
    return np.bincount(drawn.ravel(), minlength=draws * units).reshape(draws, units).astype(np.float64)


def _each(by_seed: _Counts, by_test: _Counts) -> Iterator[tuple[str, _Counts, tuple[_Counts, _Counts]]]:
    """Name and counts of each axis that varies, and the counts of both when the other stays."""
    if by_seed.varies:
        yield "seeds", by_seed, (by_seed, by_test.fixed())
    if by_test.varies:
        yield "tests", by_test, (by_seed.fixed(), by_test)


def _axes(values: np.ndarray, by_seed: _Counts, by_test: _Counts) -> list[Axis]:
    """Each axis that varies, with the draws of the mean of values [K] when it alone does; the rows stay."""
    usable = np.isfinite(values)
    return [Axis(axis.shares(usable), _means(values, *axes)) for _, axis, axes in _each(by_seed, by_test)]


def _unsigned(found: dict[str, np.ndarray], wanted: bool) -> dict[str, np.ndarray]:
    return {name: np.abs(values) if wanted and name in CORRELATIONS else values for name, values in found.items()}


def _means(values: np.ndarray, by_seed: _Counts, by_test: _Counts) -> np.ndarray:
    """[draws]: the rows stay, so each comparison keeps its value and only its weight changes."""
    usable = np.isfinite(values)
    table = np.zeros((2, by_seed.times.shape[1], by_test.times.shape[1]))
    np.add.at(table, (0, by_seed.unit[usable], by_test.unit[usable]), values[usable])
    np.add.at(table, (1, by_seed.unit[usable], by_test.unit[usable]), 1.0)
    total, weight = ((by_seed.times @ part * by_test.times).sum(axis=1) for part in table)
    return _ratio(total, weight)


def _means_of_resampled(
    values: Compared,
    defined: np.ndarray,
    by_seed: _Counts,
    by_test: _Counts,
    generator: np.random.Generator,
    unsigned: bool,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """[draws] by metric, one resample of the removed rows per draw shared by all comparisons.

    The second is that of the rows alone: each comparison once.
    """
    draws = len(by_seed.times)
    counts = np.ascontiguousarray(_resample(values.predicted.shape[1], generator, draws).T)
    totals = {metric: np.zeros((4, draws)) for metric in METRICS}
    usable = np.flatnonzero(defined)
    for block, drawn in counted.metrics(values.take(usable), counts):
        index = usable[block]
        weight = by_seed.times[:, by_seed.unit[index]].T * by_test.times[:, by_test.unit[index]].T
        for metric, resampled in _unsigned(drawn, unsigned).items():
            finite = np.isfinite(resampled)
            terms = np.where(finite, resampled, 0.0)
            totals[metric] += ((terms * weight).sum(0), (finite * weight).sum(0), terms.sum(0), finite.sum(0))
    crossed, alone = ({metric: _ratio(*total[part]) for metric, total in totals.items()} for part in (CROSSED, ALONE))
    return crossed, alone


def _mean(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else np.nan


def _weighted_mean(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Over the finite ones of each column."""
    finite = np.isfinite(values)
    return _ratio((np.where(finite, values, 0.0) * weight).sum(axis=0), (finite * weight).sum(axis=0))


def _roots(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    return np.sqrt(_ratio(top, bottom))


def _ratio(total: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return np.where(weight > 0, total / np.where(weight > 0, weight, 1.0), np.nan)
