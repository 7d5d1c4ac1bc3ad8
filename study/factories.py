"""Users' model factories: finding the source file of `package.module:factory` without running any of it."""

import ast
import hashlib
import importlib
import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from study import signatures
from study.errors import StudyError, nearest, show, suggestion


def source(kind: str, folder: str) -> Path:
    """The source file of the module, looked for in the spec's folder, the working folder and what is installed."""
    module = kind.split(":")[0]
    importlib.invalidate_caches()
    found = _beside(module, [folder, os.getcwd()]) or _installed(module)
    if found is None:
        beside = nearest(module, [path.stem for path in Path(folder).glob("*.py")])
        hint = f"; did you mean {show(kind.replace(module, beside, 1))}?" if beside else ""
        where = f"in {folder}, in the working folder, or installed{hint}"
        raise StudyError(f"model.kind = {show(kind)}: no module {module} {where}")
    if found.origin is None or not found.origin.endswith(".py"):
        raise StudyError(f"model.kind = {show(kind)}: {module} has no Python source file to identify it by")
    return Path(found.origin)


def check(kind: str, folder: str) -> None:
    """StudyError when the module's source defines no such factory, or one that cannot be called; nothing of it is run."""
    path, name = source(kind, folder), kind.partition(":")[2]
    try:
        body = ast.parse(path.read_bytes()).body
        problem = signatures.refusal_of_source(body, name)
    except (OSError, SyntaxError, ValueError) as error:
        raise StudyError(f"model.kind = {show(kind)}: {path} cannot be read as Python: {error}") from None
    names = set().union(*map(signatures.bound, body))
    if name not in names and "*" not in names:
        raise StudyError(f"model.kind = {show(kind)}: {path} defines no {name}; {suggestion(name, sorted(names))}")
    if problem:
        raise StudyError(f"model.kind = {show(kind)}: {path}: {name} {problem}")


def source_digest(kind: str, folder: str) -> str:
    """SHA-256 of the module's source file; modules that it imports do not enter."""
    path = source(kind, folder)
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise StudyError(f"model.kind = {show(kind)}: {path} cannot be read: {error.strerror}") from None


def _beside(module: str, folders: list[str]) -> ModuleSpec | None:
    """Walks the packages by path, so that neither user code runs nor an older import of the same name is taken."""
    places: list[str] | None = [*folders, *sys.path]
    found = None
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        found = PathFinder.find_spec(".".join(parts[:depth]), places)
        if found is None:
            return None
        places = list(found.submodule_search_locations or [])
    return found


def _installed(module: str) -> ModuleSpec | None:
    """What import hooks find, such as packages installed in editable mode; importing a parent may run user code."""
    try:
        return importlib.util.find_spec(module)
    except (Exception, SystemExit):  # whatever the parent package raises, the module cannot be had
        return None
