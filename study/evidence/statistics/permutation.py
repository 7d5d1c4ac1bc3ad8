"""Permutation band: where the mean correlation of a cell lies when predictions are given to the wrong rows."""

from __future__ import annotations

import numpy as np

from study.evidence.statistics.agreement import ranks, unit
from study.evidence.statistics.intervals import LEVEL
from study.evidence.statistics.metrics import Compared

DRAWS = 2000
METRICS = ("pearson", "spearman")
BLOCK = 4_000_000  # numbers of an intermediate array


def bands(
    values: Compared, usable: np.ndarray, generator: np.random.Generator, draws: int = DRAWS
) -> dict[str, tuple[float, float]]:
    """The central 95% of the mean correlation over the K comparisons `usable`, by metric, when rows are permuted.

    One permutation of the cell's rows per draw is applied to the predictions of all seeds and test rows alike, so that
    what they share stays shared: many seeds with one ranking of rows make the band no narrower than one seed does.
    Ranks are permuted, not computed again. Both ends are NaN without a usable comparison.

    values: [K, R]. A comparison that uses only R_k of the R rows meets its own rows but in part; its term is scaled by
    √((R − 1)/(R_k − 1)), which gives it the variance 1/(R_k − 1) of a permutation among its own.
    Reference: Fisher 1935, "The design of experiments", section 21.
    """
    if not usable.any():
        return dict.fromkeys(METRICS, (np.nan, np.nan))
    kept, where = values.take(np.flatnonzero(usable)), values.used[usable]
    permutations = _permutations(where.shape[1], generator, draws)
    pairs = {
        "pearson": (unit(kept.predicted, where), unit(kept.actual, where)),
        "spearman": (unit(ranks(kept.predicted, where), where), unit(ranks(kept.ranked, where), where)),
    }
    scale = np.sqrt((where.shape[1] - 1) / (where.sum(axis=1, keepdims=True) - 1)) / len(where)
    return {metric: _central(permuted_sums(a * scale, b, permutations)) for metric, (a, b) in pairs.items()}


def permuted_sums(a: np.ndarray, b: np.ndarray, permutations: np.ndarray) -> np.ndarray:
    """Σ_k Σ_j a[k, π(j)] b[k, j] for each permutation π.

    With M = aᵀb it is Σ_j M[π(j), j], so a draw costs R and not K·R. a, b: [K, R]. permutations: [draws, R].
    """
    rows = a.shape[1]
    width = max(BLOCK // max(rows, len(permutations)), 1)
    total = np.zeros(len(permutations))
    for start in range(0, rows, width):
        columns = slice(start, start + width)
        inner = a.T @ b[:, columns]
        total += inner[permutations[:, columns], np.arange(inner.shape[1])].sum(axis=1)
    return total


def _permutations(rows: int, generator: np.random.Generator, draws: int) -> np.ndarray:
    return generator.permuted(np.broadcast_to(np.arange(rows), (draws, rows)), axis=1)


def _central(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return float(low), float(high)
