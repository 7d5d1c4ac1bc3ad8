"""Synthetic experiments: trials and records of chosen agreement, without any training."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from study.evidence.store import Store
from study.records import Record


@dataclass(frozen=True)
class Trial:
    """What the evidence modules use of study.trials.Trial."""

    settings: Any
    key: str
    swept: dict[str, object]


@dataclass(frozen=True)
class Experiment:
    """What the evidence modules use of study.trials.Experiment."""

    name: str = "synthetic"
    question: str = "Is anything here?"
    primary: str = "spearman"
    trials: list[Trial] = field(default_factory=list)
    swept_paths: list[str] = field(default_factory=list)
    twins: tuple[Any, ...] = ()


def experiment(axes: dict[str, list[object]] | None = None, seeds: int = 3, **fields: Any) -> Experiment:
    """The product of `axes` (dotted path -> values) and seeds 0, 1, …"""
    axes = {"model.depth": [1, 2]} if axes is None else axes
    trials = []
    for *values, seed in itertools.product(*axes.values(), range(seeds)):
        swept = dict(zip(axes, values, strict=True))
        key = hashlib.sha256(json.dumps([swept, seed]).encode()).hexdigest()
        trials.append(Trial(SimpleNamespace(seed=seed), key, swept))
    return Experiment(trials=trials, swept_paths=list(axes), **fields)


def record(
    trial: Trial,
    rows: int = 30,
    removed: int | None = None,
    tests: tuple[int, ...] = (83,),
    estimators: tuple[str, ...] = ("exact",),
    protocols: tuple[str, ...] = ("stationary",),
    noise: float = 0.5,
    points: dict[str, object] | None = None,
    flags: tuple[str, ...] = (),
    scale: float = 1e-3,
) -> Record:
    """A record whose actual changes are heavy-tailed and predicted with relative error `noise`.

    Removed rows are the first `removed` of the training rows 100, 101, …; all effects come from a generator seeded by
    the trial's key, but for a part that rows share between trials.
    """
    generator = np.random.default_rng(int(trial.key[:12], 16))
    removed, n_tests = rows if removed is None else removed, len(tests)
    shared = np.random.default_rng(0).standard_t(3, size=(rows, n_tests))
    effect = scale * (shared + 0.3 * generator.normal(size=shared.shape))
    arrays: dict[str, np.ndarray] = {
        "train_rows": np.arange(100, 100 + rows), "test_rows": np.array(tests),
        "removed_rows": np.arange(100, 100 + removed), "selected": np.ones((removed, n_tests), dtype=bool),
        "base_parameters": generator.normal(size=43), "base_test": np.full(n_tests, 0.1),
        "train_losses": np.full(rows, 0.05), "test_losses": np.full(n_tests, 0.1),
    }  # fmt: skip
    for name in estimators:
        arrays[f"predicted/{name}"] = effect + noise * scale * generator.normal(size=effect.shape)
        arrays[f"plugin/{name}"] = arrays[f"predicted/{name}"]
        arrays[f"predicted_norm/{name}"] = np.ones(rows)
    for name in protocols:
        arrays |= _protocol(name, effect[:removed])
    return Record(_header(trial, points or {"train": "all", "test": "all"}, estimators, protocols, list(flags)), arrays)


def _protocol(name: str, actual: np.ndarray) -> dict[str, np.ndarray]:
    removed, tests = actual.shape
    arrays = {
        f"actual/{name}": actual, f"actual_raw/{name}": actual + 1e-4, f"null/{name}": np.full(tests, 1e-4),
        f"actual_norm/{name}": np.ones(removed), f"null_norm/{name}": np.array(0.01),
        f"flag/{name}": np.full(removed, "", dtype="U40"),
    }  # fmt: skip
    if name == "stationary":
        fields = {
            "gradient_norm": np.linspace(1e-11, 1e-10, removed + 1), "curvature_shift": np.full(removed + 1, 1e-8),
            "positive_definite": np.ones(removed + 1, dtype=bool), "iterations": np.full(removed + 1, 4),
            "segment_excess": np.zeros(removed + 1), "certified": np.ones(removed + 1, dtype=bool),
            "another_basin": np.zeros(removed + 1, dtype=bool), "delta_error": np.full((removed + 1, tests), 1e-10),
        }  # fmt: skip
        arrays |= {f"certificate/{name}/{field}": values for field, values in fields.items()}
    return arrays


def _header(
    trial: Trial, points: dict[str, object], estimators: tuple[str, ...], protocols: tuple[str, ...], flags: list[str]
) -> dict[str, Any]:
    return {
        "schema": 1, "numbers_version": 1, "key": trial.key,
        "spec": {"seed": trial.settings.seed, "points": points, "training": {"polish": True}},
        "provenance": {"dtype": "float64", "compiled": False, "seconds": 1.5},
        "base": {
            "train_loss": 0.05, "objective": 0.08 + 1e-4 * int(trial.key[:4], 16), "gradient_norm": 1e-11,
            "smallest_eigenvalue": 0.005, "largest_eigenvalue": 1.2, "negative_eigenvalues": 0, "certified": True,
            "train_accuracy": 0.98, "test_accuracy": 1.0, "parameter_norm": 3.0, "parameters": 43,
        },
        "flags": flags, "estimators": {name: {"kind": name, "flags": []} for name in estimators},
        "protocols": {name: {"kind": name, "flags": [], "seconds": 0.5} for name in protocols},
    }  # fmt: skip


def filled(store: Store, experiment: Experiment, **options: Any) -> Store:
    """The store with a record of every trial; `noise` may depend on the trial."""
    noise = options.pop("noise", 0.5)
    for trial in experiment.trials:
        store.write(record(trial, noise=noise(trial) if callable(noise) else noise, **options))
    return store
