"""The top Hessian eigenvalue of trained networks against the axis."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from study.evidence.figures import layout, plots, style
from study.evidence.figures.lines import Panel
from study.evidence.figures.material import Material, numbered


def eigenvalues(material: Material) -> Figure:
    """The top Hessian eigenvalue of the trained networks against the axis, a panel per protocol."""
    panels = material.network_panels
    figure, grid, width = layout.panel_grid(panels, 0.45, 2)
    draw_eigenvalues(material, panels, grid)
    layout.note_legend(figure, eigenvalue_handles(panels), width)
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
        layout.title(axes, panel)
        layout.legend(axes, [layout.handle(look) for look in looks if look.label])
    layout.share_y(grid[: len(panels)])
