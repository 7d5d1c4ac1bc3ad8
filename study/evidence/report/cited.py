"""What `study cite` says of the tables beside `cells`, twins and gaps: sentences, and numbers with names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from study.evidence.paths import cell_paths
from study.evidence.report import cell_rows
from study.evidence.report.latex import number
from study.evidence.statistics.paired import DIFFERENCE
from study.evidence.tables import Tables
from study.evidence.tables.twins import CORRECTED, COUNTS, ENDS, METRICS, PUBLISHED, SIDES

Numbers = list[tuple[tuple[str, ...], str]]  # what a number stands for, word by word, and the number

NONE = cell_rows.shown_value(None)
GAP_COLUMNS = ("relative", "relative_low", "relative_high", "relative_signed", "effect", "usable", "total")
WHOLE = (*COUNTS, "paired")  # columns of counts


def twin_sentences(tables: Tables) -> list[str]:
    """`change, depth 1: Spearman 0.883 [0.653, 0.997] → 0.894 [0.893, 0.897], change +0.011 [−0.342, 0.240], …`, a line per pair
    of cells; none where the spec has no twins.
    """
    rows: list[Any] = tables.twins.to_dict("records")
    paths, found = cell_paths(tables.experiment.swept_paths), []
    for row in rows:
        own = [other for other in rows if other["twin"] == row["twin"]]
        name = ", ".join(filter(None, [row["twin"], _name(row, paths, own)]))
        metrics = sorted(METRICS[:2], key=lambda metric: metric != tables.experiment.primary)
        parts = [_change(row, metric) for metric in metrics]
        usable = " → ".join(f"{row[f'usable_{side}']} of {row[f'total_{side}']}" for side in SIDES)
        found.append(f"  {name}: {', '.join(parts)}; {usable} comparisons usable, {row['paired']} in both")
    return found


def gap_sentences(tables: Tables) -> list[str]:
    """`depth 1, hessian: warm/cold (cold → warm) 0.120 [0.100, 0.150], …`, a line per cell and path: root mean squares in test
    loss over that of the effect.
    """
    rows: list[Any] = tables.gaps[tables.gaps["quantity"] == "loss"].to_dict("records")
    paths, found = cell_paths(tables.experiment.swept_paths), dict[str, list[str]]()
    for row in rows:
        name = ", ".join(filter(None, [_name(row, paths, rows), row["path"]]))
        said = f"{row['name']} ({row['from']} → {row['to']}) {cell_rows.interval(row, 'relative')}"
        found.setdefault(name, []).append(said)
    return [f"  {name}: {'; '.join(parts)}" for name, parts in found.items()]


def twin_numbers(tables: Tables, paths: Sequence[str]) -> Numbers:
    """Of every pair of cells the metrics of both sides and their difference, with the ends of their intervals, and the counts.

    paths: those of which the experiment has several values.
    """
    rows: list[Any] = tables.twins.to_dict("records")
    parts = [f"{part}{end}" for part in (*SIDES, DIFFERENCE) for end in ENDS]
    columns = [f"{metric}_{part}" for metric in METRICS for part in parts]
    columns += [f"{count}_{side}" for count in COUNTS for side in SIDES] + ["paired"]
    return [
        ((tables.experiment.name, "Twin", row["twin"], *_at(row, paths), name), number(row[name], _whole(name)))
        for row in rows
        for name in columns
    ]


def gap_numbers(tables: Tables, paths: Sequence[str]) -> Numbers:
    """Of every gap in parameters, outputs and test loss GAP_COLUMNS; paths: as for twins."""
    rows: list[Any] = tables.gaps.to_dict("records")
    return [
        (
            (*_between(tables.experiment.name, row), *_at(row, paths), row["quantity"], name),
            number(row[name], _whole(name)),
        )
        for row in rows
        for name in GAP_COLUMNS
    ]


def _between(experiment: str, row: cell_rows.Row) -> tuple[str, ...]:
    return (experiment, "Gap", row["path"], "from", row["from"], "to", row["to"])


def _change(row: cell_rows.Row, metric: str) -> str:
    """Both sides and the paired change; just the sides where nothing is paired."""
    sides = [cell_rows.interval(_column(row, f"{metric}_{side}", metric), metric) for side in (PUBLISHED, CORRECTED)]
    said = f"{metric.capitalize()} {' → '.join(sides)}"
    value, low, high = (cell_rows.number(row[f"{metric}_{DIFFERENCE}{end}"]) for end in ENDS)
    if math.isnan(value):
        return said
    ends = "" if math.isnan(low) or math.isnan(high) else f" [{_signed(low)}, {_signed(high)}]"
    return f"{said}, change {_signed(value)}{ends}"


def _signed(value: float) -> str:
    return f"{round(value, 3) + 0.0:+.3f}"  # + 0.0: no sign of a zero that rounding left


def _column(row: cell_rows.Row, name: str, metric: str) -> cell_rows.Row:
    """As a row of `cells` has it."""
    return {f"{metric}{end}": row[f"{name}{end}"] for end in ENDS}


def _name(row: cell_rows.Row, paths: Sequence[str], rows: Sequence[cell_rows.Row]) -> str:
    """The values of the paths that vary among the rows, in words, where the row has one."""
    known = [path for path in cell_rows.varying(rows, paths) if cell_rows.shown_value(row[path]) != NONE]
    return ", ".join(f"{cell_rows.short(path, paths)} {cell_rows.shown_value(row[path])}" for path in known)


def _at(row: cell_rows.Row, paths: Sequence[str]) -> list[str]:
    """As the names of the cells have it: every path of which the experiment has several values, where the row has one."""
    named = [
        part
        for path in paths
        if cell_rows.shown_value(row[path]) != NONE
        for part in (cell_rows.short(path, paths), cell_rows.shown_value(row[path]))
    ]
    return ["At", *named] if named else []


def _whole(name: str) -> bool:
    return name.split("_")[0] in WHOLE
