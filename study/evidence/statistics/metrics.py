"""Every metric of agreement between predicted and actual changes, for many comparisons at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from study.evidence.statistics import kendall, ties
from study.evidence.statistics.agreement import is_defined, product_moment, ranks

MOST_TOP = 10  # rows at most in the overlap of the largest


@dataclass(frozen=True, eq=False)
class Compared:
    """K comparisons over R removed rows, all arrays [K, R] and NaN where a comparison does not use a row.

    predicted, actual: the changes. ranked: any numbers in the order of `actual` that are equal where it ties (see
    `ties.merged`). agrees: whether the signs do (see `ties.sign_scores`).
    """

    predicted: np.ndarray
    actual: np.ndarray
    ranked: np.ndarray
    agrees: np.ndarray

    @property
    def used(self) -> np.ndarray:
        return np.isfinite(self.predicted) & np.isfinite(self.actual)

    def take(self, index: np.ndarray) -> Compared:
        """Of the comparisons `index` only."""
        return Compared(self.predicted[index], self.actual[index], self.ranked[index], self.agrees[index])


def compared(
    predicted: np.ndarray, actual: np.ndarray, errors: np.ndarray | None = None, unsure: np.ndarray | None = None
) -> Compared:
    """predicted, actual: [K, R], NaN where not used.

    errors, unsure: [K, R], of each actual change within its trial, and of its distance from zero (default: 0).
    """
    where = np.isfinite(predicted) & np.isfinite(actual)
    predicted, actual = np.where(where, predicted, np.nan), np.where(where, actual, np.nan)
    ranked = ties.merged(actual, np.zeros(1) if errors is None else errors, where)
    return Compared(predicted, actual, ranked, ties.sign_scores(predicted, actual, 0.0 if unsure is None else unsure))


def measured(values: Compared) -> dict[str, np.ndarray]:
    """Every metric [K] of each comparison, NaN where its correlations are not defined.

    pearson, spearman: see `agreement`. kendall: see `kendall`. slope, intercept: see `line`. ratio: see `median_ratio`.
    sign_agreement: mean of `agrees`. mean_absolute_error: mean |predicted − actual|, in units of the target.
    top_k_overlap: see there.
    """
    where = values.used
    defined = is_defined(values.predicted, where) & is_defined(values.actual, where) & is_defined(values.ranked, where)
    keep, used = np.flatnonzero(defined), where[defined]
    predicted, actual, order = (part[keep] for part in (values.predicted, values.actual, values.ranked))
    rank_a, rank_b = ranks(predicted, used), ranks(order, used)
    slope, intercept = line(predicted, actual, used)
    found = {
        "pearson": product_moment(predicted, actual, used),
        "spearman": product_moment(rank_a, rank_b, used),
        "kendall": kendall.tau_b(rank_a, rank_b, used),
        "slope": slope,
        "intercept": intercept,
        "ratio": median_ratio(predicted, actual, used),
        "sign_agreement": mean(values.agrees[keep], used),
        "mean_absolute_error": mean(np.abs(predicted - actual), used),
        "top_k_overlap": top_k_overlap(predicted, actual, used),
    }
    return {name: _spread(part, keep, len(where)) for name, part in found.items()}


def line(predicted: np.ndarray, actual: np.ndarray, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope and intercept [K] of the least-squares line of actual on predicted.

    slope = Σ(p−p̄)(a−ā) / Σ(p−p̄)², intercept = ā − slope·p̄
    """
    centres = [mean(values, where) for values in (predicted, actual)]
    p, a = (np.where(where, v - c[:, None], 0.0) for v, c in zip((predicted, actual), centres, strict=True))
    largest = np.abs(p).max(axis=-1, initial=0.0)  # so that no square underflows
    p /= np.where(largest > 0, largest, 1.0)[:, None]
    slope = (p * a).sum(axis=-1) / (p**2).sum(axis=-1) / largest
    return slope, centres[1] - slope * centres[0]


def median_ratio(predicted: np.ndarray, actual: np.ndarray, where: np.ndarray) -> np.ndarray:
    """median_j aⱼ/pⱼ [K]: 1 where half the rows change more than predicted and half less, whatever a few rows do.

    Rows with a predicted change of zero do not count; NaN where no row does.
    """
    where = where & (predicted != 0)
    ratios = np.sort(np.divide(actual, predicted, out=np.full(where.shape, np.inf), where=where), axis=-1)
    last = where.sum(axis=-1) - 1
    ends = [
        np.take_along_axis(ratios, np.maximum(place, 0)[:, None], axis=-1)[:, 0] for place in (last // 2, -(-last // 2))
    ]
    return np.where(last >= 0, (ends[0] + ends[1]) / 2, np.nan)


def mean(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Over the rows that count."""
    return np.where(where, values, 0.0).sum(axis=-1) / where.sum(axis=-1)


def top_k(count: np.ndarray) -> np.ndarray:
    """How many rows the overlap looks at among `count`: a fifth, at least one and at most ten."""
    return np.clip(count // 5, 1, MOST_TOP)


def top_k_overlap(predicted: np.ndarray, actual: np.ndarray, where: np.ndarray) -> np.ndarray:
    """|top_k(|predicted|) ∩ top_k(|actual|)| / k: the share of the k most influential rows that was foreseen.

    Largest by absolute value, as the field compares rows of most influence whatever its sign; k: see `top_k`. Values
    tied at the edge share its places equally. By chance k/R.
    """
    k = top_k(where.sum(axis=-1))
    first, second = (membership(np.where(where, np.abs(v), -1.0), k) for v in (predicted, actual))
    return (first * second).sum(axis=-1) / k


def membership(sizes: np.ndarray, k: np.ndarray) -> np.ndarray:
    """[K, R] how likely each row is among the k [K] largest of its sizes [K, R] when ties are broken at random."""
    most = min(int(k.max(initial=1)), sizes.shape[-1])
    largest = -np.sort(-np.partition(sizes, -most, axis=-1)[:, -most:], axis=-1)
    edge = np.take_along_axis(largest, k[:, None] - 1, axis=-1)
    above, at = sizes > edge, sizes == edge
    left = (k - above.sum(axis=-1)) / at.sum(axis=-1)
    return np.where(above, 1.0, np.where(at, left[:, None], 0.0))


def _spread(values: np.ndarray, keep: np.ndarray, count: int) -> np.ndarray:
    whole = np.full(count, np.nan)
    whole[keep] = values
    return whole
