"""The table `trials`: one row per trial and protocol, with what certifies it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from study.evidence.readings import Block, Readings, joined, leading

BASE = {
    "gradient_norm": "gradient_norm",
    "smallest_eigenvalue": "smallest_eigenvalue",
    "largest_eigenvalue": "largest_eigenvalue",
    "negative_eigenvalues": "negative_eigenvalues",
    "base_certified": "certified",
    "train_loss": "train_loss",
    "objective": "objective",
    "train_accuracy": "train_accuracy",
    "test_accuracy": "test_accuracy",
    "parameter_norm": "parameter_norm",
}
FOUND = (
    "protocol", "kind", "removals", "test_points", *BASE, "mean_test_loss", "removals_certified", "null_certified",
    "max_gradient_norm", "max_delta_error", "median_iterations", "another_basin", "mean_absolute_null", "sd_actual",
    "delta_error_ratio", "removals_flagged", "seconds", "trial_seconds", "compiled", "dtype", "flags",
)  # fmt: skip


def build(readings: Readings) -> pd.DataFrame:
    """Leading columns of `pairs`, then FOUND. What a protocol does not record is null.

    sd_actual is the standard deviation (ddof 1) over all pairs of the row; delta_error_ratio = max_delta_error over it.
    seconds is the protocol's share, trial_seconds the whole trial's.
    """
    blocks = readings.blocks
    found = [_row(block, protocol) for block in blocks for protocol in block.protocols]
    table = leading(readings).iloc[np.repeat(np.arange(len(blocks)), [len(block.protocols) for block in blocks])]
    return pd.concat([table.reset_index(drop=True), pd.DataFrame(found, columns=list(FOUND))], axis=1)


def _row(block: Block, protocol: str) -> dict[str, Any]:
    header, arrays = block.record.header, block.record.arrays
    base, provenance, own = header["base"], header["provenance"], header["protocols"][protocol]
    flags, null = arrays[f"flag/{protocol}"], arrays[f"null/{protocol}"]
    deviation = _deviation(arrays[f"actual/{protocol}"])
    row: dict[str, Any] = {
        "protocol": protocol, "kind": own["kind"], "removals": len(block.removed), "test_points": len(block.tests),
        **{name: base.get(field) for name, field in BASE.items()}, "mean_test_loss": _mean(arrays["test_losses"]),
        **_certificates(block, protocol),
        "mean_absolute_null": _mean(np.abs(null)), "sd_actual": deviation,
        "removals_flagged": int((flags != "").sum()), "seconds": own.get("seconds"),
        "trial_seconds": provenance.get("seconds"), "compiled": provenance.get("compiled"),
        "dtype": provenance.get("dtype"), "flags": joined(header["flags"], own["flags"]),
    }  # fmt: skip
    row["delta_error_ratio"] = row["max_delta_error"] / deviation if deviation > 0 else np.nan
    return row


def _certificates(block: Block, protocol: str) -> dict[str, Any]:
    """Over the removals (index 0 of each certificate is the null), null where the protocol has none."""

    def field(name: str) -> np.ndarray | None:
        return block.record.arrays.get(f"certificate/{protocol}/{name}")

    certified, iterations, another = field("certified"), field("iterations"), field("another_basin")
    return {
        "removals_certified": None if certified is None else int(certified[1:].sum()),
        "null_certified": None if certified is None else bool(certified[0]),
        "max_gradient_norm": _largest(field("gradient_norm")),
        "max_delta_error": _largest(field("delta_error")),
        "median_iterations": np.nan if iterations is None or len(iterations) < 2 else float(np.median(iterations[1:])),
        "another_basin": None if another is None else int(another[1:].sum()),
    }


def _largest(values: np.ndarray | None) -> float:
    """NaN counts as largest: a bound that could not be computed bounds nothing."""
    return np.nan if values is None or values[1:].size == 0 else float(values[1:].max())


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else np.nan


def _deviation(actual: np.ndarray) -> float:
    finite = actual[np.isfinite(actual)]
    return float(finite.std(ddof=1)) if finite.size > 1 else np.nan
