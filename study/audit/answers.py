"""Running the script of a package in its environment, and reading what it wrote."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from study import cache
from study.audit import environments

SCRIPTS = Path(__file__).with_name("peers")
LONGEST = 3600.0  # seconds for all trials of one package
CASES = "cases.json"
HIDDEN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")  # of the environment that the study runs in


@dataclass(frozen=True, eq=False)
class Answer:
    """What one method said to one problem; `predicted` [n, T] is None where it ended in the `error`."""

    package: str
    version: str
    method: str
    setting: str
    seconds: float
    warning: str
    error: str
    predicted: np.ndarray | None


def kept(package: str) -> Path:
    """The folder of the cache for what the package's script, as it is now, answers in the environment that it has now."""
    parts = (SCRIPTS / f"{package}_peer.py", SCRIPTS / "peer.py", environments.REQUIREMENTS / f"{package}.txt")
    content = b"".join(part.read_bytes() for part in parts if part.is_file()) + platform.python_version().encode()
    return cache.folder() / "audit" / "answers" / f"{package}-{hashlib.sha256(content).hexdigest()[:16]}"


def ask(package: str, python: Path, problems: Sequence[Path], folder: Path) -> str:
    """Run the script on every problem that has no answer in `folder` yet; answers and cases lie there then.

    Returns why it ended early, or nothing: the same call then goes on from there.
    """
    missing = [problem for problem in problems if not (folder / problem.name).is_file()]
    if not missing and (folder / CASES).is_file():
        return ""
    command = [python, SCRIPTS / f"{package}_peer.py", folder, *missing]
    environment = {name: value for name, value in os.environ.items() if name not in HIDDEN} | {"PYTHONNOUSERSITE": "1"}
    folder.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LONGEST, check=False
        )
    except subprocess.TimeoutExpired:
        return f"stopped after {LONGEST:g} seconds"
    last = (done.stderr.strip().splitlines() or [""])[-1]
    return "" if done.returncode == 0 else f"the script ended with exit code {done.returncode}: {last[:200]}"


def answers(package: str, folder: Path, problem: Path, ended: str) -> list[Answer]:
    """Every method's answer to the problem; one without method where the script did not get that far."""
    path = folder / problem.name
    if not path.is_file():
        return [Answer(package, "", "", "", np.nan, "", ended or "the script wrote no answer", None)]
    with np.load(path) as held:
        report = json.loads(str(held["report"]))
        arrays = {name: held[name] for name in held.files if name != "report"}
    return [
        Answer(package, report["version"], predicted=arrays.get(f"predicted/{place}"), **row)
        for place, row in enumerate(report["methods"])
    ]


def cases(package: str, folder: Path, ended: str) -> list[dict[str, Any]]:
    """The package's minimal cases: package, version, claim, measured, verdict (confirmed, refuted, undecided)."""
    path = folder / CASES
    if not path.is_file():
        return [{"package": package, "version": "", "claim": "", "measured": ended, "verdict": "undecided"}]
    return [{**case, "package": package} for case in json.loads(path.read_text())]
