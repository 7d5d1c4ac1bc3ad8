"""The figures of an experiment at print size: plots put together, with their legends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter

from study.evidence import wording
from study.evidence.figures import lines, plots, style, ticks
from study.evidence.figures.lines import Line, Panel, Sweep
from study.evidence.figures.material import Material, numbered
from study.evidence.figures.published import Published
from study.evidence.figures.style import Look

MOST_PANELS = 12
PER_ROW = 4
PANEL_HEIGHT = 2.15
SMALLEST_SIDE = 1.1  # inches, of a panel of predicted against actual
LEGEND_ROW = 0.135  # inches
LEGEND_BELOW = 4.4  # distance from the axes, in units of the legend's type


def correlation(material: Material, metric: str) -> Figure:
    """`metric` against the axis of the sweep, a panel per protocol."""
    panels = material.panels
    columns = len(panels) if len(panels) < 4 else 2
    rows = math.ceil(len(panels) / columns)
    legend = max(len(panel.lines) for panel in panels)
    width = style.PAGE if columns > 1 else style.COLUMN
    figure = new(width, (PANEL_HEIGHT + 0.55 + LEGEND_ROW * legend) * rows + 2.5 * LEGEND_ROW)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    notes = draw_correlation(material, panels, list(grid), metric)
    note_legend(figure, notes, width)
    for axes in grid[len(panels) :]:
        axes.remove()
    return figure


def draw_correlation(
    material: Material, panels: list[Panel], grid: Sequence[Axes], metric: str, most_counts: int = 99
) -> list[Any]:
    """The panels side by side on the same axes, each with its lines below; at most `most_counts` rows of counts, or none.

    Returns the handles of what the panels have in common.
    """
    tables, sweep = [numbered(panel) for panel in panels], material.sweep
    floor = min(_floor(table, metric) for table in tables)
    rows = max(len(plots.partial_lines(table)) for table in tables)
    counts = rows <= most_counts
    rows = rows if counts else 0
    stars: dict[str, Line2D] = {}
    for place, (panel, table, axes) in enumerate(zip(panels, tables, grid, strict=False)):
        looks = [line.look for line in panel.lines]
        plots.correlation_against(table, axes, sweep.scale, metric, looks, floor, rows, counts)
        found = material.published(panel, metric)
        plots.published_points(found, axes, sweep.scale, len(looks))
        stars |= {str(star.get_label()): star for star in _published_handles(sweep, panel, found)}
        plots.absent(sweep.absent(panel.protocol), axes, sweep.scale, floor)
        _title(axes, panel)
        legend(axes, [handle(look) for look in looks if look.label])
        if place and _beside(axes, grid[place - 1]):
            _share_left(axes, len(plots.partial_lines(tables[place - 1])) > 0)
    left = min(axes.get_xlim()[0] for axes in grid[: len(panels)])
    for axes in grid[: len(panels)]:
        axes.set_xlim(left=left)
    return [*stars.values(), *_notes(pd.concat(tables), metric, counts)]


def _share_left(axes: Axes, counted: bool) -> None:
    """What the panel at the left says need not be said again."""
    axes.set_ylabel("")
    axes.tick_params(labelleft=False)
    for text in [text for text in axes.texts if counted and text.get_gid() == "usable heading"]:
        text.remove()


def scatter(material: Material, estimator: str, protocol: str, chosen: list[Line], note: str = "") -> Figure:
    """Actual against predicted for cells of some lines: a panel per cell, at most MOST_PANELS of them."""
    cells = pd.concat([line.cells for line in chosen])
    cells = cells[cells["estimator"] == estimator]
    shown = cells.iloc[lines.spread(list(range(len(cells))), MOST_PANELS)]
    varying = [path for path in material.sweep.paths if cells[path].nunique(dropna=False) > 1]
    titles = [
        in_rows([material.sweep.phrase(path, cell[path]) for path in varying], 27) for _, cell in shown.iterrows()
    ]
    text = 0.27 + 0.115 * (3 + max(map(_rows, titles)))
    counts = [int((line.cells["estimator"] == estimator).sum()) for line in chosen]
    rows, columns, width, side = _grid(counts if sum(counts) == len(shown) else [len(shown)], text)
    figure = new(width, (side + text) * len(rows) + 0.45)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    used = [axes for axes_row, count in zip(grid, rows, strict=True) for axes in axes_row[:count]]
    for axes, title, (_, cell) in zip(used, titles, shown.iterrows(), strict=True):
        draw_cell(material, axes, cell, title)
    for axes in set(grid.ravel()) - set(used):
        axes.remove()
    constant = [
        material.sweep.phrase(path, cells[path].iloc[0])
        for path in material.sweep.varying(protocol)
        if path not in varying
    ]
    head = ", ".join([f"{_panel_of(material, protocol).title}, {estimator}", *constant])
    notes = [f"{len(shown)} of {len(cells)} cells"] if len(shown) < len(cells) else []
    head += f" ({'; '.join([*notes, note] if note else notes)})" if notes or note else ""
    figure.suptitle(head, fontsize=style.TITLE)
    figure.supxlabel(f"Predicted change in test {material.target}", fontsize=style.TITLE)
    figure.supylabel(f"Actual change in test {material.target}", fontsize=style.TITLE)
    return figure


def _grid(counts: list[int], text: float) -> tuple[list[int], int, float, float]:
    """How many panels each row has, columns, width of the figure and side of a panel, in inches.

    Every one of the `counts` starts a row of its own, unless the panels would get too small to read.
    """
    columns = math.ceil(max(counts) / math.ceil(max(counts) / PER_ROW))
    for parts, wide in ((counts, columns), ([sum(counts)], min(PER_ROW, sum(counts)))):
        rows = [min(wide, count - start) for count in parts for start in range(0, count, wide)]
        width = style.COLUMN if wide <= 2 else style.PAGE
        side = (width - 0.3) / wide - 0.42  # without the tick labels
        side = min(side, (style.PAGE_HEIGHT - 0.45) / len(rows) - text)
        if side >= SMALLEST_SIDE:
            break
    return rows, wide, width, side


def draw_cell(material: Material, axes: Axes, cell: pd.Series, title: str, widest: int = 24) -> Axes:
    """One cell under its statistics, in rows of at most `widest` characters."""
    counts = "" if cell["usable"] == cell["total"] else f"{cell['usable']}/{cell['total']} usable"
    numbers = ["undefined"]
    if cell["usable"]:
        numbers = [
            f"ρ {two(cell['spearman'])}",
            f"r {two(cell['pearson'])}",
            f"median slope {two(cell['slope_median'])}",
        ]
    text = "\n".join(filter(None, [title, in_rows([*numbers, *([counts] if counts else [])], widest)]))
    return plots.predicted_vs_actual(material.behind.points(cell), axes, style.protocol_colour(cell["kind"]), text)


def eigenvalues(material: Material) -> Figure:
    """The top Hessian eigenvalue of the trained networks against the axis, a panel per protocol."""
    panels = material.network_panels
    columns = len(panels) if len(panels) < 4 else 2
    rows = math.ceil(len(panels) / columns)
    legend = max(len(panel.lines) for panel in panels) + 2
    figure = new(style.PAGE if columns > 1 else style.COLUMN, (PANEL_HEIGHT + 0.45 + LEGEND_ROW * legend) * rows)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    draw_eigenvalues(material, panels, list(grid))
    for axes in grid[len(panels) :]:
        axes.remove()
    figure.legend(handles=eigenvalue_handles(panels), loc="outside lower center", ncols=columns)
    return figure


def eigenvalue_handles(panels: list[Panel], brief: bool = False) -> list[Line2D]:
    """What the marks of single networks mean."""
    names = ("one network", "collapsed") if brief else (
        "one network (line: median)", "collapsed or without a minimum (not in the median)")  # fmt: skip
    looks = [("o", 2.4, style.FAINT, names[0])]
    if not all(line.cells["defined"].all() for panel in panels for line in panel.lines):
        looks.append(("x", 3.2, 1.0, names[1]))
    return [
        Line2D([], [], linestyle="none", marker=marker, markersize=size, color=style.NOTE, alpha=alpha, label=name)
        for marker, size, alpha, name in looks
    ]


def draw_eigenvalues(material: Material, panels: list[Panel], grid: Sequence[Axes]) -> None:
    """The panels on one scale of y, each with its legend below."""
    for panel, axes in zip(panels, grid, strict=False):
        looks = [line.look for line in panel.lines]
        table = numbered(panel)
        plots.eigenvalue_against(table, axes, material.network_sweep.scale, looks)
        _title(axes, panel)
        legend(axes, [handle(look) for look in looks if look.label])
    _share_y(grid[: len(panels)])


def norms(material: Material) -> Figure:
    """‖Δθ‖ predicted and actual against the axis: a panel per protocol and line, one row of panels per protocol."""
    shown = lines.spread([(panel, line) for panel in material.panels for line in _by_truth(panel)], MOST_PANELS)
    groups = [(panel, [line for owner, line in shown if owner is panel]) for panel in material.panels]
    groups = [(panel, own) for panel, own in groups if own]
    columns = min(max(len(own) for _, own in groups), PER_ROW)
    heights = [0.3 + 1.45 * math.ceil(len(own) / columns) for _, own in groups]
    figure = new(style.COLUMN if columns == 1 else style.PAGE, sum(heights) + 0.35 * len(groups) + 0.2)
    parts = figure.subfigures(len(groups), 1, height_ratios=heights, squeeze=False).ravel()
    handles: dict[str, Any] = {}
    for part, (panel, own) in zip(parts, groups, strict=True):
        grid = part.subplots(math.ceil(len(own) / columns), columns, squeeze=False).ravel()
        for axes, chosen in zip(grid, own, strict=False):
            handles |= {str(found.get_label()): found for found in draw_norms(material, axes, panel, chosen)}
            axes.set_title(chosen[0].look.label, fontsize=style.TEXT)
        for axes in grid[len(own) :]:
            axes.remove()
        _share_y(grid[: len(own)])
        part.suptitle(panel.title, fontsize=style.TITLE, fontweight="bold")
    figure.legend(handles=list(handles.values()), loc="outside lower center", ncols=2 if columns == 1 else 4)
    return figure


def draw_norms(material: Material, axes: Axes, panel: Panel, chosen: list[Line]) -> list[Line2D]:
    """One truth: predicted by each estimator, actual, and where the protocol has one the drift. Returns the handles."""
    kinds = lines.estimator_kinds(material.tables.readings)
    cells = pd.concat([line.cells for line in chosen])
    found = material.behind.norms(cells)
    scale, parts, looks = material.sweep.scale, [], {}
    estimators = list(dict.fromkeys(cells["estimator"]))
    axis = scale.path
    for place, estimator in enumerate(estimators):
        own = cells["estimator"] == estimator
        part = found[own].rename(columns=lambda name: name.replace("predicted", "predicted " + estimator))  # noqa: B023
        parts.append(part.assign(**{axis: cells.loc[own, axis]}).set_index(axis))
        looks[f"predicted {estimator}"] = Look(
            style.estimator_colour(kinds.get(estimator, estimator)), style.MARKERS[1 + place % 7], style.LINES[1], "none",
            f"predicted ({estimator})")  # fmt: skip
    table = pd.concat([parts[0], *(part.filter(like="predicted") for part in parts[1:])], axis=1).reset_index()
    looks["actual"] = Look(style.protocol_colour(panel.kind), "o", "-", "full", f"actual ({panel.protocol})")
    if panel.kind != "stationary":
        looks["drift"] = Look(style.REFERENCE, "v", style.LINES[2], "none", "drift, nothing removed")
    plots.norms_against(table, axes, scale, looks)
    return [handle(look) for look in looks.values()]


def against_loss(material: Material, metric: str) -> Figure:
    """`metric` of every comparison against the loss of its test row, a panel per cell with many test rows."""
    count = min(len(_many_tests(material)), MOST_PANELS)
    columns = min(count, 3)
    figure = new(style.COLUMN if columns == 1 else style.PAGE, 1.95 * math.ceil(count / columns) + 0.5)
    draw_against_losses(material, figure, metric, MOST_PANELS)
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
    floor = _floor(material.losses, metric)
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
    panel = _panel_of(material, cell["protocol"])
    parts = [sweep.phrase(path, cell[path]) for path in sweep.shown(panel.protocol)]
    if material.cells["estimator"].nunique() > 1:
        parts.insert(0, cell["estimator"])
    if cell["usable"] < cell["total"]:
        parts.append(f"{cell['usable']}/{cell['total']} usable")
    axes.set_title("\n".join(filter(None, [panel.title, in_rows(parts, 38)])), fontsize=style.SMALL)
    return axes


def new(width: float, height: float) -> Figure:
    """A figure of its own canvas: no display, no global state of pyplot."""
    figure = Figure(figsize=(width, min(height, style.PAGE_HEIGHT)), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _floor(table: pd.DataFrame, metric: str) -> float:
    """Where the axis of correlations ends: 0, −0.5 or −1, below everything that is drawn."""
    names = [f"{metric}{end}" for end in ("", "_low", "_band_low") if f"{metric}{end}" in table]
    values = table[names].to_numpy(dtype=float)
    lowest = float(np.min(values, where=np.isfinite(values), initial=0.0))
    return 0.0 if lowest >= 0 else -0.5 if lowest >= -0.5 else -1.0


def _title(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title, fontsize=style.TITLE, fontweight="bold", pad=13 if panel.subtitle or panel.note else 4)
    if text := "; ".join(filter(None, [panel.subtitle, panel.note])):
        axes.text(0.5, 1.0, text, transform=axes.transAxes + plots.points(axes, up=4), ha="center", va="bottom",
                  fontsize=style.SMALL, color=style.NOTE)  # fmt: skip


def _notes(table: pd.DataFrame, metric: str, counts: bool) -> list[Any]:
    """What the band, a missing interval and the counts mean, where there are any."""
    notes: list[Any] = []
    if f"{metric}_band_low" in table:
        notes.append(Patch(facecolor=style.BAND, label="95% of permutations"))
    if (table[f"{metric}_low"].isna() & table[metric].notna()).any():
        notes.append(_text("no bar: one minimum, no interval"))
    if counts and (table["usable"] < table["total"]).any():
        notes.append(_text("usable: correlation defined"))
    return notes


def _text(label: str) -> Line2D:
    return Line2D([], [], linestyle="none", label=label)


def _published_handles(sweep: Sweep, panel: Panel, found: list[Published]) -> list[Line2D]:
    """A star for every source, with the settings that vary in the panel but along its axis."""
    paths, handles = [path for path in sweep.shown(panel.protocol) if path != sweep.axis], []
    for source in dict.fromkeys(published.source for published in found):
        own = sorted((p for p in found if p.source == source), key=lambda p: -p.value)
        named = [[sweep.phrase(path, p.settings[path]) for path in paths if path in p.settings] for p in own]
        label = ", ".join([source, *named[0]])
        if any(parts != named[0] for parts in named):
            values = [f"{p.value:g} ({', '.join(parts)})" for p, parts in zip(own, named, strict=True)]
            label = f"{source}: {', '.join(values)}"
        handles.append(Line2D([], [], linestyle="none", label=label, **style.PUBLISHED))
    return handles


def note_legend(part: Figure | SubFigure, handles: list[Any], width: float) -> None:
    """Below all panels, in as many columns as `width` inches hold."""
    if not handles:
        return
    sizes = [len(str(one.get_label())) * 0.62 * style.SMALL + 30 for one in handles]
    for columns in range(len(handles), 0, -1):
        if sum(max(column) for column in np.array_split(sizes, columns)) <= width * 72:
            break
    part.legend(handles=handles, loc="outside lower center", ncols=columns)


def legend(axes: Axes, handles: list[Any]) -> None:
    if handles:
        widest = max(len(str(one.get_label())) for one in handles)
        axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.0), borderaxespad=LEGEND_BELOW,
                    ncols=2 if widest < 24 and len(handles) > 2 else 1)  # fmt: skip


def handle(look: Look) -> Line2D:
    return Line2D([], [], linestyle=look.line, label=look.label, **style.marks(look))


def _by_truth(panel: Panel) -> list[list[Line]]:
    """Lines that differ in their estimator only stand together: they share the actual change."""
    found: dict[tuple[Any, ...], list[Line]] = {}
    for line in panel.lines:
        label = line.look.label.removeprefix(line.estimator).removeprefix(", ")
        found.setdefault(tuple(line.values.values()), []).append(replace(line, look=replace(line.look, label=label)))
    return list(found.values())


def _share_y(grid: Sequence[Axes]) -> None:
    """The same logarithmic limits for all, ticks named at the left only where the axes are beside each other."""
    limits = np.array([axes.get_ylim() for axes in grid])
    low, high = float(limits[:, 0].min()), float(limits[:, 1].max())
    for place, axes in enumerate(grid):
        axes.set_ylim(low, high)
        ticks.logarithmic(axes.yaxis, low, high)
        if place and _beside(axes, grid[place - 1]):
            axes.set_ylabel("")
            axes.yaxis.set_major_formatter(NullFormatter())


def _beside(axes: Axes, left: Axes) -> bool:
    own, other = axes.get_subplotspec(), left.get_subplotspec()
    if own is None or other is None or own.get_gridspec() is not other.get_gridspec():
        return False
    return own.rowspan == other.rowspan and own.colspan != other.colspan


def _panel_of(material: Material, protocol: str) -> Panel:
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


def _rows(text: str) -> int:
    return text.count("\n") + 1


def two(value: float) -> str:
    """Two decimals, fewer of a large number; no negative zero."""
    if not math.isfinite(value):
        return "–"
    if abs(value) >= 10:
        return wording.number(float(f"{value:.2g}"))
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")
