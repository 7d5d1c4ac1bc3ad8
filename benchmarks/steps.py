"""Training steps compiled together against the same steps one by one in torch: microseconds a network-step, equal bits."""

import time
from unittest import mock

import torch

from benchmarks.report import report
from study.compute import descent, training
from study.compute.mlp import Mlp
from study.compute.objective import CLASSIFICATION, Objective
from study.specs import Training

ROWS, INPUTS, CLASSES, WIDTH = 149, 4, 3, 5  # Iris with one row held out
# dtype, depth, networks, activation, schedule: bases of ten seeds, removals of one, a stack as published
CASES = (
    (torch.float64, 3, 10, "tanh", "constant"),
    (torch.float64, 1, 41, "tanh", "constant"),
    (torch.float32, 1, 260, "tanh", "constant"),
    (torch.float32, 3, 50, "tanh", "plateau"),
    (torch.float32, 8, 1300, "selu", "plateau"),
)
NETWORK_STEPS = 60_000
ROUNDS = 3


def stack(dtype: torch.dtype, depth: int, networks: int, activation: str) -> tuple[training.Stack, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    network = Mlp(INPUTS, CLASSES, depth, WIDTH, activation)
    x = torch.randn(ROWS, INPUTS, generator=generator)
    y = torch.eye(CLASSES)[torch.randint(CLASSES, (ROWS,), generator=generator)]
    objective = Objective(network, CLASSIFICATION, x, y, torch.full((1, network.parameters), 0.005)).to(dtype, "cpu")
    weights, rates = torch.full((networks, ROWS), 1 / ROWS, dtype=dtype), torch.full((networks, 1), 1e-3, dtype=dtype)
    theta = torch.stack([network.initial(seed) for seed in range(networks)]).to(dtype)
    return training.Stack(objective, weights, rates, list(range(networks))), theta


def seconds(given: training.Stack, theta: torch.Tensor, settings: Training, steps: int) -> tuple[float, torch.Tensor]:
    training.train(given, theta, settings, 20, stage=0)  # warm-up
    started = time.process_time()
    end = training.train(given, theta, settings, steps, stage=0)
    return time.process_time() - started, end


def main() -> None:
    torch.set_num_threads(1)
    figures: dict[str, float | str] = {}
    for dtype, depth, networks, activation, schedule in CASES:
        (given, theta), settings = stack(dtype, depth, networks, activation), Training(schedule=schedule)
        steps = max(40, NETWORK_STEPS // networks)
        together, single = [], []
        for _ in range(ROUNDS):
            spent, end = seconds(given, theta, settings, steps)
            with mock.patch.object(descent, "compiled", return_value=None):
                alone, same = seconds(given, theta, settings, steps)
            assert torch.equal(end, same)
            together.append(1e6 * spent / steps / networks)
            single.append(1e6 * alone / steps / networks)
        name = f"{str(dtype).removeprefix('torch.')}, depth {depth}, {networks} networks, {activation}, {schedule}"
        figures[f"{name}: together, microseconds"] = min(together)
        figures[f"{name}: one by one, microseconds"] = min(single)
        figures[f"{name}: ratio"] = min(single) / min(together)
    report("steps", figures)


if __name__ == "__main__":
    main()
