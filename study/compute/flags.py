"""Reasons for doubt, in the words that every table shows. A flag never removes a number."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from study.compute import fused
from study.compute.certificates import Certificate
from study.compute.fitting import Job
from study.compute.networks import Network
from study.compute.objective import CLASSIFICATION, Objective
from study.compute.problems import Fitted
from study.compute.protocols.retrained import Retrained
from study.specs.schema import CERTIFYING

COLLAPSED_NORM, COLLAPSED_LOSS = 0.1, 1e-3


class Rows(Protocol):
    """Anything with rows and targets: an objective or a target."""

    @property
    def x(self) -> Tensor: ...
    @property
    def y(self) -> Tensor: ...
    @property
    def task(self) -> str: ...


def accuracy(network: Network, rows: Rows, theta: Tensor) -> float | None:
    """Share of rows classified correctly by one network theta [1, P]; None for regression."""
    if rows.task != CLASSIFICATION:
        return None
    outputs = fused.outputs(network, theta, rows.x)[0]
    return (outputs.argmax(dim=1) == rows.y.argmax(dim=1)).double().mean().item()


def of_base(fitted: Fitted, base: Certificate) -> list[str]:
    """Flags of the trained network: diverged, collapsed, no_minimum, uncertified_base (polish did not reach a minimum)."""
    problem, theta = fitted.problem, fitted.theta[None]
    if not torch.isfinite(theta).all():
        return ["diverged"]
    flags = ["collapsed"] if collapsed(problem.objective, theta, problem.weights)[0] else []
    if no_minimum(problem.objective, theta, problem.weights)[0]:
        flags.append("no_minimum")
    if problem.settings.training.polish and not base.certified[0]:
        flags.append("uncertified_base")
    return flags


def of_protocol(fitted: Fitted, outcome: Retrained) -> list[str]:
    """`drift`: the null moved further from θ*, where the predictions are made, than half of its removals moved from it.

    Not of replicas, which end elsewhere by design.
    """
    if outcome.replicas > 1:
        return []
    null = outcome.theta[0]
    drifted = (null - fitted.theta).norm() > (outcome.theta[1:] - null).norm(dim=1).median()
    return ["drift"] if drifted else []


def of_removals(kind: str, job: Job, outcome: Retrained, certificate: Certificate) -> np.ndarray:
    """Reasons [R] for each removal: those of the network itself, and where the protocol promises it, of its certificate.

    Of replicas those that hold for any.
    """
    objective, weights, theta = job.objective, job.weights, outcome.theta
    finite = [torch.isfinite(some).all(dim=1).cpu().numpy() for some in outcome.stacks]
    constant = [known & collapsed(objective, some, weights) for known, some in zip(finite, outcome.stacks, strict=True)]
    reasons = {
        "scrambled": np.full(len(weights), job.problem.settings.points.scrambled),
        "diverged": ~np.all(finite, axis=0),
        "collapsed": np.any(constant, axis=0),
        "another_basin": np.all(finite, axis=0) & certificate.another_basin,
    }
    if kind == "stationary":
        reasons["no_minimum"] = no_minimum(objective, theta, weights)
    if kind in CERTIFYING:
        reasons["uncertified"] = ~(certificate.certified & certificate.certified[0])
    named = [[name if hit else "" for hit in hits[1:]] for name, hits in reasons.items()]
    return np.array(["; ".join(filter(None, row)) for row in zip(*named, strict=True)], dtype=np.str_)


def collapsed(objective: Objective, theta: Tensor, weights: Tensor) -> np.ndarray:
    """A constant prediction: ‖θ‖ < 0.1, or a training loss within 1e-3 of the class-prior entropy.

    For a regression, whose target may have any scale: a training loss within a relative 1e-3 of half the target's variance.
    """
    share = _mean(objective.y, weights)  # class shares, or the mean target
    if objective.task == CLASSIFICATION:
        constant = -(share * share.clamp(min=1e-300).log()).sum(dim=1)
        small = theta.norm(dim=1) < COLLAPSED_NORM
        margin = torch.full_like(constant, COLLAPSED_LOSS)
    else:
        mean_square = _mean(objective.y.square(), weights)
        constant = 0.5 * (mean_square - share.square()).sum(dim=1)
        small, margin = torch.zeros_like(constant, dtype=torch.bool), COLLAPSED_LOSS * constant
    loss = objective.data_loss(theta, weights) / weights.sum(dim=1)
    return (small | ((loss - constant).abs() < margin)).cpu().numpy()


def _mean(y: Tensor, weights: Tensor) -> Tensor:
    """Of targets [n, C] or [B, n, C] under the weights [B, n], as [B, C]."""
    share = weights / weights.sum(dim=1, keepdim=True)
    return share @ y if y.dim() == 2 else (share[:, None] @ y)[:, 0]


def no_minimum(objective: Objective, theta: Tensor, weights: Tensor) -> np.ndarray:
    """No penalty and every row that counts classified correctly: scaling the last layer up lowers the loss for ever."""
    if objective.task != CLASSIFICATION or objective.decay.any():
        return np.zeros(len(theta), dtype=bool)
    correct = objective.network.outputs(theta, objective.x).argmax(dim=2) == objective.y.argmax(dim=-1)
    return (correct | (weights == 0)).all(dim=1).cpu().numpy()
