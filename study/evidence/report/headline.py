"""The headline of an experiment: what `study run` prints at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from study.evidence.paths import cell_paths
from study.evidence.report import answers, cell_rows
from study.evidence.store import Store
from study.evidence.tables import Tables

if TYPE_CHECKING:
    from study.trials import Experiment

WIDEST = 28  # characters of a swept value before it is cut
COMPARISON = ["trial", "test_row", "protocol"]


def headline(experiment: Experiment, store: Store) -> str:
    """The agreement of every cell, estimator and protocol as a text table, the primary metric first."""
    return text(Tables(experiment, store))


def text(tables: Tables) -> str:
    """As `headline`, from tables already at hand."""
    experiment, cells = tables.experiment, tables.cells
    lines = [f"{experiment.name}: {experiment.question}".removesuffix(": "), _presence(tables)]
    if len(cells):
        paths = cell_paths(experiment.swept_paths)
        lines += ["", *_rows(cells, paths, experiment.primary), "", *_notes(tables), *_spread(tables, paths)]
    return "\n".join(lines)


def _presence(tables: Tables) -> str:
    readings = tables.readings
    line = f"{len(readings.blocks)} of {len(tables.experiment.trials)} trials"
    return line + (f", damaged records left out: {len(readings.damaged)}" if readings.damaged else "")


def _rows(cells: pd.DataFrame, paths: list[str], primary: str) -> list[str]:
    metrics = sorted(("spearman", "pearson"), key=lambda name: name != primary)
    columns = {path: [_short(value) for value in cells[path]] for path in paths}
    columns |= {"estimator": list(cells["estimator"]), "protocol": list(cells["protocol"])}
    columns["usable"] = [f"{usable}/{total}" for usable, total in zip(cells["usable"], cells["total"], strict=True)]
    for metric in metrics:
        ends = zip(cells[metric], cells[f"{metric}_low"], cells[f"{metric}_high"], strict=True)
        columns[metric] = [_mean(*numbers) for numbers in ends]
    padded = []
    for name, values in columns.items():
        width = max(len(name), *map(len, values))
        padded.append([text.ljust(width) for text in (name, *values)])
    return ["  ".join(row).rstrip() for row in zip(*padded, strict=True)]


def _notes(tables: Tables) -> list[str]:
    cells = tables.cells
    first = cells.iloc[0]
    notes = [
        f"Mean over usable trials and test rows [{first['level']:.0f}% crossed bootstrap interval, "
        f"{first['draws']} draws, generator seed {first['bootstrap_seed']}]."
    ]
    if (cells["resampled"] == "nothing").any():
        notes.append("No interval: one seed or one minimum, and test rows and removed rows that a rule chose.")
    return [*notes, *_undefined(tables.agreement), *_left_out(tables.agreement)]


def _spread(tables: Tables, paths: list[str]) -> list[str]:
    """Lowest and highest cell of each correlation, and whether their intervals tell them apart."""
    rows: list[Any] = tables.cells.to_dict("records")
    metrics = sorted(answers.CORRELATIONS, key=lambda name: name != tables.experiment.primary)
    found = [cell_rows.lowest_and_highest(part, paths, metric) for part in cell_rows.series(rows) for metric in metrics]
    return list(filter(None, found))


def _undefined(agreement: pd.DataFrame) -> list[str]:
    """One comparison is one trial and test row against one protocol, however many estimators share its fate."""
    found = agreement[[*COMPARISON, "undefined"]].drop_duplicates()
    counts = found.loc[found["undefined"] != "", "undefined"].value_counts()
    if counts.empty:
        return []
    reasons = ", ".join(f"{number} {reason}" for reason, number in counts.items())
    total = len(found[COMPARISON].drop_duplicates())
    return [f"Undefined: {reasons}, of {total:,} comparisons (trial × test row × protocol)."]


def _left_out(agreement: pd.DataFrame) -> list[str]:
    """Of the comparisons that are defined; a row counts once if any estimator leaves it out."""
    defined = agreement[agreement["undefined"] == ""]
    rows = defined.groupby(COMPARISON)[["rows_used", "rows_total"]].min().sum()
    left_out = int(rows["rows_total"] - rows["rows_used"])
    if not left_out:
        return []
    return [f"{left_out:,} of {rows['rows_total']:,} removals of the others left out: not certified, or not finite."]


def _mean(mean: float, low: float, high: float) -> str:
    if pd.isna(mean):
        return "undefined"
    return f"{mean:6.3f}" + ("" if pd.isna(low) else f" [{low:.3f}, {high:.3f}]")


def _short(value: Any) -> str:
    text = "-" if pd.isna(value) else str(value)
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"
