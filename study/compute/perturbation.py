"""Perturbed inputs: the derivatives of a row's gradient by its own features (Koh & Liang 2017, section 2.2)."""

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, jvp, vmap

from study.compute.objective import Objective, row_losses

ROWS = 256  # whose mixed derivatives are computed at once


def by_input(objective: Objective, theta: Tensor, direction: Tensor) -> Tensor:
    """∂_x(∇_θL(z_i, θ)·u) for one network theta [P] and one direction u [P], as [n, d]."""

    def along(x: Tensor) -> Tensor:
        def total(parameters: Tensor) -> Tensor:
            return row_losses(objective.network.outputs(parameters[None], x), objective.y, objective.task).sum()

        return jvp(total, (theta,), (direction,))[1]

    return grad(along)(objective.x)


def mixed(objective: Objective, theta: Tensor, moves: Tensor) -> Tensor:
    """(∂_x∇_θL(z_i, θ)) δ_i for the rows δ_i of `moves` [n, d], as [n, P]: the change of each row's gradient, first order."""

    def along(parameters: Tensor, x: Tensor, y: Tensor, move: Tensor) -> Tensor:
        def loss(row: Tensor) -> Tensor:
            return row_losses(objective.network.outputs(parameters[None], row[None]), y[None], objective.task).sum()

        return jvp(loss, (x,), (move,))[1]

    rows = vmap(grad(along), in_dims=(None, 0, 0, 0), chunk_size=ROWS)
    return rows(theta, objective.x, objective.y, moves)


def random_signs(rows: int, features: int, seed: int) -> Tensor:
    """Each feature of each row up or down with equal chance, [n, d]."""
    return torch.as_tensor(np.random.default_rng(seed).choice([-1.0, 1.0], size=(rows, features)))
