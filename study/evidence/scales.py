"""Where the values of a swept path stand on an axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from study.evidence import wording
from study.evidence.style import REFERENCE, SMALL

LOG_RATIO = 50.0  # of largest to smallest swept value, from where a logarithmic axis is read more easily
APART = 0.22  # of the logarithmic range: how far 0 stands from the smallest positive value
FEWEST_STEPS = 18.0  # no step counts as narrower than this part of the range
MARGIN = 0.62  # of a step, left of the first and right of the last value


@dataclass(frozen=True)
class Scale:
    """places: swept value -> position. A logarithmic scale stands at log₁₀; `gap` lies between 0 and the positive values."""

    path: str
    places: dict[Any, float]
    gap: float | None = None

    @property
    def step(self) -> float:
        """The smallest distance between two values, unless they are very uneven."""
        places = np.sort(list(self.places.values()))
        if len(places) < 2:
            return 1.0
        return max(float(np.diff(places).min()), float(np.ptp(places)) / FEWEST_STEPS)

    def of(self, values: pd.Series) -> np.ndarray:
        return np.array([self.places[wording.value(given)] for given in values], dtype=float)

    def dress(self, axes: Axes, label: bool = True) -> None:
        """Limits, ticks that do not run into each other, the label, and a break where 0 stands apart."""
        places = np.array(list(self.places.values()))
        margin = MARGIN * self.step
        low, high = places.min() - margin, places.max() + margin
        names = [wording.short(given) for given in self.places]
        width = axes.get_position().width * axes.figure.get_figure(root=True).get_size_inches()[0] * 72 * 0.85
        kept = _apart(places, names, (high - low) / max(width, 1.0))
        axes.set_xticks([places[i] for i in kept], [names[i] for i in kept])
        axes.set_xticks([], minor=True)
        axes.set_xlim(low, high)
        if self.gap is not None:
            axes.plot([self.gap], [0], marker=[(-0.3, -1), (0.3, 1)], markersize=7, color="white", mec=axes.spines["bottom"]
                      .get_edgecolor(), mew=0.6, transform=axes.get_xaxis_transform(), clip_on=False, zorder=5,
                      gid="break")  # fmt: skip
            axes.axvline(self.gap, color=REFERENCE, linewidth=0.4, linestyle=(0, (1, 3)), zorder=0)
        if label:
            axes.set_xlabel(wording.axis_label(self.path))


def of(path: str, values: list[Any]) -> Scale:
    """Numbers on a linear or logarithmic scale, by LOG_RATIO; anything else in order, one step apart."""
    distinct = list(dict.fromkeys(wording.value(given) for given in values))
    if not all(isinstance(given, int | float) and not isinstance(given, bool) for given in distinct):
        return Scale(path, {given: float(place) for place, given in enumerate(distinct)})
    distinct.sort()
    positive = [given for given in distinct if given > 0]
    zeros = [given for given in distinct if given == 0]
    if len(positive) < 2 or len(positive) + len(zeros) < len(distinct) or positive[-1] < LOG_RATIO * positive[0]:
        return Scale(path, {given: float(given) for given in distinct})
    places = {given: float(np.log10(given)) for given in positive}
    if not zeros:
        return Scale(path, places)
    distance = max(APART * float(np.log10(positive[-1] / positive[0])), 0.5)
    zero = places[positive[0]] - distance
    return Scale(path, {zeros[0]: zero, **places}, gap=zero + distance / 2)


def _apart(places: np.ndarray, names: list[str], per_point: float) -> list[int]:
    """Indices of the ticks to label: in order, each clear of the one before. per_point: units of the axis per point."""
    kept: list[int] = []
    end = -np.inf
    for i in np.argsort(places):
        half = 0.5 * 0.62 * (SMALL + 0.5) * len(names[i]) * per_point
        if places[i] - half >= end:
            kept.append(int(i))
            end = places[i] + half + 4 * per_point
    return kept
