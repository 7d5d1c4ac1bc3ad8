"""Verdicts in words and the gaps behind them, as tables of a report."""

from __future__ import annotations

from typing import Any

import pandas as pd

from study.evidence import verdicts as rules
from study.evidence.paths import cell_paths
from study.evidence.report import cell_rows
from study.evidence.report.displays import Cell, Column, Table, across, column, fractions, label, sort_key
from study.evidence.tables import Tables
from study.evidence.tables.gaps import QUANTITIES, WHOLE

Shown = tuple[Column, list[Cell]]

VERDICTS = (
    "The first rule that applies: undefined or collapsed, where less than half of the comparisons have a correlation; noisy "
    f"truth, where the reliability of the actual changes over seeds is below {rules.RELIABLE:g}; faithful, where the interval of "
    f"the correlation begins at {rules.FAITHFUL:g} or above and the median slope lies within {rules.SLOPES[0]:g} to "
    f"{rules.SLOPES[1]:g}; else the largest gap between protocol and estimator by name, mixed where it is less than half of "
    "their sum."
)
GAPS = (
    "Root mean square over removals of the difference between two neighbouring nodes of a path, over that of the effect that "
    "the path's first node measures: means over usable comparisons, in test loss with 95% intervals over seeds (those of one "
    "minimum count as one), test rows and, where they are a sample, removed rows. Signed: the mean difference, positive where "
    "the later node's changes are larger. Gaps "
    f"may cancel: the {WHOLE} is the last node less the first."
)


def verdicts(tables: Tables) -> Table:
    """A row per cell, estimator and protocol."""
    table, primary = tables.verdicts, tables.experiment.primary
    rows = table.to_dict("records")
    shown = _leading(tables, table)
    shown += [column(name, table[name]) for name in ("estimator", "protocol", "verdict")]
    if (table["path"] != "").any():
        shown.append(column("largest gap", table["largest_gap"].replace("", "–")))
        shown.append(_numbers(table, "largest_share", "its share", "of the sum of the gaps between protocol and estimator"))
    shown.append(_intervals(rows, "correlation", f"{primary} correlation"))
    shown.append(_numbers(table, "slope_median", "slope", "of actual on predicted changes, median over usable comparisons"))
    if table["reliability"].notna().any():
        shown.append(_intervals(rows, "reliability", "reliability", "of the protocol's actual changes over seeds"))
    shown.append((Column("usable"), fractions(table["usable"], table["total"])))
    return Table("Verdicts by cell", *across(shown), notes=[VERDICTS])


def gaps(tables: Tables) -> Table | None:
    """A row per cell, path and gap; None where no record follows a path."""
    if tables.gaps.empty:
        return None
    keys = [*cell_paths(tables.experiment.swept_paths), "path", "position"]
    parts = {name: tables.gaps[tables.gaps["quantity"] == name] for name in QUANTITIES}
    table = parts["loss"].reset_index(drop=True)
    shown = _leading(tables, table)
    if table["path"].nunique() > 1:
        shown.append(column("path", table["path"]))
    shown += [column("gap", table["name"]), column("between", table["from"] + " → " + table["to"])]
    shown.append(_intervals(table.to_dict("records"), "relative", "in test loss", "root mean square over that of the effect"))
    shown.append(_numbers(table, "relative_signed", "signed", "mean over the root mean square of the effect"))
    for name in ("outputs", "parameters"):
        other = table[keys].merge(parts[name][[*keys, "relative"]], on=keys, how="left")
        shown.append(_numbers(other, "relative", f"in {name}", "root mean square over that of the effect"))
    shown.append(_numbers(table, "effect", "effect", "root mean square of the first node's changes of test loss"))
    shown.append((Column("usable"), fractions(table["usable"], table["total"])))
    return Table("Gaps by cell and path", *across(shown), notes=[GAPS])


def _leading(tables: Tables, table: pd.DataFrame) -> list[Shown]:
    """The swept values that tell rows apart; of keys that are swept together, each with the value of the others, the first."""
    shown: list[str] = []
    for path in cell_paths(tables.experiment.swept_paths):
        known = [one for one in shown if _last(one) == _last(path) and table[one].equals(table[path])]
        if not known and table[path].nunique(dropna=False) > 1:
            shown.append(path)
    return [column(label(path, shown), table[path]) for path in shown]


def _last(path: str) -> str:
    return path.rsplit(".", 1)[-1]


def _intervals(rows: list[Any], name: str, called: str, meaning: str = "") -> Shown:
    cells = [Cell(cell_rows.interval(row, name), sort_key(row[name])) for row in rows]
    return Column(called, meaning=meaning), cells


def _numbers(table: pd.DataFrame, name: str, called: str, meaning: str) -> Shown:
    cells = [Cell("–" if value != value else f"{value:.3g}", sort_key(value)) for value in table[name]]
    return Column(called, meaning=meaning), cells
