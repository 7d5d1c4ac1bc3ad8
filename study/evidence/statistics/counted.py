"""Metrics of resampled rows: what each is when draw d holds row j counts[j, d] times, for many comparisons at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from study.evidence.statistics.agreement import CONSTANT, FEWEST
from study.evidence.statistics.metrics import Compared

METRICS = ("pearson", "spearman", "slope", "intercept", "sign_agreement", "mean_absolute_error")
COMPARISONS, MOST_DRAWS = 8, 512  # of one block, so that
BLOCK = 80_000  # numbers per comparison in an intermediate array stay in cache


def metrics(values: Compared, counts: np.ndarray) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """For block after block of comparisons (their indices), each of METRICS as [comparisons, draws].

    counts: [R, draws] of whole numbers. NaN where a draw holds fewer than three of the rows that a comparison uses, or
    where what it holds does not vary.
    """
    ranked = RankCorrelations(counts)
    for start in range(0, len(values.predicted), COMPARISONS):
        index = slice(start, start + COMPARISONS)
        used = values.used[index]
        found = _moments(values.predicted[index], values.actual[index], used, counts)
        size = found.pop("size")
        error = np.abs(values.predicted[index] - values.actual[index])
        for name, rows in (("sign_agreement", values.agrees[index]), ("mean_absolute_error", error)):
            found[name] = np.where(found["defined"], np.where(used, rows, 0.0) @ counts / size, np.nan)
        del found["defined"]
        found["spearman"] = ranked(values.predicted[index], values.ranked[index], used)
        yield np.arange(start, start + len(used)), found


def _moments(a: np.ndarray, b: np.ndarray, used: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """Pearson, and slope and intercept of b on a. Shift and scale change a correlation by nothing but rounding."""
    (a, a_centre, a_scale), (b, b_centre, b_scale) = (_scaled(values, used) for values in (a, b))
    size, a_sum, b_sum, a_square, b_square, product = (x @ counts for x in (used * 1.0, a, b, a * a, b * b, a * b))
    whole = np.maximum(size, 1.0)
    a_variance, b_variance = a_square - a_sum**2 / whole, b_square - b_sum**2 / whole
    covariance = product - a_sum * b_sum / whole
    # A draw may take one value only; the sums of squares then differ by rounding (of order size · eps).
    defined = (np.minimum(a_variance, b_variance) > CONSTANT * size) & (size >= FEWEST)
    a_variance, b_variance = (np.where(defined, values, np.nan) for values in (a_variance, b_variance))
    slope = covariance / a_variance
    level = b_centre + b_scale * (b_sum - slope * a_sum) / whole
    slope = slope * (b_scale / a_scale)
    pearson = np.clip(covariance / np.sqrt(a_variance * b_variance), -1.0, 1.0)
    return {
        "pearson": pearson,
        "slope": slope,
        "intercept": level - slope * a_centre,
        "size": whole,
        "defined": defined,
    }


def _scaled(values: np.ndarray, used: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centred and of largest size one, 0 where not used; with the centre and scale [K, 1] taken away."""
    centre = np.where(used, values, 0.0).sum(axis=1, keepdims=True) / np.maximum(used.sum(axis=1, keepdims=True), 1)
    values = np.where(used, values - centre, 0.0)
    scale = np.abs(values).max(axis=1, keepdims=True, initial=0.0)
    scale = np.where(scale > 0, scale, 1.0)
    return values / scale, centre, scale


class RankCorrelations:
    """Spearman's correlation under resampled rows; the large arrays are allocated once and written over.

    Every draw is ranked anew, tied values averaged: with C(v) the number of drawn values below v, twice the centred
    average rank of v is C(v) + C(v⁺) − size, a whole number, so ranks and ties are exact.
    """

    def __init__(self, counts: np.ndarray) -> None:
        """counts: [R, draws]."""
        rows, draws = counts.shape
        width = int(np.clip(BLOCK // (rows + 1), 16, MOST_DRAWS))
        # No rank exceeds the number of rows: short numbers, half of which are summed and gathered in the same time.
        kind = np.int16 if rows < np.iinfo(np.int16).max else np.int32
        # The last row is that of rows which are not used.
        counts = np.concatenate([counts, np.zeros((1, draws))]).astype(kind)
        self._parts = [np.ascontiguousarray(counts[:, start : start + width]) for start in range(0, draws, width)]
        self._whole = np.empty((3, (rows + 1) * COMPARISONS * width), dtype=kind)
        self._ranks = np.empty((2, rows * COMPARISONS * width), dtype=np.float32)

    def __call__(self, a: np.ndarray, b: np.ndarray, used: np.ndarray) -> np.ndarray:
        """[K, draws]. a, b, used: [K, R] of at most COMPARISONS comparisons."""
        both = places(a, used), places(b, used)
        return np.concatenate([self._of_part(*both, used, part) for part in self._parts], axis=1)

    def _of_part(self, a: Places, b: Places, used: np.ndarray, counts: np.ndarray) -> np.ndarray:
        drawn = counts[:-1].astype(np.float32)
        weight = used.astype(np.float32)  # of one kind with the counts, or no BLAS multiplies them
        size = weight @ drawn
        rank_a, rank_b = (
            self._centred_ranks(order, counts, size, space) for order, space in zip((a, b), self._ranks, strict=True)
        )
        square_a, square_b = (
            np.einsum("rkd,rkd,rd->kd", ranks, ranks, drawn)
            if order.tied
            else (size * size * size - weight @ (drawn * drawn * drawn)) / 3
            for order, ranks in ((a, rank_a), (b, rank_b))
        )
        rank_a *= drawn[:, None]
        product = np.einsum("rkd,rkd->kd", rank_a, rank_b)
        defined = (square_a > 0) & (square_b > 0) & (size >= FEWEST)
        scale = np.sqrt(np.where(defined, square_a.astype(np.float64) * square_b, 1.0))
        return np.where(defined, np.clip(product / scale, -1.0, 1.0), np.nan)

    def _centred_ranks(self, order: Places, counts: np.ndarray, size: np.ndarray, space: np.ndarray) -> np.ndarray:
        """[R, K, draws] in `space`: twice the average rank of each row among those drawn, less its mean."""
        rows, comparisons, draws = *order.order.shape, counts.shape[1]
        below, first, second = (
            part[: (rows + extra) * size.size].reshape(-1, *size.shape)
            for part, extra in zip(self._whole, (1, 0, 0), strict=True)
        )
        np.take(counts, order.order, axis=0, out=first, mode="clip")
        below[0] = 0
        sums, terms = below.reshape(rows + 1, size.size), first.reshape(rows, size.size)
        for total, term, following in zip(sums[:-1], terms, sums[1:], strict=True):
            np.add(total, term, out=following)  # np.cumsum along the first axis takes seven times as long
        flat, column = below.reshape(-1, draws), np.arange(comparisons)
        np.take(flat, order.begin * comparisons + column, axis=0, out=first, mode="clip")
        np.take(flat, order.end * comparisons + column, axis=0, out=second, mode="clip")
        first -= size.astype(first.dtype)
        first += second
        ranks = space[: rows * size.size].reshape(rows, *size.shape)
        np.copyto(ranks, first)
        return ranks


@dataclass(frozen=True, eq=False)
class Places:
    """Of K orders of R rows, all arrays [R, K]: `order` the rows in it (R: not used); begin, end: of the ties of row j."""

    order: np.ndarray
    begin: np.ndarray
    end: np.ndarray
    tied: bool


def places(values: np.ndarray, used: np.ndarray) -> Places:
    """values, used: [K, R]."""
    values = np.where(used, values, np.inf)
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    place, rows = np.arange(values.shape[1]), values.shape[1]
    changes = np.ones((len(values), rows + 1), dtype=bool)
    changes[:, 1:-1] = ordered[:, 1:] != ordered[:, :-1]
    begin, end = np.empty((2, *values.shape), dtype=np.intp)
    first = np.maximum.accumulate(np.where(changes[:, :-1], place, 0), axis=1)
    last = np.minimum.accumulate(np.where(changes[:, 1:], place + 1, rows)[:, ::-1], axis=1)[:, ::-1]
    np.put_along_axis(begin, order, first, axis=1)
    np.put_along_axis(end, order, last, axis=1)
    tied = bool((used & (end - begin > 1)).any())
    # A row that is not used begins before all and ends after all: its centred rank is zero.
    begin, end = np.where(used, begin, 0), np.where(used, end, rows)
    order = np.where(np.take_along_axis(used, order, axis=1), order, rows)
    order, begin, end = (np.ascontiguousarray(part.T) for part in (order, begin, end))
    return Places(order, begin, end, tied)
