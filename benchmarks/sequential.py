"""The plain way: one network after another through torch.optim, as a script would do it. The other side of every ratio."""

import time

import torch
from torch import Tensor, nn


def seconds_per_step(module: nn.Module, x: Tensor, y: Tensor, steps: int, decay: float = 0.005) -> float:
    """Seconds per full-batch Adam step of one network (x [n, d], y [n] classes), after a warm-up."""
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, weight_decay=decay)
    for step in range(steps + 100):
        if step == 100:
            started = time.perf_counter()
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(x), y).backward()
        optimizer.step()
    return (time.perf_counter() - started) / steps
