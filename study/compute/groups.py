"""Groups of rows that leave together: which rows go with each row that the rule chooses, and what is predicted for them."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from study.compute.estimators.prediction import Prediction
from study.compute.neighbours import layer_features
from study.compute.points import descending
from study.compute.problems import Problem

GROUPS, SCRAMBLED = 1, 2  # what is drawn from select_seed, beside the removal set itself


def members(p: Problem, theta: Tensor, leaders: np.ndarray, influence: np.ndarray) -> np.ndarray:
    """Positions [R, m] of the training rows that leave with each of the `leaders` [R], itself first, by `points.group`.

    theta: trained parameters [P]; influence: [n, T] of the estimator that rules rank by. A smaller group is the beginning of
    a larger one; neither the other leaders nor the rule that chose them make a difference.
    """
    settings = p.settings.points
    if not settings.grouped:
        return leaders[:, None]
    if settings.group == "influence":
        order = descending(settings, influence[:, 0])
        return np.stack([_below(order, leader, settings.group_size) for leader in leaders])
    orders = _by_distance(p, theta, leaders) if settings.group == "nearest" else _drawn(p, leaders)
    rows = [np.concatenate([[leader], order[order != leader]]) for leader, order in zip(leaders, orders, strict=True)]
    return np.stack([row[: settings.group_size] for row in rows])


def _drawn(p: Problem, leaders: np.ndarray) -> list[np.ndarray]:
    """Rows, or those of the leader's class, in an order that select_seed and the leader's position alone determine."""
    settings, every = p.settings.points, np.arange(p.objective.rows)
    orders = []
    for leader in leaders:
        generator = np.random.default_rng([settings.select_seed, GROUPS, leader])
        alike = p.split.y_train == p.split.y_train[leader]
        orders.append(generator.permutation(every[alike] if settings.group == "same_class" else every))
    return orders


def _by_distance(p: Problem, theta: Tensor, leaders: np.ndarray) -> list[np.ndarray]:
    """Rows nearest first, ties by position, by ‖φ(x_i) − φ(x_j)‖₂ at θ* in the features of `points.features`.

    What is not finite counts as 0, as it does where neighbours are ranked.
    """
    features = layer_features(p, theta, p.objective.x, p.settings.points.features)
    features = np.where(np.isfinite(features), features, 0.0)
    return [np.argsort(np.square(features - features[leader]).sum(axis=1), kind="stable") for leader in leaders]


def _below(order: np.ndarray, leader: int, size: int) -> np.ndarray:
    """The leader and those next below it in the `order`; where that ends, those next above."""
    place = int(np.flatnonzero(order == leader)[0])
    window = order[place : place + size]
    return np.concatenate([window, order[:place][::-1][: size - len(window)]])


def retrained_without(p: Problem, chosen: np.ndarray) -> np.ndarray:
    """Which of the groups [R, m] the networks are retrained without: `chosen`, or, as published by mistake, in another order."""
    settings = p.settings.points
    if not settings.scrambled:
        return chosen
    return chosen[np.random.default_rng([settings.select_seed, SCRAMBLED]).permutation(len(chosen))]


def predicted(p: Problem, prediction: Prediction, chosen: np.ndarray) -> Prediction:
    """The prediction for the removal of each of the groups [R, m]: first order in the change of the group's weights.

    `zero_weight`: the sum of its rows' predictions. `renormalise`: −H⁻¹ f(m·mean − Σ lost)/(n − f·m), that sum by
    (n − f·m)/(n − f), because the others get 1/(n − f·m).
    """
    settings, n = p.settings.points, p.objective.rows
    kept = n - settings.fraction, n - settings.fraction * chosen.shape[1]
    scale = kept[0] / kept[1] if settings.removal == "renormalise" else 1.0
    parts = [prediction.of_rows(rows) for rows in torch.as_tensor(chosen, device=prediction.delta.device).T]
    changes = [part.change for part in parts if part.change is not None]
    delta = _summed(scale, [part.delta for part in parts])
    return replace(parts[0], changes=_summed(scale, changes) if changes else None, delta=delta)


def _summed(scale: float, parts: list[Tensor]) -> Tensor:
    whole = parts[0]
    for others in parts[1:]:
        whole = whole + others
    return scale * whole
