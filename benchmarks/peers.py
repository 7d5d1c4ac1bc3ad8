"""Published packages against the study on the same network and pairs, side by side in one run (digits 64-32-10, 2,410 parameters,
1,437 × 360 pairs, float64, one core): dense inverses, conjugate gradients, and LiSSA on all rows.

Each package runs in its environment of the audit and times itself, imports left out, and so does the study. Of cg and lissa the
packages solve test point by test point (but for pyDVL's block of all at once): a sample of SAMPLE is timed, and of that SAMPLE
alone the study's time is taken too. `distance`: the largest difference from the dense exact answer, relative to its largest;
against each package the study solves to a tolerance whose answer is at least as near. Packages give no residuals to compare.
"""

import json
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass, replace
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
GRADIENTS = (
    Rival("pydvl", "cg(problem)", True),
    Rival("pydvl", "block_cg(problem)", True),
    Rival("dattri", "cg(problem, iterations=100)", True),
    Rival("dattri", "cg(problem, iterations=1000)", True),
)
RECURSIONS = (Rival("pydvl", "lissa(problem)", True), Rival("dattri", "lissa(problem)", True))


def main() -> None:
    torch.set_num_threads(1)
    case = pairs.fitted()
    few = replace(case, target=case.target.rows(torch.arange(SAMPLE)))
    exact = estimators.predict(case, Exact()).delta.numpy()
    scale = 1.05 * torch.linalg.eigvalsh(case.hessian)[-1].item()
    recursion = Lissa(matrix="hessian", depth=STEPS, batch_size="full", scale=scale)
    figures: dict[str, float | str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for rival in (*DENSE, *GRADIENTS, *RECURSIONS):
            theirs, off = _theirs(rival, case, exact, scale, Path(folder))
            if rival in DENSE:
                ours, near = _ours(case, Exact(), exact)
            elif rival in RECURSIONS:
                ours, near = _ours(few, recursion, exact[:, :SAMPLE])
            else:
                ours, near = _as_near(few, exact[:, :SAMPLE], off)
            name = f"{rival.package} {rival.call.replace('problem, ', '').replace('(problem)', '')}"
            figures |= {f"{name}, seconds": theirs, f"{name}, distance": off, f"{name}: ours, seconds": ours,
                        f"{name}: ours, distance": near, f"{name} / ours": theirs / ours}  # fmt: skip
    report("peers", figures)


def _as_near(case: Fitted, exact: np.ndarray, distance: float) -> tuple[float, float]:
    """By conjugate gradients of the loosest tolerance, in factors of ten, whose answer is at least as near the exact one."""
    for power in range(2, 14):
        found = _ours(case, Cg(tolerance=10.0**-power), exact)
        if found[1] <= distance:
            break
    return found


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
    return seconds, _distance(np.load(answer), exact[:, :tests])


def _distance(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.abs(found - exact).max() / np.abs(exact).max())


if __name__ == "__main__":
    main()
