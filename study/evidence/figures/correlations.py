"""Correlation against the axis of the sweep, a panel per protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from study.evidence import wording
from study.evidence.figures import layout, plots, style
from study.evidence.figures.lines import Panel, Sweep
from study.evidence.figures.material import Material, numbered
from study.evidence.figures.published import Published


def correlation(material: Material, metric: str) -> Figure:
    """`metric` against the axis of the sweep, a panel per protocol."""
    panels, deeper = material.panels, material.sweep.scale.drop * style.SMALL / 72
    figure, grid, width = layout.panel_grid(panels, 0.55 + deeper, 2.5, share=True)
    layout.note_legend(figure, draw_correlation(material, panels, grid, metric), width)
    return figure


def draw_correlation(
    material: Material, panels: list[Panel], grid: Sequence[Axes], metric: str, counts: bool = True
) -> list[Any]:
    """The panels side by side on the same axes, each with its lines below; `counts`: with rows of usable/total.

    Returns the handles of what the panels have in common.
    """
    tables, sweep = [numbered(panel) for panel in panels], material.sweep
    floor = min(layout.floor_of(table, metric) for table in tables)
    rows = max(len(plots.partial_lines(table)) for table in tables) if counts else 0
    stars: dict[str, Line2D] = {}
    for place, (panel, table, axes) in enumerate(zip(panels, tables, grid, strict=False)):
        looks = [line.look for line in panel.lines]
        plots.correlation_against(table, axes, sweep.scale, metric, looks, floor, rows, counts)
        found = material.published(panel, metric)
        plots.published_points(found, axes, sweep.scale)
        stars |= {str(star.get_label()): star for star in _published_handles(sweep, panel, found)}
        for given in sweep.absent(panel.protocol):
            plots.absent([given], axes, sweep.scale, floor, _why_absent(sweep, panel, given))
        layout.title(axes, panel)
        layout.legend(axes, [layout.handle(look) for look in looks if look.label], sweep.scale.drop)
        if place and layout.beside(axes, grid[place - 1]):
            _share_left(axes, len(plots.partial_lines(tables[place - 1])) > 0)
    return [*stars.values(), *_notes(pd.concat(tables), metric, counts)]


def _why_absent(sweep: Sweep, panel: Panel, given: Any) -> str:
    """Without a penalty the networks of these studies have no minimum that a removal could be certified at."""
    unpenalised = sweep.axis == wording.WEIGHT_DECAY and given == 0
    return "no minimum" if unpenalised and panel.kind == "stationary" else "not planned"


def _share_left(axes: Axes, counted: bool) -> None:
    """What the panel at the left says need not be said again."""
    axes.set_ylabel("")
    axes.tick_params(labelleft=False)
    for text in [text for text in axes.texts if counted and text.get_gid() == "usable heading"]:
        text.remove()


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
