"""Gaps: how far neighbouring nodes of a path from truth to prediction lie apart, in parameters, outputs and the target.

A node is what one protocol has measured, or one estimator predicts, of every removal. Each is computed on its own; a gap is the
difference of two. Predictions count to first order in outputs and target as well as in parameters, and so does `linearised_pbrf`,
whose quadratic has the linearised outputs (Bae et al. 2022, equation 13): it then differs from `ggn` by its solver alone, and
nothing of what is called linearisation is left to later gaps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from study.compute.estimators.prediction import Prediction
from study.compute.objective import Target
from study.compute.protocols.retrained import Retrained

LINEAR = ("linearised_pbrf",)  # kinds of protocol whose outputs are the linearised ones
TOGETHER = 256  # removals whose outputs are computed at once


@dataclass(frozen=True)
class Node:
    """Of every removal: change Δθ [R, P] and outputs Δf [R, T, C] on the chosen test points, NaN where none is known; change of
    the target [R, T].
    """

    change: Tensor
    outputs: Tensor
    target: Tensor


def measured(target: Target, outcome: Retrained, kind: str, actual: Tensor) -> Node:
    """θ₋ᵢ − θ_null and f(θ₋ᵢ) − f(θ_null) of a protocol; of a LINEAR one to first order at its null.

    actual: its change of the target [R, T], as the record has it. Of several replicas (null and removals of each in turn) the
    means, for an effect that is expected over seeds.
    """
    stacks = outcome.theta.unflatten(0, (-1, len(actual) + 1))
    change = (stacks[:, 1:] - stacks[:, :1]).mean(dim=0)
    if kind in LINEAR:
        null = outcome.theta[0]
        along = [target.along(null.expand_as(some).clone(), some) for some in change.split(TOGETHER)]
        return Node(change, _linear_outputs(target, null, change), torch.cat(along))
    outputs = torch.cat([target.network.outputs(some, target.x) for some in outcome.theta.split(TOGETHER)])
    outputs = outputs.unflatten(0, stacks.shape[:2])
    return Node(change, (outputs[:, 1:] - outputs[:, :1]).mean(dim=0), actual)


def predicted(target: Target, prediction: Prediction, theta: Tensor) -> Node:
    """Δθ and JΔθ of an estimator whose prediction is of the R removals alone (see `groups.predicted`); J = ∂f/∂θ at theta [P], or
    where Δθ starts from otherwise.
    """
    delta = prediction.delta
    if prediction.change is None:
        unknown = delta.new_full((), torch.nan)
        outputs = unknown.expand(*delta.shape, target.y.shape[1])
        return Node(unknown.expand(len(delta), len(theta)), outputs, delta)
    origin = theta if prediction.origin is None else prediction.origin
    return Node(prediction.change, _linear_outputs(target, origin, prediction.change), delta)


def _linear_outputs(target: Target, origin: Tensor, change: Tensor) -> Tensor:
    """JΔθ for the rows of `change` [R, P], as [R, T, C], in one forward pass."""

    def outputs(theta: Tensor) -> Tensor:
        return target.network.outputs(theta, target.x)

    parts = [torch.func.jvp(outputs, (origin.expand_as(some).clone(),), (some,))[1] for some in change.split(TOGETHER)]
    return torch.cat(parts)


def arrays(paths: Mapping[str, Sequence[str]], nodes: Mapping[str, Node], slope: Tensor) -> dict[str, np.ndarray]:
    """Of every path with G gaps A → B, as it goes into the record; slope: ∂ of the target by the outputs at θ*, [T, C].

    gap/PATH/parameters          [G, R]     ‖Δθ_B − Δθ_A‖
    gap/PATH/parameters_signed   [G, R]     (Δθ_B − Δθ_A)·u, u the unit vector along Δθ of the path's last node that knows it
    gap/PATH/outputs             [G, R, T]  root mean square over outputs of Δf_B − Δf_A
    gap/PATH/outputs_signed      [G, R, T]  (Δf_B − Δf_A)·slope/(‖slope‖√C): at most `outputs`, positive where the target rises
    gap/PATH/loss                [G, R, T]  target_B − target_A, signed; margins where the target is the margin
    effect/PATH/QUANTITY                    of the path's first node the same, unsigned: [R] or [R, T]
    """
    found: dict[str, np.ndarray] = {}
    for path, names in paths.items():
        own = [nodes[name] for name in names]
        along = _direction(own)
        slopes = slope / (slope.norm(dim=1, keepdim=True) * slope.shape[1] ** 0.5)
        parts = [_between(first, second, along, slopes) for first, second in pairwise(own)]
        found |= {f"gap/{path}/{name}": torch.stack([part[name] for part in parts]).cpu().numpy() for name in parts[0]}
        effect = {"parameters": own[0].change.norm(dim=1), "outputs": _size(own[0].outputs), "loss": own[0].target.abs()}
        found |= {f"effect/{path}/{name}": values.cpu().numpy() for name, values in effect.items()}
    return found


def _direction(nodes: Sequence[Node]) -> Tensor:
    """u [R, P] of `arrays`: NaN where no node knows Δθ, or where it is zero."""
    for node in reversed(nodes):
        if torch.isfinite(node.change).any():
            return node.change / node.change.norm(dim=1, keepdim=True)
    return torch.full_like(nodes[0].change, torch.nan)


def _between(first: Node, second: Node, along: Tensor, slopes: Tensor) -> dict[str, Tensor]:
    moved, outputs = second.change - first.change, second.outputs - first.outputs
    return {
        "parameters": moved.norm(dim=1),
        "parameters_signed": (moved * along).sum(dim=1),
        "outputs": _size(outputs),
        "outputs_signed": (outputs * slopes).sum(dim=2),
        "loss": second.target - first.target,
    }


def _size(outputs: Tensor) -> Tensor:
    """Root mean square over outputs, [R, T]."""
    return outputs.square().mean(dim=2).sqrt()
