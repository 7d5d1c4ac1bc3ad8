"""Published packages against the study on the same network and pairs, side by side in one run (digits 64-32-10, 2,410 parameters,
1,437 × 360 pairs, float64, one core): dense inverses, conjugate gradients, and LiSSA on all rows.

Each package runs in its environment of the audit and times itself, imports left out, and so does the study: seconds of
processor time, for others may share it. Of cg and lissa the packages solve test point by test point
(but for pyDVL's block of all at once): SAMPLES of them are timed and the line through both is followed to all 360. `distance`:
the largest difference from the dense exact answer, relative to its largest, over the `test points` that the package was asked
about, of its answer and of ours alike; of ours over all 360 as well. Against each package the study solves for all test points
to a tolerance whose answer is at least as near over either. Packages give no residuals to compare.

    python -m benchmarks.peers [dense] [solvers]       measured/peers.json and measured/solvers.json
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

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
SAMPLES = (1, 5)
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
REPORTS = {"dense": "peers", "solvers": "solvers"}


def main(parts: Sequence[str]) -> None:
    torch.set_num_threads(1)
    case = pairs.fitted()
    exact = estimators.predict(case, Exact()).delta.numpy()
    case.spectrum(torch.arange(len(case.theta)))
    scale = 1.05 * torch.linalg.eigvalsh(case.hessian)[-1].item()
    ours = Ours(case, exact)
    for part in parts:
        figures: dict[str, float | str] = {}
        with tempfile.TemporaryDirectory() as folder:
            for rival in DENSE if part == "dense" else (*GRADIENTS, *RECURSIONS):
                figures |= _against(rival, ours, scale, Path(folder))
        report(REPORTS[part], figures)


class Ours:
    """The study's own answers for all pairs, each computed once, with its seconds but for those of knowing how near it is."""

    def __init__(self, case: Fitted, exact: np.ndarray):
        self.case, self.exact = case, exact
        self._known: dict[str, tuple[float, np.ndarray]] = {}

    def by(self, settings: Any) -> tuple[float, np.ndarray]:
        if (key := settings.model_dump_json()) not in self._known:
            self._known[key] = self._computed(settings)
        return self._known[key]

    def as_near(self, distance: float, points: int) -> tuple[float, np.ndarray]:
        """By conjugate gradients of the loosest tolerance, in factors of a hundred, whose answer is at least as near."""
        for power in range(1, 14, 2):
            found = self.by(Cg(tolerance=10.0**-power))
            if max(self.off(found[1], points), self.off(found[1])) <= distance:
                break
        return found

    def off(self, delta: np.ndarray, points: int | None = None) -> float:
        """Distance over the first test points, or all."""
        return _distance(delta[:, :points], self.exact[:, :points])

    def _computed(self, settings: Any) -> tuple[float, np.ndarray]:
        fresh = Fitted(self.case.problem, self.case.theta, self.case.target)
        fresh._kept.update(self.case._kept)
        with patch("time.perf_counter", time.process_time):  # in which diagnostics are timed
            started = time.process_time()
            found = estimators.predict(fresh, settings)
            seconds = time.process_time() - started - found.diagnostics
        return seconds, found.delta.numpy()


def _against(rival: Rival, ours: Ours, scale: float, folder: Path) -> dict[str, float | str]:
    theirs, off = _theirs(rival, ours.case, ours.exact, scale, folder)
    points = SAMPLES[-1] if rival.sampled else ours.exact.shape[1]
    if rival in GRADIENTS:
        own, delta = ours.as_near(off, points)
    else:
        recursion = Lissa(matrix="hessian", depth=STEPS, batch_size="full", scale=scale)
        own, delta = ours.by(Exact() if rival in DENSE else recursion)
    name = f"{rival.package} {rival.call.replace('problem, ', '').replace('(problem)', '')}"
    near = ours.off(delta, points)
    print(f"{name}: {theirs:.2f} s, {off:.0e}; here {own:.2f} s, {near:.0e}", file=sys.stderr, flush=True)
    return {f"{name}, seconds": theirs, f"{name}, distance": off, f"{name}: ours, seconds": own,
            f"{name}: ours, distance": near, f"{name}: test points of both distances": points,
            f"{name}: ours, distance over all": ours.off(delta), f"{name} / ours": theirs / own}  # fmt: skip


def _theirs(rival: Rival, case: Fitted, exact: np.ndarray, scale: float, folder: Path) -> tuple[float, float]:
    """Seconds for all test points, and distance."""
    every = exact.shape[1]
    if not rival.sampled:
        return _run(rival, case, exact, scale, folder, every)
    few, many = SAMPLES
    (little, _), (much, off) = (_run(rival, case, exact, scale, folder, count) for count in SAMPLES)
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
    main(sys.argv[1:] or list(REPORTS))
