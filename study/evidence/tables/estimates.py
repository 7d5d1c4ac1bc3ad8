"""The table `estimates`: one row per trial and estimator, with how its predictions were obtained and how far they may be off."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from study.evidence.readings import SEPARATOR, Readings, leading

LABELS = ("estimator", "estimator_kind", "flags")
FIRST = ("damping", "residual", "distance_from_exact")  # what every solver says, before what only some do
LEAST = ("block", "captured_gradient", "captured_spectrum", "kept_directions", "smallest_eigenvalue", "smallest_kept")


def build(readings: Readings) -> pd.DataFrame:
    """Leading columns of `pairs`, then estimator, estimator_kind, flags, and every number that some estimator records.

    residual: largest ‖(M + δI)s − v‖/‖v‖ over its solves at its own damping; distance_from_exact: the largest distance of
    s_t from H⁻¹∇L_t, relative to it (null for exact solves, and where the matrix is too large to know). Lists (`norms` of
    lissa) stay in the record.
    """
    blocks = readings.blocks
    rows: list[dict[str, Any]] = []
    for block in blocks:
        for name, own in block.record.header["estimators"].items():
            numbers = {key: value for key, value in own.items() if isinstance(value, int | float)}
            flags = SEPARATOR.join(own["flags"])
            rows.append({"estimator": name, "estimator_kind": own["kind"], "flags": flags, **numbers})
    found = dict.fromkeys([*LABELS, *(key for row in rows for key in row)])
    ordered = [*LABELS, *(name for name in FIRST if name in found)]
    ordered += [name for name in found if name not in ordered]
    repeated = leading(readings).iloc[np.repeat(np.arange(len(blocks)), [len(block.estimators) for block in blocks])]
    table = pd.DataFrame(rows, columns=ordered)
    return pd.concat([repeated.reset_index(drop=True), table], axis=1)


def worst(table: pd.DataFrame, paths: list[str]) -> pd.DataFrame:
    """One row per cell and estimator: trials, how many of them are flagged, and of every number the worst.

    That is the smallest of what should be large (LEAST), the largest of all else; NaN where any trial's is not finite or not
    known: nothing is then known of the worst.
    """
    keys = [*paths, "estimator", "estimator_kind"]
    start = list(table.columns).index(LABELS[-1]) + 1
    rows = []
    for values, group in table.groupby(keys, sort=False, dropna=False):
        numbers = {
            name: getattr(group[name], "min" if name in LEAST else "max")(skipna=False)
            for name in table.columns[start:]
        }
        flagged = int((group["flags"] != "").sum())
        rows.append({**dict(zip(keys, values, strict=True)), "trials": len(group), "flagged": flagged, **numbers})
    return pd.DataFrame(rows, columns=[*keys, "trials", "flagged", *table.columns[start:]])
