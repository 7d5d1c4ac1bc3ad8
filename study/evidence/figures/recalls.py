"""Recall of nearest neighbours against how many are retrieved: a row of panels per ranking, a column per layer of features."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from study.evidence import wording
from study.evidence.figures import layout, lines, style
from study.evidence.figures.material import Material
from study.evidence.figures.style import Look
from study.evidence.tables.recalls import ACTUAL

MOST_ROWS = MOST_COLUMNS = 4
ROW_HEIGHT = 1.55  # inches
APART = 1.035  # factor between the markers of neighbouring lines, so that intervals do not hide each other
CHANCE: dict[str, Any] = {"color": style.REFERENCE, "linestyle": (0, (1, 1.5)), "linewidth": 0.9}
RANKING = ["against", "name", "kind"]


def cells(material: Material) -> Iterator[tuple[list[str], pd.DataFrame]]:
    """The rows of the table `recall` of each cell, with the swept values that tell it apart, for its file's name."""
    table, paths = material.tables.recall, material.sweep.paths
    varying = [path for path in paths if len(material.sweep.distinct(path)) > 1]
    if table.empty:
        return
    for values, cell in table.groupby(paths, sort=False, dropna=False) if paths else [((), table)]:
        named = dict(zip(paths, values, strict=True))
        yield [wording.slug(path, named[path]) for path in varying], cell


def recalls(material: Material, cell: pd.DataFrame, note: str = "") -> Figure:
    """Mean R@m over trials and test rows against k, with 95% intervals, and what k random rows would find."""
    rankings = lines.spread(list(cell[RANKING].drop_duplicates().itertuples(index=False, name=None)), MOST_ROWS)
    features = lines.spread(list(dict.fromkeys(cell["features"])), MOST_COLUMNS)
    wide = len(features) > 1
    figure = layout.new(style.PAGE if wide else style.COLUMN, ROW_HEIGHT * len(rankings) + 0.75)
    grid = figure.subplots(len(rankings), len(features), squeeze=False, sharex=True, sharey=True)
    for axes_row, ranking in zip(grid, rankings, strict=True):
        own = cell[(cell[RANKING] == list(ranking)).all(axis=1)]
        for axes, layer in zip(axes_row, features, strict=True):
            recall_against(own[own["features"] == layer], axes, _colour(*ranking))
        axes_row[0].set_ylabel(f"R@m, {_named(*ranking)}")
    for axes, layer in zip(grid[0], features, strict=True):
        axes.set_title(f"Neighbours by {layer}", fontweight="bold")
    for axes in grid[-1]:
        axes.set_xlabel("k nearest rows retrieved")
    figure.suptitle(_head(material, cell, note, len(rankings), len(features)), fontsize=style.TITLE)
    layout.note_legend(figure, _handles(cell), style.PAGE if wide else style.COLUMN)
    return figure


def recall_against(table: pd.DataFrame, axes: Axes, colour: str) -> Axes:
    """`recall` of each m against k, with its interval, and the share k/n that random rows find.

    table: rows of one cell, layer and ranking.
    """
    top, places = sorted(set(table["m"])), sorted(set(table["k"]))
    between = np.geomspace(places[0], places[-1], 50)
    share = float((table["chance"] / table["k"]).mean())
    axes.plot(between, share * between, zorder=1, gid="chance", **CHANCE)
    for rank, m in enumerate(top):
        part = table[table["m"] == m].sort_values("k")
        x = part["k"].to_numpy(dtype=float) * APART ** (rank - (len(top) - 1) / 2)
        look = _look(colour, rank, len(top))
        axes.vlines(
            x, part["recall_low"], part["recall_high"], color=look.colour, linewidth=style.INTERVAL_WIDTH, zorder=2
        )
        axes.plot(x, part["recall"], linestyle=look.line, zorder=3, gid="line", **style.marks(look))
    axes.set(xscale="log", ylim=(0, 1.03), yticks=[0, 0.25, 0.5, 0.75, 1])
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda given, _: wording.number(given)))
    axes.xaxis.set_minor_locator(NullLocator())
    return axes


def _look(colour: str, rank: int, count: int) -> Look:
    return Look(style.shade(colour, rank, count), style.MARKERS[rank % len(style.MARKERS)])


def _colour(against: str, name: str, kind: str) -> str:
    return style.protocol_colour(kind) if against == ACTUAL else style.estimator_colour(kind)


def _named(against: str, name: str, kind: str) -> str:
    return f"actual ({name})" if against == ACTUAL else f"predicted ({name})"


def _head(material: Material, cell: pd.DataFrame, note: str, rows: int, columns: int) -> str:
    varying = [path for path in material.sweep.paths if len(material.sweep.distinct(path)) > 1]
    parts = [material.sweep.phrase(path, cell[path].iloc[0]) for path in varying]
    parts.append(f"{wording.number(cell['rows'].iloc[0])} training rows")
    least = cell["usable"].min()
    if least < (most := cell["total"].max()):
        parts.append(f"at least {least} of {most} comparisons usable")
    rankings, layers = len(cell[RANKING].drop_duplicates()), cell["features"].nunique()
    parts += [f"{rows} of {rankings} rankings"] * (rows < rankings) + [f"{columns} of {layers} layers"] * (
        columns < layers
    )
    return ", ".join([*parts, *([note] if note else [])])


def _handles(cell: pd.DataFrame) -> list[Any]:
    top = sorted(set(cell["m"]))
    handles = [layout.handle(_look(style.NOTE, rank, len(top))) for rank in range(len(top))]
    for handle, m in zip(handles, top, strict=True):
        handle.set_label(f"m = {m}" if m > 1 else "m = 1: the most influential row")
    return [*handles, Line2D([], [], label="k random rows", **CHANCE)]
