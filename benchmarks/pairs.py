"""Exact influence of all pairs, digits (64-32-10 tanh, 2,410 parameters, 1,437 × 360 pairs, float64, one core), side by side.

Against what a user of plain PyTorch writes: the Hessian by vmap over torch.func Hessian-vector products, a Cholesky solve for
the test gradients, row gradients by vmap(grad). The floor is the arithmetic that no method with a dense Hessian avoids (the
Gauss-Newton sum over rows, the factor, the solves, the products), at the rate of a large matrix product on this core.
"""

import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.func import functional_call, grad, jvp, vmap
from torch.nn.functional import cross_entropy

from benchmarks.report import report
from study import trials
from study.compute import estimators, fitting
from study.compute.problems import Fitted, problem

SPEC = """
name = "pairs"
[data]
name = "digits"
test_fraction = 0.2
[model]
kind = "mlp"
width = 32
[training]
optimizer = "lbfgs"
steps = 300
weight_decay = 0.01
[[estimators]]
kind = "exact"
[[protocols]]
kind = "warm"
"""
ROUNDS = 3


def fitted() -> Fitted:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.toml"
        path.write_text(SPEC)
        p = problem(trials.load(path).trials[0])
    return Fitted(p, fitting.scratch([fitting.initial(p)])[0][0], p.target)


def plain(case: Fitted) -> Tensor:
    """All predicted changes [n, T] in plain torch.func."""
    objective, target, theta = case.problem.objective, case.target, case.theta
    module = objective.network._seeded(0)
    names, sizes, shapes = objective.network.names, objective.network.sizes, objective.network.shapes
    labels, test_labels = objective.y.argmax(dim=1), target.y.argmax(dim=1)

    def loss(parameters: Tensor, x: Tensor, y: Tensor) -> Tensor:
        pieces = zip(names, parameters.split(sizes), shapes, strict=True)
        return cross_entropy(functional_call(module, {name: part.view(shape) for name, part, shape in pieces}, (x,)), y)

    def whole(parameters: Tensor) -> Tensor:
        return loss(parameters, objective.x, labels) + 0.5 * objective.decay[0, 0] * parameters.square().sum()

    def product(direction: Tensor) -> Tensor:
        return jvp(grad(whole), (theta,), (direction,))[1]

    hessian = vmap(product, chunk_size=64)(torch.eye(len(theta), dtype=theta.dtype))
    rows = vmap(grad(lambda p, x, y: loss(p, x[None], y[None])), in_dims=(None, 0, 0))
    solved = torch.cholesky_solve(rows(theta, target.x, test_labels).T, torch.linalg.cholesky(hessian))
    return rows(theta, objective.x, labels) @ solved / len(labels)


def floor(case: Fitted) -> float:
    """Seconds: P²n for the Gauss-Newton sum by symmetric halves, P³/3, 2P²T and 2nPT, at the rate of a matrix product."""
    n, tests, size = case.problem.objective.rows, len(case.target.x), len(case.theta)
    matrix = torch.randn(2000, 2000, dtype=torch.float64)
    matrix @ matrix
    started = time.perf_counter()
    matrix @ matrix
    rate = 2 * 2000**3 / (time.perf_counter() - started)
    return (size**2 * n + size**3 / 3 + 2 * size**2 * tests + 2 * n * size * tests) / rate


def main() -> None:
    torch.set_num_threads(1)
    case, ours, theirs, floors = fitted(), [], [], []
    for _ in range(ROUNDS):
        floors.append(floor(case))
        started = time.perf_counter()
        found = estimators.predict(Fitted(case.problem, case.theta, case.target), case.problem.settings.estimators[0])
        middle = time.perf_counter()
        expected = plain(case)
        theirs.append(time.perf_counter() - middle)
        ours.append(middle - started)
    report(
        "pairs",
        {
            "exact influence of 1,437 × 360 pairs, seconds": min(ours),
            "torch.func, seconds": min(theirs),
            "torch.func / ours": min(theirs) / min(ours),
            "ours / arithmetic floor": min(ours) / min(floors),
            "largest relative difference": ((found.delta - expected).abs().max() / expected.abs().max()).item(),
        },
    )


if __name__ == "__main__":
    main()
