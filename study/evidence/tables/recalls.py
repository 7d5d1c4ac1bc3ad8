"""The table `recall`: how many of the most influential rows are among the nearest neighbours of a test point."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from study.evidence.paths import cell_paths
from study.evidence.readings import Block, Readings, leading, positions, trusted
from study.evidence.statistics.bootstrap import SEED, Sampled, mean_interval
from study.evidence.statistics.recall import recall
from study.evidence.tables.cells import Cell

RETRIEVED = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000)  # k, those below the number of rows
TOP = (1, 5, 10, 50)  # m, likewise
PREFIX = "neighbours/"
PREDICTED, ACTUAL = "predicted", "actual"
COUNTS = ("trials", "seeds", "minima", "test_rows", "usable", "total", "undefined")
FOUND = ("features", "against", "name", "kind", "k", "m", "rows", *COUNTS, "recall", "recall_low", "recall_high",
         "chance", "resampled")  # fmt: skip


def build(readings: Readings) -> pd.DataFrame:
    """One row per cell, features, ranking, k and m: mean R@m = |k nearest ∩ m of largest influence| / m (Guo et al. 2021).

    features: the layer whose features measure the distance. against, name, kind: the ranking of all rows by |change|, as an
    estimator has predicted it ("predicted"), or as a protocol has measured it ("actual": only where all rows were removed;
    rows that are not certified where the protocol certifies are not among the m). recall: mean over usable comparisons (one
    trial and test row each), with its 95% crossed bootstrap interval over seeds (those of one minimum count as one) and test
    rows; training rows are not resampled, for that would change what is nearest. chance: recall of k rows at random, k/n.
    Empty where no record holds neighbours.
    """
    paths = cell_paths(readings.experiment.swept_paths)
    table = _comparisons(readings)
    rows: list[dict[str, Any]] = []
    if not table.empty:
        for values, group in table.groupby(paths, sort=False, dropna=False) if paths else [((), table)]:
            labels = dict(zip(paths, values, strict=True))
            rows += [labels | row for row in _of_cell(readings, group)]
    found = pd.DataFrame(rows, columns=[*paths, *FOUND])
    found = found.astype({path: table[path].dtype for path in paths})
    found.insert(0, "experiment", readings.experiment.name)
    return found


def _comparisons(readings: Readings) -> pd.DataFrame:
    """Leading columns, test_row, and `block`, the index of its block: of the trials that rank neighbours."""
    blocks = [(index, block) for index, block in enumerate(readings.blocks) if _layers(block)]
    owners = np.repeat([index for index, _ in blocks], [len(block.tests) for _, block in blocks]).astype(int)
    tests = np.concatenate([block.tests for _, block in blocks]) if blocks else np.empty(0, dtype=np.int64)
    return leading(readings).iloc[owners].reset_index(drop=True).assign(test_row=tests, block=owners)


def _layers(block: Block) -> list[str]:
    return [name.removeprefix(PREFIX) for name in block.record.arrays if name.startswith(PREFIX)]


def _of_cell(readings: Readings, group: pd.DataFrame) -> Iterator[dict[str, Any]]:
    blocks = {index: readings.blocks[index] for index in dict.fromkeys(group["block"].tolist())}
    layers = dict.fromkeys(layer for block in blocks.values() for layer in _layers(block))
    rankings = dict.fromkeys(ranking for block in blocks.values() for ranking in _rankings(block))
    for layer in layers:
        for ranking in rankings:
            held = [i for i, block in blocks.items() if layer in _layers(block) and ranking in _rankings(block)]
            if held:
                own = group[group["block"].isin(held)]
                yield from _rows(readings, own, [blocks[index] for index in held], layer, ranking)


def _rankings(block: Block) -> list[tuple[str, str]]:
    """Those of the trial, each as (against, name)."""
    complete = len(block.removed) == len(block.record.arrays["train_rows"])
    measured = block.protocols if complete else []
    return [*((PREDICTED, name) for name in block.estimators), *((ACTUAL, name) for name in measured)]


def _rows(
    readings: Readings, group: pd.DataFrame, blocks: list[Block], layer: str, ranking: tuple[str, str]
) -> Iterator[dict[str, Any]]:
    """One per k and m."""
    against, name = ranking
    counts = [len(block.record.arrays["train_rows"]) for block in blocks]
    retrieved, top = ([count for count in grid if count < min(counts)] for grid in (RETRIEVED, TOP))
    found = np.concatenate([_recall(block, layer, ranking, retrieved, top) for block in blocks])
    reasons = np.repeat([block.undefined for block in blocks], [len(block.tests) for block in blocks])
    chance = np.mean([[k / count for k in retrieved] for count in counts], axis=0)
    part = "estimators" if against == PREDICTED else "protocols"
    labels = {"features": layer, "against": against, "name": name, "kind": blocks[0].record.header[part][name]["kind"]}
    protocol = name if against == ACTUAL else blocks[0].protocols[0]
    group = group.assign(protocol=protocol)
    for (i, k), (j, m) in ((a, b) for a in enumerate(retrieved) for b in enumerate(top)):
        values = found[:, i, j]
        undefined = np.where(np.isfinite(values), "", np.where(reasons != "", reasons, "too few rows"))
        cell = Cell(readings, group.assign(undefined=undefined), group["block"].to_numpy())
        numbers = {"k": k, "m": m, "rows": min(counts), "chance": float(chance[i])}
        yield labels | numbers | _mean(cell, values)


def _recall(block: Block, layer: str, ranking: tuple[str, str], retrieved: list[int], top: list[int]) -> np.ndarray:
    """[T, k, m], NaN where the trial's correlations are undefined as well."""
    against, name = ranking
    arrays = block.record.arrays
    values = arrays[f"{against}/{name}"].T
    if against == ACTUAL:
        known = np.where(trusted(block.record, name) & block.selected, values, np.nan)
        values = np.full((len(block.tests), len(arrays["train_rows"])), np.nan)
        values[:, positions(arrays["train_rows"], block.removed)] = known
    if block.undefined:
        values = np.full_like(values, np.nan)
    return recall(arrays[PREFIX + layer].T, values, retrieved, top)


def _mean(cell: Cell, values: np.ndarray) -> dict[str, Any]:
    usable, tests = cell.usable, cell.tests
    sampled = Sampled(cell.sampled.seeds, cell.sampled.tests, rows=False)
    ends = mean_interval("recall", values, cell.minima, tests, sampled, np.random.default_rng(SEED))
    reasons = cell.group.loc[~usable, "undefined"].value_counts()
    return {
        "trials": len(np.unique(cell.owners)),
        "seeds": len(np.unique(cell.seeds)),
        "minima": len(np.unique(cell.minima[usable])),
        "test_rows": len(np.unique(tests)),
        "usable": int(usable.sum()),
        "total": len(values),
        "undefined": ", ".join(f"{number} {reason}" for reason, number in reasons.items()),
        "recall": float(values[usable].mean()) if usable.any() else np.nan,
        "recall_low": ends[0],
        "recall_high": ends[1],
        "resampled": ", ".join(name for name in ("seeds", "tests") if getattr(sampled, name)) or "nothing",
    }
