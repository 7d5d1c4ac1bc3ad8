"""`stationary`: every leave-one-out at a stationary point of its own objective, reached from the null's."""

from collections.abc import Sequence

import torch

from study.compute import fitting, newton, quasi_newton
from study.compute.curvature import Spectrum
from study.compute.fitting import Job
from study.compute.protocols.retrained import Retrained
from study.specs import Stationary

QUASI_NEWTON_STEPS = 20  # stragglers are rare: Newton finishes them alone while the stack stands still


def retrain(jobs: Sequence[Job], settings: Stationary) -> list[Retrained]:
    """∇J₋ᵢ(θ₋ᵢ) = 0 to `tolerance`, then one more Newton step; a trial's removals are one stack.

    The null descends from θ*; the removals start at the null with its inverse Hessian as their BFGS start, so that their
    first step is the influence function's own prediction; Newton's method finishes and follows negative curvature down.
    """
    return [_retrain(job, settings.tolerance) for job in jobs]


def _retrain(job: Job, tolerance: float) -> Retrained:
    base, others = job.objective.networks(slice(0, 1)), job.objective.networks(slice(1, None))
    null_weights, weights = job.weights[:1], job.weights[1:]
    null = fitting.polish(base, job.theta[:1], null_weights, tolerance)
    inverse = Spectrum.of(base.hessian(null.theta, null_weights)[0]).preconditioner()
    start = null.theta.expand(len(weights), -1)
    near = quasi_newton.minimise(others, start, weights, tolerance, QUASI_NEWTON_STEPS, inverse)
    end = newton.minimise(others, near.theta, weights, tolerance, fitting.NEWTON_STEPS)
    return Retrained(torch.cat([null.theta, end.theta]), torch.cat([null.iterations, near.iterations + end.iterations]))
