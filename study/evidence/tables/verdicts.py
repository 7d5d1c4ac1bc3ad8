"""The table `verdicts`: what becomes of every cell, estimator and protocol, in words, and the numbers that decide it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from study.evidence import verdicts
from study.evidence.paths import cell_paths
from study.evidence.readings import Readings
from study.evidence.verdicts import Numbers

PERFECT = 1 - 1e-12  # a mean correlation from where every comparison's is 1 but for rounding
COLLAPSED = "collapsed"  # the reason that `agreement` gives
FOUND = ("verdict", "path", "largest_gap", "largest_share", "usable", "total", "collapsed", "reliability", "reliability_low",
         "reliability_high", "correlation", "correlation_low", "correlation_high", "slope_median")  # fmt: skip


def build(
    readings: Readings, agreement: pd.DataFrame, cells: pd.DataFrame, gaps: pd.DataFrame, reliability: pd.DataFrame
) -> pd.DataFrame:
    """One row per cell, estimator and protocol, as `cells`: verdict by the rules of `study.evidence.verdicts`, then its grounds.

    path: the first of the spec's that leads from the protocol to the estimator; largest_gap, largest_share: the largest of its
    gaps between the two by name, in relative root mean square of the test loss, and its share of their sum. collapsed:
    comparisons that are undefined because the network collapsed. reliability...: of the protocol's actual changes, NaN where
    the table `reliability` does not know the cell. correlation: the primary metric; where it is exactly 1 in every comparison
    it has no interval, but no resample could be less, and its ends are 1 here.
    """
    paths, primary = cell_paths(readings.experiment.swept_paths), readings.experiment.primary
    keys = [*paths, "estimator", "protocol"]
    table = cells[["experiment", *keys, "kind", "usable", "total", "slope_median"]].copy()
    table["correlation"] = cells[primary]
    for end in ("_low", "_high"):
        table[f"correlation{end}"] = cells[f"{primary}{end}"].mask(cells[primary] >= PERFECT, 1.0)
    reasons = agreement["undefined"] == COLLAPSED
    table["collapsed"] = [int(reasons[rows].sum()) for rows in _groups(agreement, keys)]
    table = _with_reliability(table, reliability, keys)
    between = _Between(gaps, paths)
    found = [_row(row, between) for row in table.to_dict("records")]
    for name in ("verdict", "path", "largest_gap", "largest_share"):
        table[name] = pd.Series([row[name] for row in found], index=table.index, dtype=None if "share" in name else "str")
    return table[["experiment", *keys, "kind", *FOUND]]


def _groups(agreement: pd.DataFrame, keys: list[str]) -> list[Any]:
    """Index of the comparisons of each cell, in the order of `cells`, which groups the same table alike."""
    return [group.index for _, group in agreement.groupby(keys, sort=False, dropna=False)]


def _with_reliability(table: pd.DataFrame, reliability: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    names = [f"reliability{end}" for end in ("", "_low", "_high")]
    if reliability.empty:
        return table.assign(**dict.fromkeys(names, np.nan))
    return table.merge(reliability[[*keys, *names]], on=keys, how="left", validate="one_to_one")


class _Between:
    """The gaps in test loss between a protocol and an estimator of a cell."""

    def __init__(self, gaps: pd.DataFrame, paths: list[str]) -> None:
        self._paths = paths
        own = gaps[(gaps["quantity"] == "loss") & (gaps["position"] > 0)]  # position 0 is the whole path
        self._cells: dict[tuple[str, ...], list[dict[Any, Any]]] = {}
        for row in own.to_dict("records"):
            self._cells.setdefault(self._key(row), []).append(row)

    def _key(self, row: dict[Any, Any]) -> tuple[str, ...]:
        return tuple(str(row[path]) for path in self._paths)

    def of(self, row: dict[Any, Any]) -> tuple[str, dict[str, float]]:
        """The path, empty where there is none, and relative sizes by name, those of one name added."""
        rows = self._cells.get(self._key(row), [])
        for path in dict.fromkeys(gap["path"] for gap in rows):
            steps = {gap["from"]: gap for gap in reversed(rows) if gap["path"] == path}  # the first of several stays
            node, sizes = row["protocol"], dict[str, float]()
            while node in steps and node != row["estimator"]:
                gap = steps[node]
                if np.isfinite(gap["relative"]):
                    sizes[gap["name"]] = sizes.get(gap["name"], 0.0) + gap["relative"]
                node = gap["to"]
            if node == row["estimator"]:
                return path, sizes
        return "", {}


def _row(row: dict[Any, Any], between: _Between) -> dict[str, Any]:
    path, sizes = between.of(row)
    largest, share = verdicts.dominant(sizes)
    numbers = Numbers(
        row["total"], row["usable"], row["collapsed"], row["reliability"], row["correlation_low"], row["slope_median"], sizes
    )
    return {"verdict": verdicts.verdict(numbers), "path": path, "largest_gap": largest, "largest_share": share}
