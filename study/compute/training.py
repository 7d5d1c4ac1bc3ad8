"""Training a stack: the one loop behind the base networks, `warm` and `cold`."""

from dataclasses import dataclass

import torch
from torch import Tensor

from study.compute import batches, optimizers, quasi_newton
from study.compute.objective import Objective
from study.specs import Training

CHUNK_BYTES = 400_000  # parameters of one chunk: optimiser state and gradients then stay in a core's second-level cache


@dataclass(frozen=True)
class Stack:
    """Networks trained together. objective: for the B networks; weights [B, n]; rates [B, 1] learning rates; seeds: B of them."""

    objective: Objective
    weights: Tensor
    rates: Tensor
    seeds: list[int]

    def part(self, chosen: slice) -> "Stack":
        return Stack(self.objective.networks(chosen), self.weights[chosen], self.rates[chosen], self.seeds[chosen])


def train(stack: Stack, theta: Tensor, training: Training, steps: int, stage: int) -> Tensor:
    """Train from theta [B, P] for `steps` steps (L-BFGS: at most) with fresh optimiser state; returns the end [B, P].

    The dtype is theta's. A network that diverges ends in NaN or infinity and touches no other; chunks keep it in cache.
    """
    width = max(16, CHUNK_BYTES // (theta.shape[1] * theta.element_size()) // 16 * 16)
    parts = [slice(start, start + width) for start in range(0, len(theta), width)]
    return torch.cat([_train(stack.part(part), theta[part].clone(), training, steps, stage) for part in parts])


@torch.no_grad()
def _train(stack: Stack, theta: Tensor, training: Training, steps: int, stage: int) -> Tensor:
    if training.optimizer == "lbfgs":
        return quasi_newton.minimise(stack.objective, theta, stack.weights, tolerance=0.0, iterations=steps).theta
    schedule = optimizers.SCHEDULES[training.schedule](training, stack.rates, steps)
    optimizer = optimizers.optimizer(training, theta)
    order = None
    if training.batch_size != "full":
        order = batches.stacked(stack.seeds, stack.objective.rows, int(training.batch_size), stage, theta.device)
    objective, weights = stack.objective, stack.weights
    for step in range(1, steps + 1):
        if order is not None:
            rows = next(order)
            # w_i n/m: base rows get 1/m, a removed row keeps its place with weight 0
            objective = stack.objective.batch(rows)
            weights = stack.weights.gather(1, rows) * (stack.objective.rows / rows.shape[1])
        loss, gradient = objective.gradient(theta, weights)
        optimizer.update(theta, gradient, schedule.rate(step), step)
        schedule.observe(loss)
    return theta
