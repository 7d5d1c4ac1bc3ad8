"""The tables of a citation in LaTeX: correlations by setting and axis for a paper's page, all cells for its appendix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from study.evidence import wording
from study.evidence.report import cell_rows
from study.evidence.report.cell_rows import Row
from study.evidence.report.courses import Courses
from study.evidence.report.latex import booktabs, escaped, in_mathematics
from study.evidence.tables import Tables

if TYPE_CHECKING:
    from study.trials import Experiment

METRICS = ("spearman", "pearson")
ALL_METRICS = (*METRICS, "kendall")
MOST_COLUMNS = 8  # of the axis, that fit a page


def by_axis(tables: Tables) -> str:
    """For each correlation, the primary first, a table of a row per setting and a column per value of the axis.

    Below each mean its interval, and usable/total where not all are. Where there is no axis, or one of more values than a
    page is wide, it is the table of all cells.
    """
    rows, metric = _rows(tables), tables.experiment.primary
    courses = Courses.of(tables.experiment, rows)
    if courses.axis is None or len(courses.paths[courses.axis]) > MOST_COLUMNS:
        return cells(tables)
    present = sorted((name for name in METRICS if name in tables.cells), key=lambda name: name != metric)
    return "\n".join(_crossed(tables.experiment, rows, courses, courses.axis, name) for name in present)


def cells(tables: Tables) -> str:
    """The table `cells` with booktabs (and longtable, where it needs more than a page)."""
    experiment, table, rows = tables.experiment, tables.cells, _rows(tables)
    courses = Courses.of(experiment, rows)
    parts = cell_rows.series(rows)
    paths = [path for path in courses.paths if any(cell_rows.varying(part.rows, [path]) for part in parts)]
    labels = [name for name in ("estimator", "protocol") if table[name].nunique() > 1]
    metrics = [name for name in table.columns if name in ALL_METRICS]
    names = [wording.name(path) for path in paths]
    heads = [
        *(name if name == "λ" else name.capitalize() for name in names),
        *map(str.capitalize, [*labels, *metrics]),
        "Usable",
    ]
    body = [
        [
            *(_words(courses.value(path, row)) for path in paths),
            *(escaped(str(row[name])) for name in labels),
            *(_interval(row, metric) for metric in metrics),
            f"{row['usable']}/{row['total']}",
        ]
        for row in rows
    ]
    layout = "l" * (len(paths) + len(labels)) + "r" * (len(metrics) + 1)
    caption = _caption(experiment, rows, "correlations")
    return booktabs(f"{experiment.name}_cells", layout, [list(map(_words, heads))], body, caption)


def _crossed(experiment: Experiment, rows: Sequence[Row], courses: Courses, axis: str, metric: str) -> str:
    values = sorted(courses.paths[axis], key=lambda given: (given is None, 0 if isinstance(given, str) else given))
    body: list[list[str]] = []
    for part in cell_rows.series(rows):
        title, settings = rf"\emph{{{escaped(part.name)}}}", courses.settings(part)
        if list(settings) != [""]:
            body.append([rf"\multicolumn{{{len(values) + 1}}}{{l}}{{{title}}}"])
        for name, own in settings.items():
            found = {wording.value(row[axis]): row for row in own}
            lines = list(zip(*(_stacked(found.get(given), metric) for given in values), strict=True))
            names = [rf"\quad {_words(name)}" if name else title, *[""] * len(lines)]
            body += [[name, *entries] for name, entries in zip(names, lines, strict=False) if any(entries)]
    label = rf"\multicolumn{{{len(values)}}}{{c}}{{{_words(wording.axis_label(axis))}}}"
    heads = [["", label], ["", *(_words(courses.value(axis, {axis: given})) for given in values)]]
    caption = _caption(experiment, rows, f"{metric.capitalize()} correlation")
    return booktabs(f"{experiment.name}_{metric}", "l" + "c" * len(values), heads, body, caption)


def _stacked(row: Row | None, metric: str) -> tuple[str, str, str]:
    """Mean, interval, and usable/total where not all are, to stand below each other."""
    if row is None:
        return "--", "", ""
    mean, low, high = (cell_rows.number(row.get(f"{metric}{end}")) for end in ("", "_low", "_high"))
    interval = "" if math.isnan(low + high) else rf"\scriptsize$[{low:.2f},{high:.2f}]$"
    counts = "" if row["usable"] == row["total"] else rf"\scriptsize {row['usable']}/{row['total']}"
    return "undefined" if math.isnan(mean) else f"${mean:.2f}$", interval, counts


def _interval(row: Row, metric: str) -> str:
    mean, low, high = (cell_rows.number(row.get(f"{metric}{end}")) for end in ("", "_low", "_high"))
    if math.isnan(mean):
        return "undefined"
    return f"${mean:.3f}$" if math.isnan(low) or math.isnan(high) else f"${mean:.3f}\\;[{low:.3f},\\,{high:.3f}]$"


def _caption(experiment: Experiment, rows: Sequence[Row], what: str) -> str:
    level = f"{cell_rows.number(rows[0]['level']):.0f}\\% crossed bootstrap intervals" if rows else "intervals"
    return (
        f"{escaped(experiment.question or experiment.name)} Mean {what} of predicted and actual changes in test "
        f"{_target(experiment)} over usable comparisons, with {level}; usable: comparisons with a defined correlation, of all."
    )


def _target(experiment: Experiment) -> str:
    return " or ".join(dict.fromkeys(str(trial.settings.target) for trial in experiment.trials))


def _words(text: str) -> str:
    return in_mathematics(escaped(text))


def _rows(tables: Tables) -> list[Any]:
    return list(tables.cells.to_dict("records"))
