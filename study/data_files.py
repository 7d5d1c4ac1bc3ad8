"""Users' data files: reading a CSV or NPZ, and refusing what no network should be trained on."""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from study.errors import StudyError, show, suggestion

if TYPE_CHECKING:
    import pandas

LARGEST = 1e100  # squares of anything larger overflow in the scaling


@dataclass(frozen=True)
class Columns:
    """The columns of a file: x [N, d] float64, y [N] (int64 class numbers or float64), the labels of the classes."""

    x: NDArray[np.float64]
    y: NDArray[Any]
    features: list[str]
    labels: list[Any]


def read(path: str, target: str, task: str) -> Columns:
    """The checked columns of the file; StudyError names file, column and row (rows counted from 0)."""
    reader = _read_csv if path.lower().endswith(".csv") else _read_npz
    x, y, features = reader(path, target)
    if len(x) < 3 or x.shape[1] < 1:
        raise StudyError(f"{path}: {len(x)} rows of {x.shape[1]} features; at least 3 rows of 1 feature are needed")
    _refuse_constant(path, x, features)
    if task == "regression":
        numbers = _numbers(path, f"target {show(target)}", y)
        if numbers.max() == numbers.min():
            raise StudyError(f"{path}: target {show(target)} is the same in every row")
        return Columns(x, numbers, features, [])
    labels, classes = _classes(path, target, y)
    return Columns(x, classes, features, labels)


def _read_csv(path: str, target: str) -> tuple[NDArray[np.float64], NDArray[Any], list[str]]:
    import pandas

    try:
        with warnings.catch_warnings():  # lines longer than the header are warned of and cut, or taken for an index
            warnings.simplefilter("error", pandas.errors.ParserWarning)
            table = pandas.read_csv(path, index_col=False)
    except (OSError, ValueError, MemoryError, pandas.errors.ParserWarning) as error:  # ValueError: not a table of text
        raise StudyError(f"{path}: cannot be read as CSV: {str(error).strip()}") from None
    names = [str(name) for name in table.columns]
    if target not in names:
        raise StudyError(f"{path}: no target column {show(target)}; {suggestion(target, names, 'columns')}")
    table.columns = pandas.Index(names)
    _refuse_missing(path, table)
    features = [name for name in names if name != target]
    columns = [_numbers(path, f"column {show(name)}", table[name].to_numpy()) for name in features]
    x = np.column_stack(columns) if columns else np.empty((len(table), 0))
    return x, table[target].to_numpy(), features


def _refuse_missing(path: str, table: "pandas.DataFrame") -> None:
    missing = table.isna()
    for name in table.columns[missing.any(axis=0)]:
        row = int(np.argmax(missing[name].to_numpy()))
        raise StudyError(f"{path}: column {show(name)}, row {row} (counted from 0) is missing; remove or fill it")


def _read_npz(path: str, target: str) -> tuple[NDArray[np.float64], NDArray[Any], list[str]]:
    arrays = _arrays(path)
    for name in ("x", target):
        if name not in arrays:
            raise StudyError(f"{path}: no array {show(name)}; {suggestion(name, arrays, 'arrays')}")
    x, y = arrays["x"], arrays[target]
    if x.ndim != 2 or y.shape != (len(x),):
        shapes = f"x has shape {x.shape}, {target} {y.shape}"
        raise StudyError(f"{path}: {shapes}; x must be [rows, features] and {target} [rows]")
    features = [f"x{position}" for position in range(x.shape[1])]
    columns = [_numbers(path, f"column {position} of x", x[:, position]) for position in range(x.shape[1])]
    return np.column_stack(columns) if columns else np.empty((len(x), 0)), y, features


def _arrays(path: str) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # a damaged archive raises almost anything: zip, zlib, header and value errors
        raise StudyError(f"{path}: cannot be read as NPZ: {error}") from None


def _numbers(path: str, column: str, values: NDArray[Any]) -> NDArray[np.float64]:
    """The values as float64; the first that is no finite number is refused."""
    if values.dtype.kind in "biuf":
        numbers = values.astype(np.float64)
    elif values.dtype.kind == "c":
        raise StudyError(f"{path}: {column} holds complex numbers; only real ones can be used")
    else:
        numbers = np.array([_number(path, column, row, value) for row, value in enumerate(values)], dtype=np.float64)
    unusable = ~(np.abs(numbers) <= LARGEST)
    if unusable.any():
        row = int(np.argmax(unusable))
        raise StudyError(f"{path}: {column}, row {row} (counted from 0) is {numbers[row]}; finite numbers are needed")
    return numbers


def _number(path: str, column: str, row: int, value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        problem = f"row {row} (counted from 0) is {show(value)}, not a number; encode it or remove the column"
        raise StudyError(f"{path}: {column}, {problem}") from None


def _refuse_constant(path: str, x: NDArray[np.float64], features: list[str]) -> None:
    constant = x.max(axis=0) == x.min(axis=0)
    if constant.any():
        name = features[int(np.argmax(constant))]
        raise StudyError(f"{path}: column {show(name)} is constant and carries nothing; remove it")


def _classes(path: str, target: str, y: NDArray[Any]) -> tuple[list[Any], NDArray[np.int64]]:
    if y.dtype.kind in "fc" and not np.isfinite(y).all():
        row = int(np.argmax(~np.isfinite(y)))
        raise StudyError(f"{path}: target {show(target)}, row {row} (counted from 0) is {y[row]}; a class is needed")
    if y.dtype.kind == "f" and (y != np.floor(y)).any():
        value = y[int(np.argmax(y != np.floor(y)))]
        raise StudyError(
            f'{path}: target {show(target)} holds {value:g}, which names no class; is task = "regression" meant?'
        )
    try:
        labels, classes = np.unique(y, return_inverse=True)
    except TypeError:  # text and numbers in one column have no common order
        labels, classes = np.unique(y.astype(str), return_inverse=True)
    if len(labels) < 2:
        raise StudyError(f"{path}: target {show(target)} has one class; classification needs at least 2")
    return labels.tolist(), classes.astype(np.int64)
