"""Which swept paths tell the cells of an experiment apart, and which one is the axis; never imports pandas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from study.evidence import wording
from study.specs.paths import HELD_OUT

__all__ = ["HELD_OUT", "cell_paths", "swept_axis", "tied", "unmistakable"]


def cell_paths(swept_paths: Sequence[str]) -> list[str]:
    """The swept paths that tell cells apart."""
    return [path for path in swept_paths if path not in HELD_OUT and path != "seed"]


def swept_axis(values: Mapping[str, Sequence[Any]]) -> str | None:
    """The numeric path with most distinct values, else the path with most, the first of equals; None where nothing varies.

    values: of each swept path. Nothing (None, NaN) is a value, but no number and not counted.
    """
    distinct = {path: {wording.value(given) for given in found} for path, found in values.items()}
    counts = {path: len(found - {None}) for path, found in distinct.items() if len(found) > 1}
    numeric = {path: count for path, count in counts.items() if wording.all_numbers([*(distinct[path] - {None})])}
    candidates = numeric or counts
    return max(candidates, key=lambda path: candidates[path]) if candidates else None


def tied(values: Mapping[str, Sequence[Any]], axis: str | None) -> list[str]:
    """The paths that vary only as the axis does, one value at each of its: a width chosen for every depth, say.

    values: of each swept path, row for row of one table.
    """
    if axis is None:
        return []
    along = [wording.value(given) for given in values[axis]]
    found = {path: set(zip(along, map(wording.value, own), strict=True)) for path, own in values.items()}
    count = len(set(along))
    varies = [path for path, pairs in found.items() if len({given for _, given in pairs}) > 1]
    return [path for path in varies if path != axis and len(found[path]) == count]


def unmistakable(path: str, among: Sequence[str]) -> bool:
    """Whether a setting of an estimator or protocol needs no name before it: one entry is swept, and no other key is alike."""
    entries = {tuple(other.split(".")[:2]) for other in among if other.startswith(("estimators.", "protocols."))}
    key = path.rsplit(".", 1)[-1]
    return len(entries) == 1 and sum(other.rsplit(".", 1)[-1] == key for other in among) == 1
