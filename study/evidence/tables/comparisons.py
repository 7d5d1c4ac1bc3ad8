"""The table `agreement`: one row per trial, test row, estimator and protocol."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from study.evidence.readings import Block, Readings, leading, positions, predicted_rows
from study.evidence.statistics import metrics
from study.evidence.statistics.agreement import FEWEST, is_defined, pearson, spearman
from study.specs.schema import CERTIFYING

LABELS = ("estimator", "protocol", "kind", "test_row", "rows_used", "rows_total")
MAIN = ("kendall", "slope", "intercept", "ratio", "sign_agreement", "mean_absolute_error", "top_k_overlap")
NORMS = ("norm_pearson", "norm_spearman")
PLUGIN = tuple(f"plugin_{name}" for name in ("pearson", "spearman", *MAIN))
METRICS = ("pearson", "spearman", *MAIN, *NORMS, *PLUGIN)
FOUND = (*LABELS, "pearson", "spearman", "undefined", *MAIN, *NORMS, *PLUGIN, "top_k", "ties")


def build(readings: Readings) -> pd.DataFrame:
    """Leading columns of `pairs`, then FOUND; row order is that of `labels`, block after block.

    rows_total: removed rows selected for the test row. rows_used: those of them that the metrics are of: finite and, where
    the protocol certifies, certified; none where the metrics are undefined. Metrics: see `metrics.measured`; norm_*:
    correlations of predicted and actual ‖Δθ‖ over the same rows; plugin_*: with L_t(θ* + Δθ) − L_t(θ*) in place of the
    predicted change. undefined: why the metrics are NaN (empty where they are not; then only norm_* and plugin_* may be,
    on their own account). top_k: of the overlap. ties: finite, certified rows less the places they are ranked in, changes
    closer than their certificate sharing one.
    """
    blocks = readings.blocks
    table = leading(readings).iloc[np.repeat(np.arange(len(blocks)), [count(block) for block in blocks])]
    table = table.reset_index(drop=True)
    for name in LABELS:
        parts = [_labels(block)[name] for block in blocks]
        table[name] = np.concatenate(parts) if parts else np.empty(0)
    found = _measured(blocks)
    table["pearson"], table["spearman"] = found["pearson"], found["spearman"]
    table["undefined"] = _reasons(table, blocks, found["tied"] == 1)
    rest = pd.DataFrame({name: found[name] for name in (*MAIN, *NORMS, *PLUGIN)}, index=table.index)
    used = table["rows_used"].to_numpy(dtype=np.int64)
    table["rows_used"] = np.where(table["undefined"] == "", used, 0)
    return pd.concat([table, rest.assign(top_k=metrics.top_k(used), ties=found["ties"])], axis=1)


def count(block: Block) -> int:
    return int(np.prod(block.used.shape[:3]))


@dataclass(frozen=True, eq=False)
class Arrays:
    """Of one or several comparisons, all [K, R], NaN where a row is not used and where a trial is undefined.

    errors: of the actual change within its trial; unsure: of its distance from zero, the error of the null included.
    """

    predicted: np.ndarray
    actual: np.ndarray
    errors: np.ndarray
    unsure: np.ndarray
    plugin: np.ndarray
    predicted_norm: np.ndarray
    actual_norm: np.ndarray

    def compared(self) -> metrics.Compared:
        return metrics.compared(self.predicted, self.actual, self.errors, self.unsure)


def of_block(block: Block, e: int, p: int, raw: bool = False) -> Arrays:
    """The comparisons of estimator e and protocol p, one per test row; raw: of actual changes from θ* instead of the null."""
    arrays, used = block.record.arrays, block.used[e, p]
    estimator, protocol = block.estimators[e], block.protocols[p]
    rows = positions(predicted_rows(block.record), block.removed)
    errors, null = _errors(block, p)
    plugin = arrays.get(f"plugin/{estimator}")
    defined = used & (block.undefined == "")
    actual, reference = (block.actual_raw, 0.0) if raw else (block.actual, null)
    return Arrays(
        predicted=np.where(defined, block.predicted[e, 0], np.nan),
        actual=np.where(defined, actual[0, p], np.nan),
        errors=errors,
        unsure=errors + reference,
        plugin=np.where(defined, np.nan if plugin is None else plugin[rows].T, np.nan),
        predicted_norm=np.where(defined, arrays[f"predicted_norm/{estimator}"][rows], np.nan),
        actual_norm=np.where(defined, arrays[f"actual_norm/{protocol}"], np.nan),
    )


def stacked(parts: list[Arrays]) -> Arrays:
    """One below the other: all of equally many rows."""
    return Arrays(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Arrays)))


def _errors(block: Block, p: int) -> tuple[np.ndarray, np.ndarray]:
    """delta_error of each removal [T, R] and of the null [T, 1]; 0 where the protocol promises none."""
    protocol = block.protocols[p]
    found = block.record.arrays.get(f"certificate/{protocol}/delta_error")
    if found is None or block.record.header["protocols"][protocol]["kind"] not in CERTIFYING:
        found = np.zeros((len(block.removed) + 1, len(block.tests)))
    found = np.where(np.isfinite(found), found, 0.0)  # rows without a bound are not certified, hence not used
    return found[1:].T, found[:1].T


def _labels(block: Block) -> dict[str, np.ndarray]:
    shape = block.used.shape[:3]
    kinds = [block.record.header["protocols"][protocol]["kind"] for protocol in block.protocols]
    columns = {
        "estimator": np.array(block.estimators, dtype=object)[:, None, None],
        "protocol": np.array(block.protocols, dtype=object)[:, None],
        "kind": np.array(kinds, dtype=object)[:, None],
        "test_row": block.tests,
        "rows_used": block.used.sum(axis=-1),
        "rows_total": block.selected.sum(axis=-1),
    }
    return {name: np.broadcast_to(values, shape).ravel() for name, values in columns.items()}


def _measured(blocks: list[Block]) -> dict[str, np.ndarray]:
    """Trials with equally many removed rows are measured together: a call costs more than a trial."""
    starts = np.cumsum([0] + [count(block) for block in blocks])
    found = {name: np.full(starts[-1], np.nan) for name in (*METRICS, "tied")}
    found["ties"] = np.zeros(starts[-1], dtype=np.int64)
    alike = defaultdict(list)
    for index, block in enumerate(blocks):
        alike[len(block.removed)].append(index)
    for indices in alike.values():
        rows = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in indices])
        pairs = [(blocks[i], e, p) for i in indices for e, p in np.ndindex(blocks[i].used.shape[:2])]
        for name, values in _of_arrays(stacked([of_block(*pair) for pair in pairs])).items():
            found[name][rows] = values
    return found


def _of_arrays(arrays: Arrays) -> dict[str, np.ndarray]:
    compared = arrays.compared()
    where = compared.used
    found = metrics.measured(compared)
    usable = np.isfinite(found["spearman"])
    plugin = metrics.measured(metrics.compared(arrays.plugin, arrays.actual, arrays.errors, arrays.unsure))
    found |= {f"plugin_{name}": np.where(usable, values, np.nan) for name, values in plugin.items()}
    norms = {"norm_pearson": pearson, "norm_spearman": spearman}
    for name, function in norms.items():
        found[name] = np.where(usable, function(arrays.predicted_norm, arrays.actual_norm, where), np.nan)
    places = np.where(where, compared.ranked, -1.0).max(axis=-1, initial=-1.0) + 1
    varies = is_defined(compared.predicted, where) & is_defined(compared.actual, where)
    return found | {"ties": where.sum(axis=-1) - places, "tied": varies & ~usable}


def _reasons(table: pd.DataFrame, blocks: list[Block], tied: np.ndarray) -> pd.Series:
    flagged = np.repeat(np.array([block.undefined for block in blocks], dtype=object), [count(b) for b in blocks])
    few = table["rows_used"].to_numpy() < FEWEST
    rest = np.where(table["spearman"].isna(), np.where(tied, "tied", "constant"), "")
    return pd.Series(np.where(flagged != "", flagged, np.where(few, "too few rows", rest)), dtype="str")
