"""From one network to the minimum of every leave-one-out objective: what all protocols that certify have in common."""

from dataclasses import replace

import torch
from torch import Tensor

from study.compute import fitting, newton, quasi_newton
from study.compute.curvature import Spectrum
from study.compute.objective import Objective
from study.compute.protocols.retrained import Retrained

QUASI_NEWTON_STEPS = 20  # stragglers are rare: Newton finishes them alone while the stack stands still
LARGE = 512  # parameters from where one Hessian costs more than a hundred gradients
PATIENT_STEPS = 200  # quasi-Newton steps then


def leave_one_out(objective: Objective, start: Tensor, weights: Tensor, tolerance: float) -> Retrained:
    """Minima of J_w for the weights [R + 1, n], the null's first, which descends from `start` [1, P].

    The removals start at the null with its inverse Hessian as their BFGS start, so that their first step is the influence
    function's own prediction; Newton's method finishes and follows negative curvature down.
    """
    base, others = objective.networks(slice(0, 1)), objective.networks(slice(1, None))
    null = fitting.polish(base, start, weights[:1], tolerance)
    inverse = Spectrum.of(base.hessian(null.theta, weights[:1])[0]).preconditioner()
    steps = PATIENT_STEPS if start.shape[1] > LARGE else QUASI_NEWTON_STEPS
    near = quasi_newton.minimise(
        others, null.theta.expand(len(weights) - 1, -1), weights[1:], tolerance, steps, inverse
    )
    end = newton.minimise(others, near.theta, weights[1:], tolerance, fitting.NEWTON_STEPS)
    theta = torch.cat([null.theta, end.theta])
    return Retrained(theta, torch.cat([null.iterations, near.iterations + end.iterations]))


def of_another(objective: Objective, start: Tensor, weights: Tensor, tolerance: float) -> Retrained:
    """The same for an objective that is not the trial's own, which its certificates are then about."""
    return replace(leave_one_out(objective, start, weights, tolerance), objective=objective, weights=weights)
