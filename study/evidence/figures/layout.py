"""What the figures have in common: canvas, titles, legends, shared axes and short texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from study.evidence import wording
from study.evidence.figures import plots, style, ticks
from study.evidence.figures.lines import Panel
from study.evidence.figures.material import Material
from study.evidence.figures.style import Look

MOST_PANELS = 12
PER_ROW = 4
PANEL_HEIGHT = 2.15
LEGEND_ROW = 0.135  # inches
LEGEND_BELOW = 4.4  # distance from the axes, in units of the legend's type


def new(width: float, height: float) -> Figure:
    """A figure of its own canvas: no display, no global state of pyplot."""
    figure = Figure(figsize=(width, min(height, style.PAGE_HEIGHT)), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def panel_grid(
    panels: Sequence[Panel], beside: float, below: float, share: bool = False
) -> tuple[Figure, list[Axes], float]:
    """A figure with an axes per panel, in one or two columns of a paper, its axes, and its width in inches.

    beside: inches of a panel's title and labels; below: rows of legend besides the panel's own lines.
    """
    columns = len(panels) if len(panels) < 4 else 2
    rows = math.ceil(len(panels) / columns)
    width = style.PAGE if columns > 1 else style.COLUMN
    legend = LEGEND_ROW * (max(len(panel.lines) for panel in panels) + below)
    figure = new(width, (PANEL_HEIGHT + beside + legend) * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=share).ravel()
    for axes in grid[len(panels) :]:
        axes.remove()
    return figure, list(grid[: len(panels)]), width


def floor_of(table: pd.DataFrame, metric: str) -> float:
    """Where the axis of correlations ends: 0, −0.5 or −1, below everything that is drawn."""
    names = [f"{metric}{end}" for end in ("", "_low", "_band_low") if f"{metric}{end}" in table]
    values = table[names].to_numpy(dtype=float)
    lowest = float(np.min(values, where=np.isfinite(values), initial=0.0))
    return 0.0 if lowest >= 0 else -0.5 if lowest >= -0.5 else -1.0


def title(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title, fontsize=style.TITLE, fontweight="bold", pad=13 if panel.subtitle or panel.note else 4)
    if text := "; ".join(filter(None, [panel.subtitle, panel.note])):
        axes.text(0.5, 1.0, text, transform=axes.transAxes + plots.points(axes, up=4), ha="center", va="bottom",
                  fontsize=style.SMALL, color=style.NOTE)  # fmt: skip


def note_legend(part: Figure | SubFigure, handles: list[Any], width: float) -> None:
    """Below all panels, in as many columns as `width` inches hold."""
    if not handles:
        return
    sizes = [len(str(one.get_label())) * 0.62 * style.SMALL + 30 for one in handles]
    for columns in range(len(handles), 0, -1):
        if sum(max(column) for column in np.array_split(sizes, columns)) <= width * 72:
            break
    part.legend(handles=handles, loc="outside lower center", ncols=columns)


def legend(axes: Axes, handles: list[Any], drop: float = 0.0) -> None:
    """Below the axes and their label. drop: how much further down, in units of the legend's type."""
    if handles:
        widest = max(len(str(one.get_label())) for one in handles)
        axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.0), borderaxespad=LEGEND_BELOW + drop,
                    ncols=2 if widest < 24 and len(handles) > 2 else 1)  # fmt: skip


def handle(look: Look) -> Line2D:
    return Line2D([], [], linestyle=look.line, label=look.label, **style.marks(look))


def share_y(grid: Sequence[Axes]) -> None:
    """The same logarithmic limits for all, ticks named at the left only where the axes are beside each other."""
    limits = np.array([axes.get_ylim() for axes in grid])
    low, high = float(limits[:, 0].min()), float(limits[:, 1].max())
    for place, axes in enumerate(grid):
        axes.set_ylim(low, high)
        ticks.logarithmic(axes.yaxis, low, high)
        if place and beside(axes, grid[place - 1]):
            axes.set_ylabel("")
            axes.yaxis.set_major_formatter(NullFormatter())


def beside(axes: Axes, left: Axes) -> bool:
    own, other = axes.get_subplotspec(), left.get_subplotspec()
    if own is None or other is None or own.get_gridspec() is not other.get_gridspec():
        return False
    return own.rowspan == other.rowspan and own.colspan != other.colspan


def panel_of(material: Material, protocol: str) -> Panel:
    return next(panel for panel in material.panels if panel.protocol == protocol)


def in_rows(parts: list[str], widest: int) -> str:
    """The parts with commas between, as many to a row as `widest` characters hold."""
    rows: list[str] = []
    for part in parts:
        if rows and len(rows[-1]) + len(part) + 2 <= widest:
            rows[-1] += f", {part}"
        else:
            rows.append(part)
    return "\n".join(rows)


def rows_of(text: str) -> int:
    return text.count("\n") + 1


def two(value: float) -> str:
    """Two decimals, fewer of a large number; no negative zero."""
    if not math.isfinite(value):
        return "–"
    if abs(value) >= 10:
        return wording.number(float(f"{value:.2g}"))
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")
