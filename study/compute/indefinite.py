"""Solves that an indefinite matrix does not stop, many right-hand sides at once."""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from study.compute.solvers import Product, Solution, preconditioned, relative_residual

SAFETY = 0.1  # of the tolerance, for the residual that the recurrence knows
IN_ITS_NORM = 0.1  # the same, where that is measured in the norm of a preconditioner


@torch.no_grad()
def minimal_residuals(
    product: Product, right: Tensor, found: Solution, tolerance: float, most: int, precondition: Product | None = None
) -> Solution:
    """The systems of `found` that met negative curvature, solved anew by MINRES (Paige & Saunders 1975).

    It minimises ‖b − Ax‖ over the Krylov space, definite or not, and stops below tolerance ‖b‖; the others stay as they are.
    With a preconditioner, which must be positive definite, the norm is that of its square root (Elman, Silvester & Wathen
    2014, algorithm 4.1).
    """
    x, iterations = found.x.clone(), found.iterations.clone()
    which = (found.negative_curvature & torch.isfinite(right).all(dim=1)).nonzero()[:, 0]
    part = tolerance * SAFETY * (1.0 if precondition is None else IN_ITS_NORM)
    x[which], iterations[which] = _solved(product, right[which], which, part, most, precondition)
    return replace(found, x=x, residual=relative_residual(product, x, right), iterations=iterations)


@dataclass(frozen=True)
class _State:
    """Of the systems still under way, [k, P] or [k, 1]: the last two Lanczos vectors v (before M⁻¹), the last z = M⁻¹v, the last
    two search directions w, the last two norms γ and Givens rotations (c, s), and the residual norm η with its sign.
    """

    v_before: Tensor
    v: Tensor
    z: Tensor
    w_before: Tensor
    w: Tensor
    gamma_before: Tensor
    gamma: Tensor
    c_before: Tensor
    c: Tensor
    s_before: Tensor
    s: Tensor
    eta: Tensor

    def only(self, chosen: Tensor) -> "_State":
        return _State(*(getattr(self, field.name)[chosen] for field in fields(self)))


def _solved(
    product: Product, right: Tensor, names: Tensor, part: float, most: int, precondition: Product | None
) -> tuple[Tensor, Tensor]:
    """x and iterations of the systems called `names`, until |η| ≤ part of what it began with."""
    x, left = torch.zeros_like(right), torch.arange(len(right), device=right.device)
    iterations = torch.zeros_like(left)
    z, none, one = preconditioned(precondition, right, names), torch.zeros_like(right), torch.ones_like(right[:, :1])
    gamma = (right * z).sum(dim=1, keepdim=True).sqrt()
    at = _State(none, right, z, none, none, one, gamma, one, one, 0 * one, 0 * one, gamma)
    goal = part * gamma
    for _ in range(most):
        going = (at.eta.abs() > goal[left])[:, 0]
        left, at = left[going], at.only(going)
        if not len(left):
            break
        at, step = _step(product, precondition, names[left], at)
        x[left] += step
        iterations[left] += 1
    return x, iterations


def _step(product: Product, precondition: Product | None, names: Tensor, at: _State) -> tuple[_State, Tensor]:
    """One Lanczos step, its rotation, and what it adds to x."""
    z = at.z / at.gamma
    image = product(z, names)
    delta = (image * z).sum(dim=1, keepdim=True)
    v = image - delta / at.gamma * at.v - at.gamma / at.gamma_before * at.v_before
    following = preconditioned(precondition, v, names)
    gamma = (v * following).sum(dim=1, keepdim=True).clamp(min=0).sqrt()
    turned = at.c * delta - at.c_before * at.s * at.gamma
    size = (turned.square() + gamma.square()).sqrt()
    c, s = turned / size, gamma / size
    w = (z - at.s_before * at.gamma * at.w_before - (at.s * delta + at.c_before * at.c * at.gamma) * at.w) / size
    after = _State(at.v, v, following, at.w, w, at.gamma, gamma, at.c, c, at.s, s, -s * at.eta)
    return after, c * at.eta * w
