"""What a paper needs to cite an experiment: sentences, LaTeX numbers and table, BibTeX, and the trials behind each number."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from study.evidence import files
from study.evidence.paths import cell_paths
from study.evidence.report import answers, bibliography, cell_rows, cited, latex_tables
from study.evidence.report.latex import command_names, escaped, letters, number
from study.evidence.tables import Tables, reliabilities, summaries

if TYPE_CHECKING:
    from study.trials import Experiment

FOLDER = "citation"
KEY_DIGITS = 10  # of a trial key where it is listed; `study show` takes any unambiguous beginning
MOST_KEYS = 4
CONSTANTS = ("draws", "level", "bootstrap_seed")  # the same for all cells


def write(tables: Tables, folder: Path) -> list[Path]:
    """headline.txt, numbers.tex, table.tex, cells.tex, references.bib and keys.csv in `folder`/citation. Returns the paths."""
    texts = {
        "headline.txt": headline(tables), "numbers.tex": numbers(tables), "table.tex": latex_tables.by_axis(tables),
        "cells.tex": latex_tables.cells(tables),
        "references.bib": references(tables), "keys.csv": keys(tables).to_csv(index=False, lineterminator="\n"),
    }  # fmt: skip
    for name, text in texts.items():
        files.write_bytes(folder / FOLDER / name, text.encode())
    return [folder / FOLDER / name for name in texts]


def text(tables: Tables) -> str:
    """What `study cite` prints: the sentences, the table and the references. The numbers are many: they are in a file."""
    return "\n".join([headline(tables), latex_tables.by_axis(tables), references(tables)])


def headline(tables: Tables) -> str:
    """The answer, a line for every cell with the keys of its trials, and where the records come from."""
    experiment, rows = tables.experiment, _rows(tables)
    found = summaries.provenance(tables.readings)
    lines = [f"{experiment.name}: {experiment.question}".removesuffix(": ")]
    lines += answers.sentences(experiment, rows, len(tables.readings.blocks))
    lines += ["", *(f"  {remark}" for remark in answers.remarks(experiment, rows))]
    lines += [
        "",
        "By cell, with the keys of its trials (`study show KEY` prints the record; all keys are in keys.csv):",
    ]
    behind, truth = _keys_behind(tables), _reliability_sentences(tables)
    for row in rows:
        name = cell_rows.cell_name(row, cell_paths(experiment.swept_paths), rows)
        label = ", ".join(filter(None, [name, row["estimator"], row["protocol"]]))
        lines += [
            f"  {label}: {_cell_sentence(row, experiment.primary)}{truth[_identity(experiment, row)]}",
            f"    {_listed(behind[_identity(experiment, row)])}",
        ]
    lines += _further(tables)
    commits = ", ".join(found["commits"]) or "none"
    return "\n".join([*lines, "", f"Records: {found['records']:,}, of commit {commits}.", ""])


def _further(tables: Tables) -> list[str]:
    """Twins and gaps under their headings, where there are any."""
    parts = {
        "By twin, as published → with one thing changed, and the paired change:": cited.twin_sentences(tables),
        "By cell and path, each gap's root mean square in test loss over that of the effect:": cited.gap_sentences(tables),
    }
    return [line for heading, found in parts.items() if found for line in ("", heading, *found)]


def numbers(tables: Tables) -> str:
    r"""A \newcommand for every number of the tables `cells`, `reliability`, `twins` and `gaps` and of the headline.

    A name is made of letters only: the experiment, what varies among the cells with its value, estimator, protocol and
    column, digits spelled out (`\IrisDepthAtDepthOneExactCertifiedSpearman`). It depends on nothing else, so it stays
    as more trials arrive; names that would be equal get letters of a hash of what they stand for.
    """
    entries = [
        *_experiment_numbers(tables),
        *_series_numbers(tables),
        *_cell_numbers(tables),
        *_reliability_numbers(tables),
        *cited.twin_numbers(tables, _swept(tables.experiment)),
        *cited.gap_numbers(tables, _swept(tables.experiment)),
    ]
    names = command_names([identity for identity, _ in entries])
    lines = [
        f"% {tables.experiment.name}: written by `study cite`, do not edit. \\usepackage{{booktabs}} for table.tex."
    ]
    lines += [f"\\newcommand{{\\{name}}}{{{value}}}" for name, (_, value) in zip(names, entries, strict=True)]
    return "\n".join(lines) + "\n"


def references(tables: Tables) -> str:
    """BibTeX of the software, at the commits that wrote the records, and of each method used."""
    found = summaries.provenance(tables.readings)
    versions = found["versions"].get("study", {})
    columns = [*tables.cells.columns, *(tables.reliability.columns if _has_reliability(tables) else ())]
    return bibliography.bibtex(tables.experiment, columns, found["commits"], versions)


def keys(tables: Tables) -> pd.DataFrame:
    """One row per trial of each row of `cells`: what tells that row apart, seed, key, usable and all comparisons.

    command: the beginning that the row's commands in numbers.tex share.
    """
    experiment, agreement = tables.experiment, tables.agreement
    rows = _rows(tables)
    names = [*experiment.swept_paths, "estimator", "protocol", "seed", "trial"]
    marked = agreement[names].assign(usable=agreement["undefined"] == "", total=1)
    grouped = marked.groupby(names, sort=False, dropna=False, as_index=False)[["usable", "total"]].sum()
    paths = _swept(experiment)
    beginnings = {
        _identity(experiment, row): "\\" + "".join(map(letters, _in_words(experiment, row, paths))) for row in rows
    }
    trials: list[Any] = grouped.to_dict("records")
    grouped["command"] = [beginnings[_identity(experiment, row)] for row in trials]
    return grouped


def _rows(tables: Tables) -> list[Any]:
    return list(tables.cells.to_dict("records"))


def _identity(experiment: Experiment, row: cell_rows.Row) -> tuple[str, ...]:
    """What tells a row of `cells` apart."""
    values = [cell_rows.shown_value(row[path]) for path in cell_paths(experiment.swept_paths)]
    return (*values, str(row["estimator"]), str(row["protocol"]))


def _in_words(experiment: Experiment, row: cell_rows.Row, paths: Sequence[str]) -> tuple[str, ...]:
    """As `_identity`, in words: every path in `_swept` is named, so that the name stays as more cells arrive."""
    named = [part for path in paths for part in (cell_rows.short(path, paths), cell_rows.shown_value(row[path]))]
    return (experiment.name, *(["At"] if named else []), *named, str(row["estimator"]), str(row["protocol"]))


def _swept(experiment: Experiment) -> list[str]:
    """The cell paths of which the experiment, finished or not, has several values."""
    paths = cell_paths(experiment.swept_paths)
    return [path for path in paths if len({cell_rows.shown_value(t.swept.get(path)) for t in experiment.trials}) > 1]


def _experiment_numbers(tables: Tables) -> list[tuple[tuple[str, ...], str]]:
    name, rows, found = tables.experiment.name, _rows(tables), summaries.provenance(tables.readings)
    entries = {
        "trials": str(len(tables.readings.blocks)), "trials planned": str(len(tables.experiment.trials)),
        "cells": str(len({_identity(tables.experiment, row)[:-2] for row in rows})),
        "commit": escaped(", ".join(_short_commit(commit) for commit in found["commits"])),
        "version": escaped(", ".join(found["versions"].get("study", {"unknown": 0}))),
    }  # fmt: skip
    for column in CONSTANTS:
        if rows and column in rows[0]:
            entries[column] = number(rows[0][column], whole=True)
    return [((name, key), value) for key, value in entries.items()]


def _series_numbers(tables: Tables) -> list[tuple[tuple[str, ...], str]]:
    """The numbers of the answer's sentences: lowest and highest cell, usable and total, by estimator and protocol."""
    metric = tables.experiment.primary
    entries: list[tuple[tuple[str, ...], str]] = []
    for part in cell_rows.series(_rows(tables)):
        base = (tables.experiment.name, part.estimator, part.protocol)
        for column in ("usable", "total"):
            entries.append(((*base, "all", column), str(cell_rows.total(part.rows, column))))
        if all(math.isnan(cell_rows.number(row[metric])) for row in part.rows):
            continue
        for end, row in zip(("lowest", "highest"), cell_rows.extremes(part.rows, metric), strict=True):
            for suffix in ("", "_low", "_high"):
                entries.append(((*base, end, metric + suffix), number(row.get(metric + suffix))))
    return entries


def _cell_numbers(tables: Tables) -> list[tuple[tuple[str, ...], str]]:
    cells = tables.cells
    skipped = {*cell_paths(tables.experiment.swept_paths), *CONSTANTS}
    columns = [name for name in cells.columns if name not in skipped and pd.api.types.is_numeric_dtype(cells[name])]
    whole = {name: bool((cells[name].dropna() % 1 == 0).all()) for name in columns}
    paths = _swept(tables.experiment)
    bases = [(_in_words(tables.experiment, row, paths), row) for row in _rows(tables)]
    return [((*base, name), number(row[name], whole[name])) for base, row in bases for name in columns]


def _reliability_numbers(tables: Tables) -> list[tuple[tuple[str, ...], str]]:
    paths = _swept(tables.experiment)
    rows: list[Any] = tables.reliability.to_dict("records") if _has_reliability(tables) else []
    return [
        ((*_in_words(tables.experiment, row, paths), name), number(row[name], name == "replicas"))
        for row in rows
        for name in reliabilities.NUMBERS
    ]


def _has_reliability(tables: Tables) -> bool:
    return bool(tables.reliability["reliability"].notna().any())


def _keys_behind(tables: Tables) -> dict[tuple[str, ...], list[str]]:
    found: dict[tuple[str, ...], dict[str, None]] = {}
    names = [*cell_paths(tables.experiment.swept_paths), "estimator", "protocol", "trial"]
    rows: list[Any] = tables.agreement[names].to_dict("records")
    for row in rows:
        found.setdefault(_identity(tables.experiment, row), {})[row["trial"]] = None
    return {identity: list(keys) for identity, keys in found.items()}


def _listed(found: Sequence[str]) -> str:
    shown = " ".join(key[:KEY_DIGITS] for key in found[:MOST_KEYS])
    more = f" and {len(found) - MOST_KEYS} more" if len(found) > MOST_KEYS else ""
    return f"{len(found)} {'trial' if len(found) == 1 else 'trials'}: {shown}{more}"


def _cell_sentence(row: cell_rows.Row, primary: str) -> str:
    metrics = [primary, *(name for name in latex_tables.ALL_METRICS if name in row and name != primary)]
    parts = [f"{name.capitalize()} {cell_rows.interval(row, name)}" for name in metrics]
    reasons = f" ({row['undefined']})" if row["undefined"] else ""
    parts.append(f"{row['usable']} of {row['total']} correlations usable{reasons}")
    parts.append(f"{row['rows_used']} of {row['rows_total']} removals counted")
    if not math.isnan(minima := cell_rows.number(row.get("minima"))):
        parts.append(f"{minima:.0f} distinct {'minimum' if minima == 1 else 'minima'}")
    return ", ".join(parts)


def _reliability_sentences(tables: Tables) -> dict[tuple[str, ...], str]:
    rows: list[Any] = tables.reliability.to_dict("records")
    return {_identity(tables.experiment, row): _reliability_sentence(row) for row in rows}


def _reliability_sentence(row: cell_rows.Row) -> str:
    if math.isnan(cell_rows.number(row["reliability"])):
        return ""
    said = {name: cell_rows.interval(row, name) for name in ("reliability", "ceiling", "disjoint_pearson", "disattenuated")}
    return (
        f"; reliability of the truth {said['reliability']} over {row['replicas']} replicas, noise ceiling {said['ceiling']}, "
        f"Pearson of disjoint seed means {said['disjoint_pearson']}, corrected for noise {said['disattenuated']}"
    )


def _short_commit(text: str) -> str:
    return re.sub(r"\b[0-9a-f]{40}\b", lambda match: match[0][:12], text)
