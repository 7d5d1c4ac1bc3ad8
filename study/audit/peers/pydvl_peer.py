"""pyDVL: direct solve, CG, LiSSA and the Nyström sketch.

Its Hessian is that of the loss given, here a mean, and `regularization` adds λ to it; influences lack our 1/n.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from peer import STEPS, Case, Method, Problem, dense, distance, main, softmax_regression
from pydvl.influence.torch import CgInfluence, DirectInfluence, LissaInfluence, NystroemSketchInfluence
from torch import Tensor
from torch.nn.functional import cross_entropy


def _influences(problem: Problem, kind: Any, **settings: Any) -> Tensor:
    model = kind(problem.network(), cross_entropy, regularization=problem.damping, **settings)
    fitted = model.fit(problem.training())
    return fitted.influences(problem.x_test, problem.y_test, problem.x, problem.y).T / len(problem.x)


def direct(problem: Problem) -> Tensor:
    return _influences(problem, DirectInfluence)


def cg(problem: Problem) -> Tensor:
    return _influences(problem, CgInfluence, maxiter=STEPS)


def block_cg(problem: Problem, **iterations: int) -> Tensor:
    """All test points in one block, by default of 50 iterations at most."""
    return _influences(problem, CgInfluence, solve_simultaneously=True, **iterations)


def lissa(problem: Problem) -> Tensor:
    return _influences(problem, LissaInfluence, maxiter=STEPS, scale=problem.scale, rtol=1e-10)


def nystroem(problem: Problem) -> Tensor:
    return _influences(problem, NystroemSketchInfluence, rank=problem.directions)


def _empty(problem: Problem, tests: int) -> tuple[np.ndarray, float]:
    """Which of the first `tests` test points get nothing but zeros, and how far the others are from the exact answer."""
    asked = replace(problem, x_test=problem.x_test[:tests], y_test=problem.y_test[:tests])
    found, exact = cg(asked).detach().numpy(), dense(asked)
    empty = ~found.any(axis=0)
    return np.flatnonzero(empty), distance(found[:, ~empty], exact[:, ~empty])


def zero_rows() -> Case:
    """Test points without an answer when there are more of them than parameters, and when there are not."""
    problem = softmax_regression()
    few, many = problem.parameters, len(problem.x_test)
    (none, close), (beyond, also_close) = (_empty(problem, tests) for tests in (few, many))
    measured = (
        f"{few} parameters; {few} test points: {len(none)} of them all zero, the others within {close:.0e}; "
        f"{many} test points: {len(beyond)} all zero, the others within {also_close:.0e}"
    )
    confirmed = len(none) == 0 and beyond.tolist() == list(range(few, many))
    return Case("CG: zeros for test points beyond the number of parameters", measured, confirmed)


METHODS = (
    Method("direct", "", direct),
    Method("cg", "1,000 iterations at most", cg),
    Method("cg", "solve_simultaneously", block_cg),
    Method("cg", "solve_simultaneously, 1,000 iterations at most", partial(block_cg, maxiter=STEPS)),
    Method("lissa", "1,000 steps, all rows", lissa),
    Method("nystroem", "rank 200 at most", nystroem),
)

if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    main("pyDVL", METHODS, (zero_rows,))
