"""The tables of a report: columns of text that know what they are sorted by."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from study.evidence.paths import cell_paths
from study.evidence.report import cell_rows
from study.evidence.tables import Tables, estimates, summaries

MOST_TRIALS = 1000  # rows of the table of trials; beyond it the CSV file is the place to look
TRIAL_COLUMNS = (
    "protocol", "train_loss", "mean_test_loss", "train_accuracy", "gradient_norm", "smallest_eigenvalue",
    "largest_eigenvalue", "removals", "removals_certified", "removals_flagged", "max_delta_error", "sd_actual", "flags",
)  # fmt: skip


EVIDENCE = {
    "flagged": "trials of which the estimator raised a flag",
    "damping": "δ that was added to the matrix; of lissa the effective one, damping times scale",
    "residual": "largest ‖(M + δI)s − v‖/‖v‖ of the solves, at their own damping",
    "distance_from_exact": "largest distance of a test point's solution from H⁻¹∇L, undamped and exact, relative to it",
    "negative_eigenvalues": "most negative eigenvalues of the estimator's matrix",
    "negative_after_damping": "most eigenvalues that are negative even with the damping",
    "dropped_directions": "most directions left out as numerically singular",
    "condition_number": "largest by smallest size of the eigenvalues used",
    "iterations": "most iterations of any solve",
    "negative_curvature_met": "most solves that met negative curvature",
    "reduced": "1 where the matrix was reduced to a band once, which each damping factors anew",
    "formed": "1 where the matrix was formed because that is cheaper than its products",
    "block": "test points whose solves shared one Krylov space; 1 where each was solved alone",
    "distance_to_stationary": "largest distance of the changes from those after one more Newton step, relative to these",
    "actual_distance_to_stationary": "largest distance of the changes from certified stationary ones, relative to these",
    "reverse": "1 where adjoints of the test points went back through the run instead of tangents of the rows along it",
    "truncation_damping": "what stopping early is like: scale over depth, beside the damping",
    "difference_error": "distance of the derivative from a central difference of two runs, relative to the largest change",
    "mismatch": "largest distance of the changes from exact influence on all parameters, relative to it",
    "depth_used": "most steps of the recursion",
    "spread": "of single repeats about their mean, relative to it",
    "growth": "norm of the last iterate over the largest that a contraction can reach: above 1 the recursion diverges",
    "captured_gradient": "smallest share of a test gradient, squared, in the kept directions",
    "captured_spectrum": "smallest share of the matrix's eigenvalues, in size, that the kept directions hold",
}


@dataclass(frozen=True)
class Column:
    label: str
    numeric: bool = True
    meaning: str = ""  # shown where the pointer rests on the label


@dataclass(frozen=True)
class Cell:
    """What is shown, and the number it is sorted by: None sorts by the text, an empty text stays last."""

    text: str
    key: str | None = None


@dataclass(frozen=True)
class Table:
    caption: str
    columns: list[Column]
    rows: list[list[Cell]]
    notes: list[str] = field(default_factory=list)


def certificates(tables: Tables) -> Table:
    paths = cell_paths(tables.experiment.swept_paths)
    rows = summaries.certificates(tables.readings, paths)
    shown = [name for name in (rows[0] if rows else {}) if name not in paths or cell_rows.varying(rows, [name])]
    parts = {"trained certified": "trials", "removals certified": "removals"}
    columns: list[tuple[Column, list[Cell]]] = []
    for name in shown:
        whole = parts.get(name)
        values = pd.Series([row[name] for row in rows], dtype=object)
        if whole is not None:
            columns.append((Column(name), fractions(values, pd.Series([row[whole] for row in rows]))))
        elif name != "removals":
            columns.append(column(cell_rows.short(name, paths) if name in paths else name, values))
    return Table("Certificates by cell and protocol", *across(columns))


def estimators(tables: Tables) -> Table:
    """How predictions were obtained: of every cell and estimator the worst number over its trials."""
    paths = cell_paths(tables.experiment.swept_paths)
    worst = estimates.worst(tables.estimates, paths)
    names = [str(name) for name in worst if not worst[name].isna().all()]
    names = [name for name in names if name not in paths or worst[name].nunique(dropna=False) > 1]
    shown = []
    for name in names:
        head, entries = column(label(name, paths), worst[name])
        shown.append((Column(head.label, head.numeric, EVIDENCE.get(name, "")), entries))
    return Table("Estimates by cell", *across(shown))


def flags(counts: list[summaries.FlagCount], sizes: dict[str, int]) -> Table:
    levels = {
        "trained": "trained networks",
        "estimates": "estimates",
        "protocols": "protocols",
        "retrained": "retrained networks",
    }
    used = {name: label for name, label in levels.items() if any(getattr(count, name) for count in counts)}
    columns = [
        Column("flag", False),
        *(Column(f"of {sizes[name]:,} {label}") for name, label in used.items()),
        Column("meaning", False),
    ]
    rows = [
        [
            Cell(count.flag),
            *(Cell(f"{getattr(count, name):,}", str(getattr(count, name))) for name in used),
            Cell(count.meaning),
        ]
        for count in counts
    ]
    return Table(
        "Flags raised",
        columns,
        rows,
        ["A flag never removes a number from the records; what is not named here was not raised."],
    )


def trials(tables: Tables) -> Table | None:
    if not len(tables.trials) or len(tables.trials) > MOST_TRIALS:
        return None
    frame, paths = tables.trials, tables.experiment.swept_paths
    names = ["seed", *(path for path in paths if frame[path].nunique(dropna=False) > 1)]
    names += [name for name in TRIAL_COLUMNS if name in frame]
    key = [Cell(text[:12]) for text in frame["trial"]]
    columns = [(Column("key", False), key)]
    columns += [column(label(name, paths), frame[name]) for name in names]
    return Table("Trials", *across(columns))


def column(label: str, values: pd.Series) -> tuple[Column, list[Cell]]:
    """Numbers are aligned and sorted as numbers; everything else as text."""
    entries = list(values)
    numeric = all(missing(value) or cell_rows.is_number(value) for value in entries)
    if numeric and not all(missing(value) for value in entries):
        return Column(label), [Cell(_number(value), sort_key(value)) for value in entries]
    return Column(label, False), [Cell("–" if missing(value) else str(value)) for value in entries]


def fractions(parts: pd.Series, totals: pd.Series) -> list[Cell]:
    return [
        Cell("–", "")
        if missing(part)
        else Cell(f"{int(part):,}/{int(total):,}", sort_key(part / total if total else math.nan))
        for part, total in zip(parts, totals, strict=True)
    ]


def across(columns: list[tuple[Column, list[Cell]]]) -> tuple[list[Column], list[list[Cell]]]:
    return [column for column, _ in columns], [
        list(row) for row in zip(*(values for _, values in columns), strict=True)
    ]


def label(name: str, paths: list[str]) -> str:
    return cell_rows.short(name, paths) if name in paths else name.replace("_", " ")


def missing(value: Any) -> bool:
    return value is None or value is pd.NA or value != value


def _number(value: Any) -> str:
    if missing(value):
        return "–"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}" if abs(value) >= 10_000 else f"{int(value)}"
    return f"{float(value):.4g}"


def sort_key(value: Any) -> str:
    return "" if missing(value) else f"{float(value):.12g}"
