"""Exact influence of all pairs of one trial: 149 training rows × 1 test row, 253 parameters (depth 8, width 5), one core.

Hessian, its eigendecomposition, all row gradients, parameter changes and predicted deltas, against dense autograd.
"""

import statistics
import time

import torch
from torch.func import hessian

from benchmarks.problems import iris
from benchmarks.report import report
from study.compute import estimators, fitting
from study.compute.problems import Fitted, problem

TRIALS = 10


def by_autograd(fitted: Fitted) -> torch.Tensor:
    """The same deltas with torch.func's dense Hessian."""
    p = fitted.problem
    matrix = hessian(lambda theta: p.objective.value(theta[None], p.weights)[0])(fitted.theta)
    return -torch.linalg.solve(matrix, fitted.pull.T).T @ fitted.test_gradients.T


def main() -> None:
    torch.set_num_threads(1)
    ours, plain, worst = [], [], 0.0
    for trial in iris(depth=8, seeds=TRIALS, steps=2000, rate=1e-2, polish=True):
        p = problem(trial)
        theta = fitting.scratch([fitting.initial(p)])[0][0]
        started = time.perf_counter()
        prediction = estimators.predict(Fitted(p, theta, p.target), p.settings.estimators[0])
        middle = time.perf_counter()
        reference = by_autograd(Fitted(p, theta, p.target))
        plain.append(time.perf_counter() - middle)
        ours.append(middle - started)
        worst = max(worst, ((prediction.delta - reference).abs().max() / reference.abs().max()).item())
    report(
        "influence",
        {
            "exact influence of all pairs, ms per trial": 1e3 * statistics.median(ours),
            "dense autograd, ms per trial": 1e3 * statistics.median(plain),
            "dense autograd / ours": statistics.median(a / b for a, b in zip(plain, ours, strict=True)),
            "largest relative difference": worst,
        },
    )


if __name__ == "__main__":
    main()
