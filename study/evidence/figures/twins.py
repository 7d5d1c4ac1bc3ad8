"""What each change does to a published validation: a row per twin and cell, both sides joined, and their difference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from study.evidence import wording
from study.evidence.figures import layout, lines, plots, style
from study.evidence.figures.material import Material
from study.evidence.figures.style import Look
from study.evidence.paths import cell_paths
from study.evidence.statistics.paired import DIFFERENCE
from study.evidence.tables.twins import CORRECTED, PUBLISHED

MOST_ROWS = 56  # of a page, headings included
ROW_HEIGHT = 0.142  # inches
APART = 0.17  # of a row: the two sides above and below its middle, so that intervals do not hide each other
FILLS = {PUBLISHED: "none", CORRECTED: "full"}
SIGNS = "sign_agreement"


@dataclass(frozen=True)
class Row:
    """A heading (no cell) or a row of the table `twins`, at its height in the figure."""

    height: int
    text: str
    cell: pd.Series | None = None


def twins(material: Material) -> Figure:
    """Primary correlation and sign agreement of both sides, and the paired difference of the correlation, with 95% intervals."""
    rows, note = _rows(material)
    primary = material.tables.experiment.primary
    figure = layout.new(style.PAGE, ROW_HEIGHT * len(rows) + 0.95)
    grid = figure.subplots(1, 3, sharey=True, width_ratios=(1.25, 1, 0.9))
    both_sides(rows, grid[0], primary)
    difference(rows, grid[1], primary)
    both_sides(rows, grid[2], SIGNS)
    grid[0].set_xlabel(f"{wording.METRICS[primary]} correlation")
    grid[1].set_xlabel("Its change, paired")
    grid[2].set_xlabel("Sign agreement")
    _frame(rows, list(grid))
    if note:
        figure.suptitle(note, fontsize=style.SMALL, color=style.NOTE)
    layout.note_legend(figure, _handles(rows), style.PAGE)
    return figure


def both_sides(rows: list[Row], axes: Axes, metric: str) -> Axes:
    """`metric` of each row as published (hollow) and corrected (filled), in the colour of its protocol, joined by a line.

    Which side is undefined is said beside the correlation alone; the counts at the right say how often.
    """
    axes.axvline(0, color=style.REFERENCE, linewidth=0.6, zorder=0.5)
    lowest = 0.0
    for row in rows:
        if row.cell is None:
            continue
        ends = []
        for side, shift in ((PUBLISHED, -APART), (CORRECTED, APART)):
            value, low, high = (float(row.cell[f"{metric}_{side}{end}"]) for end in ("", "_low", "_high"))
            ends.append((value, row.height + shift))
            lowest = np.nanmin([lowest, value, low])
            _marked(axes, value, low, high, row.height + shift, _look(row.cell, side))
        if metric != SIGNS and not np.isfinite([value for value, _ in ends]).all():
            _undefined(axes, row, [value for value, _ in ends])
        axes.plot(*zip(*ends, strict=True), color=style.REFERENCE, linewidth=1.0, zorder=1, gid="joined")
    floor = 0.0 if lowest >= 0 else -0.5 if lowest >= -0.5 else -1.0
    axes.set(xlim=(floor - 0.04, 1.04), xticks=np.arange(floor, 1.01, 0.5))
    return axes


def _undefined(axes: Axes, row: Row, values: list[float]) -> None:
    """Which side has no value, where the other one leaves room."""
    names = [name for name, value in zip(FILLS, values, strict=True) if not np.isfinite(value)]
    known = [value for value in values if np.isfinite(value)]
    place, side = (0.99, "right") if known and known[0] < 0.4 else (0.02, "left")
    axes.text(place, row.height, f"{' and '.join(names)} undefined", ha=side, va="center", fontsize=style.SMALL,
              color=style.NOTE, transform=axes.get_yaxis_transform(), gid="undefined",
              bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4})  # fmt: skip


def difference(rows: list[Row], axes: Axes, metric: str) -> Axes:
    """Corrected less published of each row over the comparisons that both can use."""
    axes.axvline(0, color=style.REFERENCE, linewidth=0.6, zorder=0.5)
    for row in rows:
        if row.cell is not None:
            value, low, high = (float(row.cell[f"{metric}_{DIFFERENCE}{end}"]) for end in ("", "_low", "_high"))
            _marked(axes, value, low, high, row.height, Look(style.NOTE, "D"))
    low, high = axes.dataLim.intervalx
    most = max(abs(low), abs(high), 0.1) if np.isfinite([low, high]).all() else 1.0
    axes.set_xlim(min(low, -0.1 * most) - 0.06 * most, max(high, 0.1 * most) + 0.06 * most)
    return axes


def _marked(axes: Axes, value: float, low: float, high: float, height: float, look: Look) -> None:
    if np.isfinite([low, high]).all():
        axes.hlines(height, low, high, color=look.colour, linewidth=style.INTERVAL_WIDTH, zorder=2)
    axes.plot([value], [height], linestyle="none", zorder=3, gid="mean", markersize=3.4, **style.marks(look))


def _look(cell: pd.Series, side: str) -> Look:
    return Look(style.protocol_colour(str(cell[f"kind_{side}"])), fill=FILLS[side])


def _rows(material: Material) -> tuple[list[Row], str]:
    """Headings and cells from the top, and what was left out of them."""
    groups = list(material.tables.twins.groupby("twin", sort=False))
    most = max(MOST_ROWS // len(groups) - 1, 1)
    found: list[Row] = []
    for name, group in groups:
        found.append(Row(len(found), str(name)))
        shown = lines.spread([cell for _, cell in group.iterrows()], most)
        found += [Row(len(found) + place, _label(material, group, cell), cell) for place, cell in enumerate(shown)]
    cells = len(material.tables.twins)
    shown_cells = sum(row.cell is not None for row in found)
    return found, f"{shown_cells} of {cells} pairs of cells" if shown_cells < cells else ""


def _label(material: Material, group: pd.DataFrame, cell: pd.Series) -> str:
    """What tells the row apart within its twin."""
    paths = [path for path in cell_paths(material.tables.experiment.swept_paths) if group[path].nunique(dropna=False) > 1]
    return ", ".join(material.sweep.phrase(path, cell[path]) for path in paths)


def _frame(rows: list[Row], grid: list[Axes]) -> None:
    """Headings across the panels, labels at the left, usable counts at the right of rows that are not whole."""
    for axes in grid:
        axes.set_ylim(len(rows) - 0.4, -0.7)
        axes.tick_params(axis="y", length=0)
        for row in rows:
            if row.cell is None and row.height:
                axes.axhline(row.height - 0.5, color=style.BAND, linewidth=0.6, zorder=0.1)
    grid[0].set_zorder(1)
    grid[0].patch.set_visible(False)
    named = [row for row in rows if row.cell is not None]
    grid[0].set_yticks([row.height for row in named], [row.text for row in named])
    for row in rows:
        if row.cell is None:
            title = grid[0].text(0.0, row.height, row.text, ha="left", va="center", fontweight="bold", zorder=6, gid="twin",
                                 transform=grid[0].get_yaxis_transform() + plots.points(grid[0], right=2), clip_on=False,
                                 bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6})  # fmt: skip
            title.set_in_layout(False)  # a long one reaches into the next panel, where its row is empty
        elif text := _usable(row.cell):
            grid[-1].text(1.0, row.height, text, transform=grid[-1].get_yaxis_transform() + plots.points(grid[-1], right=3),
                          ha="left", va="center", fontsize=style.SMALL, color=style.NOTE, clip_on=False,
                          gid="usable")  # fmt: skip


def _usable(cell: pd.Series) -> str:
    """`5/10 → 10/10`, empty where every comparison of both sides is usable."""
    counts = [(int(cell[f"usable_{side}"]), int(cell[f"total_{side}"])) for side in FILLS]
    return " → ".join(f"{part}/{whole}" for part, whole in counts) if any(a < b for a, b in counts) else ""


def _handles(rows: list[Row]) -> list[Line2D]:
    cells = [row.cell for row in rows if row.cell is not None]
    sides = {PUBLISHED: "as published", CORRECTED: "one thing changed"}
    handles = [layout.handle(Look(style.NOTE, line="none", fill=FILLS[side], label=text)) for side, text in sides.items()]
    for kind in dict.fromkeys(str(cell[f"kind_{side}"]) for cell in cells for side in FILLS):
        label = wording.PROTOCOLS.get(kind, kind)
        handles.append(Line2D([], [], color=style.protocol_colour(kind), linewidth=2.2, label=label))
    return handles
