"""The evidence that a retrained network is what it claims to be; the same for every protocol."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from study.compute import convex, preconditioned
from study.compute.curvature import curvature_floor, positive_definite, solve_definite
from study.compute.newton import together
from study.compute.objective import Objective, Target

DELTA_TOLERANCE = 1e-8
SEGMENT_POINTS, SEGMENT_TOLERANCE = 21, 1e-6
ROWS = 512  # whose gradients are held at once
FEW_POINTS = 5  # of a segment where each is a pass over many rows
FAR = 10.0  # times the predicted parameter change


@dataclass(frozen=True)
class Certificate:
    """Evidence for B networks; delta_error is [B, T], everything else [B].

    gradient_norm ‖∇J_w(θ)‖; positive_definite: H − μI has a Cholesky factor with μ = curvature_shift; delta_error
    |∇L_tᵀH⁻¹∇J_w(θ)|, the first-order error of the test quantity; certified: all three within their bounds;
    segment_excess: how far J_w rises above both ends on the segment from the null, at 21 points.

    Of a linear model under a penalty J_w is strongly convex, so that bounds are proven without a Hessian: λ_min ≥ λ ≥ μ for a μ
    from a bound of λ_max; delta_error is the bound ‖∇L_t‖‖∇J_w‖/λ; nothing rises on a segment (0), and there is one basin.

    Of networks that are too many or too large for a Hessian each, with the factor C of the null's curvature that they share and
    M = C⁻¹∇²J_wC⁻ᵀ: λ_min(M) from below and λ_max(M) from above by Lanczos, but for a stated probability (`Lanczos.bounds`);
    positive_definite: λ_min(M)λ_min(CCᵀ) ≥ μ; delta_error: the bound ‖C⁻¹∇L_t‖‖C⁻¹∇J_w‖/λ_min(M); 5 points on the segment. Where
    the gradient norm is above the tolerance, so that nothing could be certified, curvature is not looked at (NaN).
    """

    gradient_norm: np.ndarray
    positive_definite: np.ndarray
    curvature_shift: np.ndarray
    delta_error: np.ndarray
    certified: np.ndarray
    segment_excess: np.ndarray
    another_basin: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


@torch.no_grad()
def certify(objective: Objective, theta: Tensor, weights: Tensor, target: Target, tolerance: float) -> Certificate:
    """Certificates of a stack theta [B, P] whose first network is the null, all in theta's dtype (float64).

    objective: with the networks' own rows [B, n, d] where they differ in these. Another basin: ‖θ − θ_null‖ over ten times the
    first-order ‖H_null⁻¹(∇J_w − ∇J_null)(θ_null)‖, or segment_excess > 1e-6.
    """
    if convex.applies(objective, weights):
        return _proven(objective, theta, weights, target, tolerance)
    if preconditioned.applies(objective) and objective.x.dim() == 2:
        return _by_shared_factor(objective, theta, weights, target, tolerance)
    gradient = objective.gradient(theta, weights)[1]
    is_definite, shift, solution = _curvature(objective, theta, weights, gradient)
    delta_error = target.along(theta, solution).abs()
    norm = gradient.norm(dim=1)
    excess = _segment_excess(objective, theta, weights, SEGMENT_POINTS)
    far = (theta - theta[:1]).norm(dim=1) > FAR * _predicted_norm(objective, theta[:1], weights)
    certified = (norm <= tolerance) & is_definite & (delta_error <= DELTA_TOLERANCE).all(dim=1)
    another = (far | (excess > SEGMENT_TOLERANCE)) & (torch.arange(len(theta), device=theta.device) > 0)
    found = (norm, is_definite, shift, delta_error, certified, excess, another)
    return Certificate(*(tensor.cpu().numpy() for tensor in found))


def worst(found: Sequence[Certificate]) -> Certificate:
    """Network by network the worst of several replicas: the largest number, NaN before all; certified only where all are."""
    if len(found) == 1:
        return found[0]
    parts = [np.stack([getattr(one, field.name) for one in found]) for field in fields(Certificate)]
    held = [field.name in ("positive_definite", "certified") for field in fields(Certificate)]
    return Certificate(*(np.all(part, 0) if all_of else part.max(0) for part, all_of in zip(parts, held, strict=True)))


def _proven(objective: Objective, theta: Tensor, weights: Tensor, target: Target, tolerance: float) -> Certificate:
    """Of a strongly convex objective, from its bounds; NaN parameters prove nothing."""
    norm = objective.gradient(theta, weights)[1].norm(dim=1)
    smallest, largest = convex.bounds(objective, weights)
    shift = curvature_floor(largest)
    definite = (smallest >= shift) & torch.isfinite(norm)
    delta_error = convex.gradient_norms(target, theta) * (norm / smallest)[:, None]
    certified = (norm <= tolerance) & definite & (delta_error <= DELTA_TOLERANCE).all(dim=1)
    nowhere = torch.zeros_like(definite)
    found = (norm, definite, shift, delta_error, certified, torch.where(torch.isfinite(norm), 0.0, torch.nan), nowhere)
    return Certificate(*(tensor.cpu().numpy() for tensor in found))


def _by_shared_factor(
    objective: Objective, theta: Tensor, weights: Tensor, target: Target, tolerance: float
) -> Certificate:
    """Of networks without a Hessian each; see Certificate."""
    gradient = objective.gradient(theta, weights)[1]
    norm, (networks, points) = gradient.norm(dim=1), (len(theta), len(target.x))
    low, shift, distance = (torch.full_like(norm, torch.nan) for _ in range(3))
    definite, delta_error = torch.zeros_like(norm, dtype=torch.bool), norm.new_full((networks, points), torch.nan)
    near = (norm <= tolerance).nonzero()[:, 0]
    if len(near) and near[0] == 0 and preconditioned.certifiable(objective):
        shared = preconditioned.factor(objective.networks(slice(0, 1)), theta[:1], weights[:1])
        low[near], high = preconditioned.eigenvalue_bounds(objective.networks(near), theta[near], weights[near], shared)
        smallest, largest = shared.extremes()
        shift[near] = curvature_floor(high * largest)
        definite = low * smallest >= shift
        for b in near[low[near] > 0].tolist():
            slopes = shared.whitened(target.gradients(theta[b])).norm(dim=1)
            delta_error[b] = slopes * shared.whitened(gradient[b : b + 1]).norm() / low[b]
        distance = shared.solve(_removed_gradients(objective, theta[:1], weights)).norm(dim=1)
    excess = _segment_excess(objective, theta, weights, FEW_POINTS)
    far = (theta - theta[:1]).norm(dim=1) > FAR * distance
    certified = (norm <= tolerance) & definite & (delta_error <= DELTA_TOLERANCE).all(dim=1)
    another = (far | (excess > SEGMENT_TOLERANCE)) & (torch.arange(networks, device=theta.device) > 0)
    found = (norm, definite, shift, delta_error, certified, excess, another)
    return Certificate(*(tensor.cpu().numpy() for tensor in found))


def _removed_gradients(objective: Objective, null: Tensor, weights: Tensor) -> Tensor:
    """(∇J_w − ∇J_null)(θ_null) [B, P], from the rows whose weights differ."""
    change = weights - weights[:1]
    found = torch.zeros(len(weights), null.shape[1], dtype=null.dtype, device=null.device)
    for rows in change.any(dim=0).nonzero()[:, 0].split(ROWS):
        found += change[:, rows] @ replace(objective, x=objective.x[rows], y=objective.y[rows]).row_gradients(null)[0]
    return found


def _curvature(objective: Objective, theta: Tensor, weights: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Positive definite or not, with which shift [B], and H⁻¹∇J [B, P]: not, and NaN, where no Hessian is formed."""
    if not objective.network.forms(objective.rows):
        unknown = torch.full_like(gradient[:, 0], torch.nan)
        return torch.zeros_like(unknown, dtype=torch.bool), unknown, torch.full_like(gradient, torch.nan)
    definite, shift, solution = [], [], []
    for chosen in torch.arange(len(theta), device=theta.device).split(together(theta)):
        hessian = objective.networks(chosen).hessian(theta[chosen], weights[chosen])
        one_definite, one_shift = positive_definite(hessian)
        definite.append(one_definite)
        shift.append(one_shift)
        solution.append(solve_definite(hessian, gradient[chosen]))
    return torch.cat(definite), torch.cat(shift), torch.cat(solution)


def _predicted_norm(objective: Objective, null: Tensor, weights: Tensor) -> Tensor:
    """‖H_null⁻¹(∇J_w − ∇J_null)(θ_null)‖ for every network, [B]; NaN where no Hessian is formed."""
    if not objective.network.forms(objective.rows):
        return torch.full_like(weights[:, 0], torch.nan)
    gradients = objective.gradient(null.expand(len(weights), -1), weights)[1]
    hessian = objective.networks(slice(0, 1)).hessian(null, weights[:1])
    return torch.linalg.solve_ex(hessian[0], (gradients - gradients[:1]).T)[0].norm(dim=0)


def _segment_excess(objective: Objective, theta: Tensor, weights: Tensor, points: int) -> Tensor:
    ends = torch.maximum(objective.value(theta[:1].expand_as(theta), weights), objective.value(theta, weights))
    excess = torch.full_like(ends, -torch.inf)
    for s in torch.linspace(0, 1, points).tolist()[1:-1]:
        along = objective.value(theta[:1] + s * (theta - theta[:1]), weights) - ends
        excess = torch.where(along > excess, along, excess)
    return torch.where(torch.isfinite(theta).all(dim=1), excess, torch.nan)
