"""One clear message for what the schema found wrong: path in the user's terms, value received, what to do."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from study.errors import listed, nearest, show, suggestion
from study.specs.fields import RULE
from study.specs.paths import NAMED_LISTS, label, value_in
from study.specs.schema import (
    ESTIMATOR_KINDS,
    PROTOCOL_KINDS,
    ChosenRows,
    Data,
    LossQuantiles,
    Model,
    Neighbours,
    Points,
    Spec,
    Table,
    Training,
    Twin,
)

Error = Mapping[str, Any]
SECTIONS: dict[str, type[Table]] = {
    "data": Data,
    "model": Model,
    "training": Training,
    "points": Points,
    "neighbours": Neighbours,
}
TWINS = "twins"
KINDS = {"estimators": ESTIMATOR_KINDS, "protocols": PROTOCOL_KINDS}
MISSING = {
    "name": 'write name = "my_experiment" at the top of the file',
    "data": 'add a table [data] with name = "iris"',
    "data.name": 'write name = "iris", or another data set',
    "model": 'add a table [model] with kind = "mlp"',
    "model.kind": 'write kind = "mlp", or another model',
    "estimators": 'add a table [[estimators]] with kind = "exact"',
    "protocols": 'add a table [[protocols]] with kind = "warm"',
}
NEEDED = {
    "int_type": "a whole number is needed",
    "float_type": "a number is needed",
    "finite_number": "a finite number is needed",
    "bool_type": "true or false is needed",
    "string_type": "text in quotes is needed",
    "string_unicode": "text that is valid Unicode is needed",
    "string_too_short": "text is needed, not an empty string",
    "string_pattern_mismatch": "only letters, digits, _ and - may be used",
    "list_type": "a list in [ ] is needed",
    "model_type": "a table is needed",
    "model_attributes_type": "a table is needed",
    "dict_type": "a table is needed",
}
OTHERWISE = {
    "batch_size": "a whole number",
    "parameters": "a list of names",
    "test": "{ rows = [..] } or { quantiles = [..] }",
}
WORDS = {"batch_size": ["full"], "parameters": ["all", "last_layer"]}
BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}


def masked_by_sweep(error: Error, swept: Iterable[str]) -> bool:
    """Whether the base alone may be wrong in this way because the sweep, not the base, completes the trials."""
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == RULE:
        return any(not path or other.startswith(path + ".") for other in swept)
    return error["type"] == "missing" and any(other == path or other.startswith(path + ".") for other in swept)


def first(errors: list[Error]) -> Error:
    """The most telling error: a misspelt key explains a missing one, and wrong values explain broken rules."""
    rank = {"extra_forbidden": 0, "missing": 2, RULE: 3}
    return min(errors, key=lambda error: rank.get(error["type"], 1))


def errors_of(error: ValidationError) -> list[Error]:
    """The errors that pydantic collected."""
    return list(error.errors(include_url=False))


def of_override(error: Error, document: Mapping[str, Any], replaced: Iterable[str]) -> Error:
    """An unknown table that an override has made, as the path that was set: `modle.width`."""
    where = error["loc"]
    made = next((path for path in replaced if path.split(".")[0] == where[0]), None) if len(where) == 1 else None
    if made is None or error["type"] != "extra_forbidden":
        return error
    return {**error, "loc": tuple(made.split(".")), "input": value_in(document, made)}


def user_path(error: Error, document: Mapping[str, Any]) -> str:
    """Where the error lies, in the user's terms: `model.depth`, `estimators.exact.damping`, `estimators[1]`."""
    where = list(error["loc"])
    parts: list[str] = []
    if len(where) > 1 and where[0] == TWINS:
        name = label(document[TWINS][where[1]])
        return ".".join([f"{TWINS}[{where[1] + 1}]" if name is None else f'{TWINS} "{name}"', *map(str, where[2:])])
    if len(where) > 1 and where[0] in NAMED_LISTS:
        name = label(document[where[0]][where[1]])
        parts = [f"{where[0]}.{name}" if name else f"{where[0]}[{where[1] + 1}]"]
        where = where[3:]  # name, position and the tag of its kind
    parts += [part for part in where if isinstance(part, str) and not part.startswith(("<", "["))]  # "[key]": of a table
    return ".".join(parts)


def describe(error: Error, place: str) -> str:
    """`place = value: what is wrong; what to do`."""
    kind = error["type"]
    if kind == RULE:
        return f"{place}: {error['msg']}" if place else str(error["msg"])
    if kind == "missing":
        return f"{place}: missing; {MISSING.get('.'.join(map(str, error['loc'])), 'it has no default')}"
    if kind == "union_tag_not_found":
        return f'{place}: kind is missing; write kind = "{next(iter(KINDS[error["loc"][0]]))}", or another kind'
    if kind == "union_tag_invalid":
        received, kinds = error["input"].get("kind"), KINDS[error["loc"][0]]
        return f"{place}: kind = {show(received)} is not known; {suggestion(received, kinds, 'known')}"
    return f"{place} = {show(error['input'])}: {_problem(error)}"


def _problem(error: Error) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key; {_key_suggestion(error)}"
    if kind == "literal_error":
        words = re.findall(r"'([^']*)'", context["expected"])
        return f"must be {_alternatives(error, words)}; {suggestion(error['input'], words, 'known')}"
    if kind in BOUNDS:
        bound, limit = BOUNDS[kind]
        return f"must be {bound} {context[limit]}"
    if kind in ("too_short", "too_long"):
        return f"needs {_length(context)}, has {context['actual_length']}"
    if kind in NEEDED and error["loc"][-1] == "<other>":
        return f"must be {_alternatives(error, WORDS[error['loc'][-2]])}"
    if kind == "list_type" and error["loc"][0] in (*NAMED_LISTS, TWINS) and len(error["loc"]) == 1:
        return f"a list of tables is needed; write [[{error['loc'][0]}]] with double brackets"
    return NEEDED.get(kind, str(error["msg"]))


def _alternatives(error: Error, words: list[str]) -> str:
    key = error["loc"][-2] if error["loc"][-1] in ("<word>", "<other>") else None
    if key in OTHERWISE:
        return f"{listed(words)} or {OTHERWISE[key]}"
    return f"one of {listed(words)}" if len(words) > 1 else listed(words)


def _length(context: Mapping[str, Any]) -> str:
    at_least = "min_length" in context
    return f"at {'least' if at_least else 'most'} {context['min_length' if at_least else 'max_length']} value(s)"


def _key_suggestion(error: Error) -> str:
    *where, key = error["loc"]
    if where and where[0] == TWINS:
        return suggestion(key, Twin.model_fields)
    if where and where[0] not in (*SECTIONS, *NAMED_LISTS):
        return table_suggestion(where[0], [*where[1:], key])
    elsewhere = [f"{name}.{key}" for name, section in SECTIONS.items() if key in section.model_fields]
    if elsewhere and where != [elsewhere[0].split(".")[0]] and (not where or where[0] not in NAMED_LISTS):
        return f"did you mean {show(elsewhere[0])}?"
    if len(where) == 1 and where[0] in SECTIONS:  # the path as the user would write it anywhere
        return suggestion(f"{where[0]}.{key}", [f"{where[0]}.{name}" for name in _keys_at(where)])
    return suggestion(key, _keys_at(where))


def table_suggestion(table: str, keys: list[str]) -> str:
    """The path meant by keys below a table that does not exist: its table mended, or found by the key or the name."""
    meant, rest = nearest(table, (*SECTIONS, *NAMED_LISTS)), ".".join(keys)
    if meant in SECTIONS:
        return suggestion(f"{meant}.{rest}", [f"{meant}.{name}" for name in SECTIONS[meant].model_fields])
    found = [f"{group}.{table}.{rest}" for group, kinds in KINDS.items() if table in kinds]
    found += [f"{name}.{rest}" for name, section in SECTIONS.items() if rest in section.model_fields]
    if meant or found:
        return f"did you mean {show(f'{meant}.{rest}' if meant else found[0])}?"
    return f"tables: {listed((*SECTIONS, *NAMED_LISTS))}"


def _keys_at(where: list[Any]) -> Iterable[str]:
    if not where:
        return Spec.model_fields
    if where[0] in KINDS:
        return KINDS[where[0]][where[2]].model_fields
    if len(where) == 1:
        return SECTIONS[where[0]].model_fields
    return (*ChosenRows.model_fields, *LossQuantiles.model_fields)
