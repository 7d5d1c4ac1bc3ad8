"""Correlation of single comparisons against the loss of their test row."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from study.evidence.figures import layout, lines, plots, style, ticks
from study.evidence.figures.material import Material
from study.evidence.figures.style import Look


def against_loss(material: Material, metric: str) -> Figure:
    """`metric` of every comparison against the loss of its test row, a panel per cell with many test rows."""
    count = min(len(_many_tests(material)), layout.MOST_PANELS)
    columns = min(count, 3)
    figure = layout.new(style.COLUMN if columns == 1 else style.PAGE, 1.95 * math.ceil(count / columns) + 0.5)
    draw_against_losses(material, figure, metric, layout.MOST_PANELS)
    handles = [Line2D([], [], linestyle="none", marker="o", markersize=2.4, color=style.NOTE, label="one trial and test row"),
               Line2D([], [], color="black", marker="D", markersize=3.4, markerfacecolor="white", linewidth=0.9,
                      label="median and quartiles of equally full bins")]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=1 if columns == 1 else 2)
    return figure


def draw_against_losses(material: Material, part: Figure | SubFigure, metric: str, most: int) -> None:
    """At most `most` panels of three to a row, on the same axes."""
    cells = _many_tests(material)
    shown = cells.iloc[lines.spread(list(range(len(cells))), most)]
    columns = min(len(shown), 3)
    grid = part.subplots(math.ceil(len(shown) / columns), columns, squeeze=False, sharey=True, sharex=True).ravel()
    for place, (axes, (_, cell)) in enumerate(zip(grid, shown.iterrows(), strict=False)):
        draw_against_loss(material, axes, cell, metric)
        axes.tick_params(labelleft=place % columns == 0, labelbottom=place + columns >= len(shown))
        if place % columns:
            axes.set_ylabel("")
        if place + columns < len(shown):
            axes.set_xlabel("")
    for axes in grid[len(shown) :]:
        axes.remove()
    floor = layout.floor_of(material.losses, metric)
    grid[0].set(ylim=(floor - 0.05, 1.05), yticks=np.arange(floor, 1.01, 0.5))
    limits = np.array([axes.dataLim.intervalx for axes in grid[: len(shown)]])
    limits = limits[np.isfinite(limits).all(axis=1)]
    if len(limits):
        ticks.log_x(grid[0], float(limits[:, 0].min()), float(limits[:, 1].max()))
    if len(shown) < len(cells):
        part.suptitle(f"{len(shown)} of {len(cells)} cells", fontsize=style.SMALL)


def _many_tests(material: Material) -> pd.DataFrame:
    """The cells with several test rows, the certified ones last."""
    cells = material.cells[material.cells["test_rows"] > 1]
    return cells.iloc[np.argsort((cells["kind"] == "stationary").to_numpy(), kind="stable")]


def draw_against_loss(material: Material, axes: Axes, cell: pd.Series, metric: str) -> Axes:
    """The comparisons of one cell."""
    sweep, table = material.sweep, material.losses
    keep = (table["estimator"] == cell["estimator"]) & (table["protocol"] == cell["protocol"])
    keep &= table["trial"].isin([block.trial.key for block in material.behind.blocks(cell)])
    plots.correlation_against_loss(table[keep], axes, metric, Look(style.protocol_colour(cell["kind"])))
    panel = layout.panel_of(material, cell["protocol"])
    parts = [sweep.phrase(path, cell[path]) for path in sweep.shown(panel.protocol)]
    if material.cells["estimator"].nunique() > 1:
        parts.insert(0, cell["estimator"])
    if cell["usable"] < cell["total"]:
        parts.append(f"{cell['usable']}/{cell['total']} usable")
    axes.set_title("\n".join(filter(None, [panel.title, layout.in_rows(parts, 38)])), fontsize=style.SMALL)
    return axes
