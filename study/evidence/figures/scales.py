"""Where the values of a swept path stand on an axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from study.evidence import wording
from study.evidence.figures.style import REFERENCE, SMALL

APART = 0.22  # of the logarithmic range: how far 0 stands from the smallest positive value
FEWEST_STEPS = 18.0  # no step counts as narrower than this part of the range
SLANT, FITTING = 35, 36  # degrees of names that together have more characters than an axis has room for
MARGIN = 0.62  # of a step, left of the first and right of the last value


@dataclass(frozen=True)
class Scale:
    """places: swept value -> position. A logarithmic scale stands at log₁₀; `gap` lies between 0 and the positive values.

    brief: whether its label needs no name of an estimator or protocol.
    """

    path: str
    places: dict[Any, float]
    gap: float | None = None
    logarithmic: bool = False
    brief: bool = False

    @property
    def step(self) -> float:
        """The smallest distance between two values, unless they are very uneven."""
        places = np.sort(list(self.places.values()))
        if len(places) < 2:
            return 1.0
        return max(float(np.diff(places).min()), float(np.ptp(places)) / FEWEST_STEPS)

    @property
    def names(self) -> list[str]:
        """Of the places, in one notation."""
        powers = wording.in_powers(list(self.places))
        return [wording.short(given, powers) for given in self.places]

    @property
    def words(self) -> bool:
        """Whether none of the names can be left out: a reader cannot tell what lies between two of them."""
        return not wording.all_numbers(list(self.places))

    @property
    def slanted(self) -> bool:
        """Whether the names are words, too many to stand beside each other."""
        return self.words and sum(len(name) + 2 for name in self.names) > FITTING

    @property
    def drop(self) -> float:
        """How much deeper than level ones slanted names reach, in units of their type."""
        return max(map(len, self.names)) * 0.62 * float(np.sin(np.radians(SLANT))) if self.slanted else 0.0

    def of(self, values: pd.Series) -> np.ndarray:
        return np.array([self.places[wording.value(given)] for given in values], dtype=float)

    def dress(self, axes: Axes, label: bool = True) -> None:
        """Limits, ticks that do not run into each other, the label, and a break where 0 stands apart."""
        places, names = np.array(list(self.places.values())), self.names
        width = axes.get_position().width * axes.figure.get_figure(root=True).get_size_inches()[0] * 72 * 0.85
        margin = MARGIN * self.step
        kept = _apart(places, names, float(np.ptp(places) + 2 * margin) / max(width, 1.0), self._before())
        if self.words:
            kept = list(range(len(names)))
        if self.slanted:
            axes.tick_params(axis="x", rotation=SLANT, rotation_mode="xtick")
        axes.set_xticks([places[i] for i in kept], [names[i] for i in kept])
        axes.set_xticks([place for i, place in enumerate(places) if i not in kept], minor=True)
        axes.set_xlim(places.min() - margin, places.max() + margin)
        if self.gap is not None:
            axes.plot([self.gap], [0], marker=[(-0.3, -1), (0.3, 1)], markersize=7, color="white", mec=axes.spines["bottom"]
                      .get_edgecolor(), mew=0.6, transform=axes.get_xaxis_transform(), clip_on=False, zorder=5,
                      gid="break")  # fmt: skip
            axes.axvline(self.gap, color=REFERENCE, linewidth=0.4, linestyle=(0, (1, 3)), zorder=0)
        if label:
            axes.set_xlabel(wording.axis_label(self.path, self.brief))

    def _before(self) -> list[bool]:
        """Which values are labelled before the others: on a logarithmic axis 0 and the decades."""
        return [not self.logarithmic or given == 0 or place % 1 == 0 for given, place in self.places.items()]


def of(path: str, values: list[Any]) -> Scale:
    """Numbers on a linear or logarithmic scale, by `wording.LOG_RATIO`; anything else in order, one step apart."""
    distinct = list(dict.fromkeys(wording.value(given) for given in values))
    if not wording.all_numbers(distinct):
        return Scale(path, {given: float(place) for place, given in enumerate(distinct)})
    distinct.sort()
    if not wording.wide(distinct):
        return Scale(path, {given: float(given) for given in distinct})
    places = {given: float(np.log10(given)) for given in distinct if given > 0}
    if distinct[0] > 0:
        return Scale(path, places, logarithmic=True)
    low, high = min(places.values()), max(places.values())
    distance = max(APART * (high - low), 0.5)
    return Scale(path, {distinct[0]: low - distance, **places}, gap=low - distance / 2, logarithmic=True)


def _apart(places: np.ndarray, names: list[str], per_point: float, before: list[bool]) -> list[int]:
    """Indices of the ticks to label, each clear of the others: those of `before` first, then from the left.

    per_point: units of the axis per point.
    """
    kept: list[int] = []
    halves = [0.5 * 0.62 * (SMALL + 0.5) * len(name) * per_point for name in names]
    for i in sorted(range(len(names)), key=lambda i: (not before[i], places[i])):
        if all(abs(places[i] - places[k]) >= halves[i] + halves[k] + 4 * per_point for k in kept):
            kept.append(i)
    return sorted(kept)
