"""What retraining did to the test points: the changes that a protocol has measured."""

import torch
from torch import Tensor

from study.compute.problems import Fitted
from study.compute.protocols.retrained import Retrained


def measured(fitted: Fitted, outcome: Retrained) -> dict[str, Tensor]:
    """actual [R, T]: L_t(θ₋ᵢ) − L_t(θ_null), and actual_raw against θ*; null [T]: L_t(θ_null) − L_t(θ*); actual_norm [R]:
    ‖θ₋ᵢ − θ_null‖; null_norm: ‖θ_null − θ*‖.

    Of K replicas the mean of each, and of the actual changes also effects [K, R, T], those of each replica, and
    standard_error [R, T], that of their mean: the standard deviation over replicas by √K.
    """
    replicas = [_of_one(fitted, theta) for theta in outcome.stacks]
    if len(replicas) == 1:
        return replicas[0]
    every = {kind: torch.stack([replica[kind] for replica in replicas]) for kind in replicas[0]}
    return {
        **{kind: values.mean(dim=0) for kind, values in every.items()},
        "effects": every["actual"],
        "standard_error": every["actual"].std(dim=0) / len(replicas) ** 0.5,
    }


def _of_one(fitted: Fitted, theta: Tensor) -> dict[str, Tensor]:
    """Of the null and the removals theta [R + 1, P]."""
    values = torch.cat([fitted.target.values(some) for some in theta.split(256)])
    base, null = fitted.target.values(fitted.theta[None])[0], values[0]
    return {
        "actual": values[1:] - null,
        "actual_raw": values[1:] - base,
        "null": null - base,
        "actual_norm": (theta[1:] - theta[:1]).norm(dim=1),
        "null_norm": (theta[0] - fitted.theta).norm(),
    }
