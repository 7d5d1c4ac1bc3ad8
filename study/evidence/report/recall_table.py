"""The recall of nearest neighbours as a table of a report: a row per cell, layer, ranking and k, a column per m."""

from __future__ import annotations

import pandas as pd

from study.evidence.paths import cell_paths
from study.evidence.report import cell_rows
from study.evidence.report.displays import Cell, Column, Table, across, column, fractions, label, sort_key
from study.evidence.tables import Tables

NOTE = (
    "R@m: share of the m rows of largest change that is among the k nearest rows; it can be k/m at most. Predicted changes rank "
    "all rows, actual ones those that are certified. Intervals over seeds (those of one minimum count as one) and test rows."
)


def recall(tables: Tables) -> Table | None:
    """None where no record holds neighbours."""
    if tables.recall.empty:
        return None
    paths = cell_paths(tables.experiment.swept_paths)
    keys = [*paths, "features", "against", "name", "k"]
    rows = tables.recall.groupby(keys, sort=False, dropna=False)
    first = rows.first().reset_index()
    shown = [column(label(path, paths), first[path]) for path in paths if first[path].nunique(dropna=False) > 1]
    ranking = [f"{against} ({name})" for against, name in zip(first["against"], first["name"], strict=True)]
    shown += [
        column("neighbours by", first["features"]),
        column("changes", pd.Series(ranking)),
        column("k", first["k"]),
    ]
    for m in sorted(set(tables.recall["m"])):
        one = tables.recall[tables.recall["m"] == m].to_dict("records")
        head = Column(f"R@{m}", meaning=f"share of the {m} rows of largest change among the k nearest")
        shown.append((head, [Cell(cell_rows.interval(row, "recall"), sort_key(row["recall"])) for row in one]))
    usable = rows[["usable", "total"]].min().reset_index(drop=True)
    shown.append((Column("k random rows", meaning="k over the number of training rows"), _chance(first["chance"])))
    shown.append(
        (Column("usable", meaning="comparisons, of the m with fewest"), fractions(usable["usable"], usable["total"]))
    )
    return Table("Recall of nearest neighbours by cell", *across(shown), notes=[NOTE])


def _chance(values: pd.Series) -> list[Cell]:
    return [Cell(f"{value:.2f}", sort_key(value)) for value in values]
