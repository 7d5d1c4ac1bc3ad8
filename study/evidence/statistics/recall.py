"""Recall: how much of what matters most is among what was retrieved."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from study.evidence.statistics.metrics import membership


def recall(places: np.ndarray, values: np.ndarray, retrieved: Sequence[int], top: Sequence[int]) -> np.ndarray:
    """R@m = |{k retrieved} ∩ {m of largest |value|}| / m for each k of `retrieved` and m of `top`: [K, k, m].

    places [K, n]: of each row among the retrieved, 0 first (a permutation). values [K, n]: NaN where not known; such a row is
    not among the m, though it may be retrieved. Values tied at the edge share its places equally. NaN where fewer than m
    values are known. By chance k/n. Reference: Guo et al. 2021.
    """
    known = np.isfinite(values)
    sizes = np.where(known, np.abs(values), -1.0)
    order = np.argsort(places, axis=1)
    found = np.full((len(values), len(retrieved), len(top)), np.nan)
    last = np.asarray(retrieved) - 1
    for column, count in enumerate(top):
        enough = known.sum(axis=1) >= count
        member = membership(sizes[enough], np.full(enough.sum(), count))
        caught = np.cumsum(np.take_along_axis(member, order[enough], axis=1), axis=1)
        found[enough, :, column] = caught[:, last] / count
    return found
