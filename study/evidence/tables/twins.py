"""The table `twins`: cells as published beside cells in which one thing is changed, and what the change does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from study.evidence import wording
from study.evidence.paths import cell_paths
from study.evidence.readings import Readings, swept_values
from study.evidence.statistics import paired
from study.evidence.statistics.bootstrap import SEED, Sampled, crossed_bootstrap
from study.evidence.statistics.metrics import Compared, measured
from study.evidence.tables import comparisons
from study.evidence.tables.cells import Cell
from study.specs import Twin
from study.specs.twins import NAMES, SIDES, Labels, holds, pairs

PUBLISHED, CORRECTED = SIDES
MEANS = ("spearman", "pearson", "mean_absolute_error", "sign_agreement")
MEDIAN = "slope_median"
METRICS = (*MEANS[:2], MEDIAN, *MEANS[2:])
COUNTS = ("seeds", "minima", "usable", "total")
ENDS = ("", "_low", "_high")


def build(readings: Readings, agreement: pd.DataFrame) -> pd.DataFrame:
    """One row per twin and pair of cells that are equal in all that neither side names; empty where the spec has no twins.

    twin: what changes, in words. Swept paths: the values of the cells, null where the sides differ in them. published,
    corrected: what each side names; estimator_SIDE, protocol_SIDE, kind_SIDE: its own. absolute, raw: which side's correlations
    are taken without their sign before they are averaged, and which one's actual changes are from θ*, the null not subtracted.
    METRIC_SIDE: mean over the usable comparisons of the side (one trial and test row each; slope_median: median), as in `cells`,
    with _low and _high, its 95% interval over seeds (those of one minimum count as one), test rows and, where they are a sample,
    removed rows; that of the median is over seeds and test rows. METRIC_difference: corrected less published over the `paired`
    comparisons, of equal seed and test row, that both sides can use, with the 95% interval of a difference whose sides are
    resampled together. usable, total, seeds, minima of each side: as in `cells`. The primary metric comes first.
    """
    experiment = readings.experiment
    paths = cell_paths(experiment.swept_paths)
    cells = list(_cells(readings, agreement, paths)) if experiment.twins else []
    behind = {id(labels): cell for labels, cell in cells}
    found = [
        (_Side(twin, PUBLISHED, one, behind[id(one)]), _Side(twin, CORRECTED, other, behind[id(other)]))
        for twin in experiment.twins
        for one, other in pairs(twin, [labels for labels, _ in cells])
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # as for `cells`
        rows = list(pool.map(lambda sides: _row(sides[0], sides[1], paths), found))
    table = pd.DataFrame(rows, columns=["twin", *paths, *_found(experiment.primary)])
    for path in paths:
        table[path] = swept_values([None if value != value else value for value in table[path]])  # pandas turns None to NaN
    table.insert(0, "experiment", experiment.name)
    return table


def _cells(readings: Readings, agreement: pd.DataFrame, paths: list[str]) -> Iterator[tuple[Labels, Cell]]:
    sizes = [comparisons.count(block) for block in readings.blocks]
    owners = np.repeat(np.arange(len(sizes)), sizes)
    for values, group in agreement.groupby([*paths, *NAMES], sort=False, dropna=False):
        swept = readings.blocks[owners[group.index[0]]].trial.swept
        labels = dict(zip(NAMES, values[-len(NAMES) :], strict=True)) | {path: swept.get(path) for path in paths}
        yield labels, Cell(readings, group, owners[group.index])


@dataclass(frozen=True, eq=False)
class _Side:
    """One cell, measured as its side of the twin asks."""

    twin: Twin
    name: str
    labels: Labels
    cell: Cell

    @property
    def raw(self) -> bool:
        return self.twin.takes("raw", self.name)

    @property
    def unsigned(self) -> bool:
        return self.twin.takes("absolute", self.name)

    @cached_property
    def values(self) -> Compared:
        return self.cell.aligned(self.raw)

    @cached_property
    def found(self) -> dict[str, np.ndarray]:
        return measured(self.values)

    @cached_property
    def usable(self) -> np.ndarray:
        return np.isfinite(self.found["pearson"])

    @cached_property
    def comparisons(self) -> list[tuple[Any, ...]]:
        """What tells each comparison apart within its cell: its seed and the test row, with what else was held out."""
        columns = ["seed", *self.cell.held_out, "test_row"]
        return [tuple(map(wording.value, row)) for row in self.cell.group[columns].itertuples(index=False)]

    def part(self, index: np.ndarray, removed: np.ndarray) -> paired.Side:
        """Its comparisons `index`, with a column for each of the rows `removed` on either side."""
        return paired.Side(self.cell.aligned(self.raw, removed).take(index), self.cell.sampled.rows, self.unsigned)

    def numbers(self) -> dict[str, Any]:
        """The side's own columns but for those that label it."""
        cell, usable = self.cell, self.usable
        kept, units = self.values.take(np.flatnonzero(usable)), (cell.minima[usable], cell.tests[usable], cell.sampled)
        ends = crossed_bootstrap(kept, *units, np.random.default_rng(SEED), unsigned=self.unsigned)
        found: dict[str, Any] = {}
        for metric in MEANS:
            own = self.found[metric][usable]
            own = np.abs(own) if self.unsigned and metric in MEANS[:2] else own
            found |= _triple(metric, self.name, own.mean() if own.size else np.nan, *ends[metric])
        slopes = self.found["slope"][usable]
        middle = np.median(slopes) if slopes.size else np.nan
        found |= _triple(MEDIAN, self.name, middle, *paired.median_interval(slopes, *units))
        counts = (len(np.unique(cell.seeds)), len(np.unique(cell.minima[usable])), int(usable.sum()), len(usable))
        return found | {f"{count}_{self.name}": number for count, number in zip(COUNTS, counts, strict=True)}


def _row(one: _Side, other: _Side, paths: list[str]) -> dict[str, Any]:
    labels: dict[str, Any] = {"twin": one.twin.name, "absolute": one.twin.absolute or "", "raw": one.twin.raw or ""}
    for path in paths:
        labels[path] = one.labels[path] if holds(one.labels[path], other.labels[path]) else None
    for side in (one, other):
        labels[side.name] = _text(getattr(one.twin, side.name)) or "all"
        labels[f"kind_{side.name}"] = side.cell.group["kind"].iloc[0]
        labels |= {f"{name}_{side.name}": side.labels[name] for name in NAMES}
    return labels | one.numbers() | other.numbers() | _differences(one, other)


def _text(side: Labels) -> str:
    return ", ".join(str(value) if name in NAMES else wording.phrase(name, value) for name, value in side.items())


def _differences(one: _Side, other: _Side) -> dict[str, Any]:
    """Over the comparisons of equal seed and test row that are usable on both sides."""
    place = {name: k for k, name in enumerate(other.comparisons)}
    match = [(k, place[name]) for k, name in enumerate(one.comparisons) if name in place]
    both = np.array([(k, j) for k, j in match if one.usable[k] and other.usable[j]], dtype=int).reshape(-1, 2)
    first, second = both.T
    _, minima = np.unique(
        np.stack([one.cell.minima[first], other.cell.minima[second]]), axis=1, return_inverse=True
    )  # of one minimum where it is one on both sides
    tests, ours, theirs = one.cell.tests[first], one.cell.sampled, other.cell.sampled
    sampled = Sampled(len(np.unique(minima)) > 1, ours.tests and theirs.tests and len(np.unique(tests)) > 1, rows=False)
    removed = np.union1d(one.cell.removed, other.cell.removed)
    parts = one.part(first, removed), other.part(second, removed)
    found = paired.differences(*parts, minima.ravel(), tests, sampled)
    slopes = one.found["slope"][first], other.found["slope"][second]
    found[MEDIAN] = paired.median_difference(*slopes, minima.ravel(), tests, sampled)
    numbers: dict[str, Any] = {"paired": len(both), "resampled": _resampled(sampled, [part.rows for part in parts])}
    for metric in METRICS:
        numbers |= _triple(metric, paired.DIFFERENCE, *found[metric])
    return numbers


def _resampled(sampled: Sampled, rows: list[bool]) -> str:
    """What the interval of the difference treats as a sample: removed rows may be one on one side only."""
    of = "rows" if all(rows) else f"rows of {SIDES[rows.index(True)]}" if any(rows) else ""
    return ", ".join(filter(None, ["seeds" * sampled.seeds, "tests" * sampled.tests, of])) or "nothing"


def _triple(metric: str, part: str, *numbers: float) -> dict[str, float]:
    return {f"{metric}_{part}{end}": float(number) for end, number in zip(ENDS, numbers, strict=True)}


def _found(primary: str) -> list[str]:
    metrics = sorted(METRICS, key=lambda name: name != primary)
    labels = [*SIDES, *(f"{name}_{side}" for side in SIDES for name in (*NAMES, "kind")), "absolute", "raw"]
    numbers = [f"{metric}_{part}{end}" for metric in metrics for part in (*SIDES, paired.DIFFERENCE) for end in ENDS]
    return [*labels, *numbers, "paired", *(f"{name}_{side}" for name in COUNTS for side in SIDES), "resampled"]
