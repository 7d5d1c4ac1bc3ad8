"""Data sets: rows as loaded, and the split into training and held-out rows with its fixed scaling."""

import hashlib
import math
import os
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study import data_files, images
from study.errors import StudyError, nearest, show
from study.specs import Data
from study.specs.fields import FILE_ENDINGS

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """A data set as loaded: x [N, d] float64; y [N], int64 classes 0 .. classes-1, or float64 (then `classes` is 0).

    Images are kept as bytes, which a split divides by `scale`. own_test: how many of the last rows are a test part that the data
    set comes with; a row of a class that is left out has y = -1. shape: channels, height and width, where rows are images.
    """

    name: str
    x: NDArray[Any]
    y: NDArray[Any]
    task: str
    classes: int
    features: list[str]
    own_test: int = 0
    shape: tuple[int, int, int] | None = None
    scale: float = 1.0

    def values(self, rows: Integers) -> Floats:
        """x of some of the rows, as float64."""
        return self.x[rows] if self.scale == 1 else self.x[rows] / self.scale


@dataclass(frozen=True)
class Split:
    """Row numbers of the data set (train_rows [n] ascending, test_rows [T]) and values scaled as the spec asks.

    Values are computed when first asked for: images of a whole data set take half a gigabyte.
    """

    dataset: Dataset
    data: Data
    train_rows: Integers
    test_rows: Integers

    @property
    def features(self) -> int:
        return self.dataset.x.shape[1]

    @cached_property
    def x_train(self) -> Floats:
        return self._scaled(self.dataset.values(self.train_rows), self._spread)

    @cached_property
    def x_test(self) -> Floats:
        return self._scaled(self.dataset.values(self.test_rows), self._spread)

    @cached_property
    def y_train(self) -> NDArray[Any]:
        y = self.dataset.y[self.train_rows]
        if self.data.label_noise:
            return _with_noise(y, self.dataset.classes, self.data.label_noise, self.data.split_seed)
        return self._scaled(y, self._target_spread)

    @cached_property
    def y_test(self) -> NDArray[Any]:
        return self._scaled(self.dataset.y[self.test_rows], self._target_spread)

    @cached_property
    def identity(self) -> bytes:
        """Equal for splits of one data set with the same training rows and targets."""
        return self.train_rows.tobytes() + (self.y_train.tobytes() if self.data.label_noise else b"")

    @cached_property
    def _spread(self) -> tuple[Floats, Floats] | None:
        return _spread(self.dataset.values(self.train_rows)) if self.data.standardize else None

    @cached_property
    def _target_spread(self) -> tuple[Floats, Floats] | None:
        scaled = self.data.standardize and self.dataset.task == "regression"
        return _spread(self.dataset.y[self.train_rows]) if scaled else None

    @staticmethod
    def _scaled(values: NDArray[Any], spread: tuple[Floats, Floats] | None) -> NDArray[Any]:
        return values if spread is None else (values - spread[0]) / spread[1]


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
    if data.is_images:
        return _of_images(data.name, images.load(data.name), data.classes)
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
    shape = (1, 8, 8) if name == "digits" else None
    return Dataset(name, _fixed(bunch.data.astype(np.float64)), _fixed(y), task, classes, features, shape=shape)


def _of_images(name: str, found: images.Images, classes: list[int] | None) -> Dataset:
    """With the classes that are kept numbered anew, in the order given."""
    pixels = [f"pixel{position}" for position in range(found.x.shape[1])]
    known = int(found.y.max()) + 1
    whole = Dataset(name, found.x, found.y, "classification", known, pixels, found.own_test, found.shape, 255.0)
    if classes is None:
        return whole
    if max(classes) >= known:
        raise StudyError(f"data.classes: no class {max(classes)}; {name} has classes 0 to {known - 1}")
    numbers = np.full(known, -1)
    numbers[classes] = np.arange(len(classes))
    return replace(whole, y=_fixed(numbers[found.y]), classes=len(classes))


def _fixed(values: NDArray[Any]) -> NDArray[Any]:
    """The array, read-only: every caller shares it."""
    values.setflags(write=False)
    return values


def training_count(dataset: Dataset, data: Data) -> int:
    """How many rows are left to train on; a fraction is rounded as scikit-learn rounds it, up for the held-out rows."""
    if dataset.own_test:
        return len(_parts(dataset, data)[0])
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
    return Split(dataset, data, *_rows(dataset, data))


def _rows(dataset: Dataset, data: Data) -> tuple[Integers, Integers]:
    rows = len(dataset.x)
    if dataset.own_test:
        return _parts(dataset, data)
    if data.test_rows is not None:
        beyond = [row for row in data.test_rows if row >= rows]
        if beyond:
            raise StudyError(f"data.test_rows: no row {beyond[0]}; {dataset.name} has rows 0 to {rows - 1}")
        test_rows = np.array(data.test_rows, dtype=np.int64)
        return np.setdiff1d(np.arange(rows), test_rows), test_rows
    from sklearn.model_selection import train_test_split

    train, test = train_test_split(np.arange(rows), test_size=data.test_fraction, random_state=data.split_seed)
    return np.sort(train).astype(np.int64), np.sort(test).astype(np.int64)


def _parts(dataset: Dataset, data: Data) -> tuple[Integers, Integers]:
    """Rows drawn from the data set's own parts; each of the two by a generator of its own."""
    first, kept = len(dataset.x) - dataset.own_test, dataset.y >= 0
    parts = np.arange(first)[kept[:first]], np.arange(first, len(dataset.x))[kept[first:]]
    parts = parts[0][parts[0] >= data.validation_rows], parts[1]
    train = _drawn("data.n_train", parts[0], data.n_train, [data.split_seed, 0])
    return train, _drawn("data.n_test", parts[1], data.n_test, [data.split_seed, 1])


def _drawn(key: str, rows: Integers, count: int | None, seed: list[int]) -> Integers:
    if count is None:
        return rows
    if count > len(rows):
        raise StudyError(f"{key} = {count}: there are only {len(rows)} rows to draw from")
    return np.sort(np.random.default_rng(seed).choice(rows, size=count, replace=False))


def _with_noise(y: Integers, classes: int, share: float, seed: int) -> Integers:
    """With another class, each equally likely, for that share of the rows, rounded."""
    generator = np.random.default_rng([seed, 2])
    rows = generator.choice(len(y), size=round(share * len(y)), replace=False)
    noisy = y.copy()
    noisy[rows] = (y[rows] + generator.integers(1, classes, size=len(rows))) % classes
    return noisy


def _spread(training: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation (ddof 0) of each column."""
    constant = training.max(axis=0) == training.min(axis=0)  # rounding can leave a constant column a spread of 1e-17
    deviation = np.where(constant, 1.0, training.std(axis=0))
    return training.mean(axis=0), np.where(deviation > 0, deviation, 1.0)
