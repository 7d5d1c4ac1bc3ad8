"""What only the data can tell about a spec: rows that do not exist, counts too large, parameters the model lacks."""

import numpy as np

from study import data
from study.data import Dataset, Split
from study.errors import StudyError, listed, show, suggestion
from study.specs import ChosenRows, Model, Points, Settings


def check(settings: Settings, dataset: Dataset, split: Split) -> None:
    """Refuses settings that their data set cannot serve; StudyError names path and value."""
    if settings.target == "margin" and dataset.task == "regression":
        raise StudyError(f'target = "margin": {dataset.name} is a regression and has no classes; use target = "loss"')
    rows = len(split.train_rows)
    batch = settings.training.batch_size
    if isinstance(batch, int) and batch > rows:
        raise StudyError(f"training.batch_size = {batch}: there are only {rows} training rows")
    _check_count(settings.points, rows)
    _check_test_points(settings.points, split)
    for estimator in settings.estimators:
        _check_parameters(f"estimators.{estimator.name}.parameters", estimator.parameters, settings.model)


def load_split(settings: Settings, folder: str) -> tuple[Dataset, Split]:
    """The data set and the split of the settings."""
    dataset = data.load(settings.data, folder)
    return dataset, data.split(dataset, settings.data)


def _check_count(points: Points, rows: int) -> None:
    count = points.train_count
    if points.train == "all" or count is None:
        return
    if count > rows:
        raise StudyError(f"points.train_count = {count}: there are only {rows} training rows")
    held = len(np.arange(rows)[points.band_slice(rows)])
    if points.train == "influence_band" and count > held:
        raise StudyError(f"points.train_count = {count}: points.band = {show(points.band)} holds only {held} rows")


def _check_test_points(points: Points, split: Split) -> None:
    if not isinstance(points.test, ChosenRows):
        return
    held_out = set(split.test_rows.tolist())
    missing = [row for row in points.test.rows if row not in held_out]
    if missing:
        some = listed(split.test_rows[:8].tolist()) + (", …" if len(held_out) > 8 else "")
        raise StudyError(f"points.test.rows: row {missing[0]} is not held out by [data]; held out: {some}")


def parameter_names(model: Model) -> list[str] | None:
    """The names of the model's parameters in order, None for a user's factory."""
    if model.is_factory:
        return None
    hidden = range(1, model.depth + 1) if model.kind == "mlp" else ()
    layers = [*(f"layer{number}" for number in hidden), "output"]
    return [f"{layer}.{part}" for layer in layers for part in ("weight", "bias")]


def _check_parameters(path: str, parameters: object, model: Model) -> None:
    if not isinstance(parameters, list):
        return
    known = parameter_names(model)
    for name in parameters:
        if known is not None and name not in known:
            raise StudyError(f"{path}: the model has no parameter {show(name)}; {suggestion(name, known, 'it has')}")
