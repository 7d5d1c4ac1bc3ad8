"""Every visual constant of every figure: one colour means one thing, and no line relies on its colour alone.

Colour: the protocol that obtained the actual change, or, where several estimators are compared and for the predicted
change, the family of the estimator. Marker and shade: the values of one swept path (strongest penalty darkest). Line
style and filling: whatever else is swept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np

# Okabe and Ito's colours, safe for the colour-blind. Protocols, estimators and published values never share one.
PROTOCOL_COLOURS = {
    "warm": "#D55E00", "cold": "#0072B2", "stationary": "#007D5A", "proximal": "#999933", "pbrf": "#332288",
    "linearised_pbrf": "#7A6FC0", "cold_seeds": "#44AA99", "horizon": "#F2A36B",
}  # fmt: skip
ESTIMATOR_FAMILIES = {
    "#000000": ("exact", "newton_step", "unrolled"),
    "#CC79A7": ("cg", "lissa"),
    "#56B4E9": ("ggn", "kfac", "ekfac"),
    "#E69F00": ("arnoldi", "nystrom"),
    "#882255": ("identity", "tracin"),
}
# Fills of the gaps between truth and prediction, after Tol's light scheme, each with its hatch.
GAP_FILLS: dict[str, tuple[str, str]] = {
    "warm/cold": ("#77AADD", "||||"), "proximity": ("#44BB99", "...."), "non-convergence": ("#99DDFF", "////"),
    "residual curvature": ("#BBCC33", "xxxx"), "linearisation": ("#EE8866", ""), "damping": ("#EEDD88", "\\\\\\\\"),
    "solver": ("#FFAABB", "----"), "parameters": ("#C9B3E6", "++++"),
    "penalty": ("#AAAA00", "...."),
}  # fmt: skip
OTHER_GAP = ("#DDDDDD", "oo")
HATCH_DARKER = 0.72  # of the fill's brightness
OTHER_COLOUR = "#8B5A2B"  # a protocol or an estimator without a family of its own
NETWORK_COLOUR = "#5E6C99"  # trained networks that several protocols start from
PUBLISHED_COLOUR = "#F0E442"  # filled, with a black edge
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
LINES: tuple[Any, ...] = ("-", (0, (4, 1.6)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (9, 2)))
FILLS: tuple[Any, ...] = ("full", "none", "left", "top", "right")
DARKEST, LIGHTEST = -0.45, 0.45  # of a shade: mixed with black, with white

REFERENCE = "#8C8C8C"  # the line of equality, zero, drift: no colour of any protocol or estimator
BAND = "#E3E3E3"  # permutation band
FAINT = 0.35  # opacity of single seeds
NOTE = "#404040"

COLUMN = 3.35  # inches: one column of a paper, and both
PAGE = 6.9
PAGE_HEIGHT = 9.0
SMALL = 6.5  # points: the smallest type anywhere
TEXT = 7.0
TITLE = 7.5
POINT_AREA = 4.0
PUBLISHED: dict[str, Any] = {
    "marker": "*", "markersize": 8.5, "color": PUBLISHED_COLOUR, "markeredgecolor": "black", "markeredgewidth": 0.6,
}  # fmt: skip
INTERVAL_WIDTH = 0.9
RASTER_DPI = 300

RC: Any = {
    "savefig.dpi": RASTER_DPI, "font.size": TEXT, "axes.titlesize": TITLE, "axes.labelsize": TEXT + 0.5,
    "xtick.labelsize": TEXT, "ytick.labelsize": TEXT, "legend.fontsize": SMALL, "legend.frameon": False,
    "legend.handlelength": 2.6, "legend.columnspacing": 1.2, "legend.labelspacing": 0.35, "axes.titlepad": 4,
    "axes.linewidth": 0.6, "xtick.major.width": 0.6, "ytick.major.width": 0.6, "xtick.major.size": 2.5,
    "ytick.major.size": 2.5, "ytick.minor.size": 1.5, "ytick.minor.width": 0.4, "xtick.minor.size": 1.5,
    "xtick.minor.width": 0.4, "lines.linewidth": 1.1, "lines.markersize": 3.8, "pdf.fonttype": 42,
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "axes.spines.top": False,
    "axes.spines.right": False, "xtick.bottom": True, "ytick.left": True, "svg.hashsalt": "study",
    "axes.unicode_minus": True, "hatch.linewidth": 0.5,
}  # fmt: skip


@dataclass(frozen=True)
class Look:
    """How one line is drawn, and what the legend calls it."""

    colour: str
    marker: str = "o"
    line: Any = "-"
    fill: Any = "full"
    label: str = ""


def marks(look: Look) -> dict[str, Any]:
    """Colour and marker of a line as matplotlib's keywords. Half-filled markers take the face as the filled half."""
    hollow = look.fill == "none"
    return {
        "color": look.colour, "marker": look.marker, "fillstyle": "full" if hollow else look.fill,
        "markerfacecolor": "white" if hollow else look.colour, "markerfacecoloralt": "white",
        "markeredgecolor": look.colour, "markeredgewidth": 0.8,
    }  # fmt: skip


@contextmanager
def applied() -> Iterator[None]:
    """The study's style inside the block, whatever the user's own settings are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(RC)
        yield


def protocol_colour(kind: str) -> str:
    return PROTOCOL_COLOURS.get(kind, OTHER_COLOUR)


def estimator_colour(kind: str) -> str:
    return next((colour for colour, kinds in ESTIMATOR_FAMILIES.items() if kind in kinds), OTHER_COLOUR)


def gap_fill(name: str) -> dict[str, Any]:
    """Face and hatch of a gap as matplotlib's keywords; one of several names has the first one's face, the next one's hatch."""
    parts = name.split(" + ")
    face, hatch = GAP_FILLS.get(parts[0], OTHER_GAP)
    if len(parts) > 1:
        hatch = GAP_FILLS.get(parts[1], OTHER_GAP)[1] or "OO"
    red, green, blue = (HATCH_DARKER * part for part in mpl.colors.to_rgb(face))
    return {"facecolor": face, "edgecolor": mpl.colors.to_hex((red, green, blue)), "hatch": hatch, "linewidth": 0.4}


def shade(colour: str, rank: int, count: int) -> str:
    """The colour darkened or lightened: rank 0 of `count` is darkest. One alone stays as it is."""
    if count < 2:
        return colour
    amount = DARKEST + (LIGHTEST - DARKEST) * rank / (count - 1)
    towards = 1.0 if amount > 0 else 0.0
    mixed = np.array(mpl.colors.to_rgb(colour)) * (1 - abs(amount)) + towards * abs(amount)
    red, green, blue = (float(part) for part in mixed)
    return mpl.colors.to_hex((red, green, blue))
