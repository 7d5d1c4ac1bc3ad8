"""`pbrf`: the proximal Bregman response, the counterfactual that Gauss-Newton influence linearises (Bae et al. 2022)."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from study.compute.fitting import Job
from study.compute.objective import CLASSIFICATION, Objective
from study.compute.protocols import minima
from study.compute.protocols.retrained import Retrained
from study.specs import Pbrf


def retrain(jobs: Sequence[Job], settings: Pbrf) -> list[Retrained]:
    """argmin (1/n) Σ_j D_L(f(x_j, θ), f(x_j, θ*)) − (1/n) L(z_i, θ) + (δ/2)‖θ − θ*‖² with δ = λ + `damping`, to a certificate.

    D_L(f, f*) = L(f, y) − L(f*, y) − ∂_fL(f*, y)ᵀ(f − f*) is, but for a constant, the loss with the trained network's own
    outputs as targets: class probabilities for the cross-entropy, f* for the squared error. The null stays at θ*.
    """
    return [_retrain(job, settings) for job in jobs]


def _retrain(job: Job, settings: Pbrf) -> Retrained:
    objective, weights = response(job, settings.damping)
    return minima.of_another(objective, job.theta[:1], weights, settings.tolerance)


def response(job: Job, damping: float) -> tuple[Objective, Tensor]:
    """The objective and its weights [R + 1, 2n]: every row with its soft target, then with its own, which only removal weighs."""
    own, theta = job.objective, job.theta[:1]
    outputs = own.network.outputs(theta, own.x)[0]
    soft = torch.softmax(outputs, dim=1) if own.task == CLASSIFICATION else outputs
    doubled = replace(
        own, x=torch.cat([own.x, own.x]), y=torch.cat([soft, own.y]), decay=own.decay + damping, centre=theta[0]
    )
    null = job.weights[:1].expand(len(job.weights), -1)
    return doubled, torch.cat([null, job.weights - null], dim=1)
