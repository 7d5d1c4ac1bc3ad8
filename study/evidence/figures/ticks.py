"""Ticks and their labels: few, clear of each other, and in one notation."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from study.evidence import wording
from study.evidence.figures import style

# Numbers labelled beside the decades, where the axis spans less than this factor.
BETWEEN = ((100, (1.0, 3.0)), (30, (1.0, 2.0, 5.0)), (6, (1.0, 2.0, 3.0, 5.0, 7.0)))


def log_x(axes: Axes, low: float, high: float) -> None:
    """A logarithmic x axis from low to high with a margin."""
    pad = max((high / low) ** 0.05, 1.2)
    axes.set_xlim(low / pad, high * pad)
    logarithmic(axes.xaxis, low / pad, high * pad)


def log_y(axes: Axes) -> None:
    """A logarithmic y axis around the data."""
    axes.set_yscale("log")
    low, high = axes.dataLim.intervaly
    if not (np.isfinite([low, high]).all() and 0 < low <= high):
        low, high = 0.1, 1.0
    pad = max((high / low) ** 0.06, 1.15)
    low, high = low / pad, high * pad
    if high / low < 3:  # so that two ticks are labelled
        middle = np.sqrt(low * high)
        low, high = middle / np.sqrt(3), middle * np.sqrt(3)
    axes.set_ylim(low, high)
    logarithmic(axes.yaxis, low, high)


def logarithmic(axis: Any, low: float, high: float) -> None:
    """Decades where there are several, else also numbers between them; small ticks where they are not too many."""
    subs: tuple[float, ...] = (1.0,)
    for widest, found in BETWEEN:
        subs = found if high / low < widest else subs
    axis.set_major_locator(LogLocator(10, subs=subs, numticks=6))
    axis.set_minor_locator(LogLocator(10, subs=range(2, 10), numticks=60) if high / low < 1e5 else NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda given, _: wording.number(given, powers=True) if given > 0 else ""))
    axis.set_minor_formatter(NullFormatter())


def power_of_ten(axes: Axes, largest: float) -> None:
    """Tick labels without their common power of ten, which stands once, above the y axis."""
    power = int(np.floor(np.log10(largest)))
    power = 0 if -2 <= power <= 2 else power

    def text(given: float, _: Any = None) -> str:
        return f"{given / 10.0**power:.3g}".replace("-", "−")

    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(text))
    if power:
        axes.text(0.02, 0.98, "×10" + str(power).translate(wording.SUPERSCRIPTS), transform=axes.transAxes, ha="left",
                  va="top", fontsize=style.SMALL, color=style.NOTE)  # fmt: skip
