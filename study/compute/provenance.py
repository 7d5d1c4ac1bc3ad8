"""Where a record comes from: versions, commit, machine, and how its networks were trained."""

import functools
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import study

PACKAGES = ("torch", "numpy", "scipy", "scikit-learn")


def gather(dtype: str, device: str, compiled: bool, seconds: float) -> dict[str, Any]:
    """JSON-able provenance; seconds: this trial's share of its unit's time."""
    return {
        "versions": _versions(),
        **_commit(),
        "machine": _machine(),
        "dtype": dtype,
        "device": device,
        "compiled": compiled,
        "seconds": round(seconds, 3),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@functools.lru_cache(maxsize=1)
def _versions() -> dict[str, str]:
    found = {name: version(name) for name in PACKAGES}
    return {"study": study.__version__, "python": platform.python_version(), **found}


@functools.lru_cache(maxsize=1)
def _commit() -> dict[str, Any]:
    """The commit of the checkout the package runs from, or null; dirty when its tracked files were changed."""
    root = Path(study.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return {"commit": None, "dirty": None}
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()
        status = ["git", "status", "--porcelain", "--untracked-files=no", "--", "study"]
        changed = subprocess.run(status, cwd=root, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}
    return {"commit": commit, "dirty": bool(changed)}


@functools.lru_cache(maxsize=1)
def _machine() -> dict[str, str]:
    """The kind of machine, without its name."""
    model = ""
    if sys.platform == "linux":
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {"system": platform.system(), "architecture": platform.machine(), "processor": model}
