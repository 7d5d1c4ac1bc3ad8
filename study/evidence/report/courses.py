"""How a correlation runs along the axis of an experiment, in words, from rows of `cells`; never imports pandas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from study.evidence import wording
from study.evidence.paths import cell_paths, swept_axis, tied, unmistakable
from study.evidence.report.cell_rows import (
    Row,
    Series,
    defined,
    extremes,
    interval,
    number,
    overlap,
    total,
    varying,
)

if TYPE_CHECKING:
    from study.trials import Experiment

FEW = 2  # settings that are all told


@dataclass(frozen=True)
class Courses:
    """paths: those that tell cells apart, with all their values. axis: the one that figures put on theirs, if any.

    tied: those that vary only as the axis does.
    """

    paths: dict[str, list[Any]]
    axis: str | None
    tied: tuple[str, ...] = ()

    @classmethod
    def of(cls, experiment: Experiment, rows: Sequence[Row]) -> Courses:
        paths = {
            path: list(dict.fromkeys(wording.value(row[path]) for row in rows))
            for path in cell_paths(experiment.swept_paths)
        }
        axis = swept_axis(paths)
        return cls(paths, axis, tuple(tied({path: [row[path] for row in rows] for path in paths}, axis)))

    def text(self, part: Series, metric: str) -> str:
        """`varies with depth least for λ = 0.005, all rows: 0.96 […] (depth 5) to 1.00 […] (depth 1), intervals apart; …`

        A setting is what all cells of one line in the figures share. One or two are told as they are, of more those in
        which the lowest and the highest cell lie closest together and furthest apart. Without an axis, or where no
        setting has two usable cells, it is the lowest and the highest of all cells.
        """
        settings = {name: defined(rows, metric) for name, rows in self.settings(part).items()}
        settings = {name: rows for name, rows in settings.items() if len(rows) > 1}
        if not settings or self.axis is None:
            return self._over_all(part, metric)
        ordered = sorted(settings, key=lambda name: _width(settings[name], metric))
        axis = wording.name(self.axis, unmistakable(self.axis, list(self.paths)))
        if len(ordered) == 1 and not ordered[0]:
            return f"varies with {axis} {self._span(settings[''], metric, [self.axis])}"
        told = [f"{name}: {self._span(settings[name], metric, [self.axis])}" for name in (ordered[0], ordered[-1])]
        if len(ordered) == 1:
            return f"varies with {axis} for {told[0]}"
        few = "" if len(ordered) <= FEW else f" of {len(ordered)} settings"
        return f"varies with {axis} least{few} for {told[0]}; most for {told[1]}"

    def settings(self, part: Series) -> dict[str, list[Row]]:
        """The cells of each line in the figures, by what they share and the others of the series do not."""
        rest = [path for path in varying(part.rows, self.paths) if path not in (self.axis, *self.tied)]
        found: dict[str, list[Row]] = {}
        for row in part.rows:
            found.setdefault(self.named(row, rest), []).append(row)
        return found

    def value(self, path: str, row: Row) -> str:
        """A swept value alone, in the notation that suits all values of its path."""
        return wording.short(row[path], self._powers(path))

    def _over_all(self, part: Series, metric: str) -> str:
        rows = defined(part.rows, metric)
        if len(part.rows) == 1:
            return f"is {interval(rows[0], metric)} in the one cell"
        return f"lies {self._span(rows, metric, varying(part.rows, self.paths))} over {len(part.rows)} cells"

    def _span(self, rows: Sequence[Row], metric: str, paths: Sequence[str]) -> str:
        low, high = extremes(rows, metric)
        first, last = (f"{interval(row, metric)} ({self.named(row, paths)}{_partly(row)})" for row in (low, high))
        found = overlap(low, high, metric)
        return f"between {first} and {last}{found and f', whose {found}'}"

    def named(self, row: Row, paths: Sequence[str]) -> str:
        """`depth 3, λ = 10⁻⁵`: these paths of a cell in words."""
        every = list(self.paths)
        return ", ".join(
            wording.phrase(path, row[path], self._powers(path), unmistakable(path, every)) for path in paths
        )

    def _powers(self, path: str) -> bool:
        return wording.in_powers([given for given in self.paths[path] if given is not None])


def _width(rows: Sequence[Row], metric: str) -> float:
    low, high = extremes(rows, metric)
    return number(high[metric]) - number(low[metric])


def _partly(row: Row) -> str:
    """A cell is never named without saying that only some of it is usable."""
    usable, all_of_it = total([row], "usable"), total([row], "total")
    return "" if usable == all_of_it else f", {usable} of {all_of_it} usable"
