"""What a script is given: a trained network and its rows as one .npz file, without a word on where they come from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from study import checks
from study.errors import StudyError
from study.evidence import files
from study.evidence.readings import positions
from study.records import Record

if TYPE_CHECKING:
    from study.specs import Settings
    from study.trials import Trial


@dataclass(frozen=True)
class Question:
    """One audited trial: the `problem` its network poses (see `problem`), our `exact` answer [n, T], and a name for its cell."""

    trial: Trial
    cell: str
    problem: dict[str, Any]
    exact: np.ndarray


def question(trial: Trial, record: Record) -> Question:
    """Raises StudyError where the trial has no exact answer, or asks what a script cannot rebuild."""
    settings = trial.settings
    _refuse(settings, trial.key)
    exact = _exact(settings, trial.key)
    damping = settings.training.weight_decay + exact.damping
    problem = _problem(trial, record, damping, record.header["base"]["largest_eigenvalue"] + exact.damping)
    if "predicted_rows" in record.arrays:
        raise StudyError(
            f"trial {trial.key[:12]}: its record holds predictions of the removed rows only; choose fewer test points or rows"
        )
    flags = record.header["estimators"][exact.name]["flags"]
    name = f"{settings.data.name}, {len(problem['theta']):,} parameters"
    cell = f"{name}, indefinite" if "indefinite" in flags else name
    return Question(trial, cell, problem, record.arrays[f"predicted/{exact.name}"])


def write(questions: Sequence[Question], folder: Path) -> list[Path]:
    """The problem of each as `folder`/KEY-DIGEST.npz, DIGEST of its content: networks trained elsewhere may differ a little."""
    paths = []
    for asked in questions:
        path = folder / f"{asked.trial.key}-{_digest(asked.problem)}.npz"
        with files.replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **asked.problem)
        paths.append(path)
    return paths


def _digest(problem: dict[str, Any]) -> str:
    digest = hashlib.sha256()
    for name in sorted(problem):
        digest.update(name.encode() + np.asarray(problem[name]).tobytes())
    return digest.hexdigest()[:12]


def _problem(trial: Trial, record: Record, damping: float, top: float) -> dict[str, Any]:
    """theta [P] layer by layer (weights row by row, then biases), dimensions of the layers, activation; x [n, d], y [n] and the
    chosen test rows, scaled as in training; damping: λ + δ; top: largest eigenvalue of H + δI, penalty included. All float64.
    """
    settings, arrays = trial.settings, record.arrays
    dataset, split = checks.load_split(settings, trial.folder)
    model = settings.model
    hidden = [model.width] * model.depth if model.kind == "mlp" else []
    chosen = positions(split.test_rows, arrays["test_rows"])
    return {
        "theta": arrays["base_parameters"].astype(np.float64), "dimensions": [dataset.x.shape[1], *hidden, dataset.classes],
        "activation": model.activation, "x": split.x_train, "y": split.y_train, "x_test": split.x_test[chosen],
        "y_test": split.y_test[chosen], "damping": damping, "top": top,
    }  # fmt: skip


def _exact(settings: Settings, key: str) -> Any:
    for estimator in settings.estimators:
        if estimator.kind == "exact" and estimator.parameters == "all":
            return estimator
    raise StudyError(
        f"trial {key[:12]}: no estimator of kind exact on all parameters, which the audit compares with: "
        'add `[[estimators]]` with `kind = "exact"` to the spec and run it'
    )


def _refuse(settings: Settings, key: str) -> None:
    """What the scripts do not rebuild is refused rather than audited as something else."""
    regression = settings.data.name == "diabetes" or settings.data.task == "regression"
    kind = settings.model.kind
    wrong = {
        f'model.kind = "{kind}"; audited are mlp and linear': kind not in ("mlp", "linear"),
        "model.intercept = false; audited are models with one": not settings.model.intercept,
        f"data.name = {settings.data.name!r} is a regression; audited are classifications": regression,
        'target = "margin"; audited are losses': settings.target != "loss",
        f'points.removal = "{settings.points.removal}"; audited is zero_weight': settings.points.removal
        != "zero_weight",
        f"points.fraction = {settings.points.fraction:g}; audited is removal of the whole row": settings.points.fraction
        != 1,
        f"points.group_size = {settings.points.group_size}; audited is removal of single rows": settings.points.grouped,
        "training.decay_biases = false; packages damp all parameters alike": not settings.training.decay_biases,
    }
    for reason, holds in wrong.items():
        if holds:
            raise StudyError(f"trial {key[:12]}: {reason}")
