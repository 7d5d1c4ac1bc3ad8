"""Training a stack: the one loop behind the base networks, `warm` and `cold`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from study.compute import batches, descent, optimizers, quasi_newton
from study.compute.objective import Objective
from study.compute.problems import Problem
from study.specs import Training

CHUNK_BYTES = 400_000  # parameters of one chunk: optimiser state and gradients then stay in a core's second-level cache
PATIENCE = 10  # steps of L-BFGS without a fall of the objective: in float32 they would go on at the minimum for ever


@dataclass(frozen=True)
class Stack:
    """Networks trained together. objective: for the B networks; weights [B, n]; rates [B, 1] learning rates; seeds: B of them.

    fixed: positions of the parameters that do not move, None where all do.
    """

    objective: Objective
    weights: Tensor
    rates: Tensor
    seeds: list[int]
    fixed: Tensor | None = None

    @classmethod
    def of_one(cls, problem: Problem) -> "Stack":
        """A single network with the base weights, in float64."""
        rates = torch.full_like(problem.weights[:, :1], problem.settings.training.learning_rate)
        return cls(problem.objective, problem.weights, rates, [problem.settings.seed])

    def part(self, chosen: slice) -> "Stack":
        parts = (self.objective.networks(chosen), self.weights[chosen], self.rates[chosen], self.seeds[chosen])
        return Stack(*parts, self.fixed)


def train(stack: Stack, theta: Tensor, training: Training, steps: int, stage: int) -> Tensor:
    """Train from theta [B, P] for `steps` steps with fresh optimiser state; returns the end [B, P].

    L-BFGS takes at most as many, and none once J falls no more.
    """
    return course(stack, theta, training, [steps], stage)[0]


def course(stack: Stack, theta: Tensor, training: Training, marks: Sequence[int], stage: int) -> Tensor:
    """Where one run from theta [B, P] stands after each of `marks` steps, ascending; [K, B, P] in theta's dtype.

    A network that diverges ends in NaN or infinity and touches no other; chunks keep it in cache. The first steps of a run
    do not depend on how many follow, but under a cosine schedule.
    """
    width = max(16, CHUNK_BYTES // (theta.shape[1] * theta.element_size()) // 16 * 16)
    parts = [slice(start, start + width) for start in range(0, len(theta), width)]
    return torch.cat([_course(stack.part(part), theta[part].clone(), training, marks, stage) for part in parts], dim=1)


@dataclass(frozen=True)
class Step:
    """What one step of a stack does: it starts at theta [B, P] with the gradient of the objective under `weights` [B, n].

    optimizer: its state before the step. number: 1, 2, …; rate: [B, 1]. rows: [B, m] of a mini-batch, None for all.
    """

    number: int
    objective: Objective
    weights: Tensor
    rows: Tensor | None
    gradient: Tensor
    rate: Tensor
    optimizer: optimizers.Adam | optimizers.Sgd


def run(stack: Stack, theta: Tensor, training: Training, steps: int, stage: int) -> Iterator[Step]:
    """The steps of first-order training; theta is moved in place as the next one is asked for."""
    schedule = optimizers.SCHEDULES[training.schedule](training, stack.rates, steps)
    optimizer = optimizers.optimizer(training, theta)
    order = None
    if training.batch_size != "full":
        order = batches.stacked(stack.seeds, stack.objective.rows, int(training.batch_size), stage, theta.device)
    objective, weights, rows = stack.objective, stack.weights, None
    for number in range(1, steps + 1):
        if order is not None:
            rows = next(order)
            objective, weights = stack.objective.batch(rows), of_batch(stack.weights, rows)
        loss, gradient = objective.gradient(theta, weights)
        if stack.fixed is not None:
            gradient.index_fill_(1, stack.fixed, 0.0)  # penalty included: no optimiser moves what never had a gradient
        rate = schedule.rate(number)
        yield Step(number, objective, weights, rows, gradient, rate, optimizer)
        optimizer.update(theta, gradient, rate, number)
        schedule.observe(loss)


def of_batch(weights: Tensor, rows: Tensor) -> Tensor:
    """w_i n/m on the rows [B, m] of a batch: base rows get 1/m, a removed row keeps its place with weight 0."""
    return weights.gather(1, rows) * (weights.shape[1] / rows.shape[1])


@torch.no_grad()
def _course(stack: Stack, theta: Tensor, training: Training, marks: Sequence[int], stage: int) -> Tensor:
    if training.optimizer == "lbfgs":
        ends = [
            quasi_newton.minimise(stack.objective, theta, stack.weights, 0.0, steps, patience=PATIENCE) for steps in marks
        ]
        return torch.stack([end.theta for end in ends])
    compiled = None if training.batch_size != "full" else descent.compiled(stack.objective, theta)
    if compiled is not None:
        schedule = optimizers.SCHEDULES[training.schedule](training, stack.rates, marks[-1])
        optimizer = optimizers.optimizer(training, theta)
        moving = descent.Descent(compiled, stack.objective, stack.weights, stack.fixed, theta, optimizer, schedule)
        return torch.stack([moving.until(mark) for mark in marks])
    passed = []
    for step in run(stack, theta, training, marks[-1], stage):
        if step.number - 1 in marks:
            passed.append(theta.clone())
    return torch.stack([*passed, theta])
