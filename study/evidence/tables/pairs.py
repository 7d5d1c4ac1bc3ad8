"""The table `pairs`: one row per removed row, chosen test row, estimator and protocol."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from study.evidence.readings import Block, Readings, leading

FOUND = ("estimator", "protocol", "train_row", "test_row", "predicted", "actual", "actual_raw", "flag")


def build(readings: Readings) -> pd.DataFrame:
    """The contract's columns, and `used`: whether agreement counts the row (false if not selected or not certified)."""
    parts = [_columns(block) for block in readings.blocks]
    sizes = [part["used"].size for part in parts]
    table = leading(readings)
    table = table.iloc[np.repeat(np.arange(len(parts)), sizes)].reset_index(drop=True)
    for name in (*FOUND, "used"):
        values: Any = np.concatenate([part[name] for part in parts]) if parts else np.empty(0, dtype=_empty(name))
        table[name] = pd.array(values, dtype="str") if name in ("estimator", "protocol", "flag") else values
    return table


def _columns(block: Block) -> dict[str, np.ndarray]:
    """Flat columns in the order estimator, protocol, removed row, test row."""
    shape = (len(block.estimators), len(block.protocols), len(block.removed), len(block.tests))

    def flat(array: np.ndarray) -> np.ndarray:
        return np.broadcast_to(array, shape).ravel()

    return {
        "estimator": flat(np.array(block.estimators, dtype=object)[:, None, None, None]),
        "protocol": flat(np.array(block.protocols, dtype=object)[:, None, None]),
        "train_row": flat(block.removed[:, None]),
        "test_row": flat(block.tests),
        "predicted": flat(block.predicted.swapaxes(2, 3)),
        "actual": flat(block.actual.swapaxes(2, 3)),
        "actual_raw": flat(block.actual_raw.swapaxes(2, 3)),
        "flag": flat(block.flags[..., None]),
        "used": flat(block.used.swapaxes(2, 3)),
    }


def _empty(name: str) -> type:
    if name == "used":
        return bool
    return {"row": np.int64}.get(name[-3:], np.float64 if name.startswith(("predicted", "actual")) else object)
