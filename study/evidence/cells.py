"""The table `cells`: one row per cell, estimator and protocol, with the mean correlations and their intervals.

A cell is all trials that share every swept value but the seed and what is held out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from study.evidence import comparisons
from study.evidence.bootstrap import DRAWS, LEVEL, METRICS, SEED, Sampled, crossed_bootstrap
from study.evidence.readings import Readings

HELD_OUT = ("data.test_rows", "data.split_seed")
SAMPLED_RULES = ("all", "random")  # of points.train: any other rule would choose the same rows again


def cell_paths(swept_paths: list[str]) -> list[str]:
    """The swept paths that tell cells apart."""
    return [path for path in swept_paths if path not in HELD_OUT and path != "seed"]


def build(readings: Readings, agreement: pd.DataFrame) -> pd.DataFrame:
    """`agreement` averaged over usable comparisons (one trial and test row each), never pooled.

    usable/total: comparisons with a defined correlation, and all. NAME, NAME_low, NAME_high: mean of the metric and the
    ends of its 95% crossed bootstrap interval (NaN when nothing could be resampled: see `resampled`).
    undefined: how many for which reason. The primary metric comes first.
    """
    paths = cell_paths(readings.experiment.swept_paths)
    columns = [*paths, "estimator", "protocol"]
    sizes = [comparisons.count(block) for block in readings.blocks]
    owners = np.repeat(np.arange(len(sizes)), sizes)
    rows = []
    for values, group in agreement.groupby(columns, sort=False, dropna=False):
        cell = _Cell(readings, group, owners[group.index])
        names = dict(zip(columns, values, strict=True)) | {"kind": group["kind"].iloc[0]}
        rows.append(names | _counts(cell) | _means(cell))
    table = pd.DataFrame(rows, columns=[*columns, *_found(readings.experiment.primary)])
    table = table.astype({path: agreement[path].dtype for path in paths})
    table.insert(0, "experiment", readings.experiment.name)
    return table


@dataclass(frozen=True)
class _Cell:
    """Its rows of `agreement`, and for each of them the index of its block."""

    readings: Readings
    group: pd.DataFrame
    owners: np.ndarray

    @property
    def seeds(self) -> np.ndarray:
        return self.group["seed"].to_numpy()

    @property
    def tests(self) -> np.ndarray:
        """[K] a number per test row; the same row held out together with others is another one."""
        paths = [path for path in self.readings.experiment.swept_paths if path in HELD_OUT]
        return self.group.groupby([*paths, "test_row"], sort=False, dropna=False).ngroup().to_numpy()

    @property
    def sampled(self) -> Sampled:
        """What the cell holds a sample of. Neither a lone seed is one nor rows that a rule would choose again."""
        points = self.readings.blocks[self.owners[0]].record.header["spec"]["points"]
        any_test = points["test"] == "all" or any(path in HELD_OUT for path in self.readings.experiment.swept_paths)
        return Sampled(
            seeds=len(np.unique(self.seeds)) > 1,
            tests=any_test and len(np.unique(self.tests)) > 1,
            rows=points["train"] in SAMPLED_RULES,
        )

    def aligned(self) -> tuple[np.ndarray, np.ndarray]:
        """predicted and actual [K, rows], a column per removed row of the data set, NaN where it is not used.

        Comparisons of a trial whose correlations are undefined stay NaN, and so undefined, throughout.
        """
        blocks = [self.readings.blocks[owner] for owner in self.owners]
        removed = np.unique(np.concatenate([block.removed for block in dict.fromkeys(blocks)]))
        predicted, actual = np.full((2, len(blocks), len(removed)), np.nan)
        names = zip(self.group["estimator"], self.group["protocol"], self.group["test_row"], strict=True)
        for row, (block, (estimator, protocol, test)) in enumerate(zip(blocks, names, strict=True)):
            if block.undefined:
                continue
            e, p = block.estimators.index(estimator), block.protocols.index(protocol)
            t = int(np.flatnonzero(block.tests == test)[0])
            used = block.used[e, p, t]
            columns = np.searchsorted(removed, block.removed[used])
            predicted[row, columns], actual[row, columns] = block.predicted[e, 0, t, used], block.actual[0, p, t, used]
        return predicted, actual


def _found(primary: str) -> list[str]:
    metrics = sorted(METRICS, key=lambda name: name != primary)
    numbers = [f"{name}{end}" for name in metrics for end in ("", "_low", "_high")]
    counts = ["kind", "trials", "seeds", "test_rows", "usable", "total"]
    return [*counts, *numbers, "rows_used", "rows_total", "undefined", "resampled", "draws", "level", "bootstrap_seed"]


def _counts(cell: _Cell) -> dict[str, Any]:
    group = cell.group
    reasons = group.loc[group["undefined"] != "", "undefined"].value_counts()
    return {
        "trials": len(np.unique(cell.owners)),
        "seeds": len(np.unique(cell.seeds)),
        "test_rows": len(np.unique(cell.tests)),
        "usable": int((group["undefined"] == "").sum()),
        "total": len(group),
        "rows_used": int(group["rows_used"].sum()),
        "rows_total": int(group["rows_total"].sum()),
        "undefined": ", ".join(f"{number} {reason}" for reason, number in reasons.items()),
    }


def _means(cell: _Cell) -> dict[str, Any]:
    sampled = cell.sampled
    predicted, actual = cell.aligned()
    # A fresh generator for every cell: all share their draws, and no interval depends on which others are computed.
    ends = crossed_bootstrap(predicted, actual, cell.seeds, cell.tests, sampled, np.random.default_rng(SEED))
    means: dict[str, Any] = {metric: cell.group[metric].mean() for metric in METRICS}
    for metric, (low, high) in ends.items():
        means |= {f"{metric}_low": low, f"{metric}_high": high}
    resampled = [name for name in ("seeds", "tests", "rows") if getattr(sampled, name)]
    return means | {
        "resampled": ", ".join(resampled) or "nothing",
        "draws": DRAWS,
        "level": LEVEL,
        "bootstrap_seed": SEED,
    }
