"""All 149 leave-one-outs of Iris, depth 4, width 5, tanh, λ = 0.005: certified, against sequential Adam retraining.

Certified as the study defines it, curvature certificate included, the base network's polish excluded. The other side is a
sample of plain 7,500-step retrainings, scaled to 149; those leave a gradient norm near 1e-4.
"""

import statistics
import time

import torch

from benchmarks.problems import iris
from benchmarks.report import report
from benchmarks.sequential import seconds_per_step
from study.compute import certificates, fitting
from study.compute.fitting import Job
from study.compute.problems import Problem, problem
from study.compute.protocols import stationary

STEPS, SAMPLE, SEEDS = 7500, 1, 5


def certified(p: Problem, theta: torch.Tensor, weights: torch.Tensor) -> tuple[float, int]:
    """Seconds for all leave-one-outs with their certificates, and how many are certified."""
    started = time.perf_counter()
    job = Job(p, theta.expand(len(weights), -1), weights)
    (outcome,) = stationary.retrain([job], p.settings.protocols[0])
    certificate = certificates.certify(p.objective, outcome.theta, weights, p.target, 1e-9)
    return time.perf_counter() - started, int(certificate.certified[1:].sum())


def main() -> None:
    torch.set_num_threads(1)
    rounds, counts = [], []
    for trial in iris(depth=4, seeds=SEEDS, steps=5000, rate=1e-2, polish=True):
        p = problem(trial)
        theta = fitting.scratch([fitting.initial(p)])[0]
        rows = p.objective.rows
        weights = torch.cat([p.weights, p.removal_weights(torch.arange(rows))])
        certified(p, theta, weights)  # warm-up
        seconds, count = certified(p, theta, weights)
        keep = torch.arange(rows) != 0
        step = seconds_per_step(
            p.network._module().double(), p.objective.x[keep], p.objective.y[keep].argmax(dim=1), SAMPLE * STEPS
        )
        rounds.append((rows * STEPS * step, seconds))
        counts.append(count)
    slow, fast = (statistics.median(column) for column in zip(*rounds, strict=True))
    report(
        "stationary",
        {
            "149 certified leave-one-outs, seconds": fast,
            "149 sequential Adam retrainings, seconds (from a sample)": slow,
            "sequential / certified": statistics.median(a / b for a, b in rounds),
            "certified of 149, by seed": ", ".join(map(str, counts)),
        },
    )


if __name__ == "__main__":
    main()
