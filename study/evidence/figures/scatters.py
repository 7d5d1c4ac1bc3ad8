"""Actual against predicted change, a panel per cell."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study.evidence.figures import layout, lines, plots, style
from study.evidence.figures.lines import Line
from study.evidence.figures.material import Material

POOLED = "points of all seeds and test rows; ρ and r: means over networks"
SMALLEST_SIDE = 1.1  # inches, of a panel


def scatter(material: Material, estimator: str, protocol: str, chosen: list[Line], note: str = "") -> Figure:
    """Actual against predicted for cells of some lines: a panel per cell, at most layout.MOST_PANELS of them."""
    cells = pd.concat([line.cells for line in chosen])
    cells = cells[cells["estimator"] == estimator]
    shown = cells.iloc[lines.spread(list(range(len(cells))), layout.MOST_PANELS)]
    varying = [path for path in material.sweep.paths if cells[path].nunique(dropna=False) > 1]
    titles = [
        layout.in_rows([material.sweep.phrase(path, cell[path]) for path in varying], 27)
        for _, cell in shown.iterrows()
    ]
    text = 0.27 + 0.115 * (3 + max(map(layout.rows_of, titles)))
    counts = [int((line.cells["estimator"] == estimator).sum()) for line in chosen]
    even = sum(counts) == len(shown) and len(set(counts)) == 1  # else rows of a line each would be mostly empty
    rows, columns, width, side = _grid(counts if even else [len(shown)], text)
    figure = layout.new(width, (side + text) * len(rows) + 0.57)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    used = [axes for axes_row, count in zip(grid, rows, strict=True) for axes in axes_row[:count]]
    owners = {name: line.look.colour for line in chosen for name in line.cells.index}
    for axes, title, (name, cell) in zip(used, titles, shown.iterrows(), strict=True):
        draw_cell(material, axes, cell, title, owners[name], most_ticks=3 if columns > 3 else 4)
    most = max(layout.rows_of(axes.get_title()) for axes in used)
    for axes in used:  # titles of one height, so that panels have one size
        axes.title.set_text("\n" * (most - layout.rows_of(axes.get_title())) + axes.get_title())
    for axes in set(grid.ravel()) - set(used):
        axes.remove()
    constant = [
        material.sweep.phrase(path, cells[path].iloc[0])
        for path in material.sweep.varying(protocol)
        if path not in varying
    ]
    head = ", ".join([f"{layout.panel_of(material, protocol).title}, {estimator}", *constant])
    notes = [f"{len(shown)} of {len(cells)} cells"] if len(shown) < len(cells) else []
    head += f" ({'; '.join([*notes, note] if note else notes)})" if notes or note else ""
    head += f"\n{POOLED}" if (cells["total"] > 1).any() else ""
    figure.suptitle(head, fontsize=style.TITLE)
    figure.supxlabel(f"Predicted change in test {material.target}", fontsize=style.TITLE)
    figure.supylabel(f"Actual change in test {material.target}", fontsize=style.TITLE)
    return figure


def _grid(counts: list[int], text: float) -> tuple[list[int], int, float, float]:
    """How many panels each row has, columns, width of the figure and side of a panel, in inches.

    Every one of the `counts` starts a row of its own, unless the panels would get too small to read.
    """
    columns = math.ceil(max(counts) / math.ceil(max(counts) / layout.PER_ROW))
    for parts, wide in ((counts, columns), ([sum(counts)], min(layout.PER_ROW, sum(counts)))):
        rows = [min(wide, count - start) for count in parts for start in range(0, count, wide)]
        width = style.COLUMN if wide <= 2 else style.PAGE
        side = (width - 0.3) / wide - 0.42  # without the tick labels
        side = min(side, (style.PAGE_HEIGHT - 0.57) / len(rows) - text)
        if side >= SMALLEST_SIDE:
            break
    return rows, wide, width, side


def draw_cell(
    material: Material, axes: Axes, cell: pd.Series, title: str, colour: str, widest: int = 24, most_ticks: int = 4
) -> Axes:
    """One cell under its statistics, in rows of at most `widest` characters and in the colour of its line."""
    counts = "" if cell["usable"] == cell["total"] else f"{cell['usable']}/{cell['total']} usable"
    numbers = ["undefined"]
    if cell["usable"]:
        numbers = [
            f"ρ {layout.two(cell['spearman'])}",
            f"r {layout.two(cell['pearson'])}",
            f"median slope {layout.two(cell['slope_median'])}",
        ]
    text = "\n".join(filter(None, [title, layout.in_rows([*numbers, *([counts] if counts else [])], widest)]))
    return plots.predicted_vs_actual(material.behind.points(cell), axes, colour, text, most_ticks)
