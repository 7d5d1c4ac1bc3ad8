"""What a user's factory asks for: told from its source, without running any of it, and from the function itself."""

import ast
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from study.errors import show

OFFERED = ("inputs", "outputs", "depth", "width", "activation")
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
LITERALS = (ast.Constant, ast.JoinedStr, ast.List, ast.Tuple, ast.Set, ast.Dict)
NOT_CALLABLE = "is not a function or class that makes a network"


def arguments(signature: inspect.Signature, offered: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Positions and names to call a factory with: what it names of OFFERED, or inputs and outputs under two other names."""
    parameters = signature.parameters.values()
    kinds = {p.kind for p in parameters}
    named = {name: value for name, value in offered.items() if name in signature.parameters}
    if inspect.Parameter.VAR_KEYWORD in kinds:
        return [], dict(offered)
    demanded = len([p for p in _demanded(signature) if p.kind is not p.KEYWORD_ONLY])
    by_position = demanded == 2 or inspect.Parameter.VAR_POSITIONAL in kinds
    return ([offered["inputs"], offered["outputs"]] if by_position and not named else []), named


def refusal(signature: inspect.Signature) -> str | None:
    """Why a factory cannot be called with `arguments`, None where it can."""
    positions, names = arguments(signature, dict.fromkeys(OFFERED))
    try:
        signature.bind(*positions, **names)
    except TypeError as error:
        demanded = _demanded(signature)
        asked = f"asks for {show(demanded[0].name)}" if demanded else f"cannot be called: {error}"
        return f"{asked}; a factory may ask for any of {', '.join(OFFERED)}"
    return None


def _demanded(signature: inspect.Signature) -> list[inspect.Parameter]:
    """The parameters without a default that are not offered."""
    parameters = signature.parameters.values()
    given = [p for p in parameters if p.name in OFFERED or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return [p for p in parameters if p not in given and p.default is p.empty]


def refusal_of_source(body: Sequence[ast.stmt], name: str) -> str | None:
    """Why what these statements bind last to the name cannot be called; None where it can, or only running it would tell."""
    place = max((place for place, statement in enumerate(body) if name in bound(statement)), default=None)
    match body[place] if place is not None else None:
        case ast.FunctionDef(decorator_list=[], args=written) | ast.Assign(value=ast.Lambda(args=written)):
            return refusal(inspect.Signature(_parameters(written)))
        case ast.ClassDef(decorator_list=[], keywords=[], body=inner):
            made = {method.name: method for method in inner if isinstance(method, ast.FunctionDef)}
            if "__new__" in made or "__init__" not in made or made["__init__"].decorator_list:
                return None
            return refusal(inspect.Signature(_parameters(made["__init__"].args)[1:]))
        case ast.Assign(targets=[ast.Name()], value=ast.Name(id=other)):
            return refusal_of_source(body[:place], other)
        case ast.Assign(targets=[ast.Name()], value=value) if isinstance(value, LITERALS):
            return NOT_CALLABLE
        case ast.Import() | ast.AsyncFunctionDef():
            return NOT_CALLABLE
    return None


def bound(statement: ast.stmt) -> set[str]:
    """Names that a statement of a module may bind; "*" where it imports all of another module."""
    if isinstance(statement, DEFINITIONS):
        return {statement.name}
    names: set[str] = set()
    for node in ast.walk(statement):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
            case ast.alias(name=name, asname=other):
                names.add((other or name).partition(".")[0])
    return names


def _parameters(written: ast.arguments) -> list[inspect.Parameter]:
    """The parameters as written; a default is there or not, never evaluated."""
    kinds, empty = inspect.Parameter, inspect.Parameter.empty
    needed = len(written.posonlyargs) + len(written.args) - len(written.defaults)
    found = []
    for place, argument in enumerate([*written.posonlyargs, *written.args]):
        kind = kinds.POSITIONAL_ONLY if argument in written.posonlyargs else kinds.POSITIONAL_OR_KEYWORD
        found.append(inspect.Parameter(argument.arg, kind, default=empty if place < needed else None))
    if written.vararg:
        found.append(inspect.Parameter(written.vararg.arg, kinds.VAR_POSITIONAL))
    for argument, default in zip(written.kwonlyargs, written.kw_defaults, strict=True):
        found.append(inspect.Parameter(argument.arg, kinds.KEYWORD_ONLY, default=None if default else empty))
    if written.kwarg:
        found.append(inspect.Parameter(written.kwarg.arg, kinds.VAR_KEYWORD))
    return found
