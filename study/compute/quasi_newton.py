"""Limited-memory BFGS on a whole stack, every network with its own line search; converged networks stand still."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from study.compute.objective import Objective

MEMORY = 12
SUFFICIENT = 1e-4  # Armijo's constant
HALVINGS = 25


@dataclass(frozen=True)
class Minimised:
    """Where a stack ended. theta [B, P]; gradient_norm [B]; iterations [B].

    Iterations count to the tolerance, the limit, or the line search that failed.
    """

    theta: Tensor
    gradient_norm: Tensor
    iterations: Tensor

    @classmethod
    def joined(cls, parts: Sequence["Minimised"]) -> "Minimised":
        """Stacks that were minimised one after another as one stack."""
        return cls(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(cls)))


@torch.no_grad()
def minimise(
    objective: Objective,
    theta: Tensor,
    weights: Tensor,
    tolerance: float,
    iterations: int,
    inverse: Tensor | None = None,
    patience: int | None = None,
) -> Minimised:
    """Descend J_w from theta [B, P] until ‖∇J_w‖ ≤ tolerance, network by network.

    patience: steps without a fall of J that its dtype resolves after which a network stops as well; None for no such end.

    inverse: an approximate inverse Hessian [P, P] shared by the stack, the start of every network's BFGS matrix (Nocedal &
    Wright 2006, algorithm 7.4); without it the start is sᵀy/yᵀy times the identity. A network whose line search fails stops
    where it is: its gradient norm says so.
    """
    value, gradient = _evaluate(objective, theta, weights)
    active = gradient.norm(dim=1) > tolerance
    count = torch.zeros(len(theta), dtype=torch.int64)
    waited = torch.zeros_like(value)
    memory: list[tuple[Tensor, Tensor, Tensor]] = []
    for _ in range(iterations):
        if not active.any():
            break
        direction = _direction(gradient, memory, inverse)
        slope = (direction * gradient).sum(dim=1)
        uphill = ~(slope < 0)
        direction = torch.where(uphill[:, None], -gradient, direction)
        slope = torch.where(uphill, -gradient.square().sum(dim=1), slope)
        if inverse is None and not memory:  # the first step of plain L-BFGS: at most unit length
            direction, slope = (
                t / gradient.norm(dim=1).clamp(min=1).view(-1, *[1] * (t.dim() - 1)) for t in (direction, slope)
            )
        new, new_value, new_gradient, moved = line_search(
            objective, theta, weights, value, gradient, direction, slope, active
        )
        step, change = new - theta, new_gradient - gradient
        curvature = (step * change).sum(dim=1)
        usable = moved & (curvature > 1e-10 * step.norm(dim=1) * change.norm(dim=1))
        memory = [*memory[-(MEMORY - 1) :], (step, change, torch.where(usable, 1 / curvature, 0.0))]
        fallen = new_value < value
        theta, value, gradient = new, new_value, new_gradient
        count += active.cpu()
        active = moved & (gradient.norm(dim=1) > tolerance)
        if patience is not None:
            waited = torch.where(fallen, 0.0, waited + 1)
            active &= waited < patience
    return Minimised(theta, gradient.norm(dim=1), count)


def line_search(
    objective: Objective,
    theta: Tensor,
    weights: Tensor,
    value: Tensor,
    gradient: Tensor,
    direction: Tensor,
    slope: Tensor,
    active: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Halve the step until J falls by Armijo's rule, or, where J no longer resolves it, until ‖∇J‖ falls.

    Returns theta, value, gradient and whether each network moved. Inactive networks keep theirs to the last bit; only those
    that still search are evaluated.
    """
    best = theta.clone(), value.clone(), gradient.clone()
    pending, length = active.nonzero()[:, 0], 1.0
    flat = 1e-13 * (1 + value.abs())  # differences of J below this are rounding
    moved = torch.zeros_like(active)
    for _ in range(HALVINGS):
        if not len(pending):
            break
        start = value[pending]
        trial = theta[pending] + length * direction[pending]
        trial_value, trial_gradient = _evaluate(objective.networks(pending), trial, weights[pending])
        armijo = trial_value <= start + SUFFICIENT * length * slope[pending]
        falls = trial_gradient.norm(dim=1) < gradient[pending].norm(dim=1)
        accept = (armijo | ((trial_value <= start + flat[pending]) & falls)) & torch.isfinite(trial_value)
        for old, new in zip(best, (trial, trial_value, trial_gradient), strict=True):
            old[pending[accept]] = new[accept]
        moved[pending[accept]] = True
        pending, length = pending[~accept], 0.5 * length
    return *best, moved


def _evaluate(objective: Objective, theta: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    loss, gradient = objective.gradient(theta, weights)
    return loss + objective.penalty(theta), gradient


def _direction(gradient: Tensor, memory: list[tuple[Tensor, Tensor, Tensor]], inverse: Tensor | None) -> Tensor:
    """−H̃⁻¹g by the two-loop recursion; pairs with ρ = 0 leave their network's matrix unchanged."""
    q, parts = gradient.clone(), []
    for step, change, rho in reversed(memory):
        part = rho * (step * q).sum(dim=1)
        q -= part[:, None] * change
        parts.append(part)
    if inverse is not None:
        q = q @ inverse
    elif memory:
        step, change, rho = memory[-1]
        scale = torch.where(rho > 0, 1 / (rho * change.square().sum(dim=1)), 1.0)
        q *= scale[:, None]
    for (step, change, rho), part in zip(memory, reversed(parts), strict=True):
        q += (part - rho * (change * q).sum(dim=1))[:, None] * step
    return -q
