"""Validation: the schema applied to the base of a spec and to each combination of its sweep, mistakes told in words."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from pydantic import ValidationError

from study.errors import StudyError, show, suggestion
from study.specs import refusals
from study.specs.paths import NAMED_LISTS, SECTIONS, label, value_in
from study.specs.schema import Settings, Spec
from study.specs.sweeps import LARGEST_INTEGER, Block, is_axis


def check_base(plain: Mapping[str, Any], swept: Sequence[str], replaced: Sequence[str]) -> None:
    """Refuses wrong plain values even where an axis hides them; what the sweep completes is left to the trials."""
    try:
        Spec.model_validate(plain)
    except ValidationError as invalid:
        errors = [error for error in refusals.errors_of(invalid) if not refusals.masked_by_sweep(error, swept)]
        if errors:
            error = refusals.of_override(refusals.first(errors), plain, replaced)
            place = refusals.user_path(error, plain)
            shown = f"--set {place}" if place in replaced else place
            hint = _axis_hint(error) if place in replaced else ""
            raise StudyError(refusals.describe(error, shown) + hint + _others(errors)) from None


def _axis_hint(error: refusals.Error) -> str:
    if error["type"] == "list_type" and list(error["loc"]) in ([key] for key in NAMED_LISTS):
        key = error["loc"][0]
        return f'; to choose among the named ones, set {key}=["NAME"]'
    meant = error["type"].endswith("_type") and is_axis(error["input"])
    return "; an axis needs a [[sweep]] block that sweeps this path" if meant else ""


def check_ranking(plain: Mapping[str, Any], blocks: Sequence[Block]) -> None:
    """Refuses a `points.by` that names no estimator at all, even where the trial's rule does not rank by one."""
    defined = _defined(plain, "estimators")
    places = [("points.by", value_in(plain, "points.by"))]
    places += [(block.named("points.by"), by) for block in blocks for by in block.axes.get("points.by", [])]
    for place, by in places:
        if isinstance(by, str) and by not in defined:
            raise StudyError(f"{place} = {show(by)}: no such estimator; {suggestion(by, defined, 'defined')}")


def check_paths(plain: Mapping[str, Any]) -> None:
    """Refuses a node of `[paths]` that is defined nowhere or twice, and a protocol that comes after an estimator."""
    protocols, estimators = (_defined(plain, key) for key in ("protocols", "estimators"))
    for path, nodes in (plain.get("paths") or {}).items():
        for node in nodes:
            if node not in (*protocols, *estimators):
                hint = suggestion(node, [*protocols, *estimators], "defined")
                raise StudyError(f"paths.{path} = {show(nodes)}: no protocol or estimator is called {show(node)}; {hint}")
            if node in protocols and node in estimators:
                raise StudyError(
                    f"paths.{path} = {show(nodes)}: {show(node)} is a protocol and an estimator; rename one of them"
                )
        late = [node for before, node in pairwise(nodes) if before in estimators and node in protocols]
        if late:
            raise StudyError(
                f"paths.{path} = {show(nodes)}: the protocol {show(late[0])} comes after an estimator; a path leads from "
                "truths to predictions"
            )


def _defined(plain: Mapping[str, Any], key: str) -> list[str]:
    entries = plain.get(key)
    return [name for name in map(label, entries if isinstance(entries, list) else []) if name is not None]


def _others(errors: Sequence[object]) -> str:
    return f" ({len(errors) - 1} more to mend)" if len(errors) > 1 else ""


def checked_seeds(block: Block, table: Mapping[str, Any]) -> Sequence[int]:
    """The seeds of a block, its axis or the plain one; each must be a whole number that a generator takes."""
    seeds: Sequence[int] = block.axes.get("seed", [table.get("seed", 0)])
    for seed in seeds:
        if type(seed) is not int or not 0 <= seed <= LARGEST_INTEGER:
            raise StudyError(f"{block.named('seed')} = {show(seed)}: a whole number from 0 to 2^63 - 1 is needed")
    return seeds


def validated(document: Mapping[str, Any], block: Block) -> Settings:
    """The settings of one combination; StudyError names the swept path, or the plain one and its combination."""
    try:
        return Settings.model_validate(document)
    except ValidationError as invalid:
        errors = refusals.errors_of(invalid)
        error = refusals.first(errors)
        path = refusals.user_path(error, document)
        place = block.named(path)
        where = _where(error, document, block) if place == path else ""
        raise StudyError(refusals.describe(error, place) + where + _others(errors)) from None


def _where(error: refusals.Error, document: Mapping[str, Any], block: Block) -> str:
    """Which values of the block's axes broke a rule, for a reader who sees only the axes."""
    axes = [path for path in block.axes if path.split(".")[0] in (error["loc"] or SECTIONS)]
    values = ", ".join(f"{path} = {show(value_in(document, path))}" for path in axes)
    return f" (in {block.label}, with {values})" if values else ""
