"""Mini-batch order: drawn from the seed alone, equal for every network that shares the seed."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor


def rows(seed: int, n: int, batch_size: int, stage: int) -> Iterator[np.ndarray]:
    """Endless batches of exactly `batch_size` rows cut from one permutation of the n rows after another.

    stage: 0 for training from scratch (base and `cold`), 1 for further training (`warm`): its null and its removals share it.
    """
    generator = np.random.default_rng([seed, stage])
    left = np.empty(0, dtype=np.int64)
    while True:
        while len(left) < batch_size:
            left = np.concatenate([left, generator.permutation(n)])
        yield left[:batch_size]
        left = left[batch_size:]


def stacked(seeds: Sequence[int], n: int, batch_size: int, stage: int, device: torch.device) -> Iterator[Tensor]:
    """The batches of every network of a stack, [B, batch_size]."""
    distinct = sorted(set(seeds))
    place = torch.tensor([distinct.index(seed) for seed in seeds])
    for drawn in zip(*(rows(seed, n, batch_size, stage) for seed in distinct), strict=True):
        yield torch.from_numpy(np.stack(drawn))[place].to(device)
