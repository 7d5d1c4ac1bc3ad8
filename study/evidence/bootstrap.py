"""Crossed bootstrap: how far the mean correlation of a cell could move with other seeds, test rows and removed rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from study.evidence import agreement

DRAWS = 1000
SEED = 20210511  # of every interval, so that cells are compared under common draws and a rebuild changes nothing
LEVEL = 95.0
METRICS = ("pearson", "spearman")


@dataclass(frozen=True)
class Sampled:
    """Which axes of a cell are samples of something larger. One chosen by a rule is not resampled."""

    seeds: bool
    tests: bool
    rows: bool


def crossed_bootstrap(
    predicted: np.ndarray,
    actual: np.ndarray,
    seeds: np.ndarray,
    tests: np.ndarray,
    sampled: Sampled,
    generator: np.random.Generator,
    draws: int = DRAWS,
) -> dict[str, tuple[float, float]]:
    """The 95% percentile interval of the mean correlation over K comparisons, by metric.

    Each draw resamples seeds, test rows and removed rows (those that `sampled` names) once, with replacement, for all
    comparisons together. A comparison drawn m times counts m times in the mean; undefined ones are left out of it.

    predicted, actual: [K, rows], column j the same removed row in all, NaN where a comparison does not use it.
    seeds, tests: [K], labels of the seed and of the test row of each comparison. An axis with one label cannot be
    resampled. Both ends are NaN when no axis is. Reference: Owen 2007, "The pigeonhole bootstrap", section 3.
    """
    by_seed = _counts(seeds, sampled.seeds, generator, draws)
    by_test = _counts(tests, sampled.tests, generator, draws)
    if not (sampled.rows or by_seed.varies or by_test.varies):
        return dict.fromkeys(METRICS, (np.nan, np.nan))
    if sampled.rows:
        means = _means_of_resampled(predicted, actual, by_seed, by_test, generator)
    else:
        means = {metric: _means_of_fixed(predicted, actual, metric, by_seed, by_test) for metric in METRICS}
    return {metric: _interval(values) for metric, values in means.items()}


@dataclass(frozen=True)
class _Counts:
    """How often each draw takes each unit of one axis: times [draws, units]; unit [K], the unit of a comparison."""

    times: np.ndarray
    unit: np.ndarray
    varies: bool


def _counts(labels: np.ndarray, sampled: bool, generator: np.random.Generator, draws: int) -> _Counts:
    names, unit = np.unique(labels, return_inverse=True)
    if not sampled or len(names) < 2:
        return _Counts(np.ones((draws, len(names))), unit, False)
    return _Counts(_resample(len(names), generator, draws), unit, True)


def _resample(units: int, generator: np.random.Generator, draws: int) -> np.ndarray:
    return generator.multinomial(units, np.full(units, 1.0 / units), size=draws).astype(np.float64)


def _means_of_fixed(
    predicted: np.ndarray, actual: np.ndarray, metric: str, by_seed: _Counts, by_test: _Counts
) -> np.ndarray:
    """[draws]: the rows stay, so each correlation is computed once and only its weight changes."""
    function = agreement.spearman if metric == "spearman" else agreement.pearson
    values = function(predicted, actual, where=np.isfinite(predicted) & np.isfinite(actual))
    usable = np.isfinite(values)
    table = np.zeros((2, by_seed.times.shape[1], by_test.times.shape[1]))
    np.add.at(table, (0, by_seed.unit[usable], by_test.unit[usable]), values[usable])
    np.add.at(table, (1, by_seed.unit[usable], by_test.unit[usable]), 1.0)
    total, weight = ((by_seed.times @ part * by_test.times).sum(axis=1) for part in table)
    return _ratio(total, weight)


def _means_of_resampled(
    predicted: np.ndarray, actual: np.ndarray, by_seed: _Counts, by_test: _Counts, generator: np.random.Generator
) -> dict[str, np.ndarray]:
    """[draws] by metric, one resample of the removed rows per draw shared by all comparisons."""
    draws = len(by_seed.times)
    times = np.ascontiguousarray(_resample(predicted.shape[1], generator, draws).T)  # [rows, draws]
    totals = {metric: np.zeros((2, draws)) for metric in METRICS}
    used = np.isfinite(predicted) & np.isfinite(actual)
    usable = agreement.is_defined(predicted, used) & agreement.is_defined(actual, used)
    for comparison in np.flatnonzero(usable):
        rows = used[comparison]
        counts, a, b = times[rows], predicted[comparison, rows], actual[comparison, rows]
        weight = by_seed.times[:, by_seed.unit[comparison]] * by_test.times[:, by_test.unit[comparison]]
        for metric, function in (("pearson", counted_pearson), ("spearman", counted_spearman)):
            values = function(a, b, counts)
            defined = np.isfinite(values)
            totals[metric] += np.where(defined, weight, 0.0) * (np.where(defined, values, 0.0), np.ones(draws))
    return {metric: _ratio(*total) for metric, total in totals.items()}


def counted_pearson(a: np.ndarray, b: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Pearson of [rows] values when draw d holds row j counts[j, d] times. Returns [draws]."""
    a, b = (_scaled(values) for values in (a, b))
    sums = np.stack([np.ones_like(a), a, b, a * a, b * b, a * b]) @ counts
    size, a_sum, b_sum, a_square, b_square, product = sums
    with np.errstate(invalid="ignore", divide="ignore"):
        a_variance, b_variance = a_square - a_sum**2 / size, b_square - b_sum**2 / size
        values = (product - a_sum * b_sum / size) / np.sqrt(a_variance * b_variance)
    # A draw may take one value only; the sums of squares then differ by rounding (of order size · eps).
    defined = (np.minimum(a_variance, b_variance) > agreement.CONSTANT * size) & (size >= agreement.FEWEST)
    return np.where(defined, np.clip(values, -1.0, 1.0), np.nan)


def counted_spearman(a: np.ndarray, b: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Spearman of [rows] values when draw d holds row j counts[j, d] times: every draw is ranked anew, ties averaged.

    With C(v) the number of drawn values below v, twice the centred average rank of v is C(v) + C(v⁺) − size, an
    integer, so ranks and ties are exact. Returns [draws].
    """
    counts = counts.astype(np.float32)
    size = counts.sum(axis=0)
    a, b = (_centred_ranks(values, counts, size) for values in (a, b))
    a_counted = a * counts
    product, a_square = np.einsum("rd,rd->d", a_counted, b), np.einsum("rd,rd->d", a_counted, a)
    b *= b
    b_square = np.einsum("rd,rd->d", counts, b)
    defined = (a_square > 0) & (b_square > 0) & (size >= agreement.FEWEST)
    scale = np.sqrt(a_square.astype(np.float64) * b_square)
    return np.where(defined, np.clip(product / np.where(defined, scale, 1.0), -1.0, 1.0), np.nan)


def _centred_ranks(values: np.ndarray, counts: np.ndarray, size: np.ndarray) -> np.ndarray:
    order = np.argsort(values, kind="stable")
    below = np.zeros((len(values) + 1, counts.shape[1]), dtype=counts.dtype)
    for place, row in enumerate(order):  # np.cumsum along the first axis takes three times as long
        np.add(below[place], counts[row], out=below[place + 1])
    ranked = values[order]
    ranks = below[np.searchsorted(ranked, values, side="left")]
    ranks += below[np.searchsorted(ranked, values, side="right")]
    ranks -= size
    return ranks


def _scaled(values: np.ndarray) -> np.ndarray:
    """Centred and of largest size one: shift and scale leave a correlation as it is, rounding does not."""
    values = values - values.mean()
    return values / np.abs(values).max()


def _ratio(total: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return np.where(weight > 0, total / np.where(weight > 0, weight, 1.0), np.nan)


def _interval(means: np.ndarray) -> tuple[float, float]:
    means = means[np.isfinite(means)]
    if means.size == 0:
        return np.nan, np.nan
    low, high = np.percentile(means, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return float(low), float(high)
