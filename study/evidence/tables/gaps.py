"""The table `gaps`: of every cell and path what lies between each two neighbouring nodes, and how much of the effect that is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from study.evidence import gap_names
from study.evidence.paths import cell_paths
from study.evidence.readings import Block, Readings, leading, trusted
from study.evidence.statistics.bootstrap import SEED, ratio_interval
from study.evidence.tables.cells import Cell

QUANTITIES = ("parameters", "outputs", "loss")
WHOLE = "whole path"  # from the first node to the last, in test loss: gaps may cancel
LABELS = ("path", "position", "name", "from", "to", "quantity")
COUNTS = ("trials", "seeds", "minima", "test_rows", "usable", "total", "undefined", "rows_used", "rows_total")
SIZES = ("signed", "rms", "effect", "relative_signed", "relative", "relative_low", "relative_high")
FOUND = (*LABELS, *COUNTS, *SIZES, "resampled")


def build(readings: Readings) -> pd.DataFrame:
    """One row per cell, path, gap and quantity; empty where no record follows a path.

    position: 1 for the first gap of the path; 0 for the whole path, which is called WHOLE and known in test loss only. name:
    see `gap_names`. quantity: "parameters", "outputs" or "loss" (the target of the spec), as `study.compute.gaps` has them.
    Within one comparison (a trial and a test row), over the rows that count on both sides (selected, certified where a
    protocol certifies, finite): signed, the mean of B − A; rms, its root mean square; effect, that of the path's first node;
    relative and relative_signed, rms and signed over effect. All are means over usable comparisons, never pooled; relative with
    its 95% crossed bootstrap interval over what `resampled` names: seeds (those of one minimum count as one), test rows and
    removed rows, as in `cells`. usable/total, undefined: comparisons that have these numbers, and why others have not.
    """
    paths = cell_paths(readings.experiment.swept_paths)
    found_gaps = [gap for block in readings.blocks for gap in _gaps(block)]
    table = _comparisons(readings, found_gaps)
    keys = [*paths, *LABELS]
    rows = [
        dict(zip(keys, values, strict=True)) | _row(readings, found_gaps, group)
        for values, group in table.groupby(keys, sort=False, dropna=False)
    ]
    found = pd.DataFrame(rows, columns=[*paths, *FOUND])
    found = found.astype({path: table[path].dtype for path in paths})
    found.insert(0, "experiment", readings.experiment.name)
    return found


def _comparisons(readings: Readings, found_gaps: Sequence[_Gap]) -> pd.DataFrame:
    """Leading columns, LABELS, `block` and `gap` by their places, and what one comparison says."""
    places = {id(block): index for index, block in enumerate(readings.blocks)}
    parts = [
        {"block": places[id(gap.block)], "gap": place, **row}
        for place, gap in enumerate(found_gaps)
        for row in gap.rows()
    ]
    own = ["block", "gap", *LABELS, "test_row", "rows_used", "rows_total", "undefined", "signed", "rms", "effect"]
    found = pd.DataFrame(parts, columns=own)
    first = leading(readings).iloc[found["block"].to_numpy(dtype=int)].reset_index(drop=True)
    return pd.concat([first, found], axis=1)


@dataclass(frozen=True, eq=False)
class _Gap:
    """One gap of one trial in one quantity; sizes, signed and effect [T, R], used [T, R]: rows that count on both sides."""

    block: Block
    labels: tuple[Any, ...]
    sizes: np.ndarray
    signed: np.ndarray
    effect: np.ndarray
    used: np.ndarray

    def rows(self) -> Iterator[dict[str, Any]]:
        """One per test row."""
        effect, rms, signed = self._squares(self.effect), self._squares(self.sizes), self._mean(self.signed)
        for t, test in enumerate(self.block.tests.tolist()):
            reason = self._reason(t, effect[t])
            kept = [np.nan if reason else float(part[t]) for part in (signed, rms, effect)]
            yield {
                **dict(zip(LABELS, self.labels, strict=True)),
                "test_row": test,
                "rows_used": 0 if reason else int(self.used[t].sum()),
                "rows_total": int(self.block.selected[t].sum()),
                "undefined": reason,
                **dict(zip(("signed", "rms", "effect"), kept, strict=True)),
            }

    def squares(self, values: np.ndarray, removed: np.ndarray) -> np.ndarray:
        """[T, rows] a column per row of `removed`; 0 where the gap leaves it out."""
        found = np.zeros((len(values), len(removed)))
        found[:, np.searchsorted(removed, self.block.removed)] = np.where(self.used, np.square(values), 0.0)
        return found

    def _reason(self, t: int, effect: float) -> str:
        if self.block.undefined:
            return self.block.undefined
        if not np.isfinite(self.sizes[t]).any():
            return "unknown"  # such as Δθ of a solver through test points
        if not self.used[t].any():
            return "no certified row"
        return "" if effect > 0 else "no effect"

    def _squares(self, values: np.ndarray) -> np.ndarray:
        return np.sqrt(self._mean(np.square(values)))

    def _mean(self, values: np.ndarray) -> np.ndarray:
        count = self.used.sum(axis=1)
        return np.where(self.used, values, 0.0).sum(axis=1) / np.where(count, count, 1)


def _gaps(block: Block) -> Iterator[_Gap]:
    """Of every path of the trial, quantity after quantity."""
    header = block.record.header
    spec = header["spec"]
    for path, names in header.get("paths", {}).items():
        entries = {entry["name"]: entry for entry in (*spec["estimators"], *spec["protocols"])}
        called = [gap_names.name(entries[first], entries[second]) for first, second in pairwise(names)]
        known = {name: _trusted(block, name) for name in names}
        for quantity in QUANTITIES:
            arrays = _Arrays.of(block, path, quantity)
            for k, (first, second) in enumerate(pairwise(names)):
                labels = (path, k + 1, called[k], first, second, quantity)
                both = known[first] & known[second] & known[names[0]]
                yield arrays.gap(block, labels, arrays.sizes[k], arrays.signed[k], both)
            if quantity == "loss":
                whole = arrays.signed.sum(axis=0)
                labels = (path, 0, WHOLE, names[0], names[-1], quantity)
                yield arrays.gap(block, labels, np.abs(whole), whole, known[names[0]] & known[names[-1]])


@dataclass(frozen=True, eq=False)
class _Arrays:
    """Of one path and quantity: sizes and signed [G, T, R], effect [T, R]."""

    sizes: np.ndarray
    signed: np.ndarray
    effect: np.ndarray

    @classmethod
    def of(cls, block: Block, path: str, quantity: str) -> _Arrays:
        arrays, shape = block.record.arrays, (len(block.tests), len(block.removed))
        sizes, effect = arrays[f"gap/{path}/{quantity}"], arrays[f"effect/{path}/{quantity}"]
        signed = sizes if quantity == "loss" else arrays[f"gap/{path}/{quantity}_signed"]
        if quantity == "parameters":  # which know no test row: the rows selected for each count
            sizes, signed, effect = sizes[..., None], signed[..., None], effect[..., None]
        whole = [np.broadcast_to(part.swapaxes(-1, -2), (*part.shape[:-2], *shape)) for part in (sizes, signed, effect)]
        return cls(*whole)

    def gap(self, block: Block, labels: tuple[Any, ...], sizes: np.ndarray, signed: np.ndarray, both: np.ndarray) -> _Gap:
        used = block.selected & both & np.isfinite(sizes) & np.isfinite(self.effect)
        return _Gap(block, labels, sizes, signed, self.effect, used)


def _trusted(block: Block, name: str) -> np.ndarray:
    """[R] which rows of a node count; what is not finite is left out with its gap."""
    return trusted(block.record, name) if name in block.protocols else np.ones(len(block.removed), dtype=bool)


def _row(readings: Readings, found_gaps: Sequence[_Gap], group: pd.DataFrame) -> dict[str, Any]:
    protocols = readings.blocks[int(group["block"].iloc[0])].protocols
    first = group["from"].iloc[0]
    cell = Cell(
        readings, group.assign(protocol=first if first in protocols else protocols[0]), group["block"].to_numpy()
    )
    usable, used = cell.usable, group[cell.usable]
    reasons = group.loc[~usable, "undefined"].value_counts()
    return {
        "trials": len(np.unique(cell.owners)),
        "seeds": len(np.unique(cell.seeds)),
        "minima": len(np.unique(cell.minima[usable])),
        "test_rows": len(np.unique(cell.tests)),
        "usable": int(usable.sum()),
        "total": len(group),
        "undefined": ", ".join(f"{number} {reason}" for reason, number in reasons.items()),
        "rows_used": int(group["rows_used"].sum()),
        "rows_total": int(group["rows_total"].sum()),
        **{name: used[name].mean() for name in ("signed", "rms", "effect")},
        "relative_signed": (used["signed"] / used["effect"]).mean(),
        **_relative(cell, [found_gaps[place] for place in dict.fromkeys(group["gap"])]),
    }


def _relative(cell: Cell, own: Sequence[_Gap]) -> dict[str, Any]:
    sampled, usable, removed = cell.sampled, cell.usable, cell.removed
    top, bottom = (
        np.concatenate([gap.squares(getattr(gap, name), removed) for gap in own])[usable]
        for name in ("sizes", "effect")
    )
    low, high = ratio_interval(
        "relative", top, bottom, cell.minima[usable], cell.tests[usable], sampled, np.random.default_rng(SEED)
    )
    values = (cell.group["rms"] / cell.group["effect"]).to_numpy(dtype=float)[usable]
    return {
        "relative": float(values.mean()) if usable.any() else np.nan,
        "relative_low": low,
        "relative_high": high,
        "resampled": ", ".join(name for name in ("seeds", "tests", "rows") if getattr(sampled, name)) or "nothing",
    }
