"""Reliability of the truth, and the observed correlation below its noise ceiling, against the axis: two panels per protocol."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from study.evidence import wording
from study.evidence.figures import layout, lines, plots, style
from study.evidence.figures.lines import Panel
from study.evidence.figures.material import Material, numbered
from study.evidence.figures.scales import Scale
from study.evidence.figures.style import Look

MOST_PANELS = 6
PER_ROW = 3
HEIGHT = 1.45  # inches of one of the two panels
NOISY = 0.5  # of the reliability: below it more than half of the truth is noise
SHOWN = ("reliability", "reliability_low", "reliability_high", "ceiling", "disjoint_pearson", "reasons")
CEILING: dict[str, Any] = {"marker": "_", "markersize": 7, "markeredgewidth": 1.3, "linestyle": "none"}
HALF: dict[str, Any] = {"color": style.REFERENCE, "linestyle": (0, (1, 1.5)), "linewidth": 0.9}


def known(material: Material) -> bool:
    """Whether any cell has a reliability."""
    return bool(material.tables.reliability["reliability"].notna().any())


def reliabilities(material: Material) -> Figure:
    """Per protocol: the reliability with its 95% interval, and below it Pearson's r of seed means with its noise ceiling."""
    tables = [(panel, _with_reliability(material, panel)) for panel in material.panels]
    found = [pair for pair in tables if pair[1]["reliability"].notna().any()]
    shown = lines.spread(found, MOST_PANELS)
    columns = min(len(shown), PER_ROW)
    width = style.PAGE if columns > 1 else style.COLUMN
    deeper = material.sweep.scale.drop * style.SMALL / 72
    blocks = [shown[start : start + columns] for start in range(0, len(shown), columns)]
    most = [max(len(panel.lines) for panel, _ in block) for block in blocks]
    below = layout.LEGEND_ROW * (sum(most) + 1)
    figure = layout.new(width, (2 * HEIGHT + 0.75 + deeper) * len(blocks) + below)
    grid = figure.subplots(2 * len(blocks), columns, squeeze=False)
    floors = [min(layout.floor_of(table, name) for _, table in shown) for name in ("reliability", "disjoint_pearson")]
    for place, block in enumerate(blocks):
        for column in range(columns):
            pair = grid[2 * place, column], grid[2 * place + 1, column]
            if column < len(block):
                panel, table = block[column]
                _draw(material, panel, table, pair, floors, column == 0)
            else:
                for axes in pair:
                    axes.remove()
    left_out = f"{len(shown)} of {len(found)} protocols" if len(shown) < len(found) else ""
    layout.note_legend(figure, _handles(left_out), width)
    return figure


def _draw(
    material: Material, panel: Panel, table: pd.DataFrame, pair: tuple[Axes, Axes], floors: list[float], first: bool
) -> None:
    scale, looks = material.sweep.scale, [line.look for line in panel.lines]
    truths = _truths(material, panel)
    reliability_against(table[table["line"].isin(truths)], pair[0], scale, truths, floors[0])
    ceiling_against(table, pair[1], scale, dict(enumerate(looks)), floors[1])
    for given, why in _missing(table, scale).items():
        plots.absent([given], pair[0], scale, floors[0], why)
        pair[0].texts[-1].set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.8})  # clear of the line across
    layout.title(pair[0], panel)
    layout.legend(pair[1], [layout.handle(look) for look in looks if look.label], scale.drop)
    for axes in pair if not first else ():
        axes.set_ylabel("")
        axes.tick_params(labelleft=False)


def _truths(material: Material, panel: Panel) -> dict[int, Look]:
    """Of each line of the first estimator its look in the colour of the protocol: estimators share one truth."""
    ranked = material.sweep.ranked
    ranks = material.sweep.distinct(ranked) if ranked else [None]
    found: dict[int, Look] = {}
    for index, line in enumerate(panel.lines):
        if line.estimator == panel.lines[0].estimator:
            rank = ranks.index(line.values[ranked]) if ranked else 0
            found[index] = replace(line.look, colour=style.shade(style.protocol_colour(panel.kind), rank, len(ranks)))
    return found


def reliability_against(
    table: pd.DataFrame, axes: Axes, scale: Scale, looks: dict[int, Look], floor: float = 0.0
) -> Axes:
    """`reliability` of each line with its 95% interval; one half is drawn across.

    table: rows of the table `reliability` with `line`, which `looks` are by.
    """
    axes.axhline(NOISY, zorder=0.5, **HALF)
    for place, (line, look) in enumerate(looks.items()):
        part, x = _ordered(table, scale, line, place, len(looks))
        low, high = (part[f"reliability_{end}"].to_numpy(dtype=float) for end in ("low", "high"))
        axes.vlines(x, np.maximum(low, floor), high, color=look.colour, linewidth=style.INTERVAL_WIDTH, zorder=2)
        plots.marked(axes, x, part["reliability"].to_numpy(dtype=float), scale, look)
    axes.set(ylim=(floor - 0.03, 1.05), yticks=np.arange(floor, 1.01, 0.5))
    axes.set_ylabel("Reliability of the truth")
    scale.dress(axes, label=False)
    return axes


def ceiling_against(table: pd.DataFrame, axes: Axes, scale: Scale, looks: dict[int, Look], floor: float = 0.0) -> Axes:
    """`disjoint_pearson` of each line, and as a bar above it the `ceiling` that noise of the truth sets it."""
    axes.axhline(0, color=style.REFERENCE, linewidth=0.6, zorder=0.5)
    for place, (line, look) in enumerate(looks.items()):
        part, x = _ordered(table, scale, line, place, len(looks))
        observed, top = (part[name].to_numpy(dtype=float) for name in ("disjoint_pearson", "ceiling"))
        axes.vlines(x, observed, top, color=look.colour, linewidth=0.5, alpha=0.5, zorder=1.5)
        axes.plot(x, top, color=look.colour, zorder=2.5, gid="ceiling", **CEILING)
        plots.marked(axes, x, observed, scale, look)
    axes.set(ylim=(floor - 0.03, 1.05), yticks=np.arange(floor, 1.01, 0.5))
    axes.set_ylabel("Pearson, seed means")
    scale.dress(axes)
    return axes


def _ordered(table: pd.DataFrame, scale: Scale, line: int, place: int, count: int) -> tuple[pd.DataFrame, np.ndarray]:
    part = table[table["line"] == line]
    x = scale.of(part[scale.path]) + plots.dodge(scale, place, count)
    order = np.argsort(x)
    return part.iloc[order], x[order]


def _with_reliability(material: Material, panel: Panel) -> pd.DataFrame:
    """The rows of all lines of the panel with their numbers of the table `reliability`."""
    table = material.tables.reliability.rename(columns={"undefined": "reasons"})
    keys = [*material.sweep.paths, "estimator", "protocol"]
    return numbered(panel)[[*keys, "line"]].merge(table[[*keys, *SHOWN]], on=keys, how="left")


def _missing(table: pd.DataFrame, scale: Scale) -> dict[Any, str]:
    """Values of the axis at which no line has a reliability, with the most common reason."""
    found = {}
    for given, part in table.groupby(scale.path, sort=False, dropna=False):
        if part["reliability"].isna().all():
            reasons = [re.sub(r"^\d+ ", "", str(text).split(", ")[0]) for text in part["reasons"] if text]
            found[wording.value(given)] = max(set(reasons), key=reasons.count) if reasons else "undefined"
    return found


def _handles(left_out: str) -> list[Line2D]:
    handles = [
        Line2D([], [], color=style.NOTE, label="noise ceiling √reliability", **CEILING),
        Line2D([], [], label="half of the truth is noise", **HALF),
    ]
    return [*handles, *([Line2D([], [], linestyle="none", label=left_out)] if left_out else [])]
