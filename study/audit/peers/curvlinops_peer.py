"""curvlinops: inverses of the Hessian as linear operators by CG, LSMR and the Neumann series.

Its Hessian is a mean over rows for a loss of `reduction="mean"`; λ is added as a multiple of the identity.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from curvlinops import (
    CGInverseLinearOperator,
    HessianLinearOperator,
    LSMRInverseLinearOperator,
    NeumannInverseLinearOperator,
)
from curvlinops.examples import IdentityLinearOperator
from peer import STEPS, Case, Method, Problem, distance, heard, main
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, vmap
from torch.nn.functional import cross_entropy


def damped_hessian(problem: Problem) -> Any:
    network = problem.network()
    parameters = [parameter.requires_grad_() for parameter in network.parameters()]
    data = [(problem.x, problem.y)]
    shapes = [tuple(parameter.shape) for parameter in parameters]
    identity = IdentityLinearOperator(shapes, problem.theta.device, problem.theta.dtype)
    return HessianLinearOperator(network, nn.CrossEntropyLoss(), parameters, data) + problem.damping * identity


def gradients(problem: Problem, x: Tensor, y: Tensor) -> Tensor:
    """∇L of every row [n, P], by torch: the package has inverses, no influences."""
    network = problem.network()
    named = {name: parameter.detach() for name, parameter in network.named_parameters()}

    def loss(parameters: dict[str, Tensor], row: Tensor, label: Tensor) -> Tensor:
        return cross_entropy(functional_call(network, parameters, (row[None],)), label[None])

    found = vmap(grad(loss), in_dims=(None, 0, 0))(named, x, y)
    return torch.cat([found[name].flatten(1) for name in named], dim=1)


def _predicted(problem: Problem, inverse: Any) -> Tensor:
    solved = inverse @ gradients(problem, problem.x_test, problem.y_test).T
    return gradients(problem, problem.x, problem.y) @ solved / len(problem.x)


def cg(problem: Problem) -> Tensor:
    inverse = CGInverseLinearOperator(damped_hessian(problem), tolerance=1e-10, max_iter=STEPS, eps=1e-30,
                                      stop_updating_after=1e-30)  # fmt: skip
    return _predicted(problem, inverse)


def cg_defaults(problem: Problem) -> Tensor:
    return _predicted(problem, CGInverseLinearOperator(damped_hessian(problem)))


def lsmr(problem: Problem) -> Tensor:
    inverse = LSMRInverseLinearOperator(damped_hessian(problem), atol=1e-12, btol=1e-12, conlim=0, maxiter=500)
    return _predicted(problem, inverse)


def neumann(problem: Problem, terms: int = STEPS) -> Tensor:
    inverse = NeumannInverseLinearOperator(damped_hessian(problem), num_terms=terms, scale=1 / problem.scale)
    return _predicted(problem, inverse)


def _untrained(damping: float) -> tuple[Problem, Tensor]:
    """A small tanh network as it is initialised, and its H + dampingI by torch alone."""
    torch.manual_seed(0)
    dimensions = (3, 4, 2)
    x, y = torch.randn(40, 3), torch.randint(2, (40,))
    theta = torch.randn(sum((a + 1) * b for a, b in pairwise(dimensions)))
    problem = Problem(theta, dimensions, "tanh", x, y, x[:8], y[:8], damping, top=1.0)
    network = problem.network()
    names = [name for name, _ in network.named_parameters()]
    pieces = [tuple(parameter.shape) for parameter in network.parameters()]

    def loss(flat: Tensor) -> Tensor:
        sizes = [int(np.prod(shape)) for shape in pieces]
        named = {n: part.reshape(s) for n, part, s in zip(names, flat.split(sizes), pieces, strict=True)}
        return cross_entropy(functional_call(network, named, (x,)), y)

    matrix = hessian(loss)(theta) + damping * torch.eye(len(theta))
    return replace(problem, top=float(torch.linalg.eigvalsh(matrix)[-1])), matrix


def _indefinite(claim: str, predict: Callable[[Problem], Tensor]) -> Case:
    """Distance from the dense answer where H + dampingI has negative eigenvalues, and where more damping leaves none."""
    parts, distances = [], []
    for damping in (0.01, 0.5):
        problem, matrix = _untrained(damping)
        values = torch.linalg.eigvalsh(matrix)
        solved = torch.linalg.solve(matrix, gradients(problem, problem.x_test, problem.y_test).T)
        exact = gradients(problem, problem.x, problem.y) @ solved / len(problem.x)
        with heard() as said:
            distances.append(distance(predict(problem).numpy(), exact.numpy()))
        negative = f"{int((values < 0).sum())} of {len(values)} eigenvalues negative (smallest {values[0]:.2g})"
        spoken = said[0].partition(":")[0] if said else "silent"
        parts.append(f"{negative}: distance {distances[-1]:.1e}, {spoken}")
    return Case(claim, "; ".join(parts), distances[0] > 0.1 and distances[1] < 1e-3)


def cg_indefinite() -> Case:
    return _indefinite("CG, tolerance 1e-10: far off on an indefinite Hessian, without an error", cg)


def cg_defaults_indefinite() -> Case:
    return _indefinite("CG at its defaults: far off on an indefinite Hessian, without an error", cg_defaults)


def neumann_indefinite() -> Case:
    """At its 100 terms, within which nothing overflows yet."""
    few = partial(neumann, terms=100)
    return _indefinite("Neumann series of 100 terms: far off on an indefinite Hessian, without an error", few)


def neumann_long_indefinite() -> Case:
    """At so many terms that the series overflows."""
    claim = "Neumann series of 5,000 terms: an error once the series overflows"
    problem, _ = _untrained(0.01)
    try:
        neumann(problem, terms=5000)
    except ValueError as raised:
        return Case(claim, str(raised).partition(".")[0], True)
    return Case(claim, "no error", False)


METHODS = (
    Method("cg", "its defaults", cg_defaults),
    Method("cg", "tolerance 1e-10, 1,000 iterations", cg),
    Method("lsmr", "tolerance 1e-12, 500 iterations", lsmr),
    Method("neumann", "1,000 terms, all rows", neumann),
)

CASES = (cg_indefinite, cg_defaults_indefinite, neumann_indefinite, neumann_long_indefinite)

if __name__ == "__main__":
    main("curvlinops-for-pytorch", METHODS, CASES)
