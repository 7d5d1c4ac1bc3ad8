"""The plots: each takes a table and an Axes and returns the Axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation, Transform

from study.evidence import wording
from study.evidence.figures import style, ticks
from study.evidence.figures.published import Published
from study.evidence.figures.scales import Scale
from study.evidence.figures.style import Look

MOST_POINTS = 6_000  # more than a panel can show
FAR = 10.0  # times the 99.5% quantile of the changes: beyond it a point would leave no room for the others
DODGE = 0.72  # of a step: how far the lines of a panel stand apart together
MARKER_ROOM = 1.8  # characters that the marker before a count takes
COUNT_ROW = 0.078  # height of one row of counts below the correlations, as a part of their axis
BINS = 8  # of the test loss, equally full
FEWEST_PER_BIN = 5


def correlation_against(
    table: pd.DataFrame,
    axes: Axes,
    scale: Scale,
    metric: str,
    looks: list[Look],
    floor: float = -1.0,
    rows: int | None = None,
    counts: bool = True,
) -> Axes:
    """`metric` of each line with its 95% interval, on the permutation band, and usable/total where not all are.

    table: rows of `cells` with `line`, the index of their look. floor: where the correlations' axis ends; below it
    there is room for `rows` rows of counts, one per line that needs one (default: as many as this table needs).
    counts: whether they are written at all.
    """
    axes.axhline(0, color=style.REFERENCE, linewidth=0.6, zorder=0.5)
    partial = partial_lines(table) if counts else []
    for index, look in enumerate(looks):
        part = table[table["line"] == index]
        x = scale.of(part[scale.path]) + dodge(scale, index, len(looks))
        order = np.argsort(x)
        part, x = part.iloc[order], x[order]
        _band(part, axes, x, metric, DODGE * scale.step / max(len(looks), 2))
        _line(part, axes, x, scale, metric, look)
    row = COUNT_ROW * (1.05 - floor)
    for place, index in enumerate(partial):
        part = table[(table["line"] == index) & (table["usable"] < table["total"])]
        _counts(part, axes, scale, floor - (place + 0.75) * row, looks[index])
    rows = len(partial) if rows is None else rows
    if partial:
        axes.text(-0.03, floor - (len(partial) / 2 + 0.25) * row, "usable", transform=axes.get_yaxis_transform(),
                  ha="right", va="center", fontsize=style.SMALL, color=style.NOTE, gid="usable heading")  # fmt: skip
        axes.spines["left"].set_bounds(floor, 1.05)
    bottom = floor - (0.03 if rows == 0 else (rows + 0.4) * row)
    axes.set(ylim=(bottom, 1.05), yticks=np.arange(floor, 1.01, 0.5))
    middle = ((floor + 1.05) / 2 - bottom) / (1.05 - bottom)  # of the correlations, clear of the counts below them
    axes.set_ylabel(f"{wording.METRICS[metric]} correlation", y=middle)
    scale.dress(axes)
    return axes


def published_points(values: list[Published], axes: Axes, scale: Scale) -> Axes:
    """Stars where others published a correlation for a value of the axis, on its tick and behind our own."""
    for published in values:
        place = scale.places.get(published.settings.get(scale.path))
        if place is not None:
            axes.plot([place], [published.value], linestyle="none", zorder=1.5, gid="published", clip_on=False,
                      **style.PUBLISHED)  # fmt: skip
    return axes


def absent(values: list[Any], axes: Axes, scale: Scale, floor: float, why: str) -> Axes:
    """Says at values of the axis why nothing is there."""
    for given in values:
        axes.text(scale.places[given], floor + 0.04, why, rotation=90, ha="center", va="bottom",
                  fontsize=style.SMALL, color=style.NOTE, gid="absent")  # fmt: skip
    return axes


def points(axes: Axes, right: float = 0.0, up: float = 0.0) -> Transform:
    """A shift by points."""
    return ScaledTranslation(right / 72, up / 72, axes.figure.get_figure(root=True).dpi_scale_trans)


def predicted_vs_actual(
    table: pd.DataFrame, axes: Axes, colour: str = "black", title: str = "", most_ticks: int = 4
) -> Axes:
    """Actual against predicted change with the identity line; both axes have the same linear range, 0 within it.

    table: `predicted` and `actual`, one row per pair. A few far outliers do not set the range: they are counted in
    the corner as lying beyond it.
    """
    pairs = table[["predicted", "actual"]].to_numpy(dtype=float)
    pairs = pairs[np.isfinite(pairs).all(axis=1)]
    near = np.abs(pairs).max(axis=1, initial=0.0) <= _limit(np.abs(pairs).max(axis=1, initial=0.0))
    low, high = _padded(float(pairs[near].min(initial=0.0)), float(pairs[near].max(initial=0.0)))
    shown = pairs[:: max(1, -(-len(pairs) // MOST_POINTS))]
    alpha = float(np.clip(30 / max(len(shown), 1) ** 0.6, 0.15, 0.7))
    axes.axline((0, 0), slope=1, color=style.REFERENCE, linewidth=0.8, zorder=1)
    axes.scatter(shown[:, 0], shown[:, 1], s=style.POINT_AREA, color=colour, alpha=alpha, linewidth=0, rasterized=True,
                 zorder=2)  # fmt: skip
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set_title(title, fontsize=style.SMALL, linespacing=1.25)
    tick = np.asarray(MaxNLocator(most_ticks, steps=[1, 2, 5, 10]).tick_values(low, high))
    tick = tick[(tick >= low) & (tick <= high)]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(tick)
    ticks.power_of_ten(axes, float(np.abs(tick).max()))
    if beyond := int((~near).sum()):
        axes.text(0.98, 0.03, f"{beyond} beyond", transform=axes.transAxes, ha="right", va="bottom", color=style.NOTE,
                  fontsize=style.SMALL, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8})  # fmt: skip
    return axes


def eigenvalue_against(table: pd.DataFrame, axes: Axes, scale: Scale, looks: list[Look]) -> Axes:
    """The top Hessian eigenvalue of each trained network, faint, and the median of each line; log y.

    table: `largest_eigenvalue`, `defined`, the swept path, and `line`. Networks that are not defined (collapsed, without
    a minimum) are crosses and do not count in the median.
    """
    for index, look in enumerate(looks):
        part = table[(table["line"] == index) & (table["largest_eigenvalue"] > 0)]
        x = scale.of(part[scale.path]) + dodge(scale, index, len(looks))
        y, good = part["largest_eigenvalue"].to_numpy(dtype=float), part["defined"].to_numpy(dtype=bool)
        axes.plot(x[good], y[good], linestyle="none", marker="o", markersize=2.4, color=look.colour, alpha=style.FAINT,
                  markeredgewidth=0, zorder=2, gid="seeds")  # fmt: skip
        axes.plot(x[~good], y[~good], linestyle="none", marker="x", markersize=3.2, color=look.colour,
                  markeredgewidth=0.7, zorder=2, gid="undefined")  # fmt: skip
        median = pd.Series(y[good]).groupby(x[good]).median()
        marked(axes, median.index.to_numpy(), median.to_numpy(), scale, look)
    scale.dress(axes)
    ticks.log_y(axes)
    axes.set_ylabel("Top Hessian eigenvalue")
    return axes


def positive_against(
    table: pd.DataFrame, axes: Axes, scale: Scale, looks: list[Look], column: str, label: str, mark: float | None = None,
    cap: float = np.inf,
) -> Axes:  # fmt: skip
    """A positive number of each line against the axis; log y, `mark` drawn across. What is not positive is an arrow down.

    Numbers above `cap`, and such as are not finite, are arrows at its height: how far above says nothing.

    table: the swept path, `column`, and `line`, the index of their look.
    """
    if mark is not None:
        axes.axhline(mark, color=style.REFERENCE, linewidth=0.6, zorder=0.5)
    for index, look in enumerate(looks):
        part = table[table["line"] == index]
        x = scale.of(part[scale.path]) + dodge(scale, index, len(looks))
        order = np.argsort(x)
        y = part[column].to_numpy(dtype=float)[order]
        beyond = ~(y <= cap) & np.isfinite(cap)
        marked(axes, x[order], np.where((y > 0) & ~beyond, y, np.nan), scale, look)
        axes.plot(x[order][beyond], np.full(beyond.sum(), cap), linestyle="none", marker="^", markersize=4.5,
                  color=look.colour, markerfacecolor="white", zorder=4, gid="beyond")  # fmt: skip
        if (below := y <= 0).any():  # a line of no points would leave the layout without room
            axes.plot(x[order][below], np.full(below.sum(), 0.03), linestyle="none", marker="v", markersize=4.5,
                      color=look.colour, markerfacecolor="white", zorder=4, gid="not positive", clip_on=False,
                      transform=axes.get_xaxis_transform())  # fmt: skip
    scale.dress(axes)
    ticks.log_y(axes)
    axes.set_ylabel(label)
    return axes


def norms_against(table: pd.DataFrame, axes: Axes, scale: Scale, looks: dict[str, Look]) -> Axes:
    """Median and quartiles of ‖Δθ‖ for each of `looks`; log y.

    table: the swept path, and NAME_low, NAME_median, NAME_high for every name in `looks`.
    """
    for index, (name, look) in enumerate(looks.items()):
        x = scale.of(table[scale.path]) + dodge(scale, index, len(looks)) * 0.6
        order = np.argsort(x)
        low, median, high = (table[f"{name}_{end}"].to_numpy(dtype=float)[order] for end in ("low", "median", "high"))
        median = np.where(median > 0, median, np.nan)
        axes.vlines(x[order], np.where(low > 0, low, median), high, color=look.colour, linewidth=style.INTERVAL_WIDTH)
        marked(axes, x[order], median, scale, look)
    scale.dress(axes)
    ticks.log_y(axes)
    axes.set_ylabel("‖Δθ‖ (median, quartiles)")
    return axes


def correlation_against_loss(table: pd.DataFrame, axes: Axes, metric: str, look: Look) -> Axes:
    """`metric` of every trial and test row against the loss of the test row, with medians and quartiles of equal bins.

    table: `test_loss` and the metric, one row per comparison. A loss that is not positive has no place on the log axis.
    """
    loss, value = (table[name].to_numpy(dtype=float) for name in ("test_loss", metric))
    shown = (loss > 0) & np.isfinite(loss) & np.isfinite(value)
    loss, value = loss[shown], value[shown]
    axes.axhline(0, color=style.REFERENCE, linewidth=0.6, zorder=0.5)
    thin = slice(None, None, max(1, -(-len(loss) // MOST_POINTS)))
    axes.scatter(loss[thin], value[thin], s=style.POINT_AREA, color=look.colour, linewidth=0, rasterized=True, zorder=2,
                 alpha=float(np.clip(30 / max(len(loss), 1) ** 0.6, 0.15, 0.7)))  # fmt: skip
    binned = loss_bins(loss, value)
    axes.vlines(binned["loss"], binned["low"], binned["high"], color="black", linewidth=style.INTERVAL_WIDTH, zorder=3)
    axes.plot(binned["loss"], binned["median"], color="black", marker="D", markersize=3.4, markerfacecolor="white",
              linewidth=0.9, zorder=4, gid="median")  # fmt: skip
    axes.set(xscale="log", ylim=(-1.05, 1.05), yticks=np.linspace(-1, 1, 5), xlabel="Test loss",
             ylabel=f"{wording.METRICS[metric]} correlation")  # fmt: skip
    if len(loss):
        ticks.log_x(axes, float(loss.min()), float(loss.max()))
    return axes


def loss_bins(loss: np.ndarray, value: np.ndarray) -> pd.DataFrame:
    """loss (median), low, median, high (quartiles of the value) of at most BINS equally full bins of the loss."""
    order = np.argsort(loss, kind="stable")
    parts = [part for part in np.array_split(order, min(BINS, len(loss) // FEWEST_PER_BIN) or 1) if len(part)]
    rows = [(np.median(loss[part]), *np.quantile(value[part], (0.25, 0.5, 0.75))) for part in parts]
    return pd.DataFrame(rows, columns=["loss", "low", "median", "high"])


def partial_lines(table: pd.DataFrame) -> list[int]:
    """The lines of which some cell has comparisons that are not usable."""
    return sorted(set(table.loc[table["usable"] < table["total"], "line"]))


def dodge(scale: Scale, index: int, count: int) -> float:
    """Shift of line `index` of `count`, so that intervals do not hide each other."""
    return (index - (count - 1) / 2) * DODGE * scale.step / max(count, 2)


def marked(axes: Axes, x: np.ndarray, y: np.ndarray, scale: Scale, look: Look) -> None:
    """A line with markers; none joins 0 to the values of a logarithmic scale."""
    if scale.gap is not None:
        place = int(np.searchsorted(x, scale.gap))
        if 0 < place < len(x):
            x, y = np.insert(x, place, np.nan), np.insert(y, place, np.nan)
    axes.plot(x, y, linestyle=look.line, label=look.label, zorder=3, gid="line", **style.marks(look))


def _band(part: pd.DataFrame, axes: Axes, x: np.ndarray, metric: str, width: float) -> None:
    """The permutation band behind each mean, where the table has it."""
    names = (f"{metric}_band_low", f"{metric}_band_high")
    if not set(names) <= set(part.columns):
        return
    low, high = (part[name].to_numpy(dtype=float) for name in names)
    boxes = [
        [(c - width / 2, lo), (c + width / 2, lo), (c + width / 2, hi), (c - width / 2, hi)]
        for c, lo, hi in zip(x, low, high, strict=True)
        if np.isfinite([lo, hi]).all()
    ]
    axes.add_collection(PolyCollection(boxes, facecolor=style.BAND, edgecolor="none", zorder=0.2, gid="band"))


def _line(part: pd.DataFrame, axes: Axes, x: np.ndarray, scale: Scale, metric: str, look: Look) -> None:
    mean, low, high = (part[name].to_numpy(dtype=float) for name in (metric, f"{metric}_low", f"{metric}_high"))
    axes.vlines(x, low, high, color=look.colour, linewidth=style.INTERVAL_WIDTH, zorder=2)
    marked(axes, x, mean, scale, look)


def _counts(part: pd.DataFrame, axes: Axes, scale: Scale, height: float, look: Look) -> None:
    """usable/total of one line in a row of its own, each behind the line's marker."""
    _, room = _room(axes, scale)
    texts = [f"{usable}/{total}" for usable, total in zip(part["usable"], part["total"], strict=True)]
    if len(scale.places) > 1 and max(map(len, texts)) + MARKER_ROOM > room:
        texts = [str(usable) for usable in part["usable"]]
    for place, text in zip(scale.of(part[scale.path]), texts, strict=True):
        aside = 0.5 * 0.62 * style.SMALL * (len(text) + MARKER_ROOM)
        axes.plot([place], [height], linestyle="none", markersize=3.4, transform=axes.transData + points(axes, -aside),
                  clip_on=False, zorder=5, gid="usable marker", **style.marks(look))  # fmt: skip
        axes.text(place, height, text, ha="center", va="center", fontsize=style.SMALL, color=look.colour, gid="usable")


def _width(axes: Axes) -> float:
    """Of the axes in points, about: the layout comes later."""
    return float(axes.get_position().width * axes.figure.get_figure(root=True).get_size_inches()[0] * 72 * 0.85)


def _room(axes: Axes, scale: Scale) -> tuple[float, float]:
    """Points of width, and characters of the smallest type, between two values of the axis."""
    width = _width(axes)
    steps = (np.ptp(list(scale.places.values())) / scale.step) + 1.3
    return width / steps, width / steps / (0.62 * style.SMALL)


def _limit(sizes: np.ndarray) -> float:
    """The largest change shown: of all, unless a half percent of the pairs is far from all others."""
    if sizes.size == 0:
        return 1.0
    most = float(np.quantile(sizes, 0.995))
    return float(sizes.max() if most == 0 or sizes.max() <= FAR * most else most)


def _padded(low: float, high: float) -> tuple[float, float]:
    pad = 0.07 * (high - low) or 1.0
    return low - pad, high + pad
