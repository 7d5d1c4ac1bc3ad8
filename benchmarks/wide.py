"""Memory and time of every estimator that forms no Hessian, on a network whose Hessian would need 12 GB (digits, width 512).

Each in a process of its own, whose peak resident memory is the figure; five test points, all 1,437 training rows.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import report
from study import trials
from study.compute import estimators, fitting
from study.compute.problems import Fitted, problem

SPEC = """
name = "wide"
[data]
name = "digits"
test_fraction = 0.2
[model]
kind = "mlp"
width = 512
[training]
optimizer = "sgd"
learning_rate = 0.05
steps = 200
weight_decay = 0.01
[points]
train = "random"
train_count = 10
test = { quantiles = [0.0, 0.25, 0.5, 0.75, 1.0] }
[[protocols]]
kind = "warm"
[[estimators]]
"""
KINDS: dict[str, dict[str, Any]] = {
    "cg": {"tolerance": 1e-6, "damping": 0.01},
    "lissa": {"depth": 1000, "batch_size": 1, "scale": 300.0},
    "arnoldi": {"rank": 20, "matrix": "gauss_newton"},
    "nystrom": {"rank": 20},
    "kfac": {},
    "ekfac": {},
    "identity": {},
    "tracin": {"checkpoints": 5},
    "unrolled": {"steps": 50},
}


def one(kind: str) -> dict[str, float]:
    """Of one estimator, in this process: seconds, peak MB, residual (of `unrolled` difference_error) where it solves anything."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "wide.toml"
        keys = {"kind": kind, **KINDS[kind]}
        path.write_text(SPEC + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items()))
        p = problem(trials.load(path).trials[0])
    theta = fitting.scratch([fitting.initial(p)])[0][0]
    losses = p.target.loss_values(theta[None])[0]
    case = Fitted(p, theta, p.target.rows(losses.argsort()[:: len(losses) // 4]))
    started = time.perf_counter()
    found = estimators.predict(case, p.settings.estimators[0])
    seconds = time.perf_counter() - started
    residual = found.evidence.get("residual", found.evidence.get("difference_error", float("nan")))
    assert isinstance(residual, float)
    return {
        "parameters": len(theta),
        "seconds": seconds,
        "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "residual": residual,
    }


def main() -> None:
    measured: dict[str, float] = {}
    for kind in KINDS:
        command = [sys.executable, "-m", "benchmarks.wide", kind]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        measured |= {f"{kind}: {name}": value for name, value in found.items()}
    report("wide", measured)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(one(sys.argv[1])))
    else:
        main()
