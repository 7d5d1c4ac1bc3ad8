"""Reading an experiment: its records as blocks of comparisons, every array indexed the same way."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from study.evidence.store import Store
from study.records import Record, RecordError
from study.specs.schema import CERTIFYING

if TYPE_CHECKING:
    from study.trials import Experiment, Trial

UNDEFINED = ("collapsed", "diverged")  # trial flags under which a correlation means nothing
UNDEFINED_MINIMUM = "no_minimum"  # likewise, where the spec asked for a minimum: `polish`
SEPARATOR = "; "


@dataclass(frozen=True, eq=False)
class Block:
    """The comparisons of one trial. E estimators, P protocols, T test rows, R removed rows.

    predicted [E,1,T,R]; actual, actual_raw [1,P,T,R]; used [E,P,T,R]: selected for the test row, finite, and certified
    where the protocol certifies; selected [T,R]; flags [E,P,R]: reasons of trial, estimator, protocol and row.
    """

    trial: Trial
    record: Record
    estimators: list[str]
    protocols: list[str]
    tests: np.ndarray
    removed: np.ndarray
    predicted: np.ndarray
    actual: np.ndarray
    actual_raw: np.ndarray
    used: np.ndarray
    selected: np.ndarray
    flags: np.ndarray

    @property
    def undefined(self) -> str:
        """The first flag under which none of the trial's correlations is defined, or an empty text."""
        polished = self.record.header["spec"]["training"]["polish"]
        reasons = (*UNDEFINED, UNDEFINED_MINIMUM) if polished else UNDEFINED
        return next((flag for flag in self.record.header["flags"] if flag in reasons), "")


@dataclass(frozen=True)
class Readings:
    """The records of an experiment that are there, in its order, and what is not: missing keys, damaged by key."""

    experiment: Experiment
    blocks: list[Block]
    missing: list[str]
    damaged: dict[str, str]


def read(experiment: Experiment, store: Store) -> Readings:
    """Every record of the experiment once. A damaged one counts as missing, as it does for a sweep."""
    done, blocks, missing, damaged = store.done(), [], [], {}
    for trial in experiment.trials:
        if trial.key not in done:
            missing.append(trial.key)
            continue
        try:
            blocks.append(block(trial, store.read(trial.key)))
        except RecordError as error:
            damaged[trial.key] = str(error)
    return Readings(experiment, blocks, missing, damaged)


def block(trial: Trial, record: Record) -> Block:
    arrays, header = record.arrays, record.header
    estimators, protocols = list(header["estimators"]), list(header["protocols"])
    rows = positions(predicted_rows(record), arrays["removed_rows"])
    predicted = np.stack([arrays[f"predicted/{name}"][rows].T for name in estimators])[:, None]
    actual = np.stack([arrays[f"actual/{name}"].T for name in protocols])[None]
    actual_raw = np.stack([arrays[f"actual_raw/{name}"].T for name in protocols])[None]
    selected = arrays["selected"].T.astype(bool)
    certified = np.stack([trusted(record, name) for name in protocols])[None, :, None, :]
    used = selected & certified & np.isfinite(actual) & np.isfinite(predicted)
    kept = {name: array for name, array in arrays.items() if name != "base_parameters"}
    return Block(
        trial, Record(header, kept), estimators, protocols, arrays["test_rows"], arrays["removed_rows"],
        predicted, actual, actual_raw, used, selected, _flags(record, estimators, protocols),
    )  # fmt: skip


def positions(rows: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where each of `wanted` stands in `rows` (distinct row numbers in any order)."""
    order = np.argsort(rows)
    return order[np.searchsorted(rows, wanted, sorter=order)]


def predicted_rows(record: Record) -> np.ndarray:
    """The rows that the record's predictions are of, in their order: all training rows, or only those removed."""
    return record.arrays.get("predicted_rows", record.arrays["train_rows"])


def trusted(record: Record, protocol: str) -> np.ndarray:
    """[R]: all True, but for a protocol that certifies its rows only those that are, and none without a certified null."""
    removed = len(record.arrays["removed_rows"])
    if record.header["protocols"][protocol]["kind"] not in CERTIFYING:
        return np.ones(removed, dtype=bool)
    certified = record.arrays[f"certificate/{protocol}/certified"].astype(bool)
    return certified[1:] & certified[0]  # the first is the null, from which every delta is measured


def joined(*reasons: Iterable[str]) -> str:
    """Reasons in order, each once."""
    return SEPARATOR.join(dict.fromkeys(reason for group in reasons for reason in group if reason))


def _flags(record: Record, estimators: list[str], protocols: list[str]) -> np.ndarray:
    """[E,P,R] texts. A trial has few distinct ones, so each is joined once."""
    header = record.header
    flags = np.empty((len(estimators), len(protocols), len(record.arrays["removed_rows"])), dtype=object)
    for p, protocol in enumerate(protocols):
        texts, which = np.unique(record.arrays[f"flag/{protocol}"], return_inverse=True)
        for e, estimator in enumerate(estimators):
            common = (header["flags"], header["estimators"][estimator]["flags"], header["protocols"][protocol]["flags"])
            whole = [joined(*common, str(text).split(SEPARATOR)) for text in texts]
            flags[e, p] = np.array(whole, dtype=object)[which]
    return flags


def leading(readings: Readings) -> pd.DataFrame:
    """One row per block: experiment, trial, seed, every swept path (null where a trial has no such key)."""
    experiment, blocks = readings.experiment, readings.blocks
    columns: dict[str, Any] = {
        "experiment": pd.array([experiment.name] * len(blocks), dtype="str"),
        "trial": pd.array([block.trial.key for block in blocks], dtype="str"),
        "seed": np.array([block.trial.settings.seed for block in blocks], dtype=np.int64),
    }
    for path in experiment.swept_paths:
        columns[path] = swept_values([block.trial.swept.get(path) for block in blocks])
    return pd.DataFrame(columns)


def swept_values(values: list[Any]) -> Any:
    """One column of a swept path: numbers stay numbers, tables and lists become JSON text, None is null."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pd.array(values, dtype="boolean") if None in values else np.array(values, dtype=bool)
    if kinds == {int}:
        return pd.array(values, dtype="Int64") if None in values else np.array(values, dtype=np.int64)
    if kinds and kinds <= {int, float}:
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return pd.array([_text(value) for value in values], dtype="str")


def _text(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)
