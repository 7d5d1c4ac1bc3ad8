"""Kendall's τ-b along the last axis, for many comparisons at once."""

from __future__ import annotations

import numpy as np


def tau_b(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Signed τ-b of two rankings, ties in either corrected for.

    τ_b = (C − D) / √((N − A)(N − B)): C and D count concordant and discordant pairs of rows, N all pairs, A and B those
    tied in a and in b.

    a, b: [K, rows] whole or half numbers from 0 (average ranks). where: [K, rows], the rows that count. NaN where all
    are tied. Sorted by a and then b, the discordant pairs are the inversions of b, counted by merging (Knight 1966).
    """
    rows = a.shape[-1]
    base = 4 * rows + 4
    # Doubled, ranks are whole. Rows that do not count come last in both, in order: never tied, never inverted.
    last = 2 * rows + 2 + np.arange(rows)
    first, second = (np.where(where, 2 * values, last).astype(np.int64) for values in (a, b))
    joint = np.sort(first * base + second, axis=-1)
    tied_a, tied_b, tied_both = (_tied_pairs(values) for values in (joint // base, np.sort(second, axis=-1), joint))
    count = where.sum(axis=-1)
    pairs = count * (count - 1) // 2
    difference = pairs - tied_a - tied_b + tied_both - 2 * inversions(joint % base)
    scale = np.sqrt(((pairs - tied_a) * (pairs - tied_b)).astype(np.float64))
    return np.where(scale > 0, difference / np.where(scale > 0, scale, 1.0), np.nan)


def inversions(values: np.ndarray) -> np.ndarray:
    """Pairs i < j with values[i] > values[j] along the last axis. values: [K, rows] whole numbers from 0.

    Merging two sorted halves of width w puts the element j of the right one at place p: w − (p − j) on the left are
    larger. Every width is one sort of all blocks, with the place kept in the lower digits of the key.
    """
    size = 1 << max(int(values.shape[-1] - 1).bit_length(), 1)
    padding = np.full((len(values), size - values.shape[-1]), values.max(initial=0) + 1)
    blocks = np.concatenate([values, padding], axis=-1)
    total, width = np.zeros(len(values), dtype=np.int64), 1
    while width < size:
        place = np.arange(2 * width)
        keys = np.sort(blocks.reshape(len(values), size // (2 * width), 2 * width) * (2 * width) + place, axis=-1)
        right = (keys & (2 * width - 1)) >= width
        pairs = keys.shape[1]
        total += pairs * (width * width + width * (width - 1) // 2) - (right @ place).sum(axis=-1)
        blocks, width = keys >> (width.bit_length()), 2 * width
    return total


def _tied_pairs(ordered: np.ndarray) -> np.ndarray:
    """Pairs of equal values along the last axis, which is sorted."""
    place = np.arange(ordered.shape[-1])
    starts = np.ones(ordered.shape, dtype=bool)
    starts[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    return (place - np.maximum.accumulate(np.where(starts, place, 0), axis=-1)).sum(axis=-1)
