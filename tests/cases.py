"""Small problems, written once: experiments as a researcher would write them, and slow plain torch to compare with."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, one_hot

from study import trials as spec_trials
from study.compute import fitting, fused
from study.compute.mlp import Mlp
from study.compute.objective import Objective, Target
from study.compute.problems import Fitted, Problem, problem
from study.compute.trial import run_unit
from study.records import Record
from study.trials import Trial

ACTIVATIONS = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "softplus": lambda: nn.Softplus(threshold=700),
}
IRIS = {
    "name": "case",
    "data.name": "iris",
    "data.test_rows": [83, 20, 120],
    "model.kind": "mlp",
    "model.width": 3,
    "training.optimizer": "lbfgs",
    "training.steps": 200,
    "training.weight_decay": 0.01,
    "estimators": [{"kind": "exact"}],
    "protocols": [{"kind": "stationary"}],
}


def trials(
    folder: Path, changes: dict[str, Any] | None = None, sweep: dict[str, list[Any]] | None = None
) -> list[Trial]:
    """The trials of IRIS with some keys changed, written as a spec and loaded like any other."""
    keys = {**IRIS, **(changes or {}), **({"sweep": [sweep]} if sweep else {})}
    path = folder / "case.toml"
    path.write_text("".join(f"{key} = {_toml(value)}\n" for key, value in keys.items()))
    return spec_trials.load(path).trials


def record(folder: Path, changes: dict[str, Any] | None = None) -> Record:
    """The record of one trial, from spec to numbers."""
    [found] = run_unit(trials(folder, changes))
    assert isinstance(found, Record), found
    return found


def fitted(folder: Path, changes: dict[str, Any] | None = None) -> Fitted:
    """One trial's problem, trained as its spec says, with all held-out rows as test points."""
    [trial] = trials(folder, changes)
    p = problem(trial)
    return Fitted(p, fitting.scratch([fitting.initial(p)])[0][0], p.target)


def unpenalised(p: Problem) -> Problem:
    """The same problem with no penalty in its objective."""
    return replace(p, objective=replace(p.objective, decay=torch.zeros_like(p.objective.decay)))


def write_csv(folder: Path, x: np.ndarray, y: np.ndarray, task: str = "classification") -> dict[str, Any]:
    """A user's data file; returns the keys that name it."""
    header = ",".join([*(f"x{column}" for column in range(x.shape[1])), "target"])
    np.savetxt(folder / "case.csv", np.column_stack([x, y]), delimiter=",", header=header, comments="", fmt="%.17g")
    return {"data.name": "case.csv", "data.task": task}


def blobs(folder: Path, rows: int = 24, classes: int = 2, apart: float = 1.0) -> dict[str, Any]:
    """Gaussian clouds in the plane, `apart` standard deviations from the origin; one row of each class in turn."""
    generator = np.random.default_rng(0)
    y = np.arange(rows) % classes
    angle = 2 * np.pi * y / classes
    x = apart * np.column_stack([np.cos(angle), np.sin(angle)]) + generator.normal(size=(rows, 2))
    return write_csv(folder, x, y)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f'"{key}" = {_toml(inner)}' for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


@dataclass(frozen=True)
class Stack:
    """Networks with random parameters theta [B, P], their objective, random weights [B, n] and test points."""

    objective: Objective
    theta: Tensor
    weights: Tensor
    target: Target

    def to(self, dtype: torch.dtype) -> "Stack":
        return replace(
            self, objective=self.objective.to(dtype, "cpu"), theta=self.theta.to(dtype), weights=self.weights.to(dtype)
        )


def stack(
    task: str = "classification",
    depth: int = 1,
    width: int = 4,
    activation: str = "tanh",
    networks: int = 3,
    rows: int = 11,
    own_rows: bool = False,
    weight_decay: float = 0.01,
    kind: str = "loss",
    seed: int = 0,
) -> Stack:
    """Random networks of 3 inputs on random rows; weight decays differ along the stack."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    outputs = 3 if task == "classification" else 1
    network = Mlp(3, outputs, depth, width, activation)
    lead = (networks, rows) if own_rows else (rows,)
    x, y = normal(*lead, 3), _targets(task, lead, generator)
    decay = weight_decay * torch.arange(1.0, networks + 1, dtype=torch.float64)[:, None].expand(-1, network.parameters)
    weights = torch.rand(networks, rows, generator=generator, dtype=torch.float64) / rows
    target = Target(network, task, normal(5, 3), _targets(task, (5,), generator), kind)
    return Stack(Objective(network, task, x, y, decay.clone()), normal(networks, network.parameters), weights, target)


def _targets(task: str, lead: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if task == "classification":
        return one_hot(torch.randint(3, lead, generator=generator), 3).double()
    return torch.randn(*lead, 1, generator=generator, dtype=torch.float64)


def plain_module(network: Mlp) -> nn.Sequential:
    """The same architecture as a researcher writes it."""
    pairs = list(zip(network.dimensions[:-1], network.dimensions[1:], strict=True))
    hidden = [layer for pair in pairs[:-1] for layer in (nn.Linear(*pair), ACTIVATIONS[network.activation]())]
    return nn.Sequential(*hidden, nn.Linear(*pairs[-1])).double()


def plain_outputs(network: Mlp, x: Tensor) -> Callable[[Tensor], Tensor]:
    """f(x; θ) of one flat θ [P], by functional_call on the plain module."""
    module = plain_module(network)
    named = dict(module.named_parameters())

    def outputs(theta: Tensor) -> Tensor:
        pieces = theta.split([p.numel() for p in named.values()])
        return functional_call(
            module, {name: piece.view(p.shape) for (name, p), piece in zip(named.items(), pieces, strict=True)}, (x,)
        )

    return outputs


def plain_losses(outputs: Tensor, y: Tensor, task: str) -> Tensor:
    if task == "classification":
        return cross_entropy(outputs, y.argmax(dim=1), reduction="none")
    return 0.5 * (outputs - y)[:, 0] ** 2


def plain_value(objective: Objective, weights: Tensor, b: int = 0) -> Callable[[Tensor], Tensor]:
    """J_w of network b as a scalar function of its θ [P], from torch's own losses."""
    one = objective.networks(torch.tensor([b])) if len(objective.decay) > 1 or objective.x.dim() == 3 else objective
    x, y = (t[0] if t.dim() == 3 else t for t in (one.x, one.y))
    outputs = plain_outputs(objective.network, x)

    def value(theta: Tensor) -> Tensor:
        return (weights[b] * plain_losses(outputs(theta), y, objective.task)).sum() + 0.5 * (
            one.decay[0] * theta**2
        ).sum()

    return value


def differences(function: Callable[[Tensor], Tensor], theta: Tensor, step: float = 1e-5) -> Tensor:
    """Central differences of a function of θ [P], as [.., P]."""
    sides = [
        (function(theta + step * e) - function(theta - step * e)) / (2 * step)
        for e in torch.eye(len(theta), dtype=theta.dtype)
    ]
    return torch.stack(sides, dim=-1)


def eager(monkeypatch: Any) -> None:
    """Switch the fused kernels off."""
    monkeypatch.setattr(fused, "kernel", lambda *_: None)
    monkeypatch.setattr(fused, "hessian", lambda *_: None)


def rows_of(p: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Training rows with a column of ones, and targets."""
    return np.column_stack([p.split.x_train, np.ones(len(p.split.x_train))]), p.split.y_train
