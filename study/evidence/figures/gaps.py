"""What lies between truth and prediction, stacked along the axis: a figure per path, a panel per line of the sweep."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from study.evidence.figures import layout, lines, style
from study.evidence.figures.lines import Sweep
from study.evidence.figures.material import Material
from study.evidence.figures.scales import Scale

SWEPT = ("target", "data.", "model.", "training.", "points.", "neighbours", "estimators.", "protocols.")  # an axis of any kind
MOST_PANELS = 6
BAR = 0.66  # of a step
LOWEST_SIGN = 0.055  # of the axis: a gap less high has no room for its sign
ONE_SIDED = 0.5  # least |signed mean| over root mean square that is called a sign
CHARACTERS = 16  # of the title to an inch
CAP = 3.0  # times the effect, at least: where a bar that is far above most others ends, with its height written on it
WHOLE: dict[str, Any] = {"marker": "D", "color": "black", "markerfacecolor": "white", "markersize": 3.6, "linestyle": "none"}


@dataclass(frozen=True)
class Panel:
    """The gaps of one line of the sweep, one row per value of the axis and position."""

    title: str
    table: pd.DataFrame


def paths(material: Material) -> Iterator[tuple[str, str]]:
    """Name and axis of every path that has a figure: where the sweep has an axis."""
    table, sweep = material.tables.gaps, Sweep(material.tables.readings, SWEPT)
    if sweep.axis in sweep.paths:
        for path in dict.fromkeys(table["path"]):
            yield path, str(sweep.axis)


def gaps(material: Material, path: str) -> Figure:
    """Root-mean-square gaps in test loss over the effect of the path's first node, one upon the other in the path's order."""
    sweep = Sweep(material.tables.readings, SWEPT)
    table = material.tables.gaps
    table = table[(table["path"] == path) & (table["quantity"] == "loss")]
    found = _panels(sweep, table)
    shown = lines.spread(found, MOST_PANELS)
    columns = min(len(shown), 3)
    width = style.PAGE if columns > 1 else style.COLUMN
    head, handles = _head(table, path, len(shown), len(found), width), _handles(table)
    beside = layout.LEGEND_ROW * (layout.rows_of(head) + len(handles) * style.COLUMN / 2 / width)
    figure = layout.new(width, 0.4 + beside + 2.0 * math.ceil(len(shown) / columns))
    grid = figure.subplots(math.ceil(len(shown) / columns), columns, squeeze=False, sharey=True).ravel()
    top = _top([panel.table for panel in shown], str(sweep.axis))
    for place, (axes, panel) in enumerate(zip(grid, shown, strict=False)):
        stacked_against(panel.table, axes, sweep.scale, top)
        axes.set_title(panel.title, fontsize=style.TEXT, fontweight="bold")
        axes.set_ylabel("" if place % columns else "Gap / effect of removal (rms)")
    for axes in grid[len(shown) :]:
        axes.remove()
    figure.suptitle(head, fontsize=style.TITLE)
    layout.note_legend(figure, handles, width)
    return figure


def stacked_against(table: pd.DataFrame, axes: Axes, scale: Scale, top: float) -> Axes:
    """`relative` of each gap as a bar upon those before it, with its sign where it has one, and that of the whole path.

    table: rows of `gaps` in one quantity. top: where the axis ends; a bar beyond it has its height written on it.
    """
    width = BAR * scale.step
    for value, own in table.groupby(scale.path, sort=False, dropna=False):
        [x] = scale.of(pd.Series([value]))
        height = 0.0
        for row in own[own["position"] > 0].sort_values("position").to_dict("records"):
            if np.isfinite(row["relative"]):
                axes.bar([x], [row["relative"]], width, bottom=height, gid="gap", **style.gap_fill(row["name"]))
                _sign(axes, x - width / 3, height, row, top)  # beside the mark of the whole path
                height += row["relative"]
        if height > top:
            axes.text(x, top, layout.two(height), ha="center", va="bottom", fontsize=style.SMALL, gid="beyond")
        _whole(axes, x, own[own["position"] == 0])
    axes.set_ylim(0, top)
    scale.dress(axes)
    return axes


def _sign(axes: Axes, x: float, bottom: float, row: dict[Any, Any], top: float) -> None:
    """Whether the next node's changes are larger or smaller than those before, where nearly all agree."""
    middle = bottom + min(row["relative"], max(top - bottom, 0)) / 2
    if row["relative"] >= LOWEST_SIGN * top and abs(row["relative_signed"]) >= ONE_SIDED * row["relative"] and middle < top:
        axes.text(x, middle, "+" if row["relative_signed"] > 0 else "−", ha="center", va="center", fontsize=style.TEXT,
                  gid="sign")  # fmt: skip


def _whole(axes: Axes, x: float, rows: pd.DataFrame) -> None:
    for row in rows.to_dict("records"):
        axes.plot([x], [row["relative"]], zorder=4, gid="whole", **WHOLE)
        axes.vlines([x], [row["relative_low"]], [row["relative_high"]], color="black", linewidth=style.INTERVAL_WIDTH, zorder=3)


def _panels(sweep: Sweep, table: pd.DataFrame) -> list[Panel]:
    """By the rest of the sweep, in the order of its values."""
    if not sweep.rest:
        return [Panel("", table)]
    found = [lines.key(row) for row in table[sweep.rest].itertuples(index=False)]
    orders = [sweep.distinct(path) for path in sweep.rest]
    distinct = sorted(set(found), key=lambda row: [order.index(item) for order, item in zip(orders, row, strict=True)])
    return [
        Panel(
            ", ".join(sweep.phrase(path, given) for path, given in zip(sweep.rest, values, strict=True)),
            table[[row == values for row in found]],
        )
        for values in distinct
    ]


def _top(tables: list[pd.DataFrame], axis: str) -> float:
    """Of the axis: above every bar and interval, but for those that are several times as high as the median bar."""
    heights = np.concatenate([_heights(table, axis) for table in tables])
    ends = [table.loc[table["position"] == 0, ["relative", "relative_high"]].to_numpy(dtype=float) for table in tables]
    highest = float(np.nanmax([*heights, *np.concatenate(ends).ravel(), 0.0]))
    return 1.06 * min(highest, max(CAP, 3 * float(np.median(heights)))) if highest > 0 and heights.size else 1.0


def _heights(table: pd.DataFrame, axis: str) -> np.ndarray:
    """Of every bar of a panel."""
    gaps = table[(table["position"] > 0) & table["relative"].notna()]
    heights: np.ndarray = gaps.groupby(axis, dropna=False)["relative"].sum().to_numpy(dtype=float)
    return heights


def _head(table: pd.DataFrame, path: str, panels: int, whole: int, width: float) -> str:
    gaps = table[table["position"] > 0].sort_values("position")
    nodes = " → ".join(dict.fromkeys([*gaps["from"], *gaps["to"]]))
    parts = textwrap.wrap(f"Path {path}: {nodes}", int(width * CHARACTERS), break_on_hyphens=False)
    least, most = int(gaps["usable"].min()), int(gaps["total"].max())
    parts += [f"at least {least} of {most} comparisons usable"] * (least < most)
    parts += [f"{panels} of {whole} panels"] * (panels < whole)
    return "\n".join(parts)


def _handles(table: pd.DataFrame) -> list[Any]:
    gaps = table[table["position"] > 0].sort_values("position")
    handles: list[Any] = [Patch(label=name, **style.gap_fill(name)) for name in dict.fromkeys(gaps["name"])]
    whole = Line2D([], [], label="whole path", **WHOLE)
    signs = Line2D([], [], linestyle="none", label="+, −: larger, smaller")
    return [*handles, whole, signs]
