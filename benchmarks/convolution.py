"""A step of full-batch Adam on 5,500 images for `koh_cnn` (2,616 parameters): 16 networks as one stack against one at a time.

The other side is the loop a user of torch writes: the module itself, its cross-entropy, its optimiser. Images are random: a step
does not depend on what is in them. One core, float32.
"""

import statistics
import time

import torch
from torch import nn
from torch.nn.functional import cross_entropy, one_hot

from benchmarks.report import report
from study.compute.convolutional import Convolutional
from study.compute.objective import Objective
from study.compute.optimizers import Adam
from study.specs import Model

ROWS, NETWORKS, STEPS, ROUNDS = 5500, 16, 1, 3
MULTIPLIED = 201_000  # multiplications of one row's forward pass: 26²·72 + 12²·576 + 10²·576 + 4²·576 + 2²·656


def sequential(module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Seconds of a network-step."""
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, weight_decay=0.001)
    started = time.process_time()
    for _ in range(STEPS):
        optimizer.zero_grad()
        cross_entropy(module(x), y).backward()
        optimizer.step()
    return (time.process_time() - started) / STEPS


def stacked(objective: Objective, theta: torch.Tensor, weights: torch.Tensor) -> float:
    """Seconds of a network-step."""
    optimizer, rate = Adam(theta), torch.full((len(theta), 1), 1e-3)
    started = time.process_time()
    for number in range(1, STEPS + 1):
        _, gradient = objective.gradient(theta, weights)
        optimizer.update(theta, gradient, rate, number)
    return (time.process_time() - started) / STEPS / len(theta)


def main() -> None:
    torch.set_num_threads(1)
    network = Convolutional(Model(kind="koh_cnn"), (1, 28, 28), 10)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(ROWS, 784, generator=generator)
    y = torch.randint(10, (ROWS,), generator=generator)
    decay = torch.full((1, network.parameters), 0.001)
    objective = Objective(network, "classification", x, one_hot(y, 10).float(), decay)
    theta = torch.stack([network.initial(seed) for seed in range(NETWORKS)]).float()
    weights = torch.full((NETWORKS, ROWS), 1 / ROWS)
    stacked(objective, theta, weights)  # warm-up
    one, many = [], []
    for _ in range(ROUNDS):
        one.append(sequential(network._seeded(0).float(), x, y))
        many.append(stacked(objective, theta, weights))
    slow, fast = statistics.median(one), statistics.median(many)
    report(
        "convolution",
        {
            "one network at a time, s per network-step": slow,
            f"{NETWORKS} networks as one stack, s per network-step": fast,
            "one at a time / stacked": statistics.median(a / b for a, b in zip(one, many, strict=True)),
            "arithmetic, GFLOP per network-step": 6 * MULTIPLIED * ROWS / 1e9,
            "reached, GFLOP/s": 6 * MULTIPLIED * ROWS / 1e9 / fast,
        },
    )


if __name__ == "__main__":
    main()
