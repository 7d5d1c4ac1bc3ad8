"""Overrides: `--set PATH=VALUE`, which replaces a value of the spec, or an axis where the path is swept."""

import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from study.errors import StudyError, show
from study.specs.files import refuse_unfit
from study.specs.paths import NAMED_LISTS, overlap, replace, split
from study.specs.sweeps import Block, blocks, is_axis, is_range


def apply(document: Mapping[str, Any], overrides: Sequence[str]) -> tuple[dict[str, Any], list[Block], list[str]]:
    """The document without its sweep, the blocks of the sweep, and the paths set; a later override wins."""
    plain = {key: value for key, value in document.items() if key != "sweep"}
    swept = blocks(document.get("sweep", []))
    paths = []
    for override in overrides:
        path, value = parse(override)
        paths.append(path)
        try:
            plain, swept = _set(plain, swept, path, value)
        except StudyError as error:
            raise StudyError(f"--set {error}") from None
    return plain, swept, paths


def parse(override: str) -> tuple[str, object]:
    """The dotted path and the value of `PATH=VALUE`: a TOML value, or else the bare text."""
    path, equals, text = override.partition("=")
    if not equals:
        raise StudyError(f"--set {show(override)}: PATH=VALUE is needed, such as model.depth=3")
    try:
        path = ".".join(split(path))
    except StudyError as error:
        raise StudyError(f"--set {error}") from None
    if path.split(".")[0] == "sweep":
        raise StudyError(f"--set {show(override)}: name the swept path itself, such as seed=[0, 1]")
    return path, _value(text.strip())


def _value(text: str) -> object:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except RecursionError:
        raise StudyError(f"--set {show(text)}: nested too deeply for a value") from None
    except ValueError:
        return text
    if list(parsed) != ["value"]:  # text with a line break could add keys of its own
        return text
    try:
        refuse_unfit(parsed)
    except StudyError as error:
        raise StudyError(f"--set {show(text)}: {error}") from None
    return parsed["value"]


def _set(plain: dict[str, Any], swept: list[Block], path: str, value: object) -> tuple[dict[str, Any], list[Block]]:
    if path in NAMED_LISTS and _are_names(value):  # a selection is always an axis, of one value here
        return plain, [block.with_axis(path, [value]) for block in swept or [Block("--set", {})]]
    for other in [other for block in swept for other in block.axes if overlap(path, other)]:
        raise StudyError(f"{path}: the spec sweeps {show(other)}, which reaches the same key; set that instead")
    axes = [block.axes[path] for block in swept if path in block.axes]
    if axes and _replaces_axis(value, axes):
        return plain, [block.with_axis(path, value) if path in block.axes else block for block in swept]
    return replace(plain, path, value), [block.without_axis(path) for block in swept]


def _are_names(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(name, str) for name in value)


def _replaces_axis(value: object, axes: list[Sequence[Any]]) -> bool:
    """A list is a new axis, unless the swept values are lists themselves and this is one of their kind."""
    if is_range(value):
        return True
    if not is_axis(value):
        return False
    of_lists = all(isinstance(old, list) for axis in axes for old in axis)
    return not (of_lists and isinstance(value, list) and not any(isinstance(new, list) for new in value))
