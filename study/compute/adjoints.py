"""Reverse mode through a training run, exactly as it is run: how what depends on its end moves with the weights of its rows."""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from study.compute import optimizers, training
from study.compute.objective import Objective
from study.compute.problems import Problem
from study.compute.training import Stack, Step

TOGETHER = 16_384  # rows times functions that go through the network together


@dataclass(frozen=True)
class Adjoints:
    """end: θ_T [P]; slopes: of each of K functions of θ_T in the weight of every row, [n, K]."""

    end: Tensor
    slopes: Tensor


@dataclass(frozen=True)
class _Checkpoint:
    """The run just before step `number`: theta [1, P] and the optimiser's state."""

    number: int
    theta: Tensor
    optimizer: optimizers.Adam | optimizers.Sgd


@torch.no_grad()
def backward(problem: Problem, start: Tensor, gradients: Callable[[Tensor], Tensor], steps: int, stage: int) -> Adjoints:
    """∂F_k(θ_T)/∂w_i for the functions F_k whose gradients at the end [K, P] `gradients` gives, from `start` [P].

    Adjoints go back through the optimiser's own update: with ḡ that of a step's gradient, θ̄ ← θ̄ + ∇²J_w(θ)ḡ, and row j gets
    ḡ·∇L(z_j, θ) (Maclaurin et al. 2015). It holds K adjoints where `sensitivities.forward` holds a tangent for every row. The
    run is kept at every √steps-th step and run again from there (Griewank 1992): memory for 2√steps states, twice the time.
    A plateau schedule keeps the rates that it had. Everything is float64, whatever the run was in.
    """
    settings, theta = problem.settings.training, start[None].clone()
    length, rates, checkpoints = math.isqrt(steps - 1) + 1, list[Tensor](), list[_Checkpoint]()
    rows = list[Tensor | None]()
    for step in training.run(Stack.of_one(problem), theta, settings, steps, stage):
        if (step.number - 1) % length == 0:
            checkpoints.append(_Checkpoint(step.number, theta.clone(), copy.deepcopy(step.optimizer)))
        rates.append(step.rate.clone())
        rows.append(step.rows)
    with torch.enable_grad():
        adjoint = gradients(theta[0])
    backwards = _AdamAdjoints(adjoint) if settings.optimizer == "adam" else _SgdAdjoints(adjoint)
    slopes = adjoint.new_zeros(len(adjoint), problem.objective.rows)
    while checkpoints:
        point = checkpoints.pop()
        last = min(point.number + length, steps + 1)
        for before, step in reversed(list(_again(problem, point, rates[: last - 1], rows))):
            along = backwards.through(step)
            _count(slopes, step, before, along)
            backwards.theta += step.objective.hessian_products(before, step.weights)(along[None])[0]
    return Adjoints(theta[0], slopes.T)


def _again(
    problem: Problem, point: _Checkpoint, rates: list[Tensor], drawn: list[Tensor | None]
) -> Iterator[tuple[Tensor, Step]]:
    """The steps from a checkpoint on, as they were: θ [1, P] before each, and the step with the optimiser before it."""
    theta, optimizer = point.theta.clone(), point.optimizer
    for number in range(point.number, len(rates) + 1):
        objective, weights, rows = problem.objective, problem.weights, drawn[number - 1]
        if rows is not None:
            objective, weights = objective.batch(rows), training.of_batch(weights, rows)
        gradient, rate = objective.gradient(theta, weights)[1], rates[number - 1]
        before = theta.clone()
        yield before, Step(number, objective, weights, rows, gradient.clone(), rate, copy.deepcopy(optimizer))
        optimizer.update(theta, gradient, rate, number)


def _count(slopes: Tensor, step: Step, theta: Tensor, along: Tensor) -> None:
    """Adds ḡ_k·∇L(z_j, θ) of the step's rows j to `slopes` [K, n]: one pass forward along ḡ, no gradient of any row."""
    objective = step.objective
    for chosen in torch.arange(len(along), device=along.device).split(max(1, TOGETHER // objective.rows)):
        own = _row_slopes(objective, theta, along[chosen])
        if step.rows is None:
            slopes[chosen] += own
        else:
            share = slopes.shape[1] / step.rows.shape[1]  # a row's weight counts as `training.of_batch` says
            slopes[chosen] = slopes[chosen].index_add(1, step.rows[0], share * own)


def _row_slopes(objective: Objective, theta: Tensor, along: Tensor) -> Tensor:
    """∇L(z_j, θ)·u for the rows u of `along` [K, P], as [K, rows]."""
    x, y = (part[0] if part.dim() == 3 else part for part in (objective.x, objective.y))
    alike = Objective(objective.network, objective.task, x, y, objective.decay)
    return torch.func.jvp(alike.row_losses, (theta.repeat(len(along), 1),), (along,))[1]


class _SgdAdjoints:
    """Of θ and of the velocity, [K, P]."""

    def __init__(self, theta: Tensor):
        self.theta, self.velocity = theta.clone(), torch.zeros_like(theta)

    def through(self, step: Step) -> Tensor:
        """Back through u' = μu + g, θ' = θ − rate·u': the adjoint of g. What g owes θ is the caller's to add."""
        assert isinstance(step.optimizer, optimizers.Sgd)
        along = self.velocity - step.rate * self.theta
        self.velocity = step.optimizer.momentum * along
        return along


class _AdamAdjoints:
    """Of θ and of the moments, [K, P]."""

    def __init__(self, theta: Tensor):
        self.theta, self.mean, self.square = theta.clone(), torch.zeros_like(theta), torch.zeros_like(theta)

    def through(self, step: Step) -> Tensor:
        """Back through m' = β₁m + (1 − β₁)g, v' = β₂v + (1 − β₂)g², θ' = θ − rate (m'/c₁)/(√v'/√c₂ + 1e-8): that of g."""
        adam, gradient = step.optimizer, step.gradient
        assert isinstance(adam, optimizers.Adam)
        mean = adam.first * adam.mean + (1 - adam.first) * gradient
        square = adam.second * adam.square + (1 - adam.second) * gradient.square()
        correction = math.sqrt(1 - adam.second**step.number)
        root = square.sqrt()
        scale = root / correction + adam.floor
        rate = step.rate / (1 - adam.first**step.number)
        self.mean -= self.theta * (rate / scale)
        # where no gradient was ever seen, v = 0 and stays so to first order
        bend = torch.where(root > 0, rate * mean / (2 * root * correction * scale.square()), 0.0)
        self.square += self.theta * bend
        along = (1 - adam.first) * self.mean + 2 * (1 - adam.second) * gradient * self.square
        self.mean, self.square = adam.first * self.mean, adam.second * self.square
        return along
