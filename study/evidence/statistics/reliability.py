"""Reliability of a truth that is measured over replicas: how much of its mean over them would be found again.

A replica is one measurement of the same changes: another seed, another pair of retrainings. With a_ki = m_k + e_i + ε_ki the
change of row i in replica k, the reliability of the mean over K replicas is the share of its variance over rows that replicas
have in common, var(e) / (var(e) + var(ε)/K). What a whole replica adds to all rows, m_k, is no noise to a correlation.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from study.evidence.statistics.agreement import is_defined

FEWEST_REPLICAS = 4  # below which a half is a single replica
SPLITS = 200
ERRORS = 1.96  # standard errors that an effect must exceed to stand out of its noise
LEAST_CERTAIN = 0.1  # of the reliability: below it a correction for noise would be mostly noise itself


class Halves(NamedTuple):
    """Random splits of K replicas in two halves of ⌊K/2⌋, one left out where K is odd: each [splits, K] of zeros and ones."""

    first: np.ndarray
    second: np.ndarray

    @property
    def size(self) -> int:
        return int(self.first[0].sum())


def halves(replicas: int, generator: np.random.Generator, count: int = SPLITS) -> Halves:
    places = generator.permuted(np.broadcast_to(np.arange(replicas), (count, replicas)), axis=1)
    half = replicas // 2
    return Halves((places < half) * 1.0, ((half <= places) & (places < 2 * half)) * 1.0)


def centred(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Less its mean over the rows that count, zero elsewhere; every test row in units of its largest value.

    values: [T, K, R]. where: [T, R].
    """
    keep = where[:, None, :]
    values = np.where(keep, values, 0.0)
    values = np.where(keep, values - values.sum(-1, keepdims=True) / np.maximum(keep.sum(-1, keepdims=True), 1), 0.0)
    largest = np.abs(values).max(axis=(1, 2), keepdims=True, initial=0.0)
    return values / np.where(largest > 0, largest, 1.0)


def half_reliability(values: np.ndarray, where: np.ndarray, split: Halves) -> np.ndarray:
    """ρ_h [T]: Pearson correlation over rows of the means of two disjoint halves of the replicas, mean over splits.

    values: [T, K, R]. where: [T, R], the rows that count. NaN where the mean over replicas does not vary over at least three
    rows.
    """
    parts = centred(values, where)
    found = _of_halves(parts, parts, split)
    return np.where(is_defined(values.mean(axis=1), where), found, np.nan)


def half_pearson(predicted: np.ndarray, actual: np.ndarray, where: np.ndarray, split: Halves) -> np.ndarray:
    """r_h [T]: Pearson correlation over rows of predictions averaged over one half with truth averaged over the other.

    Mean over splits and over which half predicts. predicted, actual: [T, K, R]. where: [T, R].
    """
    defined = is_defined(predicted.mean(axis=1), where) & is_defined(actual.mean(axis=1), where)
    return np.where(defined, _of_halves(centred(predicted, where), centred(actual, where), split), np.nan)


def _of_halves(a: np.ndarray, b: np.ndarray, split: Halves) -> np.ndarray:
    """Sums of products of all pairs of replicas, once: a split is then a quadratic form of K numbers and not of K·R."""
    own_a, own_b, product = a @ a.swapaxes(1, 2), b @ b.swapaxes(1, 2), a @ b.swapaxes(1, 2)
    found = []
    for first, second in ((split.first, split.second), (split.second, split.first)):
        scale = np.sqrt(_form(first, own_a, first) * _form(second, own_b, second))
        inner = np.where(scale > 0, _form(first, product, second) / np.where(scale > 0, scale, 1.0), np.nan)
        found.append(np.clip(inner, -1.0, 1.0).mean(axis=1))
    return (found[0] + found[1]) / 2


def _form(first: np.ndarray, products: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Σ_kl first[s, k] products[t, k, l] second[s, l]: [T, splits]."""
    return np.asarray(((first @ products) * second).sum(axis=-1))


def lengthened(correlation: np.ndarray | float, times: np.ndarray | float) -> np.ndarray:
    """Reliability of the mean over `times` as many replicas: mρ / (1 + (m − 1)ρ), for two halves 2ρ/(1 + ρ).

    Reference: Spearman 1910 and Brown 1910.
    """
    return np.asarray(times * correlation / (1 + (times - 1) * correlation))


def lengthened_pearson(pearson: float, correlation: float, times: float) -> float:
    """Correlation with the mean over `times` as many replicas, of r with one of reliability ρ: r √(m / (1 + (m − 1)ρ)).

    What does not change is the correlation with the truth without its noise, r/√ρ = r'/√ρ'. Reference: Spearman 1910.
    """
    return float(pearson * np.sqrt(times / (1 + (times - 1) * correlation)))


def ceiling(reliability: float) -> float:
    """√reliability: the correlation of the seed mean with its own expectation, and the most that one prediction of the
    expectation can reach on average. NaN where the reliability is not positive."""
    return float(np.sqrt(reliability)) if reliability > 0 else float("nan")


def standard_errors(values: np.ndarray) -> np.ndarray:
    """[T, R]: of the mean over K replicas, s/√K with s the standard deviation (ddof 1). values: [T, K, R]."""
    return np.asarray(values.std(axis=1, ddof=1) / np.sqrt(values.shape[1]))


def share_above_noise(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """[T]: share of the rows whose mean effect is more than 1.96 of its standard errors from zero.

    Without any effect 5% are of many replicas, 12% of five, 15% of four.
    """
    above = np.abs(values.mean(axis=1)) > ERRORS * standard_errors(values)
    return over_rows(above * 1.0, where)


def root_mean_square(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """[T] over the rows that count. values, where: [T, R]."""
    return np.sqrt(over_rows(np.where(where, values, 0.0) ** 2, where))


def over_rows(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    count = where.sum(axis=-1)
    return np.where(count > 0, np.where(where, values, 0.0).sum(axis=-1) / np.maximum(count, 1), np.nan)
