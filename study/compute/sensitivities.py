"""Forward sensitivities: how the end of a training run, exactly as it is run, moves with the weights of its rows."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from study.compute import optimizers, training
from study.compute.problems import Problem
from study.compute.training import Stack, Step


@dataclass(frozen=True)
class Sensitivities:
    """end: θ_T [P]; change: dθ_T along each of the K directions of weights, [K, P]."""

    end: Tensor
    change: Tensor


@torch.no_grad()
def forward(problem: Problem, start: Tensor, directions: Tensor, steps: int, stage: int) -> Sensitivities:
    """dθ_T/ds at s = 0 of training with weights w + s·Δw for the rows Δw of `directions` [K, n], from `start` [P].

    Tangents are carried along with the run: dg = ∇²J_w(θ)dθ + Σ_j Δw_j ∇L(z_j, θ), then through the optimiser's own update.
    A plateau schedule keeps the rates that it had. Everything is float64, whatever the run was in.
    """
    settings, theta = problem.settings.training, start[None].clone()
    change = torch.zeros(1, len(directions), len(start), dtype=theta.dtype, device=theta.device)
    tangents = _AdamTangents(change) if settings.optimizer == "adam" else _SgdTangents(change)
    for step in training.run(Stack.of_one(problem), theta, settings, steps, stage):
        along = _curvature_times(change, step, theta)
        along += _weighted(directions, step) @ step.objective.row_gradients(theta)
        tangents.update(change, step, along)
    return Sensitivities(theta[0], change[0])


def _curvature_times(change: Tensor, step: Step, theta: Tensor) -> Tensor:
    """∇²J_w(θ) times every tangent: by the matrix where it has fewer rows than there are tangents."""
    if theta.shape[1] <= change.shape[1]:
        return change @ step.objective.hessian(theta, step.weights)
    return step.objective.hessian_products(theta, step.weights)(change)


def _weighted(directions: Tensor, step: Step) -> Tensor:
    """Δw [K, rows of the step]."""
    if step.rows is None:
        return directions
    return training.of_batch(directions, step.rows.expand(len(directions), -1))


class _AdamTangents:
    """Of Adam's moments [1, K, P]; called before the optimiser's own update."""

    def __init__(self, change: Tensor):
        self.mean, self.square = torch.zeros_like(change), torch.zeros_like(change)

    def update(self, change: Tensor, step: Step, along: Tensor) -> None:
        """dm ← β₁dm + (1 − β₁)dg, dv ← β₂dv + 2(1 − β₂)g·dg, dθ ← dθ − rate·d[(m/c₁)/(√v/√c₂ + 1e-8)]."""
        adam = step.optimizer
        assert isinstance(adam, optimizers.Adam)
        gradient = step.gradient[:, None]
        mean = adam.first * adam.mean[:, None] + (1 - adam.first) * gradient
        square = adam.second * adam.square[:, None] + (1 - adam.second) * gradient.square()
        self.mean = adam.first * self.mean + (1 - adam.first) * along
        self.square = adam.second * self.square + 2 * (1 - adam.second) * gradient * along
        correction = math.sqrt(1 - adam.second**step.number)
        root = square.sqrt()
        scale = root / correction + adam.floor
        # where no gradient was ever seen, v = 0 and stays so to first order
        moved = torch.where(root > 0, self.square / (2 * root * correction), 0.0)
        rate = step.rate[:, None] / (1 - adam.first**step.number)
        change -= rate * (self.mean / scale - mean * moved / scale.square())


class _SgdTangents:
    """Of the velocity [1, K, P]."""

    def __init__(self, change: Tensor):
        self.velocity = torch.zeros_like(change)

    def update(self, change: Tensor, step: Step, along: Tensor) -> None:
        """du ← μ du + dg, dθ ← dθ − rate·du."""
        sgd = step.optimizer
        assert isinstance(sgd, optimizers.Sgd)
        self.velocity = sgd.momentum * self.velocity + along
        change -= step.rate[:, None] * self.velocity
