"""Start-up time of the package and the command, and the summed memory of an Iris sweep on two workers."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

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


def peak_memory() -> float:
    """Largest summed memory, in MB, of the sweep's processes; pages they share are counted once (PSS)."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "study", "run", str(SPEC), "--workers", "2", "--results", folder]
        sweep = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        peak = 0.0
        while sweep.poll() is None:
            total = 0.0
            for process in [sweep, *sweep.children(recursive=True)]:
                try:
                    total += process.memory_full_info().pss / 1e6
                except psutil.Error:  # it has just ended
                    continue
            peak = max(peak, total)
            time.sleep(0.25)
        return peak


def main() -> None:
    report(
        "startup",
        {
            "import study, seconds": seconds(["-c", "import study"]),
            "study --help, seconds": seconds(["-m", "study", "--help"]),
            "python alone, seconds": seconds(["-c", "pass"]),
            "Iris sweep on two workers, peak MB": peak_memory(),
        },
    )


if __name__ == "__main__":
    main()
