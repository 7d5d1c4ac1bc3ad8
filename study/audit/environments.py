"""An environment for each audited package, made when first asked for and kept in the cache."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import uuid
import venv
from importlib.util import find_spec
from pathlib import Path

from study import cache
from study.errors import StudyError
from study.evidence import files

REQUIREMENTS = Path(__file__).with_name("requirements")
SHOWN = 3  # lines of what pip said last


def python(package: str) -> Path:
    """The interpreter of the package's environment, made if there is none for its requirements as they are now.

    Raises StudyError, with what to do, where it cannot be made.
    """
    folder = _folder(package)
    if not folder.is_dir():
        _need_pip()
        building = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}{files.TEMPORARY}")
        try:
            venv.create(building, with_pip=False, symlinks=os.name != "nt")
            _install(package, _interpreter(building))
            _keep(building, folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return _interpreter(folder)


def exists(package: str) -> bool:
    """Whether `python` would find the environment ready."""
    return _folder(package).is_dir()


def frozen(package: str) -> str:
    """Every distribution in the package's environment with its version, a line each."""
    return _pip(_interpreter(_folder(package)), "freeze").stdout


def _folder(package: str) -> Path:
    """Bound to requirements and interpreter: a change of either makes another environment."""
    content = (
        (REQUIREMENTS / f"{package}.txt").read_bytes() + platform.python_version().encode() + sys.base_prefix.encode()
    )
    return cache.folder() / "audit" / f"{package}-{hashlib.sha256(content).hexdigest()[:16]}"


def _keep(building: Path, folder: Path) -> None:
    """An environment found by its interpreter can be renamed; where another process was quicker, its one is kept."""
    try:
        building.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def _interpreter(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _need_pip() -> None:
    if find_spec("pip") is None:
        raise StudyError("the environments of audited packages are made by pip: install the extra `audit`")


def _install(package: str, interpreter: Path) -> None:
    done = _pip(interpreter, "install", "--quiet", "--requirement", str(REQUIREMENTS / f"{package}.txt"))
    if done.returncode != 0:
        said = " | ".join(line for line in done.stderr.strip().splitlines() if "ERROR" in line or "rror" in line)
        last = said or " | ".join(done.stderr.strip().splitlines()[-SHOWN:])
        raise StudyError(
            f"the environment of {package} cannot be made: {last[:600]}. Its packages come from pip's index: connect to it (or "
            f"name another in PIP_INDEX_URL) and repeat, or leave {package} out with --peers"
        )


def _pip(interpreter: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "--python", str(interpreter), "--disable-pip-version-check", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)
