"""The slope of actual on predicted changes against the axis, a panel per protocol: what a correlation does not see."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from study.evidence.figures import layout, plots, style
from study.evidence.figures.material import Material, numbered


def slopes(material: Material) -> Figure:
    """The median slope against the axis of the sweep; 1 is a prediction of the right size."""
    panels = material.panels
    figure, grid, width = layout.panel_grid(panels, 0.55, 1)
    for panel, axes in zip(panels, grid, strict=True):
        looks = [line.look for line in panel.lines]
        table, label = numbered(panel), "Slope of actual on predicted (median)"
        plots.positive_against(table, axes, material.sweep.scale, looks, "slope_median", label, mark=1.0)
        layout.title(axes, panel)
        layout.legend(axes, [layout.handle(look) for look in looks if look.label])
    layout.share_y(grid)
    if (material.cells["slope_median"] <= 0).any():
        note = Line2D([], [], linestyle="none", marker="v", markersize=4.5, color=style.NOTE, markerfacecolor="white",
                      label="slope not positive")  # fmt: skip
        layout.note_legend(figure, [note], width)
    return figure
