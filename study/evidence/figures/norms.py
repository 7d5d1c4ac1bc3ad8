"""‖Δθ‖ predicted and actual against the axis."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from study.evidence.figures import layout, lines, plots, style
from study.evidence.figures.lines import Line, Panel
from study.evidence.figures.material import Material
from study.evidence.figures.style import Look


def norms(material: Material) -> Figure:
    """‖Δθ‖ predicted and actual against the axis: a panel per protocol and line, one row of panels per protocol."""
    shown = lines.spread([(panel, line) for panel in material.panels for line in _by_truth(panel)], layout.MOST_PANELS)
    groups = [(panel, [line for owner, line in shown if owner is panel]) for panel in material.panels]
    groups = [(panel, own) for panel, own in groups if own]
    columns = min(max(len(own) for _, own in groups), layout.PER_ROW)
    heights = [0.3 + 1.45 * math.ceil(len(own) / columns) for _, own in groups]
    figure = layout.new(style.COLUMN if columns == 1 else style.PAGE, sum(heights) + 0.35 * len(groups) + 0.2)
    parts = figure.subfigures(len(groups), 1, height_ratios=heights, squeeze=False).ravel()
    handles: dict[str, Any] = {}
    for part, (panel, own) in zip(parts, groups, strict=True):
        grid = part.subplots(math.ceil(len(own) / columns), columns, squeeze=False).ravel()
        for axes, chosen in zip(grid, own, strict=False):
            handles |= {str(found.get_label()): found for found in draw_norms(material, axes, panel, chosen)}
            axes.set_title(chosen[0].look.label, fontsize=style.TEXT)
        for axes in grid[len(own) :]:
            axes.remove()
        layout.share_y(grid[: len(own)])
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
    if panel.kind in ("warm", "horizon", "cold"):
        looks["drift"] = Look(style.REFERENCE, "v", style.LINES[2], "none", "drift, nothing removed")
    # an estimator that solves for the test points only knows no Δθ
    looks = {name: look for name, look in looks.items() if table[f"{name}_median"].notna().any() or name == "actual"}
    plots.norms_against(table, axes, scale, looks)
    return [layout.handle(look) for look in looks.values()]


def _by_truth(panel: Panel) -> list[list[Line]]:
    """Lines that differ in their estimator only stand together: they share the actual change."""
    found: dict[tuple[Any, ...], list[Line]] = {}
    for line in panel.lines:
        label = line.look.label.removeprefix(line.estimator).removeprefix(", ")
        found.setdefault(tuple(line.values.values()), []).append(replace(line, look=replace(line.look, label=label)))
    return list(found.values())
