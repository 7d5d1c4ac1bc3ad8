"""The table `reliability`: how much of the truth of a cell is noise of its seeds, and what that leaves to predict."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from study.evidence.paths import cell_paths
from study.evidence.readings import Block, Readings
from study.evidence.statistics import jackknife, reliability
from study.evidence.statistics.agreement import FEWEST, is_defined, pearson
from study.evidence.statistics.bootstrap import SEED, Sampled
from study.evidence.tables.cells import Cell, Groups

TRIALS, RETRAINING = "trials", "retraining"  # replicas_from
PREFIX = "effects/"
COUNTS = ("kind", "replicas_from", "trials", "seeds", "replicas", "test_rows", "test_rows_total", "rows", "rows_total")
SIZES = ("effect_rms", "null_rms", "null_to_effect", "standard_error_rms", "share_above_noise")
RELIABILITY = ("half_reliability", "reliability", "reliability_low", "reliability_high", "ceiling")
CORRELATIONS = ("seed_mean_pearson", "disjoint_pearson", "disattenuated")
NUMBERS = ("replicas", *SIZES, *RELIABILITY, *CORRELATIONS)  # those that no other table of cells has
FOUND = (*COUNTS, *SIZES, *RELIABILITY, *CORRELATIONS, "undefined", "uncorrected", "resampled", "splits", "split_seed")


def build(readings: Readings, agreement: pd.DataFrame, cells: Groups) -> pd.DataFrame:
    """One row per cell, estimator and protocol. Numbers are of a test row and then averaged over test rows, never pooled.

    replicas_from: where the truth's replicas come from. "retraining": the retrainings within a trial, where its protocol
    records them (arrays effects/NAME); a test row is then one of one trial. "trials": the trials' seeds, those that reached
    one minimum averaged into one replica. replicas: how many, rows: removed rows that all of them measured (certified where
    the protocol certifies), of the test row with fewest; rows_total: removals selected in a trial, at most. trials, seeds,
    test_rows: those behind the reliability; test_rows_total: all that have any change.

    effect_rms: root mean square of the actual changes, over trials and rows. null_rms: of the null L_t(θ_null) − L_t(θ*), the
    drift, over trials. null_to_effect: their ratio. standard_error_rms: of the standard errors of the mean over replicas, over
    rows. share_above_noise: see `reliability.share_above_noise`.

    half_reliability: ρ_h, see `reliability.half_reliability`. reliability: of the mean over all replicas, by Spearman and Brown
    2ρ_h/(1 + ρ_h) where they are even in number; its interval: see `jackknife.interval`. ceiling: its root.

    seed_mean_pearson: Pearson correlation of predicted with actual changes, each averaged over all replicas ("retraining":
    the trial's one prediction); what a seed adds to both counts as agreement. disjoint_pearson: the same where they share no
    seed. Of trials that is r_h of disjoint halves, brought to the length of all replicas: r_h √(reliability/ρ_h).
    "retraining": seed_mean_pearson itself, for the trial's network is none of its replicas. disattenuated:
    disjoint_pearson/√reliability = r_h/√ρ_h, the correlation with a truth without noise of its seeds. It is not clipped and may
    exceed 1. It corrects nothing else: predictions averaged over half of the seeds keep the noise of that half, so it is at most
    the root of their own reliability on average. NaN where the interval of the reliability is unknown or reaches below 0.1:
    uncorrected says which. References: Spearman 1904, 1910; Brown 1910.

    undefined: test rows without a reliability, by reason.
    """
    paths = cell_paths(readings.experiment.swept_paths)
    columns = [*paths, "estimator", "protocol"]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = [names | row for (names, _), row in zip(cells, pool.map(_row, [c for _, c in cells]), strict=True)]
    table = pd.DataFrame(rows, columns=[*columns, *FOUND])
    table = table.astype({path: agreement[path].dtype for path in paths})
    table.insert(0, "experiment", readings.experiment.name)
    return table


@dataclass(frozen=True, eq=False)
class Replicas:
    """T test rows of K replicas over R rows: predicted [T, K, R], or [T, 1, R] where there is one; actual [T, K, R].

    where [T, R]: the rows that all replicas measured. replicas [K], rows [R], tests, trials [T]: labels of the units.
    """

    predicted: np.ndarray
    actual: np.ndarray
    where: np.ndarray
    replicas: np.ndarray
    rows: np.ndarray
    tests: np.ndarray
    trials: np.ndarray

    def take(self, index: np.ndarray) -> Replicas:
        """Of these test rows."""
        return Replicas(self.predicted[index], self.actual[index], self.where[index], self.replicas, self.rows,
                        self.tests[index], self.trials[index])  # fmt: skip

    def reasons(self, replicas: str) -> np.ndarray:
        """[T] why a test row has no reliability, or an empty text. replicas: what they are called."""
        few = f"too few {replicas}" if len(self.replicas) < reliability.FEWEST_REPLICAS else ""
        enough = self.where.sum(axis=1) >= FEWEST
        varies = is_defined(self.actual.mean(axis=1), self.where)
        return np.where(enough, few or np.where(varies, "", "constant"), "too few common rows")


class _Source:
    """A cell's trials that count: their arrays, with the labels that the cell gives to their test rows and minima."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.estimator, self.protocol = cell.group["estimator"].iloc[0], cell.group["protocol"].iloc[0]
        self.rows = np.unique(np.concatenate([block.removed for block in cell.blocks]))
        self.retrained = all(PREFIX + self.protocol in block.record.arrays for block in cell.blocks)

    def blocks(self) -> Iterator[tuple[Block, np.ndarray, np.ndarray, np.ndarray]]:
        """Each with [T, R] the rows it uses, none of a test row with too few, and the [T] labels of test rows and minima."""
        start = 0
        for block in self.cell.blocks:
            part = slice(start, start + len(block.tests))
            start = part.stop
            used = block.used[block.estimators.index(self.estimator), block.protocols.index(self.protocol)]
            if not block.undefined:
                used = used & (used.sum(axis=1, keepdims=True) >= FEWEST)
                yield block, used, self.cell.tests[part], self.cell.minima[part]

    def predicted(self, block: Block) -> np.ndarray:
        return block.predicted[block.estimators.index(self.estimator), 0]

    def actual(self, block: Block) -> np.ndarray:
        return block.actual[0, block.protocols.index(self.protocol)]


def _row(cell: Cell) -> dict[str, Any]:
    source = _Source(cell)
    found = list(_within_trials(source) if source.retrained else _over_trials(source))
    reasons = [part.reasons("retrainings" if source.retrained else "minima") for part in found]
    kept = [part.take(np.flatnonzero(why == "")) for part, why in zip(found, reasons, strict=True)]
    kept = [part for part in kept if len(part.tests)]
    sampled = Sampled(
        seeds=source.retrained and len(_distinct([part.trials for part in kept])) > 1,
        tests=cell.sampled.tests and len(_distinct([part.tests for part in kept])) > 1,
        rows=cell.sampled.rows,
    )
    replicas = "seeds" if sampled.seeds else "replicas"
    resampled = [replicas, *(name for name in ("tests", "rows") if getattr(sampled, name))]
    return {
        "kind": cell.group["kind"].iloc[0],
        "replicas_from": RETRAINING if source.retrained else TRIALS,
        **_counts(source, kept or found),
        **_sizes(source),
        **_numbers(kept, sampled),
        "undefined": _counted(reasons),
        "resampled": ", ".join(resampled) if kept else "nothing",
        "splits": reliability.SPLITS,
        "split_seed": SEED,
    }


def _within_trials(source: _Source) -> Iterator[Replicas]:
    """The retrainings of every trial."""
    start = 0
    for block, used, tests, minima in source.blocks():
        effects = block.record.arrays[PREFIX + source.protocol].transpose(2, 0, 1)
        names = np.arange(start, start + effects.shape[1])
        start += len(names)
        where = used & np.isfinite(effects).all(axis=1)
        yield Replicas(source.predicted(block)[:, None], effects, where, names, block.removed, tests, minima)


def _over_trials(source: _Source) -> Iterator[Replicas]:
    """The trials of every test row, those of one minimum averaged; test rows that have the same minima together."""
    cell, rows = source.cell, source.rows
    tests, minima = np.unique(cell.tests), np.unique(cell.minima)
    sums = np.zeros((2, len(tests), len(minima), len(rows)))
    count = np.zeros(sums.shape[1:])
    for block, used, test, minimum in source.blocks():
        place = np.ix_(
            np.searchsorted(tests, test), np.searchsorted(minima, minimum[:1]), np.searchsorted(rows, block.removed)
        )
        for total, values in zip(sums, (source.predicted(block), source.actual(block)), strict=True):
            total[place] += np.where(used, values, 0.0)[:, None]
        count[place] += used[:, None]
    predicted, actual = sums / np.maximum(count, 1)
    present = np.asarray(count.any(axis=2))
    everywhere = np.asarray(np.where(present[..., None], count, 1.0).all(axis=1))
    where = everywhere & present.any(axis=1, keepdims=True)
    patterns, which = np.unique(present, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        t, k = np.flatnonzero(which.ravel() == number), np.flatnonzero(pattern)
        if len(k):
            own = np.ix_(t, k)
            yield Replicas(predicted[own], actual[own], where[t], minima[k], rows, tests[t], tests[t])


def _counts(source: _Source, found: list[Replicas]) -> dict[str, Any]:
    """Of the test rows that have a reliability; of those that could have had one where none has."""
    cell, tests = source.cell, _distinct([part.tests for part in found])
    behind = np.isin(cell.tests, tests) & np.array([not cell.readings.blocks[o].undefined for o in cell.owners])
    changes = {label for _, used, labels, _ in source.blocks() for label in labels[used.any(axis=1)]}
    return {
        "trials": len(np.unique(cell.owners[behind])),
        "seeds": len(np.unique(cell.seeds[behind])),
        "replicas": min((len(part.replicas) for part in found), default=0),
        "test_rows": len(tests),
        "test_rows_total": len(changes),
        "rows": min((int(part.where.sum(axis=1).min()) for part in found), default=0),
        "rows_total": int(cell.group["rows_total"].max()),
    }


def _sizes(source: _Source) -> dict[str, float]:
    """Of the changes and the drift: root mean squares over the trials of each test row."""
    tests = np.unique(source.cell.tests)
    sums, counts = np.zeros((2, len(tests))), np.zeros((2, len(tests)))
    for block, used, labels, _ in source.blocks():
        place, null = np.searchsorted(tests, labels), block.record.arrays[f"null/{source.protocol}"]
        sums[0, place] += (np.where(used, source.actual(block), 0.0) ** 2).sum(axis=1)
        counts[0, place] += used.sum(axis=1)
        there = used.any(axis=1) & np.isfinite(null)
        sums[1, place] += np.where(there, null, 0.0) ** 2
        counts[1, place] += there
    effect, null = np.sqrt(np.where(counts > 0, sums / np.maximum(counts, 1), np.nan))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(effect > 0, null / effect, np.nan)
    return {"effect_rms": _mean(effect), "null_rms": _mean(null), "null_to_effect": _mean(ratio)}


def _numbers(kept: list[Replicas], sampled: Sampled) -> dict[str, Any]:
    """Averaged over the test rows of all parts."""
    if not kept:
        return {"uncorrected": "no reliability"}
    found = [_of_part(part) for part in kept]
    means = {name: _mean(np.concatenate([part[name] for part in found])) for name in found[0]}
    half, times = means["half_reliability"], means.pop("times")
    whole = float(reliability.lengthened(half, times))
    groups = [
        jackknife.Group(jackknife.left_out(part.actual, part.where), part.replicas, part.rows, np.asarray(part.where.any(axis=0)),
                        part.tests, part.trials)
        for part in kept
    ]  # fmt: skip
    low, high = jackknife.interval(whole, groups, sampled)
    certain = low >= reliability.LEAST_CERTAIN
    top = reliability.ceiling(whole)
    disjoint = means["seed_mean_pearson"]
    if "half_pearson" in means:
        disjoint = reliability.lengthened_pearson(means.pop("half_pearson"), half, times)
    return means | {
        "reliability": whole,
        "reliability_low": low,
        "reliability_high": high,
        "ceiling": top,
        "disjoint_pearson": disjoint,
        "disattenuated": disjoint / top if certain else np.nan,
        "uncorrected": _uncorrected(certain, disjoint),
    }


def _of_part(part: Replicas) -> dict[str, np.ndarray]:
    """By name, [T]. Every part draws its splits from a generator of its own: nothing depends on what else there is."""
    actual, where = part.actual, part.where
    split = reliability.halves(actual.shape[1], np.random.default_rng(SEED))
    found = {
        "half_reliability": reliability.half_reliability(actual, where, split),
        "times": np.full(len(actual), actual.shape[1] / split.size),
        "standard_error_rms": reliability.root_mean_square(reliability.standard_errors(actual), where),
        "share_above_noise": reliability.share_above_noise(actual, where),
        "seed_mean_pearson": pearson(part.predicted.mean(axis=1), actual.mean(axis=1), where),
    }
    if part.predicted.shape == actual.shape:
        found["half_pearson"] = reliability.half_pearson(part.predicted, actual, where, split)
    return found


def _uncorrected(certain: bool, disjoint: float) -> str:
    if not certain:
        return f"interval below {reliability.LEAST_CERTAIN:g}"
    return "" if np.isfinite(disjoint) else "no prediction varies"


def _counted(reasons: list[np.ndarray]) -> str:
    names, counts = np.unique(np.concatenate([np.empty(0, dtype=str), *reasons]), return_counts=True)
    return ", ".join(f"{count} {name}" for name, count in zip(names, counts, strict=True) if name)


def _distinct(parts: list[np.ndarray]) -> np.ndarray:
    return np.unique(np.concatenate([np.empty(0, dtype=np.int64), *parts]))


def _mean(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else np.nan
