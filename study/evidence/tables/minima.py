"""Which seeds of a cell ended at the same minimum: they are one observation, however many they are."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np

from study.evidence.readings import UNDEFINED_MINIMUM, Block

TOLERANCE = 1e-6  # of the objective J and of every base test loss, absolute
FIRST_ORDER = 2.0  # an error known to first order may be this many times larger


def label(blocks: Sequence[Block], protocol: str, seeds: np.ndarray, splits: Sequence[Hashable]) -> np.ndarray:
    """A number per block, equal for the seeds that share a minimum.

    Two seeds do when, in every trial of the cell that both have (one per split of the data: `splits`), J and the base
    test losses of the same test rows agree to 1e-6. Permuted or mirrored hidden units are thus one minimum. A seed joins
    the first one found that it agrees with, those known best before the others.

    A network that is not certified lies near its minimum, and is told apart only by what its distance cannot explain:

        J(θ*) − ‖∇J‖²/2μ ≤ J(minimum) ≤ J(θ*),        |L_t(θ_null) − L_t(minimum)| ≤ 2 |∇L_tᵀH⁻¹∇J|,

    μ the smallest eigenvalue of H, the second at the null of `protocol`, which trained on from θ*, and to first order,
    hence twice. Both are measured in its own record. Where H is not positive definite, or there is no minimum, the seed
    is an observation of its own, as it is where a loss is not finite. The networks of the published Iris validation
    (float32, one to seven hidden layers) are so grouped as their certified twins in 14 of 16 cells; in the other two one
    seed more stands alone.
    """
    names, unit = np.unique(seeds, return_inverse=True)
    low, high, present = _ranges(blocks, protocol, unit, len(names), splits)
    firsts: list[int] = []
    number = np.zeros(len(names), dtype=np.int64)
    for seed in _best_known_first(high - low, present):
        shared = present[firsts] & present[seed]
        meet = (low[firsts] <= high[seed] + TOLERANCE) & (low[seed] <= high[firsts] + TOLERANCE)
        same = np.flatnonzero((meet | ~shared).all(axis=1) & shared.any(axis=1))
        number[seed] = same[0] if same.size else len(firsts)
        if not same.size:
            firsts.append(seed)
    return number[unit]


def _best_known_first(widths: np.ndarray, present: np.ndarray) -> list[int]:
    """A seed that several minima would explain must not be the one that others are compared with."""
    widest = np.where(present, np.nan_to_num(widths, nan=np.inf), 0.0).max(axis=1, initial=0.0)
    return [int(seed) for seed in np.argsort(widest, kind="stable")]


def _ranges(
    blocks: Sequence[Block], protocol: str, unit: np.ndarray, seeds: int, splits: Sequence[Hashable]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[seeds, columns] where J and each test loss (margin, where that is the target) of each split lie; which are there."""
    columns: dict[Hashable, int] = {}
    found: list[tuple[int, int, float, float]] = []
    for seed, split, block in zip(unit.tolist(), splits, blocks, strict=True):
        for name, low, high in _of_block(block, protocol):
            found.append((seed, columns.setdefault((split, name), len(columns)), low, high))
    ends = np.full((2, seeds, len(columns)), np.nan)
    present = np.zeros(ends.shape[1:], dtype=bool)
    rows, places, lower, upper = (np.array(part) for part in zip(*found, strict=True))
    ends[:, rows, places], present[rows, places] = (lower, upper), True
    return ends[0], ends[1], present


def _of_block(block: Block, protocol: str) -> Iterator[tuple[Hashable, float, float]]:
    """Name and ends of each number: exact at a certified network, NaN where nothing bounds it.

    A trial without this protocol is measured by its own first one.
    """
    protocol = protocol if protocol in block.protocols else block.protocols[0]
    base, arrays = block.record.header["base"], block.record.arrays
    objective = np.nan if base.get("objective") is None else float(base["objective"])
    excess, losses, errors = 0.0, arrays["base_test"], np.zeros(1)
    if not base.get("certified"):
        losses = losses + arrays[f"null/{protocol}"]
        excess = _excess(block)
        errors = FIRST_ORDER * arrays.get(f"certificate/{protocol}/delta_error", np.full((1, 1), np.nan))[0]
    yield "objective", objective - excess, objective
    for test, loss, error in zip(block.tests.tolist(), losses, np.broadcast_to(errors, len(losses)), strict=True):
        yield test, loss - error, loss + error


def _excess(block: Block) -> float:
    """How far J may lie above its minimum, NaN where there is none nearby."""
    base = block.record.header["base"]
    gradient, curvature = base.get("gradient_norm"), base.get("smallest_eigenvalue")
    if UNDEFINED_MINIMUM in block.record.header["flags"] or gradient is None or not curvature or curvature <= 0:
        return float("nan")
    return float(gradient**2 / (2 * curvature))
