"""First-order training on all rows, many steps in one compiled call (fused_steps.cpp), to the bits of the loop in `training`."""

import ctypes
import math
from typing import Any

import torch
from torch import Tensor

from study.compute import fused
from study.compute.objective import Objective
from study.compute.optimizers import Adam, Plateau, Schedule, Sgd

TOGETHER = 1000  # steps of one call: a few milliseconds to a second
BLOCK_BYTES = 64  # of one parameter of the networks that the kernel takes together
Compiled = tuple[Any, Any]  # the functions that `fused.steps` finds


class _Stack(ctypes.Structure):
    """As fused_steps.cpp has it."""

    _fields_ = [
        *((name, ctypes.c_long) for name in ("networks", "parameters", "rows", "inputs", "outputs")),
        ("shared", ctypes.c_int),
        *(
            (name, ctypes.c_void_p)
            for name in (
                "x", "y", "w", "decay", "centre", "fixed", "theta", "first", "second", "rates", "best", "waited",
            )
        ),
    ]  # fmt: skip


class _Rule(ctypes.Structure):
    """As fused_steps.cpp has it."""

    _fields_ = [
        ("adam", ctypes.c_int),
        *(
            (name, ctypes.c_double)
            for name in (
                "momentum", "keep_first", "keep_second", "floor", "factor", "patience", "better", "smallest",
            )
        ),
        *((name, ctypes.c_void_p) for name in ("scales", "corrections", "roots")),
    ]  # fmt: skip


def compiled(objective: Objective, theta: Tensor) -> Compiled | None:
    """None where torch has to train: other networks than small perceptrons, another device, no compiler."""
    return fused.steps(objective.network, objective.task, theta)


class Descent:
    """A run from theta [B, P], which it moves in place; optimizer and schedule: at their start, and moved along.

    fixed: positions of the parameters that do not move, None where all do.
    """

    def __init__(
        self,
        functions: Compiled,
        objective: Objective,
        weights: Tensor,
        fixed: Tensor | None,
        theta: Tensor,
        optimizer: Adam | Sgd,
        schedule: Schedule,
    ):
        self.theta, self.schedule, self.done = theta, schedule, 0
        self._steps, self._gradient = functions
        self._kept = _given(objective, weights, fixed, theta) | _state(theta, optimizer, schedule)
        self._stack = _Stack(*_sizes(objective, theta), **{name: tensor.data_ptr() for name, tensor in self._kept.items()})
        self._rule = _rule(optimizer, schedule)
        self._work = theta.new_empty(BLOCK_BYTES // theta.element_size(), theta.shape[1] + 1)

    def until(self, step: int) -> Tensor:
        """θ [B, P] after `step` steps in all, a copy."""
        while self.done < step:
            self._take(min(TOGETHER, step - self.done))
        return self.theta.clone()

    def _take(self, count: int) -> None:
        numbers = range(self.done + 1, self.done + count + 1)
        columns = (
            [self.schedule.factor(number) for number in numbers],
            [1 - Adam.first**number for number in numbers],
            [math.sqrt(1 - Adam.second**number) for number in numbers],
        )
        given = [torch.tensor(column, dtype=torch.float64) for column in columns]
        self._rule.scales, self._rule.corrections, self._rule.roots = (column.data_ptr() for column in given)
        self._steps(
            ctypes.cast(self._gradient, ctypes.c_void_p), ctypes.byref(self._stack), ctypes.byref(self._rule),
            ctypes.c_long(count), ctypes.c_void_p(self._work.data_ptr()),
        )  # fmt: skip
        self.done += count


def _sizes(objective: Objective, theta: Tensor) -> tuple[int, ...]:
    rows, inputs = objective.x.shape[-2:]
    return (*theta.shape, rows, inputs, objective.y.shape[-1], int(objective.x.dim() == 2))


def _given(objective: Objective, weights: Tensor, fixed: Tensor | None, theta: Tensor) -> dict[str, Tensor]:
    """What a run reads, laid out as the kernel takes it."""
    found = {"x": objective.x, "y": objective.y, "w": weights, "decay": objective.decay.expand(theta.shape)}
    if objective.centre is not None:
        found["centre"] = objective.centre.expand(theta.shape)
    if fixed is not None:
        found["fixed"] = torch.zeros(theta.shape[1], dtype=torch.uint8).index_fill_(0, fixed, 1)
    return {name: tensor.detach().contiguous() for name, tensor in found.items()}


def _state(theta: Tensor, optimizer: Adam | Sgd, schedule: Schedule) -> dict[str, Tensor]:
    """What a run moves: tensors of one memory each."""
    assert theta.is_contiguous()
    schedule.rates = schedule.rates.expand(len(theta), 1).clone()
    found = {"theta": theta, "rates": schedule.rates}
    if isinstance(optimizer, Adam):
        found |= {"first": optimizer.mean, "second": optimizer.square}
    else:
        found["first"] = optimizer.velocity
    if isinstance(schedule, Plateau):
        found |= {"best": schedule.best, "waited": schedule.waited}
    return found


def _rule(optimizer: Adam | Sgd, schedule: Schedule) -> _Rule:
    rule = _Rule(adam=isinstance(optimizer, Adam), keep_first=Adam.first, keep_second=Adam.second, floor=Adam.floor)
    if isinstance(optimizer, Sgd):
        rule.momentum = optimizer.momentum
    if isinstance(schedule, Plateau):
        rule.factor, rule.patience = schedule.training.factor, schedule.training.patience
        rule.better, rule.smallest = 1 - Plateau.threshold, Plateau.smallest_change
    return rule
