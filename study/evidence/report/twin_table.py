"""The twins as a table of a report: a row per twin and cell, both sides of each metric and their difference."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from study.evidence.paths import cell_paths
from study.evidence.report import cell_rows
from study.evidence.report.displays import Cell, Column, Table, across, column, label, sort_key
from study.evidence.statistics.paired import DIFFERENCE
from study.evidence.tables import Tables
from study.evidence.tables.twins import METRICS, SIDES

NAMES = {
    "spearman": "Spearman", "pearson": "Pearson", "slope_median": "slope", "mean_absolute_error": "mean absolute error",
    "sign_agreement": "sign agreement",
}  # fmt: skip
SMALL = ("slope_median", "mean_absolute_error")  # of any size: three digits, where the others have three decimals
NOTE = (
    "A twin compares cells as published with cells in which one thing is changed, matched on everything else. Means over the "
    "usable comparisons of each side (medians of slopes) with 95% intervals; the change is corrected less published over the "
    "comparisons, of equal seed and test row, that both sides can use, its interval that of a difference whose sides are "
    "resampled together. A null that is not subtracted moves intercepts, signs and errors, not correlations."
)
TREATED = {
    "absolute": "{side}: the absolute value of each correlation is averaged.",
    "raw": "{side}: actual changes are from the trained network, the null not subtracted.",
}


def twins(tables: Tables) -> Table | None:
    """None where the spec has no twins, or no record of both sides."""
    table = tables.twins
    if table.empty:
        return None
    rows: list[Any] = table.to_dict("records")
    paths = cell_paths(tables.experiment.swept_paths)
    shown = [column("change", table["twin"])]
    shown += [column(label(path, paths), table[path]) for path in paths if table[path].nunique(dropna=False) > 1]
    shown += [column(side, table[side]) for side in SIDES]
    for metric in sorted(METRICS, key=lambda name: name != tables.experiment.primary):
        for part, words in (*((side, side) for side in SIDES), (DIFFERENCE, "change")):
            head = Column(f"{NAMES[metric]} {words}")
            shown.append((head, [_interval(row, metric, part) for row in rows]))
    counts = [" → ".join(f"{row[f'usable_{side}']}/{row[f'total_{side}']}" for side in SIDES) for row in rows]
    shown.append((Column("usable", meaning="comparisons of each side"), [Cell(text) for text in counts]))
    shown.append(column("paired", table["paired"]))
    return Table("What each change does", *across(shown), notes=[NOTE, *_treated(table)])


def _interval(row: dict[str, Any], metric: str, part: str) -> Cell:
    value, low, high = (cell_rows.number(row[f"{metric}_{part}{end}"]) for end in ("", "_low", "_high"))
    form = f"{'+' if part == DIFFERENCE else ''}{'.3g' if metric in SMALL else '.3f'}"
    if math.isnan(value):
        return Cell("undefined", "")
    ends = "" if math.isnan(low) or math.isnan(high) else f" [{low:{form}}, {high:{form}}]"
    return Cell(f"{value:{form}}{ends}", sort_key(value))


def _treated(table: pd.DataFrame) -> list[str]:
    """What is done to one side's numbers only, by twin."""
    notes = []
    for name, group in table.groupby("twin", sort=False):
        for treatment, text in TREATED.items():
            if side := group[treatment].iloc[0]:
                notes.append(f"{name}, {text.format(side='both sides' if side == 'both' else side)}")
    return notes
