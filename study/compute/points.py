"""Which test points a trial looks at and which training rows it removes."""

import math

import numpy as np

from study.specs import Points
from study.specs.schema import NEAREST


def test_positions(points: Points, test_rows: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Positions among the held-out rows [T] that the rule `points.test` chooses by their loss at the base network."""
    order = np.argsort(losses, kind="stable")
    last = len(order) - 1
    if points.test == "all":
        return np.arange(len(order))
    if points.test == "highest_loss":
        return order[-1:]
    if points.test == "median_loss":
        return order[last // 2 : last // 2 + 1]
    if (rows := getattr(points.test, "rows", None)) is not None:
        return np.array([int(np.flatnonzero(test_rows == row)[0]) for row in rows])
    # the nearest rank, and of two equally near the lower one, as for the median
    ranks = [math.ceil(q * last - 0.5) for q in points.test.quantiles]  # type: ignore[union-attr]
    return order[list(dict.fromkeys(ranks))]


def removals(
    points: Points, losses: np.ndarray, predicted: np.ndarray, places: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of removed training rows [R], ascending, and which test point each was chosen for, bool [R, T].

    losses: training losses [n]; predicted: [n, T] of the estimator the influence rules rank by; places: [n, T] of the rows
    among each test point's neighbours, for `nearest`. These rules choose per test point and the union of their sets is
    removed; every other rule chooses the same rows for all.
    """
    n, test_points = predicted.shape
    if points.train == NEAREST:
        assert places is not None
        sets = [np.flatnonzero(places[:, t] < (points.train_count or n)) for t in range(test_points)]
    else:
        sets = [_chosen(points, losses, predicted[:, t]) for t in range(test_points)]
    member = np.zeros((n, test_points), dtype=bool)
    for t, chosen in enumerate(sets):
        member[chosen, t] = True
    removed = np.flatnonzero(member.any(axis=1))
    return removed, member[removed]


def _chosen(points: Points, losses: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    n = len(losses)
    if points.train == "all":
        return np.arange(n)
    count = points.train_count or n
    generator = np.random.default_rng(points.select_seed)
    if points.train == "random":
        return generator.choice(n, size=count, replace=False)
    if points.train == "highest_loss":
        return np.argsort(-losses, kind="stable")[:count]
    order = descending(points, predicted)[::-1]
    if points.train == "highest_influence":
        return order[::-1][:count]
    if points.train == "lowest_influence":
        return order[:count]
    return generator.choice(order[points.band_slice(n)], size=count, replace=False)


def descending(points: Points, predicted: np.ndarray) -> np.ndarray:
    """Positions of the training rows by their influence [n] on one test point, the most influential first."""
    return np.argsort(np.abs(predicted) if points.order == "absolute" else predicted, kind="stable")[::-1]
