"""Published packages against the study on the same network and pairs, side by side in one run (digits 64-32-10, 2,410 parameters,
1,437 × 360 pairs, float64, one core): dense inverses, conjugate gradients, and LiSSA on all rows.

Each package runs in its environment of the audit and times itself, imports left out, and so does the study: seconds of
processor time, for others may share it, the least of ROUNDS runs. Of cg and lissa the packages solve test point by test point
(but for pyDVL's block of all at once): SAMPLES of them are timed and the line through both is followed to all 360. `distance`:
the largest difference from the dense exact answer, relative to its largest (of what was computed); against each package the
study solves for all test points to a tolerance whose answer is at least as near. Packages give no residuals to compare.
"""

import json
import os
import subprocess
import tempfile
import time
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
SAMPLES = (2, 12)
ROUNDS = 2
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
started = time.process_time()
found = {module}.{call}
seconds = time.process_time() - started
import numpy
numpy.save(sys.argv[3], found.detach().numpy())
print(json.dumps(seconds))
"""


@dataclass(frozen=True)
class Rival:
    """A package's method: the call in the audit's script; sampled: it goes test point by test point, so that some are enough."""

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
    Rival("pydvl", "block_cg(problem)", False),
    Rival("dattri", "cg(problem, iterations=100)", True),
    Rival("dattri", "cg(problem, iterations=1000)", True),
)
RECURSIONS = (Rival("pydvl", "lissa(problem)", True), Rival("dattri", "lissa(problem)", True))


def main() -> None:
    torch.set_num_threads(1)
    case = pairs.fitted()
    exact = estimators.predict(case, Exact()).delta.numpy()
    case.spectrum(torch.arange(len(case.theta)))
    scale = 1.05 * torch.linalg.eigvalsh(case.hessian)[-1].item()
    recursion = Lissa(matrix="hessian", depth=STEPS, batch_size="full", scale=scale)
    figures: dict[str, float | str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for rival in (*DENSE, *GRADIENTS, *RECURSIONS):
            theirs, off = _theirs(rival, case, exact, scale, Path(folder))
            settings = Exact() if rival in DENSE else recursion if rival in RECURSIONS else _as_near(case, exact, off)
            ours, near = _ours(case, settings, exact)
            name = f"{rival.package} {rival.call.replace('problem, ', '').replace('(problem)', '')}"
            figures |= {f"{name}, seconds": theirs, f"{name}, distance": off, f"{name}: ours, seconds": ours,
                        f"{name}: ours, distance": near, f"{name} / ours": theirs / ours}  # fmt: skip
    report("peers", figures)


def _as_near(case: Fitted, exact: np.ndarray, distance: float) -> Cg:
    """Conjugate gradients of the loosest tolerance, in factors of ten, whose answer is at least as near the exact one."""
    for power in range(1, 14):
        settings = Cg(tolerance=10.0**-power)
        if _once(case, settings, exact)[1] <= distance:
            break
    return settings


def _ours(case: Fitted, settings: Any, exact: np.ndarray) -> tuple[float, float]:
    """Seconds, the least of ROUNDS, and distance from the exact answer."""
    return min(_once(case, settings, exact) for _ in range(ROUNDS))


def _once(case: Fitted, settings: Any, exact: np.ndarray) -> tuple[float, float]:
    """Seconds, evidence included but for the eigenvectors of the dense answer beside it, and distance."""
    fresh = Fitted(case.problem, case.theta, case.target)
    fresh._spectra.update(case._spectra)
    started = time.process_time()
    found = estimators.predict(fresh, settings)
    return time.process_time() - started, _distance(found.delta.numpy(), exact)


def _theirs(rival: Rival, case: Fitted, exact: np.ndarray, scale: float, folder: Path) -> tuple[float, float]:
    """Seconds for all test points, and distance."""
    every = exact.shape[1]
    if not rival.sampled:
        return min(_run(rival, case, exact, scale, folder, every) for _ in range(ROUNDS))
    few, many = SAMPLES
    (little, _), (much, off) = (
        min(_run(rival, case, exact, scale, folder, count) for _ in range(ROUNDS)) for count in SAMPLES
    )
    return much + (every - many) * (much - little) / (many - few), off


def _run(rival: Rival, case: Fitted, exact: np.ndarray, scale: float, folder: Path, tests: int) -> tuple[float, float]:
    """Seconds and distance for so many test points."""
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
    return json.loads(done.stdout.splitlines()[-1]), _distance(np.load(answer), exact[:, :tests])


def _distance(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.abs(found - exact).max() / np.abs(exact).max())


if __name__ == "__main__":
    main()
