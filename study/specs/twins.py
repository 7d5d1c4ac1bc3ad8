"""Twins: two sides of cells that differ in one thing, matched on all that neither side names, and their mistakes in words."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from study.errors import StudyError, listed, nearest, show, suggestion
from study.specs.paths import HELD_OUT
from study.specs.schema import Settings, Twin

Labels = Mapping[str, object]  # of a cell: its estimator, its protocol, and its value of every path that tells cells apart
NAMES = ("estimator", "protocol")
SIDES = ("published", "corrected")


def checked(tables: Sequence[Any], trials: Iterable[tuple[Settings, Labels]], swept_paths: Sequence[str]) -> tuple[Twin, ...]:
    """The twins of a spec, their paths written out; StudyError if one names what no trial has or compares nothing.

    trials: settings of each and its value of every swept path.
    """
    if not tables:
        return ()
    cells = planned(trials, [path for path in swept_paths if path not in HELD_OUT])
    found: list[Twin] = []
    for table in tables:
        twin = Twin.model_validate(table)
        if twin.name in [other.name for other in found]:
            raise StudyError(f"twins: two are called {show(twin.name)}; give each a name of its own")
        try:
            found.append(_checked(twin, cells))
        except StudyError as error:
            raise StudyError(f"twins {show(twin.name)}: {error}; twins=[] leaves all out") from None
    return tuple(found)


def planned(trials: Iterable[tuple[Settings, Labels]], paths: Sequence[str]) -> list[Labels]:
    """Every cell, each once: a label for its estimator, its protocol and each of `paths`."""
    cells: dict[tuple[str, ...], Labels] = {}
    for settings, swept in trials:
        values = {path: swept.get(path) for path in paths}
        for estimator in settings.estimators:
            for protocol in settings.protocols:
                cell = {"estimator": estimator.name, "protocol": protocol.name, **values}
                cells.setdefault(key(cell, cell), cell)
    return list(cells.values())


def pairs(twin: Twin, cells: Iterable[Labels]) -> list[tuple[Labels, Labels]]:
    """A published and a corrected cell each, equal in all that neither side names; in the order of the published ones."""
    named = {*twin.published, *twin.corrected}
    kept = of_where(twin, cells)
    one, other = (
        {key(cell, [path for path in cell if path not in named]): cell for cell in of_side(getattr(twin, side), kept)}
        for side in SIDES
    )
    return [(cell, other[rest]) for rest, cell in one.items() if rest in other]


def of_side(side: Labels, cells: Iterable[Labels]) -> list[Labels]:
    """The cells that have all that a side names."""
    return [cell for cell in cells if all(holds(cell[name], wanted) for name, wanted in side.items())]


def holds(value: object, *wanted: object) -> bool:
    """Whether the value is one of those wanted; true is not 1."""
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in wanted)


def key(cell: Labels, names: Iterable[str]) -> tuple[str, ...]:
    """The cell's values under these names, hashable whatever they are."""
    return tuple(json.dumps(cell[name], sort_keys=True, default=str) for name in names)


def _checked(twin: Twin, cells: list[Labels]) -> Twin:
    known = list(cells[0])
    sides = {side: dict(_flat(getattr(twin, side), known)) for side in (*SIDES, "where")}
    for side, table in sides.items():
        for name, wanted in table.items():
            if side == "where" and not isinstance(wanted, list):
                raise StudyError(f"where {show(name)} = {show(wanted)}: a list of values is needed")
            _check_label(f"{side} {show(name)}", name, wanted if side == "where" else [wanted], cells)
    written = twin.model_copy(update=sides)
    kept = of_where(written, cells)
    for side in SIDES:
        _check_side(written, side, kept)
    _check_pairs(written, kept)
    return written


def of_where(twin: Twin, cells: Iterable[Labels]) -> list[Labels]:
    """The cells that the twin does not leave out."""
    return [cell for cell in cells if all(holds(cell[path], *given) for path, given in twin.where.items())]


def _flat(table: Mapping[str, Any], known: Sequence[str], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """An unquoted `model.depth = 1` is a table within a table and means the same."""
    for name, value in table.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping) and path not in known:
            yield from _flat(value, known, f"{path}.")
        else:
            yield path, value


def _check_label(place: str, name: str, wanted: Sequence[object], cells: list[Labels]) -> None:
    known = list(cells[0])
    if name in HELD_OUT or name == "seed":
        raise StudyError(f"{place}: varies within a cell, so that it cannot be chosen")
    if name not in known:
        meant = nearest(name, known) or next((path for path in known if path.endswith(f".{name}")), None)
        hint = f"did you mean {show(meant)}?" if meant else f"swept: {listed(known[len(NAMES) :]) or 'nothing'}"
        raise StudyError(f"{place}: neither estimator, protocol nor a swept path; {hint}")
    values = list({json.dumps(cell[name], default=str): cell[name] for cell in cells}.values())
    for one in wanted:
        if not any(holds(value, one) for value in values):
            if name in NAMES:
                raise StudyError(f"{place} = {show(one)}: no such {name}; {suggestion(one, map(str, values), 'defined')}")
            texts = [value for value in values if isinstance(value, str)]
            hint = suggestion(one, texts) if texts else f"swept: {listed(values)}"
            raise StudyError(f"{place} = {show(one)}: no trial has this value; {hint}")


def _check_side(twin: Twin, side: str, cells: list[Labels]) -> None:
    """Refuses a side without cells, and one whose cells are not told apart by what they are matched on."""
    wanted = getattr(twin, side)
    if not (found := of_side(wanted, cells)):
        raise StudyError(f"{side}: no cell has all of {_shown({**twin.where, **wanted})}")
    named = {*twin.published, *twin.corrected}
    rest = [path for path in cells[0] if path not in named]
    alike: dict[tuple[str, ...], list[Labels]] = {}
    for cell in found:
        alike.setdefault(key(cell, rest), []).append(cell)
    for name in sorted(named - set(wanted)):
        for group in alike.values():
            if len(values := {show(cell[name]) for cell in group}) > 1:
                raise StudyError(f"{side}: it takes {show(name)} = {' and '.join(sorted(values))} alike; name one of them")


def _check_pairs(twin: Twin, cells: list[Labels]) -> None:
    found = pairs(twin, cells)
    if not found:
        rest = [path for path in cells[0] if path not in {*twin.published, *twin.corrected}]
        sides = [of_side(getattr(twin, side), cells) for side in SIDES]
        apart = [path for path in rest if not set.intersection(*({key(cell, [path]) for cell in side} for side in sides))]
        raise StudyError(f"no published cell has a corrected one: they differ in {listed(apart or rest)}, which no side names")
    alike = all(twin.takes(treatment, "published") == twin.takes(treatment, "corrected") for treatment in ("absolute", "raw"))
    if alike and any(one is other for one, other in found):
        raise StudyError("published and corrected are the same cell; change one thing")


def _shown(labels: Labels) -> str:
    return ", ".join(f"{name} = {show(value)}" for name, value in labels.items())
