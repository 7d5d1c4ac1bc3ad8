"""Data sets: rows as loaded, and the split into training and held-out rows with its fixed scaling."""

import hashlib
import math
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study import data_files
from study.errors import StudyError, nearest, show
from study.specs import Data
from study.specs.fields import FILE_ENDINGS

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """A data set as loaded: x [N, d] float64; y [N], int64 classes 0 .. classes-1, or float64 (then `classes` is 0)."""

    name: str
    x: Floats
    y: NDArray[Any]
    task: str
    classes: int
    features: list[str]


@dataclass(frozen=True)
class Split:
    """Row numbers of the data set (train_rows [n] ascending, test_rows [T]) and values scaled as the spec asks."""

    train_rows: Integers
    test_rows: Integers
    x_train: Floats
    y_train: NDArray[Any]
    x_test: Floats
    y_test: NDArray[Any]


def file_path(name: str, folder: str) -> Path:
    """Where a user's file lies: relative to the spec's folder."""
    return Path(folder) / name


def digest(path: str | Path) -> str:
    """SHA-256 of the file's bytes, 64 hexadecimal digits; StudyError where it cannot be read."""
    return _digest(str(path), _stamp(Path(path)))


@lru_cache(maxsize=64)
def _digest(path: str, stamp: tuple[int, int]) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StudyError(f"data.name: {path} cannot be read: {error.strerror}") from None


def _stamp(path: Path) -> tuple[int, int]:
    """Time of change and size, so that a file changed within this process is read anew."""
    try:
        if not path.is_file():
            problem = "is not a file" if path.exists() else f"does not exist; {_nearest_file(path)}"
            raise StudyError(f"data.name: {show(str(path))} {problem}")
        status = os.stat(path)
    except (OSError, ValueError) as error:  # a name too long, or with a NUL byte
        raise StudyError(f"data.name: {show(str(path))} cannot be read: {error}") from None
    return status.st_mtime_ns, status.st_size


def _nearest_file(path: Path) -> str:
    files = [file.name for ending in FILE_ENDINGS for file in path.parent.glob(f"*{ending}")]
    match = nearest(path.name, files)
    return f"did you mean {show(match)}?" if match else "a path is relative to the spec's folder"


def load(data: Data, folder: str) -> Dataset:
    """The data set that the settings name; a user's file is checked cell by cell, StudyError names column and row."""
    if not data.is_file:
        return _known(data.name)
    path = file_path(data.name, folder)
    return _from_file(data.name, str(path), _stamp(path), str(data.target), str(data.task))


@lru_cache(maxsize=16)
def _from_file(name: str, path: str, stamp: tuple[int, int], target: str, task: str) -> Dataset:
    columns = data_files.read(path, target, task)
    classes = len(columns.labels)
    return Dataset(name, _fixed(columns.x), _fixed(columns.y), task, classes, columns.features)


@lru_cache(maxsize=16)
def _known(name: str) -> Dataset:
    from sklearn import datasets  # takes a second to import

    bunch = getattr(datasets, f"load_{name}")()
    task = "regression" if name == "diabetes" else "classification"
    y = bunch.target.astype(np.float64 if task == "regression" else np.int64)
    classes = 0 if task == "regression" else int(y.max()) + 1
    features = [str(feature) for feature in bunch.feature_names]
    return Dataset(name, _fixed(bunch.data.astype(np.float64)), _fixed(y), task, classes, features)


def _fixed(values: NDArray[Any]) -> NDArray[Any]:
    """The array, read-only: every caller shares it."""
    values.setflags(write=False)
    return values


def training_count(dataset: Dataset, data: Data) -> int:
    """How many rows are left to train on; a fraction is rounded as scikit-learn rounds it, up for the held-out rows."""
    if data.test_rows is not None:
        return len(dataset.x) - len(data.test_rows)
    assert data.test_fraction is not None  # the schema gives one of the two
    return len(dataset.x) - math.ceil(data.test_fraction * len(dataset.x))


def split(dataset: Dataset, data: Data) -> Split:
    """The split of the settings: mean and standard deviation (ddof 0) of the training rows scale all rows.

    A feature that is constant over the training rows is only centred. A regression target is scaled too.
    Raises StudyError for a row that does not exist, or where fewer than two training rows or no held-out row is left.
    """
    if training_count(dataset, data) < 2:
        raise StudyError(f"data: holding out so many of the {len(dataset.x)} rows leaves fewer than 2 to train on")
    train_rows, test_rows = _rows(dataset, data)
    x, y = dataset.x, dataset.y
    if data.standardize:
        x = _standardized(x, train_rows)
        y = _standardized(y, train_rows) if dataset.task == "regression" else y
    return Split(train_rows, test_rows, x[train_rows], y[train_rows], x[test_rows], y[test_rows])


def _rows(dataset: Dataset, data: Data) -> tuple[Integers, Integers]:
    rows = len(dataset.x)
    if data.test_rows is not None:
        beyond = [row for row in data.test_rows if row >= rows]
        if beyond:
            raise StudyError(f"data.test_rows: no row {beyond[0]}; {dataset.name} has rows 0 to {rows - 1}")
        test_rows = np.array(data.test_rows, dtype=np.int64)
        return np.setdiff1d(np.arange(rows), test_rows), test_rows
    from sklearn.model_selection import train_test_split

    train, test = train_test_split(np.arange(rows), test_size=data.test_fraction, random_state=data.split_seed)
    return np.sort(train).astype(np.int64), np.sort(test).astype(np.int64)


def _standardized(values: Floats, train_rows: Integers) -> Floats:
    training = values[train_rows]
    constant = training.max(axis=0) == training.min(axis=0)  # rounding can leave a constant column a spread of 1e-17
    deviation = np.where(constant, 1.0, training.std(axis=0))
    return (values - training.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
