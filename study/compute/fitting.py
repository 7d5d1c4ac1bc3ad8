"""Fitting the networks of many trials at once: from scratch, onwards, and on to a stationary point."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from study.compute import convex, newton, preconditioned, quasi_newton, training
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

    x: rows [B, n, d] of their own, where the networks differ in these. seeds: B of them, of initialisation and batch order,
    where the networks do not all have the problem's. factor: the Cholesky factor of ∇²J at the start under the problem's own
    weights, where one serves the whole stack and is shared with the estimators.
    """

    problem: Problem
    theta: Tensor
    weights: Tensor
    x: Tensor | None = None
    seeds: list[int] | None = None
    factor: Callable[[], Tensor | None] | None = None

    @property
    def objective(self) -> Objective:
        own = self.problem.objective
        return own if self.x is None else replace(own, x=self.x, y=own.y.expand(len(self.x), -1, -1))


def first_order(jobs: Sequence[Job], steps: int, stage: int) -> list[Tensor]:
    """Train all jobs' networks as one stack for `steps` steps in their spec's dtype; float64 results [B, P] per job."""
    return [ends[0] for ends in course(jobs, [steps], stage)]


def course(jobs: Sequence[Job], marks: Sequence[int], stage: int, parameters: str | list[str] = "all") -> list[Tensor]:
    """The same after each of `marks` steps of one run, ascending: [K, B, P] per job. Only `parameters` move."""
    results: dict[int, Tensor] = {}
    for group in _groups(jobs):
        ends = _train([jobs[k] for k in group], marks, stage, parameters)
        results.update(zip(group, ends, strict=True))
    return [results[k] for k in range(len(jobs))]


def initial(problem: Problem) -> Job:
    """The base network before its training: at its seed's initialisation, with the base weights."""
    return Job(problem, _start(problem, problem.settings.seed)[None], problem.weights)


def restarted(job: Job, seeds: Sequence[int] | None = None) -> Job:
    """The same networks before their training, all with the problem's own seed, or each with one of `seeds`."""
    if seeds is None:
        return replace(job, theta=initial(job.problem).theta.expand(len(job.weights), -1))
    starts = {seed: _start(job.problem, seed) for seed in dict.fromkeys(seeds)}
    return replace(job, theta=torch.stack([starts[seed] for seed in seeds]), seeds=list(seeds))


def _start(problem: Problem, seed: int) -> Tensor:
    """A seed's initial parameters [P]."""
    start = problem.network.initial(seed).to(problem.weights.device)
    return problem.settings.training.initial_scale * start


def scratch(jobs: Sequence[Job]) -> list[Tensor]:
    """Every job's networks, as `initial` or `restarted`, through the spec's whole training, polish included."""
    ends = first_order(jobs, jobs[0].problem.settings.training.steps, FROM_SCRATCH)
    return [
        polish(job.objective, end, job.weights).theta if job.problem.settings.training.polish else end
        for job, end in zip(jobs, ends, strict=True)
    ]


def polish(objective: Objective, theta: Tensor, weights: Tensor, tolerance: float = POLISH_TOLERANCE) -> Minimised:
    """Continue to a stationary point in float64: L-BFGS until near, then Newton's method past saddles to a minimum."""
    if convex.applies(objective, weights):
        return convex.minimise(objective, theta, weights, tolerance)
    if preconditioned.applies(objective) and preconditioned.certifiable(objective):
        return preconditioned.minimise(objective, theta, weights, tolerance)
    near = quasi_newton.minimise(objective, theta, weights, max(tolerance, APPROACH), APPROACH_STEPS)
    end = newton.minimise(objective, near.theta, weights, tolerance, NEWTON_STEPS)
    return Minimised(end.theta, end.gradient_norm, near.iterations + end.iterations)


def _groups(jobs: Sequence[Job]) -> list[list[int]]:
    """Jobs that share one stack: all of them, or by split where copies of the rows would not fit the cache."""
    if jobs[0].problem.objective.x.numel() <= SMALL_ROWS or any(job.x is not None for job in jobs):
        return [list(range(len(jobs)))]
    groups: dict[bytes, list[int]] = {}
    for k, job in enumerate(jobs):
        groups.setdefault(job.problem.split.identity, []).append(k)
    return list(groups.values())


def _train(jobs: list[Job], marks: Sequence[int], stage: int, parameters: str | list[str]) -> list[Tensor]:
    spec, sizes = jobs[0].problem.settings.training, [len(job.weights) for job in jobs]
    dtype, device = jobs[0].problem.training_dtype, jobs[0].weights.device
    rates = [
        torch.full((size, 1), job.problem.settings.training.learning_rate, dtype=torch.float64)
        for job, size in zip(jobs, sizes, strict=True)
    ]
    first, each = _distinct(jobs)
    seeds = [seed for job in jobs for seed in _seeds(job)]
    chosen = torch.tensor(first, device=device)
    stack = training.Stack(
        objective=_stacked_objective(jobs).networks(chosen).to(dtype, device),
        weights=torch.cat([job.weights for job in jobs])[chosen].to(dtype),
        rates=torch.cat(rates).to(device=device, dtype=dtype)[chosen],
        seeds=[seeds[k] for k in first],
        fixed=_fixed(jobs[0].problem, parameters),
    )
    theta = torch.cat([job.theta for job in jobs])[chosen].to(dtype)
    ends = training.course(stack, theta, spec, marks, stage).to(torch.float64)
    return list(ends[:, torch.tensor(each, device=device)].split(sizes, dim=1))


def _seeds(job: Job) -> list[int]:
    return [job.problem.settings.seed] * len(job.weights) if job.seeds is None else job.seeds


def _fixed(problem: Problem, parameters: str | list[str]) -> Tensor | None:
    """Positions of all other parameters than those chosen, None where there are none."""
    if parameters == "all":
        return None
    fixed = torch.ones(problem.network.parameters, dtype=torch.bool)
    fixed[problem.network.positions(parameters)] = False
    return fixed.nonzero()[:, 0].to(problem.weights.device)


def _distinct(jobs: Sequence[Job]) -> tuple[list[int], list[int]]:
    """Networks that trials share, null and rows that several rules choose, train once: which, and for each of all its place."""
    places: dict[bytes, int] = {}
    first, each = list[int](), list[int]()
    for job in jobs:
        name = job.problem.training_identity.encode()
        for b, seed in enumerate(_seeds(job)):
            own = [part[b].cpu().numpy().tobytes() for part in (job.theta, job.weights, job.x) if part is not None]
            whole = hashlib.sha256(b"".join([name, str(seed).encode(), *own])).digest()
            if whole not in places:
                places[whole] = len(first)
                first.append(len(each))
            each.append(places[whole])
    return first, each


def _stacked_objective(jobs: list[Job]) -> Objective:
    first = jobs[0].problem.objective
    repeats = torch.tensor([len(job.weights) for job in jobs], device=first.x.device)
    decay = torch.cat([job.problem.objective.decay for job in jobs]).repeat_interleave(repeats, dim=0)
    one_split = len({job.problem.split.identity for job in jobs}) == 1
    if one_split and all(job.x is None for job in jobs):
        return Objective(first.network, first.task, first.x, first.y, decay)
    x, y = (
        torch.cat([getattr(job.objective, name).expand(len(job.weights), -1, -1) for job in jobs])
        for name in ("x", "y")
    )
    return Objective(first.network, first.task, x, y, decay)
