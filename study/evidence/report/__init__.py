"""The report: one self-contained HTML page per experiment, and an index over all that have results.

A page depends on the records alone, so rebuilding it changes nothing. It loads nothing from anywhere, figures included.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from study.evidence import files, wording
from study.evidence.paths import cell_paths
from study.evidence.report import (
    answers,
    audits,
    cell_rows,
    cell_tables,
    displays,
    recall_table,
    reliability_table,
    twin_table,
    verdict_tables,
)
from study.evidence.store import Store
from study.evidence.tables import Tables, summaries
from study.progress import duration

if TYPE_CHECKING:
    from study.trials import Experiment

PAGE = "report.html"
INDEX = "index.html"
LARGEST_SVG = 600_000  # bytes; beyond it the PNG stands in
USABLE = "usable comparisons (one trial and test row each, whose correlation is defined)"
CAPTIONS = {
    r"overview": "The experiment on one page. Shown pair by pair is the cell of median primary correlation, of the best founded "
    f"protocol and the first estimator. Correlations are means over {USABLE}.",
    r"(spearman|pearson|kendall)_against_test_loss": "{} correlation of each test row against its loss.",
    r"(spearman|pearson|kendall)_against_(\w+)": f"Mean {{}} correlation over {USABLE} against {{}}. Bars are 95% "
    "intervals, in which seeds that reached one minimum count as one; usable of all is written where not all are. Grey: "
    "where 95% of the means lie when predictions are given to the wrong rows.",
    r"slope_against_(\w+)": "Slope of actual on predicted changes by least squares within a comparison, median over usable "
    "ones, against {}. A slope of 1 is a prediction of the right size; damping makes every prediction smaller.",
    r"solves_against_(\w+)": "Relative distance of the solutions from the exact, undamped ones, largest over test points, and "
    "the seconds they took, against {}: medians over trials.",
    r"reliability_against_(\w+)": "Reliability of the truth's mean over seeds against {}, with 95% intervals, and below it "
    "the Pearson correlation of seed means, prediction and truth from different seeds, with its noise ceiling √reliability. What "
    "lies between the two is no noise of the truth. Seeds that reached one minimum count as one.",
    r"gaps_(.+)_against_(\w+)": "Gaps between neighbouring nodes of the path {}, against {}: root mean squares over removals of "
    "their differences in test loss, over that of the effect that the first node measures, one upon the other; means over "
    "usable comparisons. + or − where the next node's changes are mostly larger or smaller. Gaps may cancel: diamonds, with 95% "
    "intervals, are the last node less the first.",
    r"recall(?:_.+)?": "Recall R@m of FastIF's preselection: the share of the m rows of largest change, predicted or actual, "
    "that is among the k nearest neighbours of the test point, by the layer whose features measure the distance; k/m at most. "
    "Means over trials and test rows with 95% intervals, in which seeds that reached one minimum count as one; dotted: k rows "
    "at random.",
    r"twins": "What each change to the published validation does, all else the same: mean correlation and sign agreement as "
    "published and with the change, and the paired change of the correlation over seeds and test rows that both sides can use; "
    "bars are 95% intervals; usable of all is written where not all are.",
    r"top_eigenvalue_against_(\w+)": "Largest eigenvalue of the Hessian of the trained networks against {}: one network "
    "each, and their median.",
    r"parameter_change_against_(\w+)": "How far removal moves the parameters, predicted and actual, against {}: medians and "
    "quartiles over seeds and removals.",
    r"audit": "Answers of published packages against the exact one, one mark per network. Correlation and slope are over "
    "training rows, within test rows; a share of test rows got zeros or NaN.",
    r"predicted_vs_actual_(.+)": "Actual against predicted changes, {}: one point per seed, test row and removal that the "
    "agreement counts; the line is equality. ρ and r are means of the Spearman and Pearson correlations of single "
    "comparisons, the slope is the median of theirs.",
}
ENLARGED = 1.35  # of figures made for a paper's column
INTERVAL = re.compile(r" \[(-?[\d.]+), ")


@dataclass(frozen=True)
class Figure:
    name: str
    caption: str
    source: str
    width: float  # inches


def write(tables: Tables, folder: Path, figures: Iterable[Path] = ()) -> Path:
    """The page of one experiment as `folder/report.html`, with what an audit left in the folder.

    Of the `figures`, those in PNG or SVG are part of it.
    """
    path = folder / PAGE
    files.write_bytes(path, page(tables, figures, folder / audits.FOLDER).encode())
    return path


def write_index(results: Path, found: Sequence[tuple[Experiment, Store]]) -> Path:
    """The index over these experiments as `results/index.html`, from the tables that lie in their folders."""
    path = results / INDEX
    files.write_bytes(path, index(found).encode())
    return path


def page(tables: Tables, figures: Iterable[Path] = (), audit: Path | None = None) -> str:
    """The page of one experiment as HTML; `audit` is the folder of its audit, if it may have one."""
    experiment, readings = tables.experiment, tables.readings
    rows: list[Any] = tables.cells.to_dict("records")
    done, trials = len(readings.blocks), len(experiment.trials)
    sizes = summaries.sizes(readings)
    damaged = f" Damaged records left out: {len(readings.damaged)}." if readings.damaged else ""
    return _template().render(
        title=experiment.name,
        question=experiment.question,
        status=f"{done:,} of {trials:,} trials. Primary metric, named beforehand: {experiment.primary}.{damaged}",
        unfinished=done < trials,
        answer=answers.sentences(experiment, rows, done),
        remarks=answers.remarks(experiment, rows),
        cells=cell_tables.cells(experiment, tables.cells),
        reliability=reliability_table.reliability(tables),
        verdicts=verdict_tables.verdicts(tables),
        gaps=verdict_tables.gaps(tables),
        recall=recall_table.recall(tables),
        twins=twin_table.twins(tables),
        figures=[_figure(path) for path in _chosen(figures)],
        certificates=displays.certificates(tables),
        estimators=displays.estimators(tables),
        flags=displays.flags(summaries.flags(readings), sizes),
        sizes=_counted_sizes(sizes),
        trials=displays.trials(tables),
        audit=audits.tables(audit) if audit else [],
        audit_figures=[_figure(path) for path in _chosen(sorted(audit.glob("audit.*")))] if audit else [],
        provenance=_provenance(summaries.provenance(readings)),
        spec=experiment.text.strip(),
    )


def index(found: Sequence[tuple[Experiment, Store]]) -> str:
    """The index as HTML: question, answer and state of each experiment, from its CSV tables."""
    entries = [_entry(experiment, store) for experiment, store in sorted(found, key=lambda pair: pair[0].name)]
    return _template().render(title="Experiments", experiments=entries)


def _entry(experiment: Experiment, store: Store) -> dict[str, Any]:
    folder = store.folder / "tables"
    rows = cell_rows.read(folder / "cells.csv")
    wanted = {trial.key for trial in experiment.trials}
    done = len(wanted & answers.tabled(store))
    return {
        "name": experiment.name,
        "question": experiment.question,
        "answer": _answer(experiment, rows, done),
        "unfinished": done < len(wanted),
        "page": f"{store.folder.name}/{PAGE}" if (store.folder / PAGE).is_file() else None,
        "status": f"{done:,} of {len(wanted):,} trials. Primary metric, named beforehand: {experiment.primary}.",
    }


def _answer(experiment: Experiment, rows: list[dict[str, Any]], done: int) -> list[str]:
    """Or why there is none: the spec may have been changed since the tables were written."""
    if not rows:
        return ["There are no tables yet."]
    if not done or not set(cell_paths(experiment.swept_paths)) <= set(rows[0]):
        return ["Its tables are those of another spec."]
    return answers.sentences(experiment, rows, done)


def _counted_sizes(sizes: dict[str, int]) -> str:
    return f"{sizes['trained']:,} trained and {sizes['retrained']:,} retrained networks"


def _provenance(found: dict[str, Any]) -> list[tuple[str, list[str]]]:
    many = found["records"]

    def said(counts: dict[str, int]) -> list[str]:
        return [
            text if number == many else f"{text} ({number:,} of {many:,} records)" for text, number in counts.items()
        ]

    entries = [("records", [f"{many:,}"]), ("commit", said(found["commits"]))]
    if found["dirty"]:
        entries.append(
            ("caution", [f"{found['dirty']:,} of {many:,} records were computed by code that no commit holds"])
        )
    if found["written"]:
        first, last = found["written"]
        entries.append(("written", [first if first == last else f"{first} to {last}"]))
    versions = {name: said(counts) for name, counts in found["versions"].items()}
    if versions:
        entries.append(("versions", [f"{name} {text}" for name, texts in versions.items() for text in texts]))
    entries += [("machine", said(found["machines"])), ("training", said(found["training"]))]
    entries.append(("numbers version", said(found["numbers_version"])))
    entries.append(("computing time", [f"{duration(found['seconds'])} on one core, by the records"]))
    return entries


def _chosen(paths: Iterable[Path]) -> list[Path]:
    """One file per figure, in the order given: its SVG if that is small, else its PNG."""
    stems: dict[str, dict[str, Path]] = {}
    for path in paths:
        if path.suffix in (".png", ".svg"):
            stems.setdefault(path.stem, {})[path.suffix] = path
    chosen = []
    for found in stems.values():
        vector = found.get(".svg")
        small = vector is not None and vector.stat().st_size <= LARGEST_SVG
        chosen.append(found[".svg"] if small or ".png" not in found else found[".png"])
    return chosen


def _figure(path: Path) -> Figure:
    data = path.read_bytes()
    kind = "image/svg+xml" if path.suffix == ".svg" else "image/png"
    source = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return Figure(path.name, _caption(path.stem), source, round(_inches(data, path.suffix) * ENLARGED, 2))


def _inches(data: bytes, suffix: str) -> float:
    """The width a figure was drawn at; PNG says it in pixels and dots per metre, SVG in points."""
    if suffix == ".svg":
        match = re.search(rb'<svg[^>]*\bwidth="([\d.]+)pt"', data[:4000])
        return float(match[1]) / 72 if match else 5.0
    width = struct.unpack(">I", data[16:20])[0]
    place = data.find(b"pHYs", 0, 4000)
    density = struct.unpack(">I", data[place + 4 : place + 8])[0] if place > 0 else 0
    return width / density / 0.0254 if density else width / 300


def _caption(stem: str) -> str:
    """From what the file is called; a figure that is not known here is called by its name."""
    for pattern, caption in CAPTIONS.items():
        if match := re.fullmatch(pattern, stem):
            parts = [wording.METRICS.get(part, part.replace("_", " ")) for part in match.groups()]
            return caption.format(*parts)
    words = stem.replace("_", " ")
    return f"{words[:1].upper()}{words[1:]}."


@lru_cache(maxsize=1)
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("study.evidence.report", "."), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["unbroken"] = lambda text: INTERVAL.sub("\u00a0[\\1,\u00a0", text)
    return environment.get_template("report.html.j2")
