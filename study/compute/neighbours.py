"""Training rows ranked by their distance from test points in the features of a layer, by FAISS."""

from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from study.checks import NEIGHBOURS, check_extra
from study.compute.problems import Problem
from study.errors import StudyError
from study.specs import Settings


def check(settings: Settings) -> None:
    """StudyError where FAISS is needed and missing."""
    if settings.feature_layers:
        _faiss()


def rankings(p: Problem, theta: Tensor, test_positions: np.ndarray, layers: list[str]) -> dict[str, np.ndarray]:
    """Of each layer the place [n, T] of every training row among the neighbours of each test point: 0 is the nearest.

    theta: trained parameters [P]; test_positions: the chosen held-out rows. StudyError on a layer the network lacks.
    """
    found = {}
    for layer in layers:
        train, test = features(p, theta, test_positions, layer)
        order = nearest(train, test, len(train)).T
        places = np.empty_like(order)
        np.put_along_axis(places, order, np.arange(len(order))[:, None], axis=0)
        found[layer] = places.astype(np.uint16 if len(order) <= 2**16 else np.int32)
    return found


def features(p: Problem, theta: Tensor, test_positions: np.ndarray, layer: str) -> tuple[np.ndarray, np.ndarray]:
    """Features of the training rows [n, f] and of the chosen test points [T, f] at θ*."""
    chosen = p.target.x[torch.as_tensor(test_positions, device=p.target.x.device)]
    return layer_features(p, theta, p.objective.x, layer), layer_features(p, theta, chosen, layer)


def layer_features(p: Problem, theta: Tensor, x: Tensor, layer: str) -> np.ndarray:
    """What the network theta [P] makes of rows x [n, d] at a layer, [n, f]; StudyError on one that it lacks."""
    try:
        return p.network.features(theta, x, layer).cpu().numpy()
    except ValueError as error:
        raise StudyError(f"features: {error}") from None


def nearest(train: np.ndarray, test: np.ndarray, count: int) -> np.ndarray:
    """Positions [T, count] of the training rows nearest to each test point, nearest first, ties by row number.

    ‖φ(x_i) − φ(x_t)‖₂ as Guo et al. (2021) preselect by; train [n, f], test [T, f]. The search is exact (IndexFlatL2) but in
    float32: what it finds, and whatever lies within its rounding of the last of these, is put in order by distances in
    float64. What is not finite counts as 0: a network that diverged ranks by row number. StudyError where count is not
    1 to n, or FAISS is missing.
    """
    if not 1 <= count <= len(train):
        raise StudyError(f"{count} nearest neighbours: there are {len(train)} training rows")
    train, test = (np.where(np.isfinite(values), values, 0.0) for values in (train, test))
    centre = train.mean(axis=0)  # distances stay as they are, and their rounding in float32 shrinks
    train, test = train - centre, test - centre
    index = _faiss().IndexFlatL2(train.shape[1])
    index.add(_single(train))
    return np.stack([_nearest(index, train, point, count) for point in test])


def _nearest(index: Any, train: np.ndarray, point: np.ndarray, count: int) -> np.ndarray:
    # one point at a time: of many, FAISS would compute ‖x‖² − 2xy + ‖y‖², which cancels
    squared, found = index.search(_single(point[None]), count)
    sizes = float(np.square(train).sum(axis=1).max() + np.square(point).sum())
    rounding = (4 + 2 * len(point)) * np.finfo(np.float32).eps * sizes
    _, _, close = index.range_search(_single(point[None]), float(squared[0, -1] + rounding))
    rows = np.union1d(found[found >= 0], close)
    if len(rows) < count:  # numbers too large for float32
        rows = np.arange(len(train))
    distances = np.square(train[rows] - point).sum(axis=1)
    return rows[np.lexsort((rows, distances))][:count]


def _single(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, dtype=np.float32)


def _faiss() -> ModuleType:
    check_extra(*NEIGHBOURS)
    import faiss  # an optional package, which takes a while to load: only where a spec asks for neighbours

    faiss.omp_set_num_threads(1)  # every worker has one core
    return faiss
