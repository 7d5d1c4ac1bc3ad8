"""Conjugate gradients for many right-hand sides of one matrix, which share all that is learnt of it."""

from collections.abc import Callable

import torch
from torch import Tensor

from study.compute.solvers import SLACK, Solution, relative_residual


@torch.no_grad()
def block_conjugate_gradients(
    product: Callable[[Tensor], Tensor], right: Tensor, tolerance: float, most: int
) -> Solution | None:
    """Solve A x_t = b_t for the rows b_t of `right` [T, P] to ‖r_t‖ ≤ tolerance ‖b_t‖, all in one Krylov space.

    With residuals R = CᵀQ, Q [m, P] orthonormal rows (m = min(T, P)) and directions S:
    Ξ = (S A Sᵀ)⁻¹, X += (ΞC)ᵀS, Q − Ξ S A = τᵀQ' (QR), C ← τC, S ← Q' + τS
    (O'Leary 1980, in the form of Dubrulle 2001, algorithm BCGrQ, which right-hand sides that depend on each other do not break).
    It takes about 1/T of the iterations that every system needs alone, each a product with T directions at once.

    None where the block meets negative curvature, S A Sᵀ having no Cholesky factor, or has not solved all after `most`
    iterations: how far each system then got would depend on the others. `residual` is computed anew at the end.
    """
    if not torch.isfinite(right).all():
        return None
    x, goal = torch.zeros_like(right), tolerance * right.norm(dim=1)
    q, c = _orthonormal(right)
    directions, iterations = q, 0
    while (c.norm(dim=0) > goal).any():
        if iterations == most:
            return None
        image = product(directions)
        factor, info = torch.linalg.cholesky_ex(_symmetric(directions @ image.mT))
        if info != 0 or not torch.isfinite(factor).all():
            return None
        inverse = torch.cholesky_inverse(factor)
        x.addmm_((inverse @ c).mT, directions)
        q, tau = _orthonormal(torch.addmm(q, inverse, image, alpha=-1))
        c, directions, iterations = tau @ c, q + tau @ directions, iterations + 1
    residual = relative_residual(lambda some, _: product(some), x, right)
    if not (residual <= SLACK * tolerance).all():
        return None
    count = torch.full_like(residual, iterations, dtype=torch.int64)
    return Solution(x, residual, count, torch.zeros_like(count, dtype=torch.bool))


def _orthonormal(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Q [m, P] with orthonormal rows and τ [m, k] with τᵀQ the given rows [k, P]."""
    q, tau = torch.linalg.qr(rows.mT)
    return q.mT.contiguous(), tau


def _symmetric(matrix: Tensor) -> Tensor:
    return (matrix + matrix.mT) / 2
