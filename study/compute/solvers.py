"""Linear solves with a matrix that is known by its products only, many right-hand sides at once, each with its evidence."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

SLACK = 10  # times the tolerance: rounding keeps the true residual a little above the one that stops the iteration
Product = Callable[[Tensor, Tensor], Tensor]  # of directions [k, P] and which of the K systems they belong to [k]


@dataclass(frozen=True)
class Solution:
    """x [K, P] with, per right-hand side [K]: ‖b − Ax‖/‖b‖ computed anew at the end, iterations, negative curvature met."""

    x: Tensor
    residual: Tensor
    iterations: Tensor
    negative_curvature: Tensor

    def evidence(self) -> dict[str, int]:
        """The most iterations of any system, and how many met negative curvature."""
        return {
            "iterations": int(self.iterations.max()),
            "negative_curvature_met": int(self.negative_curvature.sum()),
        }

    def flags(self, tolerance: float) -> list[str]:
        """negative_curvature; unconverged."""
        unconverged = bool((self.residual > SLACK * tolerance).any() | self.residual.isnan().any())
        return ["negative_curvature"] * bool(self.negative_curvature.any()) + ["unconverged"] * unconverged


def joined(parts: Sequence[Solution]) -> Solution:
    """The solutions of parts of the right-hand sides, in order."""
    return Solution(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Solution)))


@torch.no_grad()
def conjugate_gradients(
    product: Product, right: Tensor, tolerance: float, most: int, precondition: Product | None = None
) -> Solution:
    """Solve A_k x_k = b_k for the rows b_k of `right` [K, P] to ‖r‖ ≤ tolerance ‖b‖ (Hestenes & Stiefel 1952).

    Systems leave the stack as they converge. Where a direction p of negative curvature, pᵀAp ≤ 0, is met, the system has no
    minimum to go to: x stays at the last iterate before it (Steihaug 1983), and the solution says so.
    """
    x, rest, left = torch.zeros_like(right), right.clone(), torch.arange(len(right), device=right.device)
    iterations = torch.zeros(len(right), dtype=torch.int64, device=right.device)
    negative = torch.zeros(len(right), dtype=torch.bool, device=right.device)
    goal = tolerance * right.norm(dim=1)
    left = left[rest.norm(dim=1) > goal]
    prepared = preconditioned(precondition, rest[left], left)
    direction, size = prepared, (rest[left] * prepared).sum(dim=1)
    for _ in range(most):
        if not len(left):
            break
        image = product(direction, left)
        bend = (direction * image).sum(dim=1)
        upward = bend > 0  # NaN is not
        negative[left[~upward]] = True
        left, direction, image, size, bend = (part[upward] for part in (left, direction, image, size, bend))
        step = (size / bend)[:, None]
        x[left] += step * direction
        rest[left] -= step * image
        iterations[left] += 1
        going = rest[left].norm(dim=1) > goal[left]
        left, direction, size = left[going], direction[going], size[going]
        prepared = preconditioned(precondition, rest[left], left)
        following = (rest[left] * prepared).sum(dim=1)
        direction, size = prepared + (following / size)[:, None] * direction, following
    return Solution(x, relative_residual(product, x, right), iterations, negative)


def relative_residual(product: Product, x: Tensor, right: Tensor) -> Tensor:
    """‖b − Ax‖/‖b‖ [K], 0 where b = 0 and x = 0."""
    every = torch.arange(len(right), device=right.device)
    rest, size = (right - product(x, every)).norm(dim=1), right.norm(dim=1)
    return torch.where(rest == 0, 0.0, rest / size)


def preconditioned(precondition: Product | None, rest: Tensor, which: Tensor) -> Tensor:
    """M⁻¹r, or r without a preconditioner."""
    return rest if precondition is None else precondition(rest, which)
