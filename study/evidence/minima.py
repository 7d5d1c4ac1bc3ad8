"""Which seeds of a cell ended at the same minimum: they are one observation, however many they are."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from study.evidence.readings import Block

TOLERANCE = 1e-6  # of the objective J and of every base test loss, absolute


def label(blocks: Sequence[Block], seeds: np.ndarray, splits: Sequence[Hashable]) -> np.ndarray:
    """A number per block, equal for the seeds that share a minimum.

    Two seeds do when, in every trial of the cell that both have (one per split of the data: `splits`), J and the base
    test losses of the same test rows agree to 1e-6. Permuted or mirrored hidden units are thus one minimum. A seed joins
    the first one found that it agrees with. A base that is not certified is compared alike: equal numbers to 1e-6 are
    one network in all that is measured here. A loss that is not finite agrees with nothing.
    """
    names, unit = np.unique(seeds, return_inverse=True)
    losses, present = _losses(blocks, unit, len(names), splits)
    firsts: list[int] = []
    number = np.zeros(len(names), dtype=np.int64)
    for seed in range(len(names)):
        shared = present[firsts] & present[seed]
        agree = (np.abs(losses[firsts] - losses[seed]) <= TOLERANCE) | ~shared
        same = np.flatnonzero(agree.all(axis=1) & shared.any(axis=1))
        number[seed] = same[0] if same.size else len(firsts)
        if not same.size:
            firsts.append(seed)
    return number[unit]


def _losses(
    blocks: Sequence[Block], unit: np.ndarray, seeds: int, splits: Sequence[Hashable]
) -> tuple[np.ndarray, np.ndarray]:
    """[seeds, columns] J and each base test loss (margin, where that is the target) of each split; which are there."""
    columns: dict[Hashable, int] = {}
    found: list[tuple[int, int, float]] = []
    for seed, split, block in zip(unit.tolist(), splits, blocks, strict=True):
        objective = block.record.header["base"].get("objective")  # null where it is not finite
        own = {(split, "objective"): np.nan if objective is None else objective}
        own |= {
            (split, test): loss
            for test, loss in zip(block.tests.tolist(), block.record.arrays["base_test"], strict=True)
        }
        found += [(seed, columns.setdefault(name, len(columns)), value) for name, value in own.items()]
    losses = np.full((seeds, len(columns)), np.nan)
    present = np.zeros(losses.shape, dtype=bool)
    rows, places, values = (np.array(part) for part in zip(*found, strict=True))
    losses[rows, places], present[rows, places] = values, True
    return losses, present
