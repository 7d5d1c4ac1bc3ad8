"""Seconds and memory from a million pairs in synthetic records to every table and figure, in three shapes of experiment."""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks import memory
from benchmarks.report import report
from study.evidence import figures
from study.evidence.store import Store
from study.evidence.tables import Tables
from tests import synthetic

DEPTHS = list(range(1, 9))
SHAPES: dict[str, tuple[dict[str, list[object]], int, dict[str, object]]] = {
    "many trials: 6,784 of 149 rows, 1 test row":
        ({"model.depth": [*DEPTHS], "training.weight_decay": [0.1 * k for k in range(1, 17)]}, 53, {"rows": 149}),
    "many test rows: 2,000 trials of 25 rows, 20 test rows":
        ({"model.depth": [*DEPTHS], "training.weight_decay": [0.1, 0.2, 0.3, 0.4, 0.5]}, 50,
         {"rows": 25, "tests": tuple(range(20))}),
    "large trials: 20 of 500 rows, 100 test rows":
        ({"model.depth": [1, 2]}, 10, {"rows": 500, "tests": tuple(range(100))}),
}  # fmt: skip


def measure(shape: str, folder: Path) -> None:
    """Prints pairs, seconds and seconds of the processor as JSON. Records are written first, by another process."""
    axes, seeds, _ = SHAPES[shape]
    started = time.perf_counter()
    tables = Tables(synthetic.experiment(axes, seeds), Store(folder, "synthetic"))  # type: ignore[arg-type]
    tables.write(folder / "tables")
    figures.write_all(tables, folder / "figures")
    seconds = time.perf_counter() - started
    copies = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(json.dumps([len(tables.points), seconds, time.process_time() + copies.ru_utime + copies.ru_stime]))


def fill(shape: str, folder: Path) -> None:
    axes, seeds, options = SHAPES[shape]
    synthetic.filled(Store(folder, "synthetic"), synthetic.experiment(axes, seeds), **options)


def main() -> None:
    found: dict[str, float | str] = {}
    for shape in SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "benchmarks.evidence", "{}", shape, folder]
            subprocess.run([part.format("fill") for part in command], check=True)
            measured = psutil.Popen([part.format("measure") for part in command], stdout=subprocess.PIPE, text=True)
            most = memory.peak(measured)[0]
            printed = measured.stdout.read()
        names = ("pairs", "seconds", "seconds of the processor", "peak MB")
        values = [*json.loads(printed.splitlines()[-1]), most]
        found |= {f"{shape}: {name}": value for name, value in zip(names, values, strict=True)}
    report("evidence", found)


if __name__ == "__main__":
    if len(sys.argv) == 4:
        {"fill": fill, "measure": measure}[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))
    else:
        main()
