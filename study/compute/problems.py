"""A problem is what one trial is about, in tensors: rows, network, objective and target."""

import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from study import checks, data, factories, signatures
from study.compute import perturbation
from study.compute.bands import Band
from study.compute.convolutional import Convolutional
from study.compute.curvature import Spectrum
from study.compute.linear import Linear
from study.compute.mlp import Mlp
from study.compute.modules import ModuleNetwork
from study.compute.networks import Network, Products
from study.compute.objective import CLASSIFICATION, Objective, Target
from study.errors import StudyError
from study.specs import Model, Settings
from study.trials import Trial

LARGEST_PULL = 40_000_000  # numbers of all rows' gradients that are held for as long as a trial lasts
ROW_NUMBERS = 4_000_000  # numbers of row gradients held at once
T = TypeVar("T")
DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Problem:
    """One trial's rows and functions, in float64. weights: the base weights 1/n, [1, n]."""

    settings: Settings
    split: data.Split
    network: Network
    objective: Objective
    target: Target
    weights: Tensor

    @property
    def training_dtype(self) -> torch.dtype:
        return DTYPES[self.settings.training.dtype]

    @property
    def training_identity(self) -> str:
        """A text that is equal for problems whose networks, from equal starts and weights, train alike."""
        return self.settings.model_dump_json(include={"data", "model", "training", "seed"})

    def in_double_precision(self) -> "Problem":
        """The same problem, trained in float64."""
        training = self.settings.training.model_copy(update={"dtype": "float64"})
        return replace(self, settings=self.settings.model_copy(update={"training": training}))

    def removal_weights(self, removed: Tensor) -> Tensor:
        """Weights [R, n] with one row of `removed` [R] at zero, or a group of them [R, m]: the others keep 1/n, or get 1/(n − m)
        to renormalise.

        Where a `fraction` f goes, it keeps (1 − f) times the weight of the others, 1/n or 1/(n − f·m). A row that moves instead
        of leaving keeps its weight.
        """
        points, n = self.settings.points, self.objective.rows
        if points.moves_rows:
            return self.weights.expand(len(removed), -1)
        groups = removed.reshape(len(removed), -1)
        others = 1 / n if points.removal == "zero_weight" else 1 / (n - points.fraction * groups.shape[1])
        weights = torch.full((len(removed), n), others, dtype=torch.float64, device=self.weights.device)
        weights[torch.arange(len(removed))[:, None], groups] = (1 - points.fraction) * others
        return weights


@dataclass(frozen=True)
class Fitted:
    """A problem with its trained parameters θ* [P] and what every estimator needs there; all float64.

    target: restricted to the chosen test points. many_dampings: whether the spec asks for a grid of them.
    """

    problem: Problem
    theta: Tensor
    target: Target
    many_dampings: bool = False

    @property
    def forms(self) -> bool:
        """Whether ∇²J(θ*) is formed at all."""
        return self.problem.network.forms(self.problem.objective.rows)

    @cached_property
    def hessian(self) -> Tensor:
        """∇²J(θ*), penalty included, [P, P]."""
        return self.problem.objective.hessian(self.theta[None], self.problem.weights)[0]

    @cached_property
    def factor(self) -> Tensor | None:
        """The Cholesky factor of ∇²J(θ*), [P, P]; None where it is not positive definite."""
        factor, info = torch.linalg.cholesky_ex(self.hessian)
        return factor if info == 0 else None

    def spectrum(self, positions: Tensor, gauss_newton: bool = False, penalty: bool = True) -> Spectrum:
        """Eigendecomposition of one of the two on the parameters at `positions`: computed once, for every damping."""
        key = ("spectrum", gauss_newton, penalty, bytes(positions.numpy()))
        return self.once(key, lambda: Spectrum.of(self.matrix(positions, gauss_newton, penalty)))

    def band(self, positions: Tensor, gauss_newton: bool = False, penalty: bool = True) -> Band:
        """The same matrix in band form, likewise."""
        key = ("band", gauss_newton, penalty, bytes(positions.numpy()))
        return self.once(key, lambda: Band.of(self.matrix(positions, gauss_newton, penalty)))

    def once(self, key: tuple[object, ...], compute: Callable[[], T]) -> T:
        """What estimators of one network share whatever their damping: computed when the first asks for it."""
        if key not in self._kept:
            self._kept[key] = compute()
        return cast(T, self._kept[key])

    def matrix(self, positions: Tensor, gauss_newton: bool = False, penalty: bool = True) -> Tensor:
        """One of the two on the parameters at `positions`, [p, p], less diag λ without penalty; no copy where it is whole."""
        matrix, chosen = self.gauss_newton if gauss_newton else self.hessian, positions.to(self.theta.device)
        matrix = matrix if len(chosen) == len(matrix) else matrix[chosen][:, chosen]
        return matrix if penalty else matrix - self.problem.objective.decay[0, chosen].diag()

    @cached_property
    def _kept(self) -> dict[tuple[object, ...], object]:
        return {}

    @cached_property
    def gauss_newton(self) -> Tensor:
        """The Gauss-Newton part of ∇²J(θ*), penalty included, [P, P]."""
        if self.problem.network.is_linear:
            return self.hessian
        return self.problem.objective.hessian(self.theta[None], self.problem.weights, gauss_newton=True)[0]

    def products(self, directions: Tensor, gauss_newton: bool = False) -> Tensor:
        """Products of one of the two with the rows of `directions` [K, P]; the matrix is not formed."""
        if (
            gauss_newton not in self._products
        ):  # a solve asks a thousand times: what no direction changes is computed once
            own = self.problem.objective.hessian_products(self.theta[None], self.problem.weights, gauss_newton)
            self._products[gauss_newton] = own
        return self._products[gauss_newton](directions[None])[0]

    @cached_property
    def _products(self) -> dict[bool, Products]:
        return {}

    def pull_along(self, directions: Tensor) -> Tensor:
        """`pull` times each of the `directions` [K, P], as [n, K]: row by row, so that [n, P] is never held."""
        objective, slopes = self.problem.objective, []
        for rows in torch.arange(objective.rows, device=self.theta.device).split(
            max(1, ROW_NUMBERS // len(self.theta))
        ):
            slopes.append(self._lost(rows) @ directions.T)
        return self._pull(torch.cat(slopes))

    def pull_between(self, rows: Tensor, directions: Tensor) -> Tensor:
        """`pull` of training rows [m] times one direction each, of `directions` [m, P], as [m]: no other row is looked at."""
        lost = (self._lost(rows) * directions).sum(dim=1)
        if self.problem.settings.points.removal != "renormalise":
            return self._pull(lost)
        return self._pull(lost, directions @ self._mean_gradient)

    def _lost(self, rows: Tensor) -> Tensor:
        """What the gradient of each of the rows [m] loses by removal, [m, P]: see `_pull`."""
        objective = self.problem.objective
        own = objective.batch(rows[None]).row_gradients(self.theta[None])[0]
        if self.moved is None:
            return own
        return own - replace(objective, x=self.moved).batch(rows[None]).row_gradients(self.theta[None])[0]

    @property
    def holds_pull(self) -> bool:
        """Whether `pull` is small enough to be held; where not, `pull_along` and `pull_of` are."""
        return self.problem.objective.rows * len(self.theta) <= LARGEST_PULL

    def pull_of(self, rows: Tensor) -> Tensor:
        """`pull` of some of the rows [m], as [m, P]."""
        lost = self._lost(rows)
        if self.problem.settings.points.removal != "renormalise":
            return self._pull(lost)
        return self._pull(lost, self._mean_gradient)

    @cached_property
    def _mean_gradient(self) -> Tensor:
        """Σ_j ∇L(z_j, θ*)/n, [P]."""
        objective = self.problem.objective
        _, gradient = objective.gradient(self.theta[None], self.problem.weights)
        return gradient[0] - objective.decay[0] * self.theta

    @cached_property
    def pull(self) -> Tensor:
        """Σ_j Δw_j ∇L(z_j, θ*) of every row's removal, [n, P]: the change of ∇J that removal makes at θ*.

        `zero_weight`: −f ∇L(z_i)/n, f the fraction. `renormalise`: f (Σ_j ∇L(z_j)/n − ∇L(z_i))/(n − f). `perturb_input`:
        (∇L(z_i moved) − ∇L(z_i))/n.
        """
        gradients = self.problem.objective.row_gradients(self.theta[None])[0]
        if self.moved is not None:
            gradients -= replace(self.problem.objective, x=self.moved).row_gradients(self.theta[None])[0]
        return self._pull(gradients)

    def _pull(self, lost: Tensor, mean: Tensor | None = None) -> Tensor:
        """From what each row's gradient loses: all of it, or its change where the row only moves. Of all rows, [n, ..], or of
        some, with the mean over all.
        """
        points, n = self.problem.settings.points, self.problem.objective.rows
        if points.removal == "renormalise":
            mean = lost.mean(dim=0) if mean is None else mean
            return points.fraction * (mean - lost) / (n - points.fraction)
        return -points.fraction * lost / n

    @cached_property
    def moves(self) -> Tensor | None:
        """δ_i [n, d] of every row where rows move instead of leaving: η times the signs of I_pert,loss, or random signs."""
        points, objective = self.problem.settings.points, self.problem.objective
        if not points.moves_rows:
            return None
        if points.direction == "random":
            signs = perturbation.random_signs(len(objective.x), objective.x.shape[1], points.select_seed).to(self.theta)
        else:
            solved = self.spectrum(torch.arange(len(self.theta))).solve(self.test_gradients)
            signs = -perturbation.by_input(objective, self.theta, solved[0]).sign()
        return points.perturbation * signs

    @cached_property
    def moved(self) -> Tensor | None:
        """The training rows [n, d], each after its own move."""
        return None if self.moves is None else self.problem.objective.x + self.moves

    @cached_property
    def test_gradients(self) -> Tensor:
        """∇_θ of the target at the chosen test points, [T, P]."""
        return self.target.gradients(self.theta)


def problem(trial: Trial, device: str = "cpu") -> Problem:
    """Load, split and scale the data and build the network of one trial."""
    settings = trial.settings
    loaded = data.load(settings.data, trial.folder)
    split = data.split(loaded, settings.data)
    outputs = loaded.classes if loaded.task == CLASSIFICATION else 1
    model_network = network(settings.model, loaded, len(split.train_rows), trial.folder)
    x, y = _tensor(split.x_train, device), _targets(split.y_train, loaded.task, outputs, device)
    _check_outputs(settings.model.kind, model_network, x, outputs)
    decay = torch.full((1, model_network.parameters), settings.training.weight_decay, dtype=torch.float64)
    if not settings.training.decay_biases:
        decay[:, model_network.biases()] = 0.0
    objective = Objective(model_network, loaded.task, x, y, decay.to(device))
    test_x, test_y = _tensor(split.x_test, device), _targets(split.y_test, loaded.task, outputs, device)
    target = Target(model_network, loaded.task, test_x, test_y, settings.target)
    weights = torch.full((1, len(x)), 1 / len(x), dtype=torch.float64, device=device)
    return Problem(settings, split, model_network, objective, target, weights)


def check(trial: Trial) -> None:
    """StudyError where the trial's network or the parameters its estimators name do not fit the spec."""
    built = problem(trial)
    checks.check_size(built.settings, built.network.parameters)
    if not built.network.forms(built.objective.rows):
        size = f"{built.network.parameters:,} parameters and {built.objective.rows:,} training rows"
        checks.refuse_hessian(built.settings, f"{size} are too many for that", built.network.factors)
    checks.check_layers(built.settings, built.network.layers)
    for estimator in built.settings.estimators:
        checks.check_rank(estimator, _size(built, f"estimators.{estimator.name}.parameters", estimator.parameters))
    for protocol in built.settings.protocols:
        _size(built, f"protocols.{protocol.name}.parameters", getattr(protocol, "parameters", "all"))


def _size(built: Problem, path: str, parameters: str | list[str]) -> int:
    try:
        return len(built.network.positions(parameters))
    except ValueError as error:
        raise StudyError(f"{path}: {error}") from None


def _check_outputs(kind: str, built: Network, x: Tensor, outputs: int) -> None:
    shape = tuple(built.outputs(built.initial(0)[None].to(x.device), x[:2])[0].shape)
    if shape != (len(x[:2]), outputs):
        raise StudyError(
            f"model.kind = {kind!r}: two rows gave outputs of shape {shape}; (2, {outputs}) is needed: one output per class, "
            "or one for a regression"
        )


def _tensor(values: np.ndarray, device: str) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64, device=device)


def _targets(y: np.ndarray, task: str, outputs: int, device: str) -> Tensor:
    if task == CLASSIFICATION:
        return one_hot(torch.as_tensor(y), outputs).to(device=device, dtype=torch.float64)
    return _tensor(y, device)[:, None]


def network(model: Model, dataset: data.Dataset, rows: int, folder: str) -> Network:
    """The network a `[model]` table describes; a factory is imported from the spec's folder or the working directory.

    rows: how many it is trained on. A linear model of a large table is computed piece by piece.
    """
    inputs, outputs = dataset.x.shape[1], dataset.classes if dataset.task == CLASSIFICATION else 1
    if model.is_convolutional:
        assert dataset.shape is not None  # `checks` refuses rows that are no images
        return Convolutional(model, dataset.shape, outputs)
    if checks.by_pieces(model, rows, inputs):
        return Linear(inputs, outputs, model.intercept)
    if model.kind == "linear":
        return Mlp(inputs, outputs, 0, 1, "tanh")
    if model.kind == "mlp":
        return Mlp(inputs, outputs, model.depth, model.width, model.activation)
    build = _factory(model.kind, folder)
    arguments = _arguments(build, model, inputs, outputs)

    def module() -> nn.Module:
        built = build(*arguments[0], **arguments[1])
        if not isinstance(built, nn.Module):
            raise StudyError(
                f"model.kind = {model.kind!r}: the factory returned {type(built).__name__}, not an nn.Module"
            )
        _refuse_frozen(model.kind, built)
        return built

    return ModuleNetwork(module)


def _refuse_frozen(kind: str, module: nn.Module) -> None:
    frozen = [name for name, parameter in module.named_parameters() if not parameter.requires_grad]
    if frozen:
        raise StudyError(
            f"model.kind = {kind!r}: parameter {frozen[0]} has requires_grad = False, but every parameter is trained and "
            "penalised here; register what stays fixed as a buffer (register_buffer)"
        )


def _factory(kind: str, folder: str) -> Any:
    """The factory from the very file that the trial's key holds the digest of; the spec's folder comes first."""
    place, _, name = kind.partition(":")
    _forget_another(place, factories.source(kind, folder))
    before = list(sys.path)
    sys.path[:0] = [folder, str(Path.cwd())]
    try:
        return getattr(importlib.import_module(place), name)
    except (ImportError, AttributeError) as error:
        raise StudyError(
            f"model.kind = {kind!r}: {error}; write package.module:factory, importable from the spec's folder"
        ) from error
    finally:
        sys.path[:] = [*before, *(extra for extra in (folder, str(Path.cwd())) if extra not in before)]


def _forget_another(place: str, source: Path) -> None:
    """A process serves specs of several folders: an earlier import of this name from another file must not be taken."""
    root = place.partition(".")[0]
    file = getattr(sys.modules.get(place), "__file__", None)
    if file is not None and Path(file).resolve() != source.resolve():
        for name in [name for name in sys.modules if name == root or name.startswith(root + ".")]:
            del sys.modules[name]


def _arguments(build: Any, model: Model, inputs: int, outputs: int) -> tuple[list[int], dict[str, Any]]:
    """What the factory asks for; StudyError where it asks for anything else."""
    if not callable(build):
        raise StudyError(f"model.kind = {model.kind!r}: it {signatures.NOT_CALLABLE}")
    signature = inspect.signature(build)
    if problem := signatures.refusal(signature):
        raise StudyError(f"model.kind = {model.kind!r}: the factory {problem}")
    sizes = (inputs, outputs, model.depth, model.width, model.activation)
    return signatures.arguments(signature, dict(zip(signatures.OFFERED, sizes, strict=True)))
