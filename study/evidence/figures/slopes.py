"""The slope of actual on predicted changes against the axis, a panel per protocol: what a correlation does not see."""

from __future__ import annotations

from matplotlib.figure import Figure

from study.evidence.figures import layout, plots
from study.evidence.figures.material import Material, numbered


def slopes(material: Material) -> Figure:
    """The median slope against the axis of the sweep; 1 is a prediction of the right size."""
    panels = material.panels
    figure, grid, _ = layout.panel_grid(panels, 0.55, 0)
    for panel, axes in zip(panels, grid, strict=True):
        looks = [line.look for line in panel.lines]
        table, label = numbered(panel), "Slope of actual on predicted (median)"
        plots.positive_against(table, axes, material.sweep.scale, looks, "slope_median", label, mark=1.0)
        layout.title(axes, panel)
        layout.legend(axes, [layout.handle(look) for look in looks if look.label])
    layout.share_y(grid)
    return figure
