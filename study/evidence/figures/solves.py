"""How far approximate solves are from the exact one and how long they take, against the axis."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from study.evidence.figures import layout, plots, style
from study.evidence.figures.material import Material, numbered

FARTHEST = 10.0  # times the exact solution: how much farther off says nothing
MEASURED = {
    "distance_from_exact": "Distance from exact H⁻¹∇L, relative",
    "seconds": "Seconds of one network's estimate",
}


def solves(material: Material) -> Figure:
    """Medians over trials of the table `estimates`: distance from the exact answer, and seconds, side by side."""
    panel = material.panels[-1]
    looks = [line.look for line in panel.lines]
    table = _with_solves(material, numbered(panel))
    height = layout.PANEL_HEIGHT + 0.6 + layout.LEGEND_ROW * -(-len(looks) // 2)
    figure = layout.new(style.PAGE, height)
    for axes, (column, label) in zip(figure.subplots(1, len(MEASURED)), MEASURED.items(), strict=True):
        cap = FARTHEST if column == "distance_from_exact" else np.inf
        plots.positive_against(table, axes, material.sweep.scale, looks, column, label, cap=cap)
    handles = [layout.handle(look) for look in looks if look.label]
    if not (table["distance_from_exact"] <= FARTHEST).all():
        handles.append(Line2D([], [], linestyle="none", marker="^", markersize=4.5, color=style.NOTE,
                              markerfacecolor="white", label=f"beyond {FARTHEST:g} times the exact solution"))  # fmt: skip
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def has_solves(material: Material) -> bool:
    """Whether any estimate says how far it is from the exact one."""
    table = material.tables.estimates
    return "distance_from_exact" in table and bool(table["distance_from_exact"].notna().any())


def _with_solves(material: Material, table: pd.DataFrame) -> pd.DataFrame:
    keys = [*material.sweep.paths, "estimator"]
    grouped = material.tables.estimates.groupby(keys, dropna=False)[list(MEASURED)]
    medians = grouped.agg(_median).reset_index()
    return table.merge(medians, on=keys, how="left")


def _median(values: pd.Series) -> float:
    """What is not finite in some trials counts as endless: a solve that diverged is no missing one."""
    return float("nan") if values.isna().all() else float(values.fillna(np.inf).median())
