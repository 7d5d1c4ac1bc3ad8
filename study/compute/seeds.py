"""Seeds for networks that must not share a trial's own: each a function of the trial's seed and of which network it is."""

import numpy as np

COLD, COLD_SEEDS = 0, 1  # what the networks are for: no two of these share a seed


def derived(seed: int, *path: int) -> int:
    """The seed below `seed` at a path of whole numbers: 63 bits of NumPy's SeedSequence with the path as its spawn key.

    It depends on nothing else, so that replica 3 is the same network however many there are; two trials, or two paths, share
    one by accident only (torch draws a network's initialisation from its last 32 bits).
    """
    [state] = np.random.SeedSequence(seed, spawn_key=path).generate_state(1, np.uint64)
    return int(state) >> 1
