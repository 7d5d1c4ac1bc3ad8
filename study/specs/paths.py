"""Dotted paths into a spec: `model.depth`, `estimators.NAME.key`; the named lists are entered by name, all at once by `*`."""

from collections.abc import Mapping
from typing import Any

from study.errors import StudyError, show, suggestion

NAMED_LISTS = ("estimators", "protocols")
EVERY = "*"  # in place of a name: every entry of the list
SECTIONS = ("data", "model", "training", "points", "neighbours")
HELD_OUT = ("data.test_rows", "data.split_seed")  # these and the seed vary within a cell
TABLE_VALUE = ["points", "test"]  # the one key whose value may itself be a table


def label(entry: object) -> str | None:
    """The name of an entry of a named list, its kind where it has none, None where it has neither."""
    if not isinstance(entry, Mapping):
        return None
    name = entry.get("name", entry.get("kind"))
    return name if isinstance(name, str) else None


def split(path: str) -> list[str]:
    """The parts of a dotted path; an empty part is refused, and one below a plain value."""
    parts = [part.strip() for part in path.split(".")]
    if not all(parts):
        raise StudyError(f"{show(path)}: a dotted path such as model.depth is needed")
    deepest = 3 if parts[0] in NAMED_LISTS or parts[:2] == TABLE_VALUE else 2 if parts[0] in SECTIONS else 1
    if len(parts) > deepest and (deepest > 1 or parts[0] in ("seed", "target")):
        where = ".".join(parts[:deepest])
        raise StudyError(f"{show(path)}: {where} is a value, not a table, so nothing lies below it")
    return parts


def overlap(one: str, other: str) -> bool:
    """Whether two different paths reach the same key of the same entry, one by its name and one by `*`."""
    first, second = split(one), split(other)
    alike = len(first) == len(second) > 2 and first[0] == second[0] and first[2:] == second[2:]
    return alike and one != other and EVERY in (first[1], second[1])


def replace(document: Mapping[str, Any], path: str, value: object) -> dict[str, Any]:
    """A copy of the document in which `path` holds `value`; what the path does not touch is shared, not copied."""
    return _replace(document, split(path), value, path, depth=0)


def _replace(node: object, parts: list[str], value: object, path: str, depth: int) -> Any:
    if depth == len(parts):
        return value
    if depth == 1 and parts[0] in NAMED_LISTS:
        return _replace_named(node, parts, value, path)
    if not isinstance(node, Mapping):
        where = ".".join(parts[:depth])
        raise StudyError(f"{show(path)}: {where} is {show(node)}, not a table, so nothing lies below it")
    below = _replace(node.get(parts[depth], {}), parts, value, path, depth + 1)
    return {**node, parts[depth]: below}


def _replace_named(entries: object, parts: list[str], value: object, path: str) -> list[Any]:
    names = [label(entry) for entry in entries] if isinstance(entries, list) else []
    if parts[1] == EVERY and isinstance(entries, list) and entries:
        _refuse_other_scale(entries, parts, path)
        return [_replace(entry, parts, value, path, depth=2) for entry in entries]
    if parts[1] not in names:
        known = [name for name in names if name is not None]
        kind = parts[0].removesuffix("s")
        hint = suggestion(parts[1], known, "defined")
        raise StudyError(f"{show(path)}: no {kind} is called {show(parts[1])}; {hint}")
    position = names.index(parts[1])
    changed = list(entries) if isinstance(entries, list) else []
    changed[position] = _replace(changed[position], parts, value, path, depth=2)
    return changed


def _refuse_other_scale(entries: list[Any], parts: list[str], path: str) -> None:
    """lissa's damping is multiplied by its scale: beside the others' it would be another number."""
    kinds = [entry.get("kind") for entry in entries if isinstance(entry, Mapping)]
    if parts[2:] == ["damping"] and "lissa" in kinds and len(kinds) > 1:
        raise StudyError(
            f"{show(path)}: damping of lissa is multiplied by its scale and means another one; sweep it by name"
        )


def value_in(document: Mapping[str, Any], path: str) -> object:
    """The value that a document as read holds at `path`, None where it has no such key."""
    node: Any = document
    for part in split(path):
        if isinstance(node, list):
            node = next((entry for entry in node if part in (EVERY, label(entry))), None)
        else:
            node = node.get(part) if isinstance(node, Mapping) else None
    return node


def value_at(settings: object, path: str) -> object:
    """The value that validated settings hold at `path`, None where they have no such key.

    With `*` for a name: what all entries with such a key hold, None where they differ.
    """
    parts = split(path)
    if len(parts) > 2 and parts[1] == EVERY:
        names = [entry.name for entry in getattr(settings, parts[0])]
        values = [value_at(settings, ".".join([parts[0], name, *parts[2:]])) for name in names]
        known = [value for value in values if value is not None]
        return known[0] if known and all(value == known[0] for value in known) else None
    node: Any = settings
    for part in parts:
        node = (
            next((entry for entry in node if entry.name == part), None)
            if isinstance(node, list)
            else _field(node, part)
        )
    return node.model_dump() if hasattr(type(node), "model_fields") else node


def _field(table: object, key: str) -> Any:
    """The value of a table's key, which may be called otherwise in Python (`from`)."""
    fields = getattr(type(table), "model_fields", {})
    written = {field.alias or name: name for name, field in fields.items()}
    return getattr(table, written[key]) if key in written else None
