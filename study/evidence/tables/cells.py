"""The table `cells`: one row per cell, estimator and protocol, with the mean agreement, its intervals and its bands.

A cell is all trials that share every swept value but the seed and what is held out.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from study.evidence.paths import HELD_OUT, cell_paths
from study.evidence.readings import Block, Readings
from study.evidence.statistics import bootstrap, permutation
from study.evidence.statistics.bootstrap import SEED, Sampled, crossed_bootstrap
from study.evidence.statistics.intervals import LEVEL
from study.evidence.statistics.metrics import Compared, compared
from study.evidence.tables import comparisons, minima

SAMPLED_RULES = ("all", "random")  # of points.train: any other rule would choose the same rows again
HEADLINE = ("pearson", "spearman")
REST = tuple(name for name in comparisons.METRICS if name not in HEADLINE)
# Predictions that hardly vary make a slope of any size, and one such comparison the mean of a cell.
MEDIANS = ("slope", "intercept", "ratio", "plugin_slope", "plugin_intercept", "plugin_ratio")
SINGLE = (0.05, 0.95)  # quantiles over test rows: where nine of ten lie


Groups = list[tuple[dict[str, Any], "Cell"]]  # the comparisons of each cell, with what tells it apart


def build(readings: Readings, agreement: pd.DataFrame, found: Groups) -> pd.DataFrame:
    """`agreement` averaged over usable comparisons (one trial and test row each), never pooled.

    usable/total: comparisons with a defined correlation, and all. minima: how many distinct ones stand behind the seeds
    of the usable ones. NAME: mean of every metric of `agreement`; NAME_low, NAME_high for those of `bootstrap.METRICS`:
    ends of its 95% crossed bootstrap interval (NaN when nothing could be resampled: see `resampled`). NAME_median for
    those of MEDIANS: over the same comparisons, the number to quote. NAME_band_low, NAME_band_high for pearson and
    spearman: where 95% of the mean lies when predictions are given to the wrong rows. NAME_test_rows_low,
    NAME_test_rows_high: where nine of ten test rows lie, each with its mean over seeds; NaN for one.
    rows_used/rows_total: removals behind the usable comparisons, and all. undefined: how many for which reason. The
    primary metric comes first.
    """
    paths = cell_paths(readings.experiment.swept_paths)
    columns = [*paths, "estimator", "protocol"]
    named = [names | {"kind": cell.group["kind"].iloc[0]} for names, cell in found]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # what takes time are array operations that let other threads run
        rows = [names | row for names, row in zip(named, pool.map(_row, [cell for _, cell in found]), strict=True)]
    table = pd.DataFrame(rows, columns=[*columns, *_found(readings.experiment.primary)])
    table = table.astype({path: agreement[path].dtype for path in paths})
    table.insert(0, "experiment", readings.experiment.name)
    return table


def grouped(readings: Readings, agreement: pd.DataFrame) -> Groups:
    """Every cell with its values of the paths, estimator and protocol, by name, in the order of the table."""
    columns = [*cell_paths(readings.experiment.swept_paths), "estimator", "protocol"]
    sizes = [comparisons.count(block) for block in readings.blocks]
    owners = np.repeat(np.arange(len(sizes)), sizes)
    return [
        (dict(zip(columns, values, strict=True)), Cell(readings, group, owners[group.index]))
        for values, group in agreement.groupby(columns, sort=False, dropna=False)
    ]


@dataclass(frozen=True)
class Cell:
    """Its comparisons: rows of `agreement` (or of another table with its labels), and for each the index of its block."""

    readings: Readings
    group: pd.DataFrame
    owners: np.ndarray

    @property
    def seeds(self) -> np.ndarray:
        return self.group["seed"].to_numpy()

    @property
    def usable(self) -> np.ndarray:
        return (self.group["undefined"] == "").to_numpy()

    @property
    def blocks(self) -> list[Block]:
        return [self.readings.blocks[owner] for owner in dict.fromkeys(self.owners.tolist())]

    @property
    def held_out(self) -> list[str]:
        return [path for path in self.readings.experiment.swept_paths if path in HELD_OUT]

    @cached_property
    def tests(self) -> np.ndarray:
        """[K] a number per test row; the same row held out together with others is another one."""
        return self.group.groupby([*self.held_out, "test_row"], sort=False, dropna=False).ngroup().to_numpy()

    @cached_property
    def minima(self) -> np.ndarray:
        """[K] a number per minimum: the unit of which the seeds are a sample."""
        owners, first, each = np.unique(self.owners, return_index=True, return_inverse=True)
        splits = list(self.group[self.held_out].iloc[first].astype("str").itertuples(index=False, name=None))
        blocks = [self.readings.blocks[owner] for owner in owners]
        labels = minima.label(blocks, self.group["protocol"].iloc[0], self.seeds[first], splits)
        return labels[each]

    @cached_property
    def sampled(self) -> Sampled:
        """What the cell holds a sample of. Neither a lone minimum is one nor rows that a rule would choose again."""
        points = self.blocks[0].record.header["spec"]["points"]
        any_test = points["test"] == "all" or bool(self.held_out)
        return Sampled(
            seeds=len(np.unique(self.minima[self.usable])) > 1,
            tests=any_test and len(np.unique(self.tests[self.usable])) > 1,
            rows=points["train"] in SAMPLED_RULES,
        )

    @property
    def removed(self) -> np.ndarray:
        """Every row that some trial removes, ascending."""
        return np.unique(np.concatenate([block.removed for block in self.blocks]))

    def aligned(self, raw: bool = False, removed: np.ndarray | None = None) -> Compared:
        """[K, rows], a column per row of `removed` (default: all the cell's own). Undefined trials stay NaN throughout.

        raw: actual changes from θ* instead of from the null.
        """
        estimator, protocol = self.group["estimator"].iloc[0], self.group["protocol"].iloc[0]
        removed = self.removed if removed is None else removed
        arrays = np.full((4, len(self.owners), len(removed)), np.nan)
        start = 0
        for block in self.blocks:
            rows = slice(start, start + len(block.tests))
            found = comparisons.of_block(block, block.estimators.index(estimator), block.protocols.index(protocol), raw)
            columns = np.searchsorted(removed, block.removed)
            arrays[:, rows, columns] = found.predicted, found.actual, found.errors, found.unsure
            start = rows.stop
        return compared(*arrays)


def _row(cell: Cell) -> dict[str, Any]:
    return _counts(cell) | _means(cell) | _intervals(cell)


def _found(primary: str) -> list[str]:
    headline = sorted(HEADLINE, key=lambda name: name != primary)
    numbers = [f"{name}{end}" for name in headline for end in ("", "_low", "_high")]
    counts = ["kind", "trials", "seeds", "test_rows", "usable", "total"]
    notes = ["rows_used", "rows_total", "undefined", "resampled", "draws", "level", "bootstrap_seed"]
    bands = [f"{name}_band_{end}" for name in headline for end in ("low", "high")]
    rest = [f"{name}{end}" for name in REST for end in _ends(name)]
    tests = [f"{name}_test_rows_{end}" for name in headline for end in ("low", "high")]
    return [*counts, *numbers, *notes, "minima", *bands, "band_draws", *tests, *rest, "top_k", "ties"]


def _ends(name: str) -> tuple[str, ...]:
    interval = ("_low", "_high") if name in bootstrap.METRICS else ()
    return ("", *interval, *(("_median",) if name in MEDIANS else ()))


def _counts(cell: Cell) -> dict[str, Any]:
    group = cell.group
    reasons = group.loc[~cell.usable, "undefined"].value_counts()
    return {
        "trials": len(np.unique(cell.owners)),
        "seeds": len(np.unique(cell.seeds)),
        "test_rows": len(np.unique(cell.tests)),
        "usable": int(cell.usable.sum()),
        "total": len(group),
        "minima": len(np.unique(cell.minima[cell.usable])),
        "rows_used": int(group["rows_used"].sum()),
        "rows_total": int(group["rows_total"].sum()),
        "undefined": ", ".join(f"{number} {reason}" for reason, number in reasons.items()),
        "ties": int(group.loc[cell.usable, "ties"].sum()),
    }


def _means(cell: Cell) -> dict[str, Any]:
    group = cell.group[cell.usable]
    means = {name: group[name].mean() for name in (*comparisons.METRICS, "top_k")}
    medians = {f"{name}_median": group[name].median() for name in MEDIANS}
    return means | medians | _single_tests(group, cell.tests[cell.usable])


def _single_tests(group: pd.DataFrame, tests: np.ndarray) -> dict[str, float]:
    means = group[list(HEADLINE)].groupby(tests).mean()
    ends = means.quantile(list(SINGLE)) if len(means) > 1 else means.quantile(list(SINGLE)) * np.nan
    return {
        f"{name}_test_rows_{end}": float(value)
        for name in HEADLINE
        for end, value in zip(("low", "high"), ends[name], strict=True)
    }


def _intervals(cell: Cell) -> dict[str, Any]:
    """Fresh generators for every cell: all share their draws, and nothing depends on which others are computed."""
    values, usable, sampled = cell.aligned(), cell.usable, cell.sampled
    kept = values.take(np.flatnonzero(usable))
    found: dict[str, Any] = {}
    ends = crossed_bootstrap(kept, cell.minima[usable], cell.tests[usable], sampled, np.random.default_rng(SEED))
    bands = permutation.bands(values, usable, np.random.default_rng(SEED))
    for metric, (low, high) in ends.items():
        found |= {f"{metric}_low": low, f"{metric}_high": high}
    for metric, (low, high) in bands.items():
        found |= {f"{metric}_band_low": low, f"{metric}_band_high": high}
    resampled = [name for name in ("seeds", "tests", "rows") if getattr(sampled, name)]
    return found | {
        "resampled": ", ".join(resampled) or "nothing",
        "draws": bootstrap.DRAWS,
        "level": LEVEL,
        "bootstrap_seed": SEED,
        "band_draws": permutation.DRAWS,
    }
