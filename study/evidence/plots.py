"""The plots: each takes a table and an Axes and returns the Axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from study.evidence.style import POINT_AREA, REFERENCE, SMALL, Look

MOST_POINTS = 20_000  # more than a panel can show
FAR = 2.5  # times the 99.5% quantile of the changes: beyond it a point is an outlier of its panel
LOG_RATIO = 50.0  # of largest to smallest swept value, from where a logarithmic axis is read more easily


def predicted_vs_actual(table: pd.DataFrame, axes: Axes, colour: str = "black", title: str = "") -> Axes:
    """Actual against predicted change with the identity line, on equal linear axes around zero.

    table: `predicted` and `actual`, one row per pair. A few far outliers do not set the scale: they are counted in
    the corner as lying beyond it.
    """
    table = table[np.isfinite(table["predicted"]) & np.isfinite(table["actual"])]
    table = table.iloc[:: max(1, -(-len(table) // MOST_POINTS))]
    sizes = table[["predicted", "actual"]].abs().max(axis=1).to_numpy()
    limit = _limit(sizes)
    alpha = float(np.clip(25 / max(len(table), 1) ** 0.6, 0.12, 0.7))
    axes.axline((0, 0), slope=1, color=REFERENCE, linewidth=0.8, zorder=1)
    axes.scatter(table["predicted"], table["actual"], s=POINT_AREA, color=colour, alpha=alpha, linewidth=0,
                 rasterized=True, zorder=2)  # fmt: skip
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", title=title)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4, symmetric=True, steps=[1, 2, 5, 10]))
        axis.set_major_formatter(_formatter())
    axes.xaxis.offsetText.set_visible(False)  # the axes are equal: the power of ten stands once, above
    if beyond := int((sizes > limit).sum()):
        axes.text(0.97, 0.03, f"{beyond} beyond", transform=axes.transAxes, ha="right", va="bottom", fontsize=SMALL)
    return axes


def correlation_against(table: pd.DataFrame, axes: Axes, axis: str, metric: str, lines: list[Look]) -> Axes:
    """`metric` of each line against the swept path `axis`, with 95% intervals and, where not all, usable/total.

    table: rows of `cells` with `line`, the index of their look in `lines`.
    """
    places, logarithmic = _places(table[axis])
    if logarithmic:
        axes.set_xscale("log")
    axes.axhline(0, color=REFERENCE, linewidth=0.6, zorder=0)
    for index, look in enumerate(lines):
        part = table[table["line"] == index]
        shift = (index - (len(lines) - 1) / 2) * 0.014  # of the axis, so that intervals do not hide each other
        _line(part, axes, _dodged(places, part[axis], shift, logarithmic), metric, look)
    _partial_counts(table, axes, places, axis, lines)
    _category_ticks(axes, places, logarithmic)
    axes.set(xlabel=axis, ylabel=f"{metric.capitalize()} correlation", ylim=(-1.05, 1.05),
             yticks=np.linspace(-1, 1, 5))  # fmt: skip
    return axes


def _line(part: pd.DataFrame, axes: Axes, x: np.ndarray, metric: str, look: Look) -> None:
    order = np.argsort(x)
    x, part = x[order], part.iloc[order]
    mean, low, high = (part[name].to_numpy(dtype=float) for name in (metric, f"{metric}_low", f"{metric}_high"))
    axes.vlines(x, low, high, color=look.colour, linewidth=0.9)
    axes.plot(x, mean, color=look.colour, marker=look.marker, linestyle=look.line, markeredgecolor="white",
              markeredgewidth=0.4, label=look.label)  # fmt: skip


def _partial_counts(table: pd.DataFrame, axes: Axes, places: dict[object, float], axis: str, lines: list[Look]) -> None:
    """usable/total above the axis where not every comparison is usable: once if all lines agree, else one per line."""
    for value, group in table.groupby(axis, sort=False, dropna=False):
        if (group["usable"] == group["total"]).all():
            continue
        counts = [f"{usable}/{total}" for usable, total in zip(group["usable"], group["total"], strict=True)]
        colours = [lines[index].colour for index in group["line"]]
        texts = list(zip(counts, colours, strict=True)) if len(set(counts)) > 1 else [(counts[0], "0.35")]
        for height, (text, colour) in enumerate(reversed(texts)):
            axes.text(places[_name(value)], -1.02 + 0.075 * height, text, ha="center", va="bottom", fontsize=SMALL,
                      color=colour)  # fmt: skip


def _limit(sizes: np.ndarray) -> float:
    """Half-width of both axes: the largest change, unless a half percent of the pairs is far from all others."""
    if sizes.size == 0 or sizes.max() == 0:
        return 1.0
    most = float(np.quantile(sizes, 0.995))
    return 1.08 * float(sizes.max() if sizes.max() <= FAR * most else most)


def _formatter() -> ScalarFormatter:
    formatter = ScalarFormatter(useMathText=True)
    formatter.set_powerlimits((-1, 2))
    return formatter


def _name(value: Any) -> object:
    return "none" if pd.isna(value) else value


def _places(values: pd.Series) -> tuple[dict[object, float], bool]:
    """Where each swept value stands, and whether on a logarithmic axis. What is no number stands at 0, 1, 2 …"""
    distinct = list(dict.fromkeys(_name(value) for value in values))
    numeric = all(isinstance(value, int | float | np.number) and not isinstance(value, bool) for value in distinct)
    if numeric:
        numbers = [float(value) for value in distinct]  # type: ignore[arg-type]
        positive = [number for number in numbers if number > 0]
        wide = len(positive) > 1 and max(positive) >= LOG_RATIO * min(positive)
        if len(positive) == len(numbers) or not wide:
            return dict(zip(distinct, numbers, strict=True)), wide
        distinct = [value for _, value in sorted(zip(numbers, distinct, strict=True), key=lambda pair: pair[0])]
    return {value: float(place) for place, value in enumerate(distinct)}, False


def _dodged(places: dict[object, float], values: pd.Series, shift: float, logarithmic: bool) -> np.ndarray:
    x = np.array([places[_name(value)] for value in values], dtype=float)
    ends = np.array([min(places.values()), max(places.values())])
    if logarithmic:
        return x * (ends[1] / ends[0]) ** shift
    return x + shift * (ends[1] - ends[0] or 4.0)


def _category_ticks(axes: Axes, places: dict[object, float], logarithmic: bool) -> None:
    numbers = list(places.values())
    if not logarithmic and len(places) > 12:
        axes.xaxis.set_major_locator(MaxNLocator(6))
        return
    axes.set_xticks(numbers, [f"{value:g}" if isinstance(value, float) else str(value) for value in places])
    axes.set_xticks([], minor=True)
    if len(places) == 1:
        axes.set_xlim(numbers[0] - 1, numbers[0] + 1)
