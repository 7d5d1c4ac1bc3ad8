"""The figure of an audit: every package and method a row, every measure a panel, every cell a mark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from study.evidence import figures
from study.evidence.figures import layout, style

ROW, MARGIN = 0.17, 1.6  # inches of height: of a method, and of everything else
DODGE = 0.5  # of a row: how far the marks of a method stand apart together


@dataclass(frozen=True)
class Measure:
    """A panel: the column, what it is called, and the limits beyond which a mark is put on the edge, hollow."""

    column: str
    label: str
    low: float
    high: float
    logarithmic: bool = True
    right: float | None = None  # what the exact answer has


MEASURES = (
    Measure("largest_difference", "Largest difference,\nrelative", 1e-15, 1e3),
    Measure("pearson", "Pearson", -1.0, 1.0, False, 1.0),
    Measure("slope", "Slope on exact", 1e-2, 1e2, True, 1.0),
    Measure("lost", "Test rows zero\nor NaN, share", 0.0, 1.0, False, 0.0),
    Measure("seconds", "Seconds of\nprocessor time", 1e-2, 1e3),
)


def write(audit: pd.DataFrame, stem: Path) -> list[Path]:
    """The figure of the table as PDF, PNG and SVG; the paths."""
    with style.applied():
        return figures.save(drawn(audit), stem)


def drawn(audit: pd.DataFrame) -> Figure:
    table = audit.assign(
        lost=(audit["zero_tests"] + audit["nan_tests"]).astype(float) / audit["tests"].astype(float), row=_rows(audit)
    )
    names = table.drop_duplicates("row").sort_values("row")
    labels = [_name(*key) for key in zip(names["package"], names["method"], names["setting"], strict=True)]
    figure = layout.new(style.PAGE, MARGIN + ROW * len(names))
    grid = figure.subplots(1, len(MEASURES), sharey=True)
    cells = list(dict.fromkeys(table["cell"]))
    for measure, axes in zip(MEASURES, grid, strict=True):
        _panel(table, axes, measure, cells)
    grid[0].set_yticks(names["row"], labels)
    grid[0].set_ylim(names["row"].max() + 0.7, -0.7)
    _errors(table, grid[1])
    figure.legend(handles=[*(_handle(cells, cell) for cell in cells), _beyond()], loc="outside lower center", ncols=3)
    return figure


def _rows(audit: pd.DataFrame) -> np.ndarray:
    """The place of each method from above; a little room between packages."""
    keys = list(zip(audit["package"], audit["method"], audit["setting"], strict=True))
    places: dict[Any, float] = {}
    for key in keys:
        if key not in places:
            new = bool(places) and key[0] != next(reversed(places))[0]
            places[key] = max(places.values(), default=-1.0) + (1.5 if new else 1.0)
    return np.array([places[key] for key in keys])


def _name(package: str, method: str, setting: str) -> str:
    return ", ".join(filter(None, [f"{package} {method}".strip(), setting]))


def _panel(table: pd.DataFrame, axes: Axes, measure: Measure, cells: list[str]) -> Axes:
    """The marks of one measure."""
    if measure.logarithmic:
        axes.set_xscale("log")
    if measure.right is not None:
        axes.axvline(measure.right, color=style.REFERENCE, linewidth=0.7, zorder=0.5)
    for place, cell in enumerate(cells):
        part = table[(table["cell"] == cell) & table[measure.column].notna()]
        value = part[measure.column].to_numpy(dtype=float)
        y = part["row"] + DODGE * (place - (len(cells) - 1) / 2) / max(len(cells), 2)
        inside = (value >= measure.low) & (value <= measure.high)
        look = _look(cells, cell)
        for which, face in ((inside, look["color"]), (~inside, "white")):
            if which.any():  # an empty line that is not clipped has no extent to be laid out by
                shown = np.clip(value[which], measure.low, measure.high)
                axes.plot(shown, y[which], linestyle="none", clip_on=False, **{**look, "markerfacecolor": face})
    room = 0.0 if measure.logarithmic else 0.06 * (measure.high - measure.low)
    axes.set_xlim(measure.low - room, measure.high + room)
    axes.set_xlabel(measure.label)
    axes.grid(axis="y", color=style.BAND, linewidth=0.5)
    axes.tick_params(axis="y", length=0)
    return axes


def _errors(table: pd.DataFrame, axes: Axes) -> None:
    """How many answers of a method ended in an error: they have no mark."""
    ended = table[table["error"] != ""]
    for row, part in ended.groupby("row"):
        text = "error" if len(part) == 1 else f"{len(part)} errors"
        axes.text(0.0, float(row), text, fontsize=style.SMALL, color=style.NOTE, ha="center", va="center")  # type: ignore[arg-type]


def _look(cells: list[str], cell: str) -> dict[str, Any]:
    place = cells.index(cell)
    colour = style.shade(style.NETWORK_COLOUR, place, len(cells))
    return {"marker": style.MARKERS[place % len(style.MARKERS)], "color": colour, "markersize": 3.4}


def _handle(cells: list[str], cell: str) -> Line2D:
    return Line2D([], [], linestyle="none", label=cell, **_look(cells, cell))


def _beyond() -> Line2D:
    return Line2D([], [], linestyle="none", marker="o", markersize=3.4, color=style.NOTE, markerfacecolor="white",
                  label="hollow: beyond the axis")  # fmt: skip
