"""From one network to the minimum of every leave-one-out objective: what all protocols that certify have in common."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from study.compute import convex, fitting, newton, preconditioned, quasi_newton
from study.compute.curvature import Spectrum
from study.compute.objective import Objective
from study.compute.protocols.retrained import Retrained

QUASI_NEWTON_STEPS = 20  # stragglers are rare: Newton finishes them alone while the stack stands still
LARGE = 512  # parameters from where one Hessian costs more than a hundred gradients
PATIENT_STEPS = 200  # quasi-Newton steps then


def leave_one_out(
    objective: Objective,
    start: Tensor,
    weights: Tensor,
    tolerance: float,
    factor: Callable[[], Tensor | None] | None = None,
) -> Retrained:
    """Minima of J_w for the weights [R + 1, n], the null's first, which descends from `start` [1, P].

    The removals start at the null with its inverse Hessian as their BFGS start, so that their first step is the influence
    function's own prediction; Newton's method finishes and follows negative curvature down. Networks too large for a Hessian each
    share one factor instead (`preconditioned`). A convex objective needs one
    factor, that of its own Hessian near `start`, and no other Hessian.
    """
    if convex.applies(objective, weights):
        return _convex(objective, start, weights, tolerance, factor)
    base, others = objective.networks(slice(0, 1)), objective.networks(slice(1, None))
    null = fitting.polish(base, start, weights[:1], tolerance)
    if preconditioned.applies(objective) and preconditioned.certifiable(objective):
        shared = preconditioned.factor(base, null.theta, weights[:1])
        end = preconditioned.from_null(others, null.theta, weights[1:], shared, tolerance)
        return Retrained(torch.cat([null.theta, end.theta]), torch.cat([null.iterations, end.iterations]))
    inverse = Spectrum.of(base.hessian(null.theta, weights[:1])[0]).preconditioner()
    steps = PATIENT_STEPS if start.shape[1] > LARGE else QUASI_NEWTON_STEPS
    near = quasi_newton.minimise(
        others, null.theta.expand(len(weights) - 1, -1), weights[1:], tolerance, steps, inverse
    )
    end = newton.minimise(others, near.theta, weights[1:], tolerance, fitting.NEWTON_STEPS)
    theta = torch.cat([null.theta, end.theta])
    return Retrained(theta, torch.cat([null.iterations, near.iterations + end.iterations]))


def _convex(
    objective: Objective, start: Tensor, weights: Tensor, tolerance: float, factor: Callable[[], Tensor | None] | None
) -> Retrained:
    """factor: of the Hessian at `start`, where others need it, too."""
    base, others = objective.networks(slice(0, 1)), objective.networks(slice(1, None))
    null = convex.minimise(base, start, weights[:1], tolerance)
    root = None if factor is None else factor()
    if root is None:
        root, failed = torch.linalg.cholesky_ex(base.hessian(null.theta, weights[:1])[0])
        if failed:  # a network that diverged
            start = null.theta.expand(len(weights) - 1, -1)
            end = convex.minimise(others, start, weights[1:], tolerance)
            return Retrained(torch.cat([null.theta, end.theta]), torch.cat([null.iterations, end.iterations]))
    end = convex.from_null(others, null.theta, weights[1:], root, weights[:1], tolerance)
    return Retrained(torch.cat([null.theta, end.theta]), torch.cat([null.iterations, end.iterations]))


def of_another(objective: Objective, start: Tensor, weights: Tensor, tolerance: float) -> Retrained:
    """The same for an objective that is not the trial's own, which its certificates are then about."""
    return replace(leave_one_out(objective, start, weights, tolerance), objective=objective, weights=weights)
