"""`linearised_pbrf`: the quadratic that the proximal Bregman response is near θ* (Bae et al. 2022, equation 13)."""

from collections.abc import Sequence

import torch

from study.compute.fitting import Job
from study.compute.protocols.retrained import Retrained
from study.specs import LinearisedPbrf


def retrain(jobs: Sequence[Job], settings: LinearisedPbrf) -> list[Retrained]:
    """θ* − (G + λI + dI)⁻¹ Σ_j Δw_j ∇L(z_j, θ*), with the Gauss-Newton matrix G at θ* and d = `damping`: no descent is needed."""
    return [_retrain(job, settings) for job in jobs]


def _retrain(job: Job, settings: LinearisedPbrf) -> Retrained:
    objective, theta, null = job.objective, job.theta[:1], job.weights[:1]
    matrix = objective.hessian(theta, null, gauss_newton=True)[0]
    matrix.diagonal().add_(settings.damping)
    change = (job.weights - null) @ objective.row_gradients(theta)[0]
    moved = torch.linalg.solve_ex(matrix, change.T)[0].T
    return Retrained(theta - moved, torch.zeros(len(job.weights), dtype=torch.int64))
