"""Newton's method to a certified minimum, network by network: leaves saddles, ends with one step past the tolerance."""

import torch
from torch import Tensor

from study.compute.curvature import Spectrum, positive_definite, solve_definite
from study.compute.objective import Objective
from study.compute.quasi_newton import Minimised, line_search

CACHE_BYTES = 4_000_000  # of Hessians formed at once: more fall out of the caches
TOGETHER = 32  # networks at once, however small
NEAR_STATIONARY = 1e-5  # gradient norm below which negative curvature is followed rather than out-run
SHORT = 1e-5  # length of a Newton step behind which only rounding is left: the next one goes with its square
REACHES = 2.0 ** -torch.arange(0, 24, dtype=torch.float64)  # lengths tried along a direction of negative curvature


@torch.no_grad()
def minimise(objective: Objective, theta: Tensor, weights: Tensor, tolerance: float, iterations: int) -> Minimised:
    """From theta [B, P] to ‖∇J_w‖ ≤ tolerance without negative curvature, and then one more Newton step, a short one.

    Direction −H⁻¹∇J where H has no negative eigenvalue and −|H|⁻¹∇J (saddle-free; Dauphin et al. 2014) elsewhere, with
    Armijo's rule; close to a saddle the lowest point along the most negative curvature, both ways, is taken first. Where the
    last step was longer than SHORT, as along a curvature of 1e-9, the steps go on. A network that can descend no further
    stops where it is.
    """
    theta, count = theta.clone(), torch.zeros(len(theta), dtype=torch.int64)
    norms = objective.gradient(theta, weights)[1].norm(dim=1)
    active = torch.isfinite(norms).nonzero()[:, 0]
    for _ in range(iterations):
        if not len(active):
            break
        theta[active], norms[active], finished = _step(
            objective.networks(active), theta[active], weights[active], tolerance
        )
        count[active.cpu()] += 1
        active = active[~finished]
    return Minimised(theta, norms, count)


def together(theta: Tensor) -> int:
    """How many networks' Hessians to hold at once for a stack theta [B, P]."""
    return min(TOGETHER, max(1, CACHE_BYTES // (8 * theta.shape[1] ** 2)))


def _step(objective: Objective, theta: Tensor, weights: Tensor, tolerance: float) -> tuple[Tensor, Tensor, Tensor]:
    """One iteration on every network: new theta, its gradient norm, and whether it is finished."""
    loss, gradient = objective.gradient(theta, weights)
    minimum, direction = torch.zeros_like(loss, dtype=torch.bool), torch.empty_like(theta)
    for chosen in torch.arange(len(theta), device=theta.device).split(together(theta)):
        some = objective.networks(chosen)
        hessian = some.hessian(theta[chosen], weights[chosen])
        minimum[chosen], _ = positive_definite(hessian)
        direction[chosen] = -solve_definite(hessian, gradient[chosen])
        for b, matrix in zip(chosen[~minimum[chosen]].tolist(), hessian[~minimum[chosen]], strict=True):
            one, spectrum = slice(b, b + 1), Spectrum.of(matrix)
            if spectrum.values[0] > 0:  # flat, but a minimum: nothing keeps the step from being Newton's own
                minimum[b] = True
                continue
            if gradient[b].norm() <= NEAR_STATIONARY:
                theta[one] = escape(objective.networks(one), theta[one], weights[one], spectrum.vectors[:, 0])
                loss[one], gradient[one] = objective.networks(one).gradient(theta[one], weights[one])
            direction[b] = -spectrum.preconditioner() @ gradient[b]
    value, slope = loss + objective.penalty(theta), (direction * gradient).sum(dim=1)
    last = minimum & (gradient.norm(dim=1) <= tolerance) & (direction.norm(dim=1) <= SHORT)
    everyone = torch.ones_like(minimum)
    new, _, new_gradient, moved = line_search(objective, theta, weights, value, gradient, direction, slope, everyone)
    return new, new_gradient.norm(dim=1), last | ~moved


def escape(objective: Objective, theta: Tensor, weights: Tensor, direction: Tensor) -> Tensor:
    """The lowest of J_w at θ ± t v over a range of t, and at θ itself; theta [1, P], v [P]."""
    reaches = REACHES.to(theta)
    steps = torch.cat([torch.zeros(1).to(theta), reaches, -reaches])
    candidates = theta + steps[:, None] * direction
    many = weights.expand(len(candidates), -1)
    if objective.x.dim() == 3:
        objective = objective.networks(torch.zeros(len(candidates), dtype=torch.int64))
    return candidates[objective.value(candidates, many).nan_to_num(torch.inf).argmin()][None]
