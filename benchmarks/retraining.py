"""Warm retraining on Iris, depth 3, width 5: all networks of 50 seeds × 26 as stacks against a plain PyTorch loop.

Prints microseconds per network-step, the ratios per core and with two Dask workers, and the arithmetic floor beside them.
"""

import statistics
import time

import torch

from benchmarks.problems import iris
from benchmarks.report import report
from benchmarks.sequential import seconds_per_step
from study import sweep
from study.compute import fitting
from study.compute.fitting import Job
from study.compute.problems import DTYPES, problem

SEEDS, REMOVALS, ROUNDS = 50, 25, 5


def jobs(dtype: str) -> list[Job]:
    made = []
    for trial in iris(depth=3, seeds=SEEDS, dtype=dtype):
        p = problem(trial)
        weights = torch.cat([p.weights, p.removal_weights(torch.arange(REMOVALS))])
        made.append(Job(p, p.network.initial(p.settings.seed).expand(len(weights), -1), weights))
    return made


def stacked(dtype: str, steps: int) -> float:
    """Seconds per network-step of the whole stack on one core."""
    torch.set_num_threads(1)
    stack = jobs(dtype)
    fitting.first_order(stack, 5, fitting.ONWARDS)
    started = time.perf_counter()
    fitting.first_order(stack, steps, fitting.ONWARDS)
    return (time.perf_counter() - started) / (steps * sum(len(job.weights) for job in stack))


def sequential(dtype: str, steps: int) -> float:
    torch.set_num_threads(1)
    p = problem(iris(depth=3, seeds=1, dtype=dtype)[0])
    x, y = p.objective.x.to(DTYPES[dtype]), p.objective.y.argmax(dim=1)
    return seconds_per_step(p.network._module().to(DTYPES[dtype]), x, y, steps)


def matmul_rate(dtype: str) -> float:
    """Floating-point operations per second of a large matrix product on one core."""
    a = torch.randn(1024, 1024, dtype=DTYPES[dtype])
    a @ a
    started = time.perf_counter()
    for _ in range(10):
        a @ a
    return 10 * 2 * 1024**3 / (time.perf_counter() - started)


def floor(dtype: str) -> float:
    """Seconds per network-step if its multiply-adds (forward, backward by inputs and by weights) ran at that rate."""
    p = problem(iris(depth=3, seeds=1)[0])
    return 6 * p.network.parameters * p.objective.rows / matmul_rate(dtype)


def main() -> None:
    figures: dict[str, float | str] = {}
    for dtype in ("float32", "float64"):
        # in turn, so that a drifting machine moves both sides of a ratio
        rounds = [(sequential(dtype, 1000), stacked(dtype, 300), floor(dtype)) for _ in range(ROUNDS)]
        plain, ours, least = (statistics.median(column) for column in zip(*rounds, strict=True))
        ratio = statistics.median(slow / fast for slow, fast, _ in rounds)
        figures |= {
            f"{dtype}: sequential loop, µs per network-step": plain * 1e6,
            f"{dtype}: stacked, µs per network-step": ours * 1e6,
            f"{dtype}: arithmetic floor, µs": least * 1e6,
            f"{dtype}: sequential / stacked, one core": ratio,
            f"{dtype}: stacked / floor": statistics.median(fast / least for _, fast, least in rounds),
        }
    with sweep.client(2, None, 2) as client:
        for dtype in ("float32", "float64"):
            ratios = []
            for _ in range(ROUNDS):
                alone = client.submit(stacked, dtype, 300, pure=False).result()
                both = client.gather([client.submit(stacked, dtype, 300, pure=False) for _ in range(2)])
                ratios.append(sum(alone / one for one in both))
            figures[f"{dtype}: two Dask workers / one"] = statistics.median(ratios)
    report("retraining", figures)


if __name__ == "__main__":
    main()
