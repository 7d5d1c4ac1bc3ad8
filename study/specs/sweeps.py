"""Sweeps: blocks of axes over dotted paths; the Cartesian product within a block, the union of the blocks."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from study.errors import StudyError, show, suggestion
from study.specs.paths import NAMED_LISTS, SECTIONS, label, overlap, replace, split
from study.specs.refusals import SECTIONS as TABLES
from study.specs.refusals import table_suggestion
from study.specs.schema import Settings

MOST_TRIALS = 1_000_000
LARGEST_INTEGER = 2**63 - 1
NOT_SWEPT = ("name", "question", "primary", "twins", "sweep", "paths")


@dataclass(frozen=True)
class Block:
    """One block of the sweep: its label in messages (`sweep[1]`, counted from 1) and its axes, path -> values."""

    label: str
    axes: dict[str, Sequence[Any]]

    def with_axis(self, path: str, values: object) -> "Block":
        """The block with this axis added or replaced."""
        return Block(self.label, {**self.axes, path: _values(path, values)})

    def without_axis(self, path: str) -> "Block":
        """The block without this axis."""
        return Block(self.label, {other: values for other, values in self.axes.items() if other != path})

    @property
    def size(self) -> int:
        """How many combinations the block holds."""
        return math.prod(len(values) for values in self.axes.values())

    def named(self, path: str) -> str:
        """The path as messages name it here: `sweep[1] "model.depth"` where it is swept, itself otherwise."""
        for swept in self.axes:
            if path == swept or path.startswith(swept + "."):
                return f'{self.label} "{swept}"'
        return path


def blocks(sweep: object) -> list[Block]:
    """The blocks of `[[sweep]]`, or of a single `[sweep]`, their paths and values checked for form."""
    tables = [sweep] if isinstance(sweep, Mapping) else sweep
    if not isinstance(tables, list) or not all(isinstance(table, Mapping) for table in tables):
        advice = 'write [[sweep]] and below it "model.depth" = [1, 2]'
        raise StudyError(f"sweep = {show(sweep)}: a table is needed; {advice}")
    return [_block(f"sweep[{position}]", table) for position, table in enumerate(tables, start=1)]


def _block(name: str, table: Mapping[str, Any]) -> Block:
    axes: dict[str, Sequence[Any]] = {}
    for written, values in _flat(table):
        try:
            path = _sweepable(written)
            if path in axes:
                raise StudyError(f"{show(path)}: swept twice in one block")
            axes[path] = _values(path, values)
        except StudyError as error:
            raise StudyError(f"{name} {error}") from None
    _refuse_overlap(name, list(axes))
    return Block(name, axes)


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The axes of a block; an unquoted `model.depth = [..]` is a table within a table and means the same."""
    for key, value in table.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and not is_range(value) and path.split(".")[0] in (*SECTIONS, *NAMED_LISTS):
            yield from _flat(value, f"{path}.")
        else:
            yield path, value


def _sweepable(path: str) -> str:
    parts = split(path)
    if parts[0] in NOT_SWEPT:
        raise StudyError(f"{show(path)}: {parts[0]} describes the whole experiment and cannot be swept")
    if parts[0] not in Settings.model_fields:
        raise StudyError(f"{show(path)}: no such key; {_path_suggestion(parts)}")
    if parts[0] in SECTIONS and len(parts) == 1:
        raise StudyError(f'{show(path)}: a whole table cannot be swept; sweep its keys, such as "model.depth"')
    if parts[0] in NAMED_LISTS and (len(parts) == 2 or parts[2:] in (["name"], ["kind"])):
        advice = f"define each one in its own [[{parts[0]}]] table and select it by {parts[0]} = [[..], [..]]"
        raise StudyError(f"{show(path)}: cannot be swept; {advice}")
    return ".".join(parts)


def _path_suggestion(parts: list[str]) -> str:
    """A section named wrongly is mended, a key without its section gets it."""
    if len(parts) > 1:
        return table_suggestion(parts[0], parts[1:])
    for section, table in TABLES.items():
        if parts[0] in table.model_fields:
            return f'did you mean "{section}.{parts[0]}"?'
    return suggestion(parts[0], Settings.model_fields, "valid beginnings")


def _refuse_overlap(name: str, paths: list[str]) -> None:
    for one, other in itertools.combinations(paths, 2):
        if overlap(one, other):
            raise StudyError(f"{name} {show(one)}: {show(other)} reaches the same key; keep one of them")
    for inner, outer in itertools.permutations(paths, 2):
        if inner.startswith(outer + ".") and outer not in NAMED_LISTS:
            raise StudyError(f"{name} {show(inner)}: lies within {show(outer)}, which the same block sweeps")


def is_range(value: object) -> bool:
    """Whether the value is written as `{ first, count }`."""
    return isinstance(value, Mapping) and bool(value) and set(value) <= {"first", "count"}


def is_axis(value: object) -> bool:
    """Whether the value can be an axis: a list, or `{ first, count }`."""
    return isinstance(value, list) or is_range(value)


def _values(path: str, values: object) -> Sequence[Any]:
    if isinstance(values, Mapping):
        return _range(path, values)
    if not isinstance(values, list):
        raise StudyError(f"{show(path)} = {show(values)}: an axis is a list of values or {{ first = 0, count = 50 }}")
    if not values:
        raise StudyError(f"{show(path)} = []: an axis needs at least one value")
    return values


def _range(path: str, given: Mapping[str, Any]) -> range:
    first, count = given.get("first", 0), given.get("count")
    unknown = [key for key in given if key not in ("first", "count")]
    if unknown:
        raise StudyError(f"{show(path)}: unknown key {show(unknown[0])}; {suggestion(unknown[0], ('first', 'count'))}")
    if type(first) is not int or not 0 <= first <= LARGEST_INTEGER:
        raise StudyError(f"{show(path)}: first = {show(first)}: a whole number from 0 to 2^63 - 1 is needed")
    if type(count) is not int or not 1 <= count <= MOST_TRIALS or first + count - 1 > LARGEST_INTEGER:
        raise StudyError(f"{show(path)}: count = {show(count)}: a whole number from 1 to {MOST_TRIALS} is needed")
    return range(first, first + count)


def combinations(block: Block, plain: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The document of each combination of the block's axes but `seed`, in the order written, the last one fastest."""
    axes = {path: values for path, values in block.axes.items() if path != "seed"}
    paths = sorted(axes, key=lambda path: path in NAMED_LISTS)  # select only after entries were reached by name
    for combination in itertools.product(*axes.values()):
        chosen = dict(zip(axes, combination, strict=True))
        document = dict(plain)
        for path in paths:
            value = _selected(document, path, chosen[path]) if path in NAMED_LISTS else chosen[path]
            document = replace(document, path, value)
        yield document


def _selected(document: Mapping[str, Any], key: str, names: object) -> list[Any]:
    """The entries that a block's `protocols = [["warm"]]` selects, in the order they are defined."""
    entries = document.get(key, [])
    known = [label(entry) for entry in entries] if isinstance(entries, list) else []
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise StudyError(f'{show(key)}: {show(names)} is no list of names; write {key} = [["name"]], with two brackets')
    for name in names:
        if name not in known:
            defined = [other for other in known if other is not None]
            raise StudyError(f"{show(key)}: {show(name)} is not defined; {suggestion(name, defined, 'defined')}")
        if names.count(name) > 1:
            raise StudyError(f"{show(key)}: {show(name)} is selected twice")
    return [entry for entry in entries if label(entry) in names]
