"""Fitting the networks of many trials at once: from scratch, onwards, and on to a stationary point."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

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
    """Networks of one problem that differ in their weights [B, n], starting from theta [B, P] (float64).

    x: rows [B, n, d] of their own, where the networks differ in these.
    """

    problem: Problem
    theta: Tensor
    weights: Tensor
    x: Tensor | None = None

    @property
    def objective(self) -> Objective:
        own = self.problem.objective
        return own if self.x is None else replace(own, x=self.x, y=own.y.expand(len(self.x), -1, -1))


def first_order(jobs: Sequence[Job], steps: int, stage: int) -> list[Tensor]:
    """Train all jobs' networks as one stack for `steps` steps in their spec's dtype; float64 results [B, P] per job."""
    results: dict[int, Tensor] = {}
    for group in _groups(jobs):
        ends = _train([jobs[k] for k in group], steps, stage)
        results.update(zip(group, ends, strict=True))
    return [results[k] for k in range(len(jobs))]


def initial(problem: Problem) -> Job:
    """The base network before its training: at its seed's initialisation, with the base weights."""
    start = problem.network.initial(problem.settings.seed).to(problem.weights.device)
    return Job(problem, start[None], problem.weights)


def restarted(job: Job) -> Job:
    """The same networks before their training."""
    return replace(job, theta=initial(job.problem).theta.expand(len(job.weights), -1))


def scratch(jobs: Sequence[Job]) -> list[Tensor]:
    """Every job's networks, as `initial` or `restarted`, through the spec's whole training, polish included."""
    ends = first_order(jobs, jobs[0].problem.settings.training.steps, FROM_SCRATCH)
    return [
        polish(job.objective, end, job.weights).theta if job.problem.settings.training.polish else end
        for job, end in zip(jobs, ends, strict=True)
    ]


def polish(objective: Objective, theta: Tensor, weights: Tensor, tolerance: float = POLISH_TOLERANCE) -> Minimised:
    """Continue to a stationary point in float64: L-BFGS until near, then Newton's method past saddles to a minimum."""
    near = quasi_newton.minimise(objective, theta, weights, max(tolerance, APPROACH), APPROACH_STEPS)
    end = newton.minimise(objective, near.theta, weights, tolerance, NEWTON_STEPS)
    return Minimised(end.theta, end.gradient_norm, near.iterations + end.iterations)


def _groups(jobs: Sequence[Job]) -> list[list[int]]:
    """Jobs that share one stack: all of them, or by split where copies of the rows would not fit the cache."""
    if jobs[0].problem.objective.x.numel() <= SMALL_ROWS or any(job.x is not None for job in jobs):
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
        for b in range(len(job.weights)):
            own = [part[b].cpu().numpy().tobytes() for part in (job.theta, job.weights, job.x) if part is not None]
            whole = hashlib.sha256(b"".join([name, *own])).digest()
            if whole not in places:
                places[whole] = len(first)
                first.append(len(each))
            each.append(places[whole])
    return first, each


def _stacked_objective(jobs: list[Job]) -> Objective:
    first = jobs[0].problem.objective
    repeats = torch.tensor([len(job.weights) for job in jobs], device=first.x.device)
    decay = torch.cat([job.problem.objective.decay for job in jobs]).repeat_interleave(repeats, dim=0)
    one_split = len({job.problem.split.train_rows.tobytes() for job in jobs}) == 1
    if one_split and all(job.x is None for job in jobs):
        return Objective(first.network, first.task, first.x, first.y, decay)
    x, y = (
        torch.cat([getattr(job.objective, name).expand(len(job.weights), -1, -1) for job in jobs])
        for name in ("x", "y")
    )
    return Objective(first.network, first.task, x, y, decay)
