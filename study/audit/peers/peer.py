"""What the stand-alone scripts share: the problem they are given, constructed problems, and how answers are written down.

A script runs in the environment of the package it audits, where the study is not installed: NumPy, torch, nothing else.

    python PACKAGE_peer.py FOLDER [PROBLEM.npz ...]

writes FOLDER/PROBLEM.npz for every problem (`report`: JSON of version, methods, settings, seconds and errors; `predicted/K`
[n, T] for the K-th method) and FOLDER/cases.json with the minimal cases of the package.
"""

import json
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh, "relu": nn.ReLU, "selu": nn.SELU, "gelu": nn.GELU,
    "softplus": lambda: nn.Softplus(threshold=500.0),  # torch's default has a jump in its curvature
}  # fmt: skip
STEPS = 1000  # of a recursion, and terms of a series
LONGEST_LINE = 240  # characters of a message
DEPRECATED = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)
MOST_DIRECTIONS = 200  # of a low-rank inverse


@dataclass(frozen=True)
class Problem:
    """A trained network of cross-entropy loss and its rows: n to train on, T to test on.

    damping: λ + δ, what is added to the Hessian of the mean training loss. top: the largest eigenvalue of the sum.
    """

    theta: Tensor
    dimensions: tuple[int, ...]
    activation: str
    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor
    damping: float
    top: float

    @property
    def parameters(self) -> int:
        return len(self.theta)

    @property
    def directions(self) -> int:
        return min(self.parameters, MOST_DIRECTIONS)

    @property
    def scale(self) -> float:
        """A divisor with which the recursion contracts wherever curvature is positive."""
        return 1.05 * self.top

    def network(self) -> nn.Sequential:
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(self.dimensions):
            layers += [nn.Linear(inputs, outputs), ACTIVATIONS[self.activation]()]
        network = nn.Sequential(*layers[:-1]).double()
        nn.utils.vector_to_parameters(self.theta.clone(), network.parameters())
        return network.eval()

    def training(self, batches: int = 1) -> DataLoader:
        return _loader(self.x, self.y, batches)

    def testing(self) -> DataLoader:
        return _loader(self.x_test, self.y_test, 1)


class Method(NamedTuple):
    """One way to the predicted change of test loss [n, T], in the units of the study: (1/n) ∇L_tᵀ(H + dampingI)⁻¹∇L_i."""

    name: str
    setting: str
    predict: Callable[[Problem], Tensor]


class Case(NamedTuple):
    """A claim about the package, what a constructed problem showed, and whether that confirms it."""

    claim: str
    measured: str
    confirmed: bool


def _loader(x: Tensor, y: Tensor, batches: int) -> DataLoader:
    return DataLoader(TensorDataset(x, y), batch_size=-(-len(x) // batches), shuffle=False)


def read(path: Path) -> Problem:
    with np.load(path) as held:
        tensors = {name: torch.from_numpy(held[name]) for name in ("theta", "x", "y", "x_test", "y_test")}
        dimensions, activation = tuple(held["dimensions"].tolist()), str(held["activation"])
        return Problem(
            dimensions=dimensions,
            activation=activation,
            damping=float(held["damping"]),
            top=float(held["top"]),
            **tensors,
        )


def main(package: str, methods: Sequence[Method], cases: Sequence[Callable[[], Case]] = ()) -> None:
    """What a script does: every problem by every method, then the minimal cases."""
    torch.set_default_dtype(torch.float64)
    folder, *paths = map(Path, sys.argv[1:])
    for path in paths:
        _answer(folder / path.name, package, methods, read(path))
    found = [{"package": package, "version": version(package), **_tried(case)} for case in cases]
    (folder / "cases.json").write_text(json.dumps(found))


def _answer(path: Path, package: str, methods: Sequence[Method], problem: Problem) -> None:
    rows: list[dict[str, Any]] = []
    arrays = {}
    for place, method in enumerate(methods):
        torch.manual_seed(0)
        error = ""
        started = time.process_time()  # of this process alone: others may share the processor
        with heard() as said:
            try:
                arrays[f"predicted/{place}"] = _of_shape(method.predict(problem), (len(problem.x), len(problem.x_test)))
            except Exception as raised:  # what a package raises is a finding
                error = _in_words(raised)
        row = {"method": method.name, "setting": method.setting, "seconds": time.process_time() - started}
        rows.append({**row, "warning": "; ".join(dict.fromkeys(said)), "error": error})
    report = np.array(json.dumps({"version": version(package), "methods": rows}))
    with open(path.with_suffix(".part"), "wb") as file:
        np.savez(file, allow_pickle=False, report=report, **arrays)
    path.with_suffix(".part").replace(path)  # an answer is there whole or not at all


def _of_shape(predicted: Tensor, shape: tuple[int, int]) -> np.ndarray:
    if predicted.shape != shape:
        raise ValueError(f"the answer has the shape {tuple(predicted.shape)}, not {shape}")
    return predicted.detach().double().numpy()


@contextmanager
def heard() -> Iterator[list[str]]:
    """What a package says meanwhile, by `warnings` (of what is deprecated nothing) or by logging: the first line of each."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(_first_line(record.levelname, record.getMessage()))  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield said
    finally:
        logging.getLogger().removeHandler(handler)
        told = [each for each in caught if not issubclass(each.category, DEPRECATED)]
        said += [_first_line(each.category.__name__, str(each.message)) for each in told]


def _tried(case: Callable[[], Case]) -> dict[str, Any]:
    torch.manual_seed(0)
    try:
        found = case()
    except Exception as raised:  # likewise: the case could not be decided
        return {"claim": case.__name__, "measured": _in_words(raised), "verdict": "undecided"}
    return {
        "claim": found.claim, "measured": found.measured, "verdict": "confirmed" if found.confirmed else "refuted",
    }  # fmt: skip


def _in_words(raised: Exception) -> str:
    return _first_line(type(raised).__name__, str(raised))


def _first_line(kind: str, text: str) -> str:
    lines = text.strip().splitlines() or [""]
    return f"{kind}: {lines[0][:LONGEST_LINE]}"


def softmax_regression(rows: int = 60, tests: int = 25, inputs: int = 4, classes: int = 2) -> Problem:
    """Random rows of two overlapping classes or more and random parameters: convex, so that H + dampingI is positive definite."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    y, y_test = (torch.randint(classes, (count,), generator=generator) for count in (rows, tests))
    centres = normal(classes, inputs)
    x, x_test = (centres[of] + normal(len(of), inputs) for of in (y, y_test))
    theta = 0.3 * normal(classes * (inputs + 1))
    return Problem(theta, (inputs, classes), "tanh", x, y, x_test, y_test, damping=0.05, top=10.0)


def dense(problem: Problem, chosen: slice = slice(None)) -> np.ndarray:
    """Exact answer [n, T] of a softmax regression in closed form, without automatic differentiation.

    With J_i = ∂f(x_i)/∂θ, p_i the predicted and e_i the true class: ∇L_i = J_iᵀ(p_i − e_i), H = mean of
    J_iᵀ(diag p_i − p_ip_iᵀ)J_i over the `chosen` rows.
    """
    x, p, gradients = _differentiated(problem, problem.x, problem.y)
    *_, test_gradients = _differentiated(problem, problem.x_test, problem.y_test)
    curvature = np.einsum("ic,cd->icd", p, np.eye(p.shape[1])) - np.einsum("ic,id->icd", p, p)
    hessian = np.einsum("icp,icd,idq->pq", x[chosen], curvature[chosen], x[chosen]) / len(x[chosen])
    hessian += problem.damping * np.eye(problem.parameters)
    return gradients @ np.linalg.solve(hessian, test_gradients.T) / len(x)


def _differentiated(problem: Problem, x: Tensor, y: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """J [n, C, P], p [n, C] and ∇L [n, P] of a softmax regression; parameters are the weights row by row, then the biases."""
    inputs, classes = problem.dimensions
    theta = problem.theta.numpy()
    weight, bias = theta[: inputs * classes].reshape(classes, inputs), theta[inputs * classes :]
    logits = x.numpy() @ weight.T + bias
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    jacobian = np.stack([np.hstack([np.kron(np.eye(classes), row), np.eye(classes)]) for row in x.numpy()])
    residual = p - np.eye(classes)[y.numpy()]
    return jacobian, p, np.einsum("icp,ic->ip", jacobian, residual)


def slope(found: np.ndarray, exact: np.ndarray) -> float:
    """Of the least-squares line of `found` on `exact`, both flattened."""
    return float(np.cov(exact.ravel(), found.ravel())[0, 1] / exact.var(ddof=1))


def distance(found: np.ndarray, exact: np.ndarray) -> float:
    """‖found − exact‖/‖exact‖."""
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))
