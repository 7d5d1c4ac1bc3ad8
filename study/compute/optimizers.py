"""First-order optimisers and learning-rate schedules for a stack, every hyper-parameter a vector along the stack.

Only operations that IEEE 754 rounds correctly (+ − × ÷ √) appear in the updates: a vectorised and a scalar loop then agree
to the last bit, so a network's path does not depend on its position in a chunk.
"""

import math

import numpy as np
import torch
from torch import Tensor

from study.specs import Training


class Adam:
    """Adam (Kingma & Ba 2015) with the penalty coupled into the gradient, as `torch.optim.Adam(weight_decay=λ)`."""

    first, second, floor = 0.9, 0.999, 1e-8

    def __init__(self, theta: Tensor):
        self.mean, self.square = torch.zeros_like(theta), torch.zeros_like(theta)
        self._work = torch.empty_like(theta)

    def update(self, theta: Tensor, gradient: Tensor, rate: Tensor, step: int) -> None:
        """θ ← θ − rate · (m/c₁) / (√v/√c₂ + 1e-8), in place; c₁, c₂ undo the start at zero. Overwrites the gradient."""
        correction = 1 - self.first**step
        torch.sub(gradient, self.mean, out=self._work)
        self.mean.add_(self._work.mul_(1 - self.first))
        self.square.mul_(self.second).add_(gradient.mul_(gradient).mul_(1 - self.second))
        _root(self.square, self._work).div_(math.sqrt(1 - self.second**step)).add_(self.floor)
        theta.sub_(torch.div(self.mean, self._work, out=gradient).mul_(rate / correction))


def _root(values: Tensor, out: Tensor) -> Tensor:
    """√ into `out`, correctly rounded: torch's own goes through a vector library that on some processors is not."""
    if values.device.type == "cpu":
        np.sqrt(values.numpy(), out=out.numpy())
        return out
    return torch.sqrt(values, out=out)


class Sgd:
    """Gradient descent with heavy-ball momentum, as `torch.optim.SGD(momentum=μ, weight_decay=λ)`."""

    def __init__(self, theta: Tensor, momentum: float):
        self.velocity, self.momentum = torch.zeros_like(theta), momentum

    def update(self, theta: Tensor, gradient: Tensor, rate: Tensor, step: int) -> None:
        """v ← μ v + g, θ ← θ − rate · v, in place."""
        self.velocity.mul_(self.momentum).add_(gradient)
        theta.sub_(torch.mul(self.velocity, rate, out=gradient))


def optimizer(training: Training, theta: Tensor) -> Adam | Sgd:
    """Fresh optimiser state for a stack theta [B, P]."""
    return Adam(theta) if training.optimizer == "adam" else Sgd(theta, training.momentum)


class Schedule:
    """Learning rates [B, 1] for a stack, step by step."""

    def __init__(self, training: Training, rates: Tensor, steps: int):
        self.training, self.rates, self.steps = training, rates, steps

    def factor(self, step: int) -> float:
        """What all rates are multiplied by in step 1, 2, …"""
        return 1.0

    def rate(self, step: int) -> Tensor:
        """Rates [B, 1] of step 1, 2, …"""
        return self.rates * self.factor(step)

    def observe(self, data_loss: Tensor) -> None:
        """Take note of the data loss [B] (without the penalty) that the step started from."""


class Constant(Schedule):
    """The same at every step."""


class Step(Schedule):
    """rate · factor^⌊(step − 1)/step_every⌋."""

    def factor(self, step: int) -> float:
        return float(self.training.factor ** ((step - 1) // self.training.step_every))


class Cosine(Schedule):
    """rate · ½(1 + cos(π(step − 1)/steps)): from the full rate to nearly zero."""

    def factor(self, step: int) -> float:
        return 0.5 * (1 + math.cos(math.pi * (step - 1) / self.steps))


class Plateau(Schedule):
    """rate · factor whenever the data loss has not improved by a relative 1e-4 for more than `patience` steps.

    `torch.optim.lr_scheduler.ReduceLROnPlateau` with its other defaults, called after every step, network by network.
    """

    threshold, smallest_change = 1e-4, 1e-8

    def __init__(self, training: Training, rates: Tensor, steps: int):
        super().__init__(training, rates.clone(), steps)
        self.best = torch.full_like(rates[:, 0], torch.inf)
        self.waited = torch.zeros_like(self.best)

    def observe(self, data_loss: Tensor) -> None:
        better = data_loss < self.best * (1 - self.threshold)
        self.best = torch.where(better, data_loss, self.best)
        self.waited = torch.where(better, 0, self.waited + 1)
        due = self.waited > self.training.patience
        lower = self.rates * self.training.factor
        worthwhile = due[:, None] & (self.rates - lower > self.smallest_change)
        self.rates = torch.where(worthwhile, lower, self.rates)
        self.waited = torch.where(due, 0, self.waited)


SCHEDULES: dict[str, type[Schedule]] = {"constant": Constant, "step": Step, "cosine": Cosine, "plateau": Plateau}
