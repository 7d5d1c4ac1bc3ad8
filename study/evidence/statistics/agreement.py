"""Agreement of predicted and actual changes: signed correlations as pure array functions."""

from __future__ import annotations

import numpy as np

FEWEST = 3  # rows below which a correlation is not defined

# Values that spread less than this, relative to the largest of them, are rounding and not variance.
CONSTANT = 512 * np.finfo(np.float64).eps


def pearson(a: np.ndarray, b: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
    """Signed product-moment correlation along the last axis.

    r = Σ(a−ā)(b−b̄) / √(Σ(a−ā)² Σ(b−b̄)²)

    a, b: [..., rows], broadcast together. where: [..., rows], the rows that count (default: all).
    NaN where fewer than three rows count, where one that counts is not finite, or where a or b does not vary.
    """
    a, b, where = _broadcast(a, b, where)
    defined = is_defined(a, where) & is_defined(b, where)
    return np.where(defined, product_moment(a, b, where), np.nan)


def spearman(a: np.ndarray, b: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
    """Signed rank correlation along the last axis: `pearson` of the ranks, tied values sharing their average rank.

    Shapes and undefined cases as in `pearson`; values equal up to rounding do not vary.
    """
    a, b, where = _broadcast(a, b, where)
    defined = is_defined(a, where) & is_defined(b, where)
    return np.where(defined, product_moment(ranks(a, where), ranks(b, where), where), np.nan)


def is_defined(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """True along the last axis where at least three rows count, all finite, and they vary by more than rounding."""
    finite = np.isfinite(values)
    counted = np.where(where & finite, values, np.nan)
    enough = where.sum(axis=-1) >= FEWEST
    high = np.where(np.isnan(counted), -np.inf, counted).max(axis=-1, initial=-np.inf)
    low = np.where(np.isnan(counted), np.inf, counted).min(axis=-1, initial=np.inf)
    with np.errstate(invalid="ignore"):
        varies = high - low > CONSTANT * np.maximum(np.abs(high), np.abs(low))
    return enough & varies & (finite | ~where).all(axis=-1)


def _broadcast(a: np.ndarray, b: np.ndarray, where: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    keep = np.ones((), dtype=bool) if where is None else np.asarray(where, dtype=bool)
    first, second, keep = np.broadcast_arrays(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64), keep)
    return first, second, keep


def product_moment(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> np.ndarray:
    """`pearson` of values known to vary."""
    return np.clip((unit(a, where) * unit(b, where)).sum(axis=-1), -1.0, 1.0)


def unit(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Centred, of length one, zero where a row does not count: the inner product of two is their correlation.

    Scaled by the largest value first, so that no square over- or underflows.
    """
    count = np.maximum(where.sum(axis=-1, keepdims=True), 1)
    values = np.where(where & np.isfinite(values), values, 0.0)
    largest = np.abs(values).max(axis=-1, keepdims=True, initial=0.0)
    values = values / np.where(largest > 0, largest, 1.0)
    centred = np.where(where, values - values.sum(axis=-1, keepdims=True) / count, 0.0)
    length = np.sqrt((centred**2).sum(axis=-1, keepdims=True))
    return centred / np.where(length > 0, length, 1.0)


def ranks(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Average ranks of the rows that count; what does not is ranked last, where it leaves the others as they are."""
    return average_ranks(np.where(where & np.isfinite(values), values, np.inf))


def average_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks 1, 2, … along the last axis, tied values sharing the average of theirs.

    As scipy.stats.rankdata, which is not used because importing it fails where torch is blocked.
    """
    order = np.argsort(values, axis=-1, kind="stable")
    ranked = np.take_along_axis(values, order, axis=-1)
    place = np.broadcast_to(np.arange(values.shape[-1]), values.shape)
    changes = ranked[..., 1:] != ranked[..., :-1]
    edge = np.ones((*values.shape[:-1], 1), dtype=bool)
    first = np.maximum.accumulate(np.where(np.concatenate([edge, changes], axis=-1), place, 0), axis=-1)
    ends = np.where(np.concatenate([changes, edge], axis=-1), place, values.shape[-1])
    last = np.minimum.accumulate(ends[..., ::-1], axis=-1)[..., ::-1]
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, (first + last) / 2 + 1, axis=-1)
    return ranks
