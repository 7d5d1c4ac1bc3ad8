"""Users' model factories: finding the source file of `package.module:factory` without running any of it."""

import ast
import hashlib
import importlib
import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from study.errors import StudyError, show, suggestion


def source(kind: str, folder: str) -> Path:
    """The source file of the module, looked for in the spec's folder, the working folder and what is installed."""
    module = kind.split(":")[0]
    importlib.invalidate_caches()
    found = _beside(module, [folder, os.getcwd()]) or _installed(module)
    if found is None:
        where = f"in {folder}, in the working folder, or installed"
        raise StudyError(f"model.kind = {show(kind)}: no module {module} {where}")
    if found.origin is None or not found.origin.endswith(".py"):
        raise StudyError(f"model.kind = {show(kind)}: {module} has no Python source file to identify it by")
    return Path(found.origin)


def check(kind: str, folder: str) -> None:
    """StudyError, with the nearest name, when the module's source defines no such factory; nothing of it is run."""
    path, name = source(kind, folder), kind.partition(":")[2]
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError) as error:
        raise StudyError(f"model.kind = {show(kind)}: {path} cannot be read as Python: {error}") from None
    names = _defined(tree)
    if name not in names and "*" not in names:
        raise StudyError(f"model.kind = {show(kind)}: {path.name} defines no {name}; {suggestion(name, sorted(names))}")


def _defined(tree: ast.Module) -> set[str]:
    """Names bound at the top of a module; "*" where an import or a computed definition may bind any."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            names |= {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
        elif not isinstance(node, ast.Expr):  # if, try, with, for: whatever they bind
            names.add("*")
    return names


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
