"""How an experiment's cells become panels and lines: a panel per protocol, a line per estimator and rest of the sweep."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from study.evidence import wording
from study.evidence.figures import scales
from study.evidence.figures.style import FILLS, LINES, MARKERS, Look, estimator_colour, protocol_colour, shade
from study.evidence.paths import cell_paths, swept_axis, tied, unmistakable
from study.evidence.readings import Readings, swept_values

MOST_LINES = 8  # of a panel: more cannot be told apart
ESTIMATOR = "estimator"  # stands for the axis where nothing is swept


@dataclass(frozen=True)
class Line:
    """Cells that differ in the axis only. `values`: of the other swept paths, by path."""

    estimator: str
    values: dict[str, Any]
    cells: pd.DataFrame
    look: Look


@dataclass(frozen=True)
class Panel:
    """The lines of one protocol. `note` says what was left out, `subtitle` what sets the panel apart from the others."""

    protocol: str
    kind: str
    title: str
    subtitle: str
    lines: list[Line]
    note: str = ""


@dataclass(frozen=True)
class Sweep:
    """The plan of an experiment, in so far as it decides how figures look: it does not change while records come in."""

    readings: Readings
    only: tuple[str, ...] = ("",)  # how the paths begin that count: those of the networks, say

    @cached_property
    def paths(self) -> list[str]:
        return [path for path in cell_paths(self.readings.experiment.swept_paths) if path.startswith(self.only)]

    @cached_property
    def plan(self) -> pd.DataFrame:
        """One row per trial and protocol planned: `protocol` and every swept path that tells cells apart."""
        trials = self.readings.experiment.trials
        table = pd.DataFrame({path: swept_values([trial.swept.get(path) for trial in trials]) for path in self.paths})
        named = [_protocols(trial.settings) for trial in trials]
        if not all(named):  # a trial that does not say has those that the records show
            present = list(dict.fromkeys(name for block in self.readings.blocks for name in block.protocols))
            named = [present] * len(trials)
        table = table.reindex(np.repeat(np.arange(len(trials)), [len(names) for names in named]))
        return table.assign(protocol=[name for names in named for name in names]).drop_duplicates(ignore_index=True)

    @cached_property
    def axis(self) -> str | None:
        """The swept path along which lines run; None where so many estimators are compared that they are the axis."""
        if len(self.estimators) > MOST_LINES and not self.only[0]:
            return None
        return swept_axis({path: list(self.plan[path]) for path in self.paths})

    @cached_property
    def estimators(self) -> list[str]:
        """Names of all that are planned, or else of those in the records."""
        planned = [own.name for trial in self.readings.experiment.trials for own in _estimators(trial.settings)]
        return list(dict.fromkeys(planned or [name for block in self.readings.blocks for name in block.estimators]))

    @cached_property
    def scale(self) -> scales.Scale:
        """Of the axis: every planned value has its place from the start."""
        if self.axis is None:
            return scales.of(ESTIMATOR, self.estimators)
        return replace(scales.of(self.axis, list(self.plan[self.axis])), brief=bool(self.repeated))

    @cached_property
    def numeric(self) -> bool:
        """Whether a line may join the values of the axis: nothing lies between one word, or one estimator, and the next."""
        return self.axis is not None and wording.all_numbers([given for given in self.scale.places if given is not None])

    @cached_property
    def rest(self) -> list[str]:
        """Swept paths that take several values, other than the axis and what is tied to it or repeats it."""
        left = (self.axis, *self.tied, *self.repeated)
        return [path for path in self.paths if path not in left and len(self.distinct(path)) > 1]

    @cached_property
    def repeated(self) -> list[str]:
        """Paths that only repeat the axis: that give the same key of other entries its value in every trial."""
        return [path for path in self.paths if path != self.axis and self._repeats_axis(path)]

    def _repeats_axis(self, path: str) -> bool:
        if self.axis is None or path.rsplit(".", 1)[-1] != self.axis.rsplit(".", 1)[-1]:
            return False
        pairs = zip(self.plan[path], self.plan[self.axis], strict=True)
        return all(wording.value(given) == wording.value(own) for given, own in pairs)

    @cached_property
    def tied(self) -> dict[str, list[Any]]:
        """What varies only as the axis does, with values of its own: those along the axis, which no line tells apart."""
        if self.axis is None:
            return {}
        first = self.plan.drop_duplicates(self.axis).set_index(self.axis)
        order = [given for given in self.scale.places if given is not None]
        found = tied({path: list(self.plan[path]) for path in self.paths}, self.axis)
        return {
            path: [wording.value(first[path].loc[given]) for given in order]
            for path in found
            if path not in self.repeated
        }

    @cached_property
    def ranked(self) -> str | None:
        """The path that marker and shade stand for: of the rest that varies within some protocol, as `swept_axis`."""
        protocols = list(dict.fromkeys(self.plan["protocol"]))
        found = [path for path in self.rest if any(len(self.distinct(path, own)) > 1 for own in protocols)]
        return swept_axis({path: list(self.plan[path]) for path in found})

    def distinct(self, path: str, protocol: str | None = None) -> list[Any]:
        """Planned values in the order of their rank: numbers ascending, penalties from the strongest, the rest as planned.

        All rows come before any choice of them.
        """
        rows = self.plan if protocol is None else self.plan[self.plan["protocol"] == protocol]
        values = list(dict.fromkeys(wording.value(given) for given in rows[path]))
        if all(isinstance(given, int | float) and not isinstance(given, bool) for given in values if given is not None):
            sign = -1 if path == wording.WEIGHT_DECAY else 1
            values.sort(key=lambda given: (given is None, sign * (given or 0)))
        elif path == wording.REMOVED:
            values.sort(key=lambda given: given != "all")
        return values

    @cached_property
    def styled(self) -> list[str]:
        """The paths that line style and filling stand for: of the rest what varies within some protocol, without `ranked`."""
        protocols = list(dict.fromkeys(self.plan["protocol"]))
        return [p for p in self.rest if p != self.ranked and any(len(self.distinct(p, own)) > 1 for own in protocols)]

    def varying(self, protocol: str) -> list[str]:
        """The rest that varies within a protocol, the ranked path first."""
        paths = [path for path in self.rest if len(self.distinct(path, protocol)) > 1]
        return sorted(paths, key=lambda path: path != self.ranked)

    def shown(self, protocol: str) -> list[str]:
        """The paths that tell the cells of a protocol apart, in the order of the spec."""
        varying = self.varying(protocol)
        return [path for path in self.paths if path == self.axis or path in varying]

    def planned(self, protocol: str, values: dict[str, Any]) -> bool:
        """Whether any trial of the protocol has these swept values."""
        rows = self.plan.loc[self.plan["protocol"] == protocol, list(values)]
        return key(values.values()) in {key(row) for row in rows.itertuples(index=False)}

    def absent(self, protocol: str) -> list[Any]:
        """Values of the axis that no trial of the protocol is planned for."""
        if self.axis is None:
            return []
        planned = self.distinct(self.axis, protocol)
        return [given for given in self.scale.places if given not in planned]

    def phrase(self, path: str, given: Any) -> str:
        """A swept path with its value, in the notation that suits all values of the path."""
        powers = path in self.paths and wording.in_powers(self.distinct(path))
        brief = unmistakable(path, self.paths) or (path == self.axis and bool(self.repeated))
        return wording.phrase(path, given, powers, brief)

    def constants(self, protocol: str) -> dict[str, Any]:
        found = {path: self.distinct(path, protocol) for path in self.rest}
        return {path: values[0] for path, values in found.items() if len(values) == 1}


def panels(sweep: Sweep, cells: pd.DataFrame) -> list[Panel]:
    """One per protocol that has cells, the certified ones last.

    cells: the table, or another with its estimator, protocol, kind and swept paths. Lines take the colour of their
    estimator where there are several, else of the protocol.
    """
    kinds = dict(zip(cells["protocol"], cells["kind"], strict=True))
    names = sorted(kinds, key=lambda name: kinds[name] == "stationary")
    several = sweep.axis is not None and cells["estimator"].nunique() > 1
    styles = _styles(sweep, cells)
    return [_panel(sweep, cells[cells["protocol"] == name], name, kinds[name], several, styles) for name in names]


def key(values: Iterable[Any]) -> tuple[Any, ...]:
    """Swept values as one hashable key."""
    return tuple(wording.value(given) for given in values)


def spread(items: list[Any], most: int) -> list[Any]:
    """At most `most` of the items, evenly spread, the first and the last among them."""
    places = np.unique(np.linspace(0, len(items) - 1, min(len(items), most)).round().astype(int))
    return [items[place] for place in places]


def _panel(
    sweep: Sweep, cells: pd.DataFrame, protocol: str, kind: str, several: bool, styles: list[tuple[Any, ...]]
) -> Panel:
    constants = sweep.constants(protocol)
    groups = _groups(sweep, cells)
    shown = spread(list(groups), MOST_LINES)
    estimators = estimator_kinds(sweep.readings)
    lines = []
    for found in shown:
        estimator, values = found[0], dict(zip(sweep.rest, found[1:], strict=True))
        colour = estimator_colour(estimators.get(estimator, estimator)) if several else protocol_colour(kind)
        phrases = [sweep.phrase(path, values[path]) for path in sweep.varying(protocol)]
        if several:
            phrases.insert(0, estimator)
        place = styles.index(_second(sweep, found))
        ranks = sweep.distinct(sweep.ranked) if sweep.ranked else [None]
        rank = ranks.index(values[sweep.ranked]) if sweep.ranked else 0
        style = LINES[place % len(LINES)] if sweep.numeric else "none"
        look = Look(shade(colour, rank, len(ranks)), MARKERS[rank % len(MARKERS)], style,
                    FILLS[place % len(FILLS)], ", ".join(phrases))  # fmt: skip
        lines.append(Line(estimator, values, groups[found], look))
    title = wording.protocol_title(protocol, kind, _spoken(sweep, constants))
    told = [sweep.phrase(path, given) for path, given in constants.items()]
    told += [f"{wording.name(path)} {', '.join(map(wording.short, values))}" for path, values in sweep.tied.items()]
    subtitle = ", ".join(told)
    note = f"{len(shown)} of {len(groups)} lines" if len(shown) < len(groups) else ""
    return Panel(protocol, kind, title, subtitle, lines, note)


def _groups(sweep: Sweep, cells: pd.DataFrame) -> dict[tuple[Any, ...], pd.DataFrame]:
    """Cells by (estimator, value of each of the rest), ordered by rank."""
    columns = [] if sweep.axis is None else [ESTIMATOR]
    found = [key(row) for row in cells[[*columns, *sweep.rest]].itertuples(index=False)]
    if sweep.axis is None:
        found = [("", *row) for row in found]
    orders = [list(dict.fromkeys(row[0] for row in found)), *(sweep.distinct(path) for path in sweep.rest)]
    distinct = sorted(set(found), key=lambda row: [order.index(item) for order, item in zip(orders, row, strict=True)])
    return {wanted: cells[[row == wanted for row in found]] for wanted in distinct}


def _second(sweep: Sweep, found: tuple[Any, ...]) -> tuple[Any, ...]:
    """What line style and filling stand for: what varies within some protocol, but for the ranked path."""
    return (found[0], *(item for path, item in zip(sweep.rest, found[1:], strict=True) if path in sweep.styled))


def _styles(sweep: Sweep, cells: pd.DataFrame) -> list[tuple[Any, ...]]:
    """Every `_second` of the cells, in the order of the planned values: one style means one thing in all panels."""
    orders = [list(dict.fromkeys(cells[ESTIMATOR])), *(sweep.distinct(path) for path in sweep.styled)]
    columns = [ESTIMATOR, *sweep.styled]
    if sweep.axis is None:
        orders, cells = [[""], *orders[1:]], cells.assign(**{ESTIMATOR: ""})
    found = {key(row) for row in cells[columns].itertuples(index=False)}
    return [values for values in product(*orders) if values in found]


def _spoken(sweep: Sweep, constants: dict[str, Any]) -> dict[str, Any]:
    """The constants, and the settings that no trial varies, which the title may depend on."""
    training = sweep.readings.blocks[0].record.header["spec"].get("training", {}) if sweep.readings.blocks else {}
    fixed = {f"training.{name}": given for name, given in training.items()}
    return {path: given for path, given in fixed.items() if path not in sweep.rest} | constants


def estimator_kinds(readings: Readings) -> dict[str, str]:
    """Kind by name, of every estimator in the records."""
    return {name: own["kind"] for block in readings.blocks for name, own in block.record.header["estimators"].items()}


def _estimators(settings: Any) -> list[Any]:
    return getattr(settings, "estimators", None) or []


def _protocols(settings: Any) -> list[str]:
    return [protocol.name for protocol in getattr(settings, "protocols", None) or []]
