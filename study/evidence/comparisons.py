"""The table `agreement`: one row per trial, test row, estimator and protocol."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pandas as pd

from study.evidence.agreement import FEWEST, pearson, spearman
from study.evidence.readings import Block, Readings, leading

FOUND = ("estimator", "protocol", "kind", "test_row", "rows_used", "rows_total", "pearson", "spearman", "undefined")


def build(readings: Readings) -> pd.DataFrame:
    """Leading columns of `pairs`, then FOUND; row order is that of `of_block`, block after block.

    rows_total: removed rows selected for the test row. rows_used: those of them that are finite and, where the protocol
    certifies, certified. undefined: why the correlations are NaN (empty where they are not).
    """
    blocks = readings.blocks
    table = leading(readings).iloc[np.repeat(np.arange(len(blocks)), [count(block) for block in blocks])]
    table = table.reset_index(drop=True)
    for name in FOUND[:6]:
        parts = [_labels(block)[name] for block in blocks]
        table[name] = np.concatenate(parts) if parts else np.empty(0)
    table["pearson"], table["spearman"] = _correlations(blocks)
    table["undefined"] = _reasons(table, blocks)
    return table


def count(block: Block) -> int:
    return block.used[..., 0].size if block.used.size else int(np.prod(block.used.shape[:3]))


def of_block(block: Block) -> tuple[np.ndarray, np.ndarray]:
    """predicted and actual as [E·P·T, R], NaN where a row is not used."""
    used = block.used.reshape(-1, block.used.shape[-1])
    predicted, actual = (
        np.broadcast_to(values, block.used.shape).reshape(used.shape) for values in (block.predicted, block.actual)
    )
    return np.where(used, predicted, np.nan), np.where(used, actual, np.nan)


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


def _correlations(blocks: list[Block]) -> tuple[np.ndarray, np.ndarray]:
    """Trials with equally many removed rows are computed together: a call costs more than a trial."""
    starts = np.cumsum([0] + [count(block) for block in blocks])
    found = np.full((2, starts[-1]), np.nan)
    alike = defaultdict(list)
    for index, block in enumerate(blocks):
        if not block.undefined:
            alike[len(block.removed)].append(index)
    for indices in alike.values():
        found_here = [of_block(blocks[i]) for i in indices]
        predicted, actual = (np.concatenate(parts) for parts in zip(*found_here, strict=True))
        where = np.isfinite(predicted)
        rows = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in indices])
        found[0, rows], found[1, rows] = pearson(predicted, actual, where), spearman(predicted, actual, where)
    return found[0], found[1]


def _reasons(table: pd.DataFrame, blocks: list[Block]) -> pd.Series:
    flagged = np.repeat(np.array([block.undefined for block in blocks], dtype=object), [count(b) for b in blocks])
    few = table["rows_used"].to_numpy() < FEWEST
    rest = np.where(table["spearman"].isna() | table["pearson"].isna(), "constant", "")
    return pd.Series(np.where(flagged != "", flagged, np.where(few, "too few rows", rest)), dtype="str")
