"""What the nodes of both paths cost beyond cold and warm, against the stationary protocol of the same trial.

Iris, width 5, tanh, λ = 0.005, as in `experiments/gaps_depth.toml`: 60,000 Adam steps, no polish, 40 random rows. Of a
protocol the retraining and its certificates, of an estimator its prediction, and the gaps themselves; cold and warm are not run
here. What nodes share (Hessian, eigenvectors) counts for the first that needs it.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.report import report
from study import trials
from study.compute import certificates, estimators, fitting, gaps, groups, protocols
from study.compute.fitting import Job
from study.compute.gaps import Node
from study.compute.problems import Fitted, problem
from study.trials import Trial

SPEC = Path(__file__).parent.parent / "experiments" / "gaps_depth.toml"
SEEDS = 5
OTHERS = ("cold", "warm")


def of_depth(depth: int) -> list[Trial]:
    """The experiment's own trials."""
    chosen = (f"model.depth=[{depth}]", "training.weight_decay=[0.005]", f"seed={{ first = 0, count = {SEEDS} }}")
    return trials.load(SPEC, chosen).trials


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    found = work()
    return time.perf_counter() - started, found


def seconds(fitted: Fitted, rows: Tensor) -> dict[str, float]:
    """By node, and "gaps" for all of them."""
    settings, target, spent, nodes = fitted.problem.settings, fitted.target, dict[str, float](), dict[str, Node]()
    weights = torch.cat([fitted.problem.weights, fitted.problem.removal_weights(rows)])
    job = Job(fitted.problem, fitted.theta.expand(len(weights), -1), weights)
    for protocol in settings.protocols:
        if protocol.name in OTHERS:
            continue
        spent[protocol.name], outcome = timed(lambda: retrained(fitted, job, protocol))  # noqa: B023
        values = target.values(outcome.theta)
        nodes[protocol.name] = gaps.measured(target, outcome, protocol.kind, values[1:] - values[:1])
    for estimator in settings.estimators:
        spent[estimator.name], found = timed(lambda: estimators.predict(fitted, estimator))  # noqa: B023
        own = groups.predicted(fitted.problem, found, rows[:, None].numpy())
        nodes[estimator.name] = gaps.predicted(target, own, fitted.theta)
    paths = {path: [name for name in names if name in nodes] for path, names in settings.gap_paths.items()}
    spent["gaps"], _ = timed(lambda: gaps.arrays(paths, nodes, target.output_gradients(fitted.theta)))
    return spent


def retrained(fitted: Fitted, job: Job, protocol: Any) -> protocols.Retrained:
    """The outcome, its certificates computed as a trial does."""
    [outcome] = protocols.retrain([job], protocol)
    objective = job.objective if outcome.objective is None else outcome.objective
    weights = job.weights if outcome.weights is None else outcome.weights
    certificates.certify(objective, outcome.theta, weights, fitted.target, 1e-9)
    return outcome


def main() -> None:
    torch.set_num_threads(1)
    figures: dict[str, float | str] = {}
    for depth in (1, 3, 5):
        found = of_depth(depth)
        bases = fitting.scratch([fitting.initial(problem(trial)) for trial in found])
        rounds = []
        for trial, theta in zip(found, bases, strict=True):
            p = problem(trial)
            rows = torch.randperm(p.objective.rows, generator=torch.Generator().manual_seed(0))[:40]
            seconds(Fitted(p, theta[0], p.target), rows)  # warm-up
            rounds.append(seconds(Fitted(p, theta[0], p.target), rows))
        stationary = [spent["certified"] for spent in rounds]
        others = [sum(spent.values()) - spent["certified"] for spent in rounds]
        figures[f"depth {depth}: stationary, seconds"] = statistics.median(stationary)
        for name in rounds[0]:
            figures[f"depth {depth}: {name} / stationary"] = statistics.median(
                spent[name] / spent["certified"] for spent in rounds
            )
        figures[f"depth {depth}: all but cold, warm and stationary / stationary"] = statistics.median(
            part / whole for part, whole in zip(others, stationary, strict=True)
        )
    report("paths", figures)


if __name__ == "__main__":
    main()
