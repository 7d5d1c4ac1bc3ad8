"""Start-up time of the package and the command, and the summed memory of an Iris sweep on two workers."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks import memory
from benchmarks.report import report

SPEC = Path(__file__).parent.parent / "experiments" / "iris_depth_quick.toml"


def seconds(arguments: list[str]) -> float:
    """Median wall time of a process over eleven starts."""
    times = []
    for _ in range(11):
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def peak_memory() -> tuple[float, float]:
    """Largest summed memory, in MB, of the sweep's processes: shared pages counted once (PSS), and once a process (RSS)."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "study", "run", str(SPEC), "--workers", "2", "--results", folder]
        sweep = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return memory.peak(sweep)


def main() -> None:
    shared_once, shared_each = peak_memory()
    report(
        "startup",
        {
            "import study, seconds": seconds(["-c", "import study"]),
            "study --help, seconds": seconds(["-m", "study", "--help"]),
            "python alone, seconds": seconds(["-c", "pass"]),
            "Iris sweep on two workers, peak MB, shared pages once": shared_once,
            "Iris sweep on two workers, peak MB, sum of resident sizes": shared_each,
        },
    )


if __name__ == "__main__":
    main()
