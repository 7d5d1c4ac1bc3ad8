"""What some figures show beside the tables, taken from the same reading of the records."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from study.evidence.figures.lines import Sweep, key
from study.evidence.readings import Block, Readings, leading, positions, predicted_rows

QUARTILES = (0.25, 0.5, 0.75)


class Cells:
    """The blocks behind each cell."""

    def __init__(self, sweep: Sweep) -> None:
        self._paths = sweep.paths
        self._blocks: dict[tuple[Any, ...], list[Block]] = {}
        table = leading(sweep.readings)[self._paths]
        for found, block in zip(table.itertuples(index=False), sweep.readings.blocks, strict=True):
            self._blocks.setdefault(key(found), []).append(block)

    def blocks(self, cell: pd.Series) -> list[Block]:
        """Of one row of `cells`: its trials that have its estimator and its protocol."""
        found = self._blocks.get(key(cell[path] for path in self._paths), [])
        return [b for b in found if cell["estimator"] in b.estimators and cell["protocol"] in b.protocols]

    def points(self, cell: pd.Series) -> pd.DataFrame:
        """predicted and actual: the pairs that agreement counts."""
        parts = [_pairs(block, cell["estimator"], cell["protocol"]) for block in self.blocks(cell)]
        single = [pair for part in parts for pair in part]
        predicted, actual = (np.concatenate([np.empty(0), *(pair[side] for pair in single)]) for side in (0, 1))
        return pd.DataFrame({"predicted": predicted, "actual": actual})

    def norms(self, cells: pd.DataFrame) -> pd.DataFrame:
        """Per row of `cells`: quartiles of ‖Δθ‖ predicted and actual over seeds and removed rows, and of the drift.

        Rows that agreement does not count for any test row are left out, as are trials whose correlations are undefined.
        drift: ‖θ_null − θ*‖, one value per trial.
        """
        rows = [self._norms(cell) for _, cell in cells.iterrows()]
        names = [f"{side}_{end}" for side in ("predicted", "actual", "drift") for end in ("low", "median", "high")]
        return pd.DataFrame(rows, columns=names, index=cells.index, dtype=float)

    def _norms(self, cell: pd.Series) -> list[float]:
        found: tuple[list[np.ndarray], ...] = ([], [], [])
        for block in self.blocks(cell):
            if not block.undefined:
                for values, new in zip(found, _norms(block, cell["estimator"], cell["protocol"]), strict=True):
                    values.append(new)
        return [quartile for values in found for quartile in _quartiles(values)]


def networks(readings: Readings, trials: pd.DataFrame) -> pd.DataFrame:
    """`trials` with `defined`: False where no correlation is (collapsed, no minimum, diverged)."""
    undefined = {block.trial.key for block in readings.blocks if block.undefined}
    return trials.assign(defined=~trials["trial"].isin(undefined).to_numpy(dtype=bool))


def test_losses(readings: Readings, agreement: pd.DataFrame) -> pd.DataFrame:
    """`agreement` with `test_loss`, that of the test row at the base network of its trial."""
    keys = [np.repeat(block.trial.key, len(block.tests)) for block in readings.blocks]
    losses = pd.DataFrame({
        "trial": pd.array(_joined(keys, object), dtype="str"),
        "test_row": _joined([block.tests for block in readings.blocks], np.int64),
        "test_loss": _joined([block.record.arrays["test_losses"] for block in readings.blocks], np.float64),
    })  # fmt: skip
    return agreement.merge(losses, on=["trial", "test_row"], how="left", sort=False)


def _pairs(block: Block, estimator: str, protocol: str) -> list[tuple[np.ndarray, np.ndarray]]:
    if block.undefined:
        return []
    e, p = block.estimators.index(estimator), block.protocols.index(protocol)
    return [(block.predicted[e, 0, t, used], block.actual[0, p, t, used]) for t, used in enumerate(block.used[e, p])]


def _norms(block: Block, estimator: str, protocol: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    e, p = block.estimators.index(estimator), block.protocols.index(protocol)
    used, arrays = block.used[e, p].any(axis=0), block.record.arrays
    rows = positions(predicted_rows(block.record), arrays["removed_rows"])
    predicted, actual = arrays[f"predicted_norm/{estimator}"][rows][used], arrays[f"actual_norm/{protocol}"][used]
    return predicted, actual, np.atleast_1d(arrays[f"null_norm/{protocol}"])


def _quartiles(parts: list[np.ndarray]) -> list[float]:
    values = np.concatenate([np.empty(0), *parts])
    values = values[np.isfinite(values)]
    return [float(value) for value in np.quantile(values, QUARTILES)] if values.size else [np.nan] * 3


def _joined(parts: Iterable[np.ndarray], kind: Any) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype=kind), *parts])
