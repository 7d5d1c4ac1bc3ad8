"""Fitting the networks of many trials at once: from scratch, onwards, and on to a stationary point."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from study.compute import newton, quasi_newton, training
from study.compute.objective import Objective
from study.compute.problems import Problem
from study.compute.quasi_newton import Minimised

FROM_SCRATCH, ONWARDS = 0, 1  # stages of the batch order
SMALL_ROWS = 4096  # features × rows up to which networks with different splits carry their own rows
POLISH_TOLERANCE = 1e-9
APPROACH, APPROACH_STEPS = 1e-6, 500  # gradient norm at which, or steps after which, Newton's method takes over
NEWTON_STEPS = 200


@dataclass(frozen=True)
class Job:
    """Networks of one problem that differ in their weights [B, n], starting from theta [B, P] (float64)."""

    problem: Problem
    theta: Tensor
    weights: Tensor


def first_order(jobs: Sequence[Job], steps: int, stage: int) -> list[Tensor]:
    """Train all jobs' networks as one stack for `steps` steps in their spec's dtype; float64 results [B, P] per job."""
    results: dict[int, Tensor] = {}
    for group in _groups(jobs):
        ends = _train([jobs[k] for k in group], steps, stage)
        results.update(zip(group, ends, strict=True))
    return [results[k] for k in range(len(jobs))]


def scratch(problems: Sequence[Problem], weights: Sequence[Tensor]) -> list[Tensor]:
    """Each problem's networks from their seed's initialisation through the whole training of the spec, polish included."""
    jobs = []
    for problem, w in zip(problems, weights, strict=True):
        start = problem.network.initial(problem.settings.seed).to(w.device)
        jobs.append(Job(problem, start.expand(len(w), -1), w))
    ends = first_order(jobs, problems[0].settings.training.steps, FROM_SCRATCH)
    return [
        polish(problem.objective, end, w).theta if problem.settings.training.polish else end
        for problem, end, w in zip(problems, ends, weights, strict=True)
    ]


def polish(objective: Objective, theta: Tensor, weights: Tensor, tolerance: float = POLISH_TOLERANCE) -> Minimised:
    """Continue to a stationary point in float64: L-BFGS until near, then Newton's method past saddles to a minimum."""
    near = quasi_newton.minimise(objective, theta, weights, max(tolerance, APPROACH), APPROACH_STEPS)
    end = newton.minimise(objective, near.theta, weights, tolerance, NEWTON_STEPS)
    return Minimised(end.theta, end.gradient_norm, near.iterations + end.iterations)


def _groups(jobs: Sequence[Job]) -> list[list[int]]:
    """Jobs that share one stack: all of them, or by split where copies of the rows would not fit the cache."""
    if jobs[0].problem.objective.x.numel() <= SMALL_ROWS:
        return [list(range(len(jobs)))]
    groups: dict[bytes, list[int]] = {}
    for k, job in enumerate(jobs):
        groups.setdefault(job.problem.split.train_rows.tobytes(), []).append(k)
    return list(groups.values())


def _train(jobs: list[Job], steps: int, stage: int) -> list[Tensor]:
    spec, sizes = jobs[0].problem.settings.training, [len(job.weights) for job in jobs]
    dtype, device = jobs[0].problem.training_dtype, jobs[0].weights.device
    rates = [
        torch.full((size, 1), job.problem.settings.training.learning_rate, dtype=torch.float64)
        for job, size in zip(jobs, sizes, strict=True)
    ]
    first, each = _distinct(jobs)
    seeds = [job.problem.settings.seed for job, size in zip(jobs, sizes, strict=True) for _ in range(size)]
    chosen = torch.tensor(first, device=device)
    stack = training.Stack(
        objective=_stacked_objective(jobs).networks(chosen).to(dtype, device),
        weights=torch.cat([job.weights for job in jobs])[chosen].to(dtype),
        rates=torch.cat(rates).to(device=device, dtype=dtype)[chosen],
        seeds=[seeds[k] for k in first],
    )
    theta = torch.cat([job.theta for job in jobs])[chosen].to(dtype)
    ends = training.train(stack, theta, spec, steps, stage).to(torch.float64)
    return list(ends[torch.tensor(each, device=device)].split(sizes))


def _distinct(jobs: Sequence[Job]) -> tuple[list[int], list[int]]:
    """Networks that trials share, null and rows that several rules choose, train once: which, and for each of all its place."""
    places: dict[bytes, int] = {}
    first, each = list[int](), list[int]()
    for job in jobs:
        name = job.problem.training_identity.encode()
        for theta, weights in zip(job.theta.cpu().numpy(), job.weights.cpu().numpy(), strict=True):
            whole = hashlib.sha256(b"".join([name, theta.tobytes(), weights.tobytes()])).digest()
            if whole not in places:
                places[whole] = len(first)
                first.append(len(each))
            each.append(places[whole])
    return first, each


def _stacked_objective(jobs: list[Job]) -> Objective:
    first = jobs[0].problem.objective
    repeats = torch.tensor([len(job.weights) for job in jobs], device=first.x.device)
    decay = torch.cat([job.problem.objective.decay for job in jobs]).repeat_interleave(repeats, dim=0)
    if len({job.problem.split.train_rows.tobytes() for job in jobs}) == 1:
        return Objective(first.network, first.task, first.x, first.y, decay)
    x, y = (
        torch.stack([getattr(job.problem.objective, name) for job in jobs]).repeat_interleave(repeats, dim=0)
        for name in ("x", "y")
    )
    return Objective(first.network, first.task, x, y, decay)
