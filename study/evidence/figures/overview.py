"""One page that shows an experiment: question, headline, main figure, one cell, eigenvalues, norms, certificates."""

from __future__ import annotations

import textwrap
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from study.evidence import wording
from study.evidence.figures import correlations, eigenvalues, layout, lines, losses, norms, scatters, style
from study.evidence.figures.lines import Line, Panel
from study.evidence.figures.material import Material
from study.evidence.readings import SEPARATOR
from study.evidence.tables import summaries

MOST_ROWS = 12  # of the headline
MOST_COLUMNS = 3  # values of the axis in the headline
MOST_FLAGS = 4
MAIN, LARGEST_MAIN = 2.0, 0.6  # inches of the main figure without its legend, and most of what the tables leave
ROW = 0.145  # inches of one row of text
HEAD = 0.52


def figure(material: Material) -> Figure:
    """A page of 6.9 × 9 inches."""
    page = layout.new(style.PAGE, style.PAGE_HEIGHT)
    headline, checks = _headline(material), _checks(material)
    texts = [HEAD, ROW * (len(headline) + 1.6), ROW * (sum(map(_tall, checks)) + 1.8)]
    rest = style.PAGE_HEIGHT - sum(texts)
    figures = [_main, *([_against_loss] if material.many_tests else []), _details]
    below = (
        layout.LEGEND_ROW * max(len(panel.lines) for panel in material.panels)
        + material.sweep.scale.drop * style.SMALL / 72
    )
    main = min(LARGEST_MAIN, (MAIN + below) / rest)
    shares = np.array([main, *([0.4 * (1 - main), 0.6 * (1 - main)] if material.many_tests else [1 - main])])
    heights = [*texts[:2], *(shares * rest), texts[2]]
    parts: list[SubFigure] = list(page.subfigures(len(heights), 1, squeeze=False, height_ratios=heights).ravel())
    _title(parts[0], material)
    _table(parts[1], headline, _headline_title(material))
    for part, draw in zip(parts[2:], figures, strict=False):
        draw(part, material)
    _table(parts[-1], checks, "Certificates")
    return page


def _title(part: SubFigure, material: Material) -> None:
    experiment, readings = material.tables.experiment, material.tables.readings
    axes = _blank(part)
    axes.text(0, 1, experiment.name, fontsize=11, fontweight="bold", va="top", transform=axes.transAxes)
    present = f"{len(readings.blocks)} of {len(experiment.trials)} trials"
    if readings.damaged:
        present += f", damaged records left out: {len(readings.damaged)}"
    axes.text(1, 1, present, fontsize=style.TEXT, va="top", ha="right", color=style.NOTE, transform=axes.transAxes)
    question = textwrap.fill(experiment.question, 105, max_lines=2, placeholder=" …")
    axes.text(0, 0.55, question, fontsize=style.TITLE + 0.5, va="top", transform=axes.transAxes)


def _main(part: SubFigure, material: Material) -> None:
    panels = material.panels[-2:] if len(material.panels) > 2 else material.panels
    grid = part.subplots(1, len(panels), squeeze=False).ravel()
    notes = correlations.draw_correlation(material, panels, list(grid), material.tables.experiment.primary, False)
    layout.note_legend(part, notes, style.PAGE)


def _against_loss(part: SubFigure, material: Material) -> None:
    losses.draw_against_losses(material, part, material.tables.experiment.primary, most=3)


def _details(part: SubFigure, material: Material) -> None:
    """One cell, the eigenvalues and the norms, where the experiment has them."""
    panel, chosen, cell, rule = main_cell(material)
    swept = material.sweep.axis is not None
    moved = swept and material.knows_changes
    networks = [p for p in material.network_panels if swept and material.network_sweep.axis == material.sweep.axis]
    grid = part.subplots(1, 1 + bool(networks) + moved, squeeze=False).ravel()
    several = [str(cell["estimator"])] if material.cells["estimator"].nunique() > 1 else []
    phrases = several + [material.sweep.phrase(path, cell[path]) for path in material.sweep.shown(panel.protocol)]
    title = "\n".join(filter(None, [panel.title, layout.in_rows(phrases, 34), rule]))
    colour = next(line.look.colour for line in chosen if cell.name in line.cells.index)
    scatters.draw_cell(material, grid[0], cell, title, colour, widest=34, most_ticks=3)
    grid[0].set(xlabel=f"Predicted change in test {material.target}", ylabel="Actual")
    if networks:
        own = next((p for p in networks if p.protocol == panel.protocol), networks[-1])
        eigenvalues.draw_eigenvalues(material, [replace(own, note="")], [grid[1]])
        looks = [line.look for line in own.lines if line.look.label]
        layout.legend(grid[1], [*map(layout.handle, looks), *eigenvalues.eigenvalue_handles([own], brief=True)])
    if moved:
        handles = norms.draw_norms(material, grid[-1], panel, chosen)
        grid[-1].set_ylabel("‖Δθ‖ (quartiles)")
        rest = [material.sweep.phrase(path, cell[path]) for path in material.sweep.varying(panel.protocol)]
        name = "\n".join(filter(None, [panel.title, layout.in_rows(rest, 34)]))
        grid[-1].set_title(name, fontsize=style.SMALL + 0.5)
        layout.legend(grid[-1], handles)


def main_cell(material: Material) -> tuple[Panel, list[Line], pd.Series, str]:
    """Of the last panel (certified, if any) and the first estimator: the cell of median primary metric, and its rule.

    The lower one of two in the middle; the lines with the same swept values as its own.
    """
    panel, metric = material.panels[-1], material.tables.experiment.primary
    cells = pd.concat([line.cells for line in panel.lines])
    own = cells[cells["estimator"] == material.cells["estimator"].iloc[0]]
    ordered = own[own[metric].notna()].sort_values(metric, kind="stable")
    cell = ordered.iloc[(len(ordered) - 1) // 2] if len(ordered) else own.iloc[0]
    line = next(line for line in panel.lines if cell.name in line.cells.index)
    same = [other for other in panel.lines if other.values == line.values]
    return panel, same, cell, f"median {wording.METRICS[metric]} of {len(ordered)} cells" if len(ordered) > 1 else ""


def _headline(material: Material) -> list[list[str]]:
    """A row per line, a column for the first, middle and last value of the axis."""
    sweep, metric = material.sweep, material.tables.experiment.primary
    shown = lines.spread(list(sweep.scale.places), MOST_COLUMNS)
    heads = [sweep.phrase(sweep.scale.path, given) if sweep.axis else str(given) for given in shown]
    rows = [["", *heads]]
    owners = [(panel, line) for panel in material.panels for line in panel.lines]
    for panel, line in lines.spread(owners, MOST_ROWS):
        found = {wording.value(cell[sweep.scale.path]): cell for _, cell in line.cells.iterrows()}
        name = ", ".join(filter(None, [panel.title, line.look.label]))
        missing = {
            given: "not yet run"
            if sweep.axis and sweep.planned(panel.protocol, {**line.values, sweep.axis: given})
            else "–"
            for given in shown
        }
        rows.append([name, *(_mean(found[given], metric) if given in found else missing[given] for given in shown)])
    if len(owners) > MOST_ROWS:
        rows.append([f"({MOST_ROWS} of {len(owners)} lines)", *[""] * len(shown)])
    return rows


def _headline_title(material: Material) -> str:
    cells, metric = material.cells, material.tables.experiment.primary
    parts = [f"{wording.METRICS[metric]} correlation, mean [95% interval]"]
    if (cells[f"{metric}_low"].isna() & cells[metric].notna()).any():
        parts.append("none: one minimum")
    if (cells["usable"] < cells["total"]).any():
        parts.append("usable: correlation defined")
    return "; ".join(parts)


def _mean(cell: pd.Series, metric: str) -> str:
    counts = "" if cell["usable"] == cell["total"] else f"  {cell['usable']}/{cell['total']} usable"
    if not cell["usable"]:
        return f"undefined{counts}"
    mean, low, high = (float(cell[name]) for name in (metric, f"{metric}_low", f"{metric}_high"))
    ends = "" if np.isnan(low) else f" [{layout.two(low)}, {layout.two(high)}]"
    return f"{layout.two(mean)}{ends}{counts}"


def _checks(material: Material) -> list[list[str]]:
    """A row per protocol: trials, certified networks and removals, the largest errors of the certified, and flags."""
    rows = [["", "trials", "networks certified", "removals certified", "their largest ‖∇J‖", "and error of Δ", "flags"]]
    found = {row["protocol"]: row for row in summaries.certificates(material.tables.readings, [])}
    table = material.tables.trials
    for panel in material.panels:
        own = found[panel.protocol]
        certified = own["removals certified"]
        rows.append([
            panel.title, str(own["trials"]), _of(own["trained certified"], own["trials"]),
            "–" if certified is None else _of(certified, own["removals"]),
            _largest(own["largest gradient norm"]), _largest(own["largest delta_error"]),
            _flags(material, table[table["protocol"] == panel.protocol], panel.protocol),
        ])  # fmt: skip
    return rows


def _flags(material: Material, own: pd.DataFrame, protocol: str) -> str:
    """How many trials, or where only rows have a flag how many removals, raised each flag; the most frequent first."""
    trials = Counter(flag for text in own["flags"].fillna("") for flag in str(text).split(SEPARATOR) if flag)
    removals: Counter[str] = Counter()
    for block in material.tables.readings.blocks:
        if protocol in block.protocols:
            texts, counts = np.unique(block.record.arrays[f"flag/{protocol}"], return_counts=True)
            for text, count in zip(texts, counts, strict=True):
                removals.update({flag: int(count) for flag in str(text).split(SEPARATOR) if flag})
    parts = [f"{flag.replace('_', ' ')}: {_many(count, 'trial')}" for flag, count in trials.most_common()]
    parts += [
        f"{flag.replace('_', ' ')}: {_many(n, 'removal')}" for flag, n in removals.most_common() if flag not in trials
    ]
    parts += [
        f"{flag.replace('_', ' ')}: {_many(n, 'estimate')}" for flag, n in _of_estimates(material, protocol).items()
    ]
    left = len(parts) - MOST_FLAGS
    return "\n".join([*parts[:MOST_FLAGS], *([f"and {left} more"] if left > 0 else [])]) or "none"


def _of_estimates(material: Material, protocol: str) -> dict[str, int]:
    """How many estimates of the protocol's trials raised each flag, the most frequent first."""
    found = Counter(
        flag
        for block in material.tables.readings.blocks
        if protocol in block.protocols
        for own in block.record.header["estimators"].values()
        for flag in own["flags"]
    )
    return dict(found.most_common())


def _table(part: SubFigure, rows: list[list[str]], title: str) -> None:
    """Rows of text in columns as wide as they need, the first row as heads."""
    axes = _blank(part)
    axes.text(0, 1, title, fontsize=style.TITLE, fontweight="bold", va="top", transform=axes.transAxes)
    widths = np.array([max(len(row[i].split("\n")[0]) for row in rows) + 2.5 for i in range(len(rows[0]))], dtype=float)
    starts = np.concatenate([[0], np.cumsum(widths)[:-1]]) / max(widths.sum(), 118)
    height = 1 / (sum(_tall(row) for row in rows) + 1.3)
    top = 1 - 1.25 * height
    for place, row in enumerate(rows):
        for start, text in zip(starts, row, strict=True):
            axes.text(start, top, text, fontsize=style.SMALL, va="top", transform=axes.transAxes,
                      color=style.NOTE if place == 0 else "black")  # fmt: skip
        top -= height * _tall(row)


def _tall(row: list[str]) -> int:
    return max(text.count("\n") + 1 for text in row)


def _blank(part: Any) -> Axes:
    axes: Axes = part.subplots()
    axes.set_axis_off()
    return axes


def _of(part: int, whole: int) -> str:
    return f"{part:,}/{whole:,}"


def _many(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def _largest(value: float | None) -> str:
    return "–" if value is None else wording.number(float(f"{value:.1e}"), powers=True)
