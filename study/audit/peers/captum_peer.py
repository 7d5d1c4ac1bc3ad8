"""Captum: `NaiveInfluenceFunction` (eigenvectors of the dense Hessian) and `ArnoldiInfluenceFunction`.

It exports only the first. The Hessian is a sum over rows, and so is what `hessian_reg` adds to: H_sum + nλI = n(H + λI), whose
inverse holds our 1/n.
"""

from typing import Any

from captum.influence._core.arnoldi_influence_function import ArnoldiInfluenceFunction
from captum.influence._core.influence_function import NaiveInfluenceFunction
from peer import Method, Problem, main
from torch import Tensor, nn
from torch.utils.data import TensorDataset


def _influence(kind: Any, problem: Problem, **settings: Any) -> Tensor:
    rows = TensorDataset(problem.x, problem.y)
    influence = kind(
        problem.network(), rows, "", lambda model, path: 1.0, loss_fn=nn.CrossEntropyLoss(reduction="sum"),
        batch_size=len(rows), sample_wise_grads_per_batch=True, **settings,
    )  # fmt: skip
    return influence.influence((problem.x_test, problem.y_test)).T


def naive(problem: Problem) -> Tensor:
    damping = len(problem.x) * problem.damping
    every = problem.parameters
    return _influence(
        NaiveInfluenceFunction, problem, projection_dim=every, hessian_reg=damping, hessian_inverse_tol=1e-12
    )


def naive_as_mean(problem: Problem) -> Tensor:
    """With the damping of a mean, as a user would write who takes the Hessian for one."""
    every = problem.parameters
    return _influence(
        NaiveInfluenceFunction, problem, projection_dim=every, hessian_reg=problem.damping, hessian_inverse_tol=1e-12
    )


def arnoldi(problem: Problem) -> Tensor:
    damping = len(problem.x) * problem.damping
    return _influence(
        ArnoldiInfluenceFunction, problem, projection_dim=problem.directions, arnoldi_dim=problem.directions + 2,
        arnoldi_tol=1e-10, hessian_reg=damping, hessian_inverse_tol=1e-12,
    )  # fmt: skip


METHODS = (
    Method("naive", "hessian_reg nλ", naive),
    Method("naive", "hessian_reg λ", naive_as_mean),
    Method("arnoldi", "hessian_reg nλ, 200 directions at most", arnoldi),
)

if __name__ == "__main__":
    main("captum", METHODS)
