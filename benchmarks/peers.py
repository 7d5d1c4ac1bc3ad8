"""Published packages against the study on the same network and pairs, side by side in one run (digits 64-32-10, 2,410 parameters,
1,437 × 360 pairs, float64, one core): dense inverses, conjugate gradients, and LiSSA on all rows.

Each package runs in its environment of the audit and times itself, imports left out, and so does the study. Of cg and lissa the
packages solve test point by test point: a sample of SAMPLE is timed and counts 360/SAMPLE times; the study solves all 360.
`distance`: the largest difference from the dense exact answer, relative to its largest; ours is the smaller one wherever a
ratio is reported.
"""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import study.audit
from benchmarks import pairs
from benchmarks.report import report
from study.audit import environments
from study.compute import estimators
from study.compute.problems import Fitted
from study.specs import Cg, Exact, Lissa

PEERS = Path(study.audit.__file__).with_name("peers")
SAMPLE = 12
STEPS = 1000  # of a recursion
SCRIPT = """
import sys, time, json
from functools import partial
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
import peer, {module}
problem = peer.read(Path(sys.argv[2]))
started = time.perf_counter()
found = {module}.{call}
seconds = time.perf_counter() - started
import numpy
numpy.save(sys.argv[3], found.detach().numpy())
print(json.dumps(seconds))
"""


@dataclass(frozen=True)
class Rival:
    """A package's method: which of its functions in the audit's script, and whether it goes test point by test point."""

    package: str
    call: str
    sampled: bool


DENSE = (
    Rival("captum", "naive(problem)", False),
    Rival("pydvl", "direct(problem)", False),
    Rival("dattri", "explicit(problem, batches=1)", False),
)
GRADIENTS = (Rival("pydvl", "cg(problem)", True), Rival("dattri", "cg(problem, iterations=100)", True))
RECURSIONS = (Rival("pydvl", "lissa(problem)", True), Rival("dattri", "lissa(problem)", True))


def main() -> None:
    torch.set_num_threads(1)
    case = pairs.fitted()
    exact = estimators.predict(case, Exact()).delta.numpy()
    scale = 1.05 * torch.linalg.eigvalsh(case.hessian)[-1].item()
    figures: dict[str, float | str] = {}
    with tempfile.TemporaryDirectory() as folder:
        measured = {
            rival: _theirs(rival, case, exact, scale, Path(folder)) for rival in (*DENSE, *GRADIENTS, *RECURSIONS)
        }
    figures |= _compared("dense", DENSE, measured, *_ours(case, Exact(), exact))
    closest = min(measured[rival][1] for rival in GRADIENTS)
    figures |= _compared("cg", GRADIENTS, measured, *_ours(case, _tight(case, exact, closest), exact))
    recursion = Lissa(matrix="hessian", depth=STEPS, batch_size="full", scale=scale)
    figures |= _compared("lissa", RECURSIONS, measured, *_ours(case, recursion, exact))
    report("peers", figures)


def _tight(case: Fitted, exact: np.ndarray, distance: float) -> Cg:
    """The loosest tolerance, by factors of ten, whose answer is at least as near the exact one."""
    for power in range(3, 14):
        settings = Cg(tolerance=10.0**-power)
        if _ours(case, settings, exact)[1] <= distance:
            return settings
    return settings


def _ours(case: Fitted, settings: Any, exact: np.ndarray) -> tuple[float, float]:
    """Seconds, without those of knowing how good the answer is, and distance from the exact answer."""
    fresh = Fitted(case.problem, case.theta, case.target)
    started = time.perf_counter()
    found = estimators.predict(fresh, settings)
    return time.perf_counter() - started - found.diagnostics, _distance(found.delta.numpy(), exact)


def _theirs(rival: Rival, case: Fitted, exact: np.ndarray, scale: float, folder: Path) -> tuple[float, float]:
    tests = SAMPLE if rival.sampled else exact.shape[1]
    p, given, answer = case.problem, folder / "problem.npz", folder / "answer.npy"
    np.savez(
        given, theta=case.theta.numpy(), dimensions=p.network.dimensions, activation="tanh", x=p.split.x_train,  # type: ignore[attr-defined]
        y=p.split.y_train, x_test=p.split.x_test[:tests], y_test=p.split.y_test[:tests],
        damping=p.settings.training.weight_decay, top=scale / 1.05,
    )  # fmt: skip
    script = SCRIPT.format(module=f"{rival.package}_peer", call=rival.call)
    command = [str(environments.python(rival.package)), "-c", script, str(PEERS), str(given), str(answer)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    seconds = json.loads(done.stdout.splitlines()[-1])
    return seconds * exact.shape[1] / tests, _distance(np.load(answer), exact[:, :tests])


def _distance(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.abs(found - exact).max() / np.abs(exact).max())


def _compared(
    name: str, rivals: tuple[Rival, ...], measured: Mapping[Rival, tuple[float, float]], seconds: float, distance: float
) -> dict[str, float | str]:
    figures: dict[str, float | str] = {f"{name}: ours, seconds": seconds, f"{name}: ours, distance": distance}
    for rival in rivals:
        theirs, off = measured[rival]
        figures[f"{name}: {rival.package}, seconds"] = theirs
        figures[f"{name}: {rival.package}, distance"] = off
        figures[f"{name}: {rival.package} / ours"] = theirs / seconds
    return figures


if __name__ == "__main__":
    main()
