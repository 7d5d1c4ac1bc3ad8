"""The tables of a report: columns of text that know what they are sorted by."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from study.evidence import answers, summaries
from study.evidence.tables import Tables

if TYPE_CHECKING:
    from study.trials import Experiment

MOST_TRIALS = 1000  # rows of the table of trials; beyond it the CSV file is the place to look
DRAWN = ("level", "draws", "bootstrap_seed")  # how intervals were drawn: the same for every cell
BOOKKEEPING = ("experiment", "kind", "usable", "total", "rows_used", "rows_total", *DRAWN)
ALWAYS_SHOWN = ("minima", "spearman", "pearson", "kendall")  # even where it is the same in all cells
TRIAL_COLUMNS = (
    "protocol", "train_loss", "mean_test_loss", "train_accuracy", "gradient_norm", "smallest_eigenvalue",
    "largest_eigenvalue", "removals", "removals_certified", "removals_flagged", "max_delta_error", "sd_actual", "flags",
)  # fmt: skip


@dataclass(frozen=True)
class Column:
    label: str
    numeric: bool = True


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


def cells(experiment: Experiment, table: pd.DataFrame) -> list[Table]:
    """The table `cells` for reading: correlations and counts, then all other metrics.

    A metric and its interval stand in one column: any NAME with NAME_low and NAME_high, or NAME_band_low and
    NAME_band_high. What never varies is said in a note below.
    """
    paths = answers.cell_paths(experiment)
    metrics = [name for name in table.columns if f"{name}_low" in table and f"{name}_high" in table]
    bands = [name for name in table.columns if f"{name}_band_low" in table]
    ends = {f"{name}{end}" for name in metrics for end in ("_low", "_high")}
    ends |= {f"{name}_band{end}" for name in bands for end in ("_low", "_high")}
    shown = [name for name in table.columns if name not in ends and name not in BOOKKEEPING]
    shown = [name for name in shown if name != "trials" or (table["trials"] != table["seeds"]).any()]
    alike = [name for name in shown if name not in ALWAYS_SHOWN and _constant(table[name])]
    rest = [name for name in shown if name not in alike]
    leading = [column(_label(name, paths), table[name]) for name in rest if name in (*paths, "estimator", "protocol")]
    leading.append((Column("usable"), _fractions(table["usable"], table["total"])))
    rows: list[Any] = table.to_dict("records")
    first: list[tuple[Column, list[Cell]]] = []
    further: list[tuple[Column, list[Cell]]] = []
    for name in sorted((name for name in rest if name not in (*paths, "estimator", "protocol")), key=_order(table)):
        place = first if name in ALWAYS_SHOWN or not _is_metric(table[name]) else further
        if name in metrics or name.endswith(answers.BOUNDED):
            place.append(
                (Column(_label(name, paths)), [Cell(answers.interval(row, name), _key(row[name])) for row in rows])
            )
        else:
            place.append(column(_label(name, paths), table[name]))
        if name in bands:
            place.append((Column(f"{name} of shuffled rows"), _bands(table, name)))
    first.append((Column("removals counted"), _fractions(table["rows_used"], table["rows_total"])))
    found = [Table("Correlations by cell", *_across([*leading, *first]), notes=_cell_notes(table, alike))]
    return found + ([Table("Further metrics by cell", *_across([*leading, *further]))] if further else [])


def _order(table: pd.DataFrame) -> Callable[[str], int]:
    """Counts, then metrics, then words."""
    numeric = {name: pd.api.types.is_numeric_dtype(table[name]) for name in table.columns}
    return lambda name: 2 if not numeric[name] else 1 if name in ALWAYS_SHOWN[1:] or _is_metric(table[name]) else 0


def _is_metric(values: pd.Series) -> bool:
    """A mean, not a count or a word."""
    return pd.api.types.is_float_dtype(values) and not bool((values.dropna() % 1 == 0).all())


def _constant(values: pd.Series) -> bool:
    return len(values) > 1 and values.nunique(dropna=False) == 1


def _label(name: str, paths: list[str]) -> str:
    return answers.short(name, paths) if name in paths else name.replace("_", " ")


def _cell_notes(cells: pd.DataFrame, alike: list[str]) -> list[str]:
    if cells.empty:
        return []
    first = cells.iloc[0]
    notes = [
        "Each metric is a mean over usable (trial, test row) comparisons, never pooled; in brackets its crossed bootstrap "
        f"interval ({', '.join(f'{name} {answers.shown_value(first[name])}' for name in DRAWN if name in cells)})."
    ]
    named = [
        f"{name.replace('_', ' ')} {answers.shown_value(first[name])}"
        for name in alike
        if not _missing(first[name]) and first[name] != ""
    ]
    if named:
        notes.append(f"The same in all cells: {'; '.join(named)}.")
    if "minima" in cells and cells["minima"].notna().any():
        low, high = int(cells["minima"].min()), int(cells["minima"].max())
        reached = f"{low}" if low == high else f"{low} to {high}"
        notes.append(
            f"minima: distinct minima behind the seeds of a cell, {reached} here; seeds that share one are one observation."
        )
    return notes


def certificates(tables: Tables) -> Table:
    paths = answers.cell_paths(tables.experiment)
    rows = summaries.certificates(tables.readings, paths)
    shown = [name for name in (rows[0] if rows else {}) if name not in paths or answers.varying(rows, [name])]
    parts = {"trained certified": "trials", "removals certified": "removals"}
    columns: list[tuple[Column, list[Cell]]] = []
    for name in shown:
        whole = parts.get(name)
        values = pd.Series([row[name] for row in rows], dtype=object)
        if whole is not None:
            columns.append((Column(name), _fractions(values, pd.Series([row[whole] for row in rows]))))
        elif name != "removals":
            columns.append(column(answers.short(name, paths) if name in paths else name, values))
    return Table("Certificates by cell and protocol", *_across(columns))


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
    columns += [column(_label(name, paths), frame[name]) for name in names]
    return Table("Trials", *_across(columns))


def column(label: str, values: pd.Series) -> tuple[Column, list[Cell]]:
    """Numbers are aligned and sorted as numbers; everything else as text."""
    entries = list(values)
    numeric = all(_missing(value) or answers.is_number(value) for value in entries)
    if numeric and not all(_missing(value) for value in entries):
        return Column(label), [Cell(_number(value), _key(value)) for value in entries]
    return Column(label, False), [Cell("–" if _missing(value) else str(value)) for value in entries]


def _fractions(parts: pd.Series, totals: pd.Series) -> list[Cell]:
    return [
        Cell("–", "")
        if _missing(part)
        else Cell(f"{int(part):,}/{int(total):,}", _key(part / total if total else math.nan))
        for part, total in zip(parts, totals, strict=True)
    ]


def _bands(cells: pd.DataFrame, name: str) -> list[Cell]:
    ends = [
        (answers.number(low), answers.number(high))
        for low, high in zip(cells[f"{name}_band_low"], cells[f"{name}_band_high"], strict=True)
    ]
    return [Cell("–", "") if math.isnan(low) else Cell(f"{low:.3f} to {high:.3f}", _key(high)) for low, high in ends]


def _across(columns: list[tuple[Column, list[Cell]]]) -> tuple[list[Column], list[list[Cell]]]:
    return [column for column, _ in columns], [
        list(row) for row in zip(*(values for _, values in columns), strict=True)
    ]


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or value != value


def _number(value: Any) -> str:
    if _missing(value):
        return "–"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}" if abs(value) >= 10_000 else f"{int(value)}"
    return f"{float(value):.4g}"


def _key(value: Any) -> str:
    return "" if _missing(value) else f"{float(value):.12g}"
