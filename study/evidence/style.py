"""Every visual constant of every figure: one colour means one thing, and no line relies on its colour alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np

# Okabe and Ito's colours, safe for the colour-blind. Protocols and estimators never share one.
PROTOCOL_COLOURS = {"warm": "#D55E00", "cold": "#0072B2", "stationary": "#007D5A"}
ESTIMATOR_COLOURS = ("#000000", "#CC79A7", "#56B4E9", "#E69F00", "#7F7F7F")
SWEPT_COLOURS = mpl.colormaps["cividis"]  # for the values of a swept key: ordered in lightness
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
LINES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (9, 2)))
REFERENCE = "#8C8C8C"  # identity, zero
PAPER_COLUMN = 3.4  # inches
PAPER_PAGE = 7.0
PANEL = 1.72
POINT_AREA = 5.0
SMALL = 5.5  # points, of counts inside the axes
RASTER_DPI = 300

RC: Any = {
    "figure.constrained_layout.use": True, "savefig.dpi": RASTER_DPI, "font.size": 8, "axes.titlesize": 8,
    "axes.labelsize": 8, "xtick.labelsize": 7, "ytick.labelsize": 7, "legend.fontsize": 7, "legend.frameon": False,
    "axes.linewidth": 0.6, "xtick.major.width": 0.6, "ytick.major.width": 0.6, "xtick.major.size": 2.5,
    "ytick.major.size": 2.5, "lines.linewidth": 1.1, "lines.markersize": 4, "pdf.fonttype": 42,
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "axes.spines.top": False,
    "axes.spines.right": False, "xtick.bottom": True, "ytick.left": True,
}  # fmt: skip


@dataclass(frozen=True)
class Look:
    """How one line is drawn."""

    colour: str
    marker: str
    line: str | tuple[float, tuple[float, ...]]
    label: str


@contextmanager
def applied() -> Iterator[None]:
    """The study's style inside the block, whatever the user's own settings are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(RC)
        yield


def protocol_colour(kind: str) -> str:
    return PROTOCOL_COLOURS.get(kind, REFERENCE)


def looks(kinds: Sequence[str], estimators: Sequence[str], labels: Sequence[str]) -> list[Look]:
    """One look per line, given by its kind of protocol, its estimator and its label.

    Colour tells protocols apart if there are several, else estimators, else swept values; the marker always differs.
    """
    names = list(dict.fromkeys(estimators))
    if len(set(kinds)) > 1 or len(labels) == 1:
        colours = [protocol_colour(kind) for kind in kinds]
    elif len(names) > 1:
        colours = [ESTIMATOR_COLOURS[names.index(name) % len(ESTIMATOR_COLOURS)] for name in estimators]
    else:
        colours = [mpl.colors.to_hex(SWEPT_COLOURS(place)) for place in np.linspace(0, 0.85, len(labels))]
    return [
        Look(colour, MARKERS[place % len(MARKERS)], LINES[place % len(LINES)], label)
        for place, (colour, label) in enumerate(zip(colours, labels, strict=True))
    ]
