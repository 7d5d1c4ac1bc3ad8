"""The tables of an experiment, derived from its records and from nothing else."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from study.evidence import files
from study.evidence import readings as reading
from study.evidence.readings import Readings
from study.evidence.store import Store
from study.evidence.tables import cells as cell_table
from study.evidence.tables import comparisons
from study.evidence.tables import estimates as estimate_table
from study.evidence.tables import gaps as gap_table
from study.evidence.tables import pairs as pair_table
from study.evidence.tables import recalls as recall_table
from study.evidence.tables import reliabilities as reliability_table
from study.evidence.tables import trials as trial_table
from study.evidence.tables import twins as twin_table
from study.evidence.tables import verdicts as verdict_table

if TYPE_CHECKING:
    from study.trials import Experiment

WRITTEN = (
    "trials",
    "estimates",
    "agreement",
    "cells",
    "verdicts",
)  # pairs are many: `study export` writes them where they are wanted
SOMETIMES = ("reliability", "recall", "gaps", "twins")  # written only where they have rows


class Tables:
    """All tables of one experiment from one reading of its records, each computed when first asked for."""

    def __init__(self, experiment: Experiment, store: Store) -> None:
        self.experiment = experiment
        self._store = store

    @cached_property
    def readings(self) -> Readings:
        return reading.read(self.experiment, self._store)

    @cached_property
    def points(self) -> pd.DataFrame:
        """`pairs` and a column `used`: whether agreement counts the row."""
        return pair_table.build(self.readings)

    @property
    def pairs(self) -> pd.DataFrame:
        return self.points.drop(columns="used")

    @cached_property
    def trials(self) -> pd.DataFrame:
        return trial_table.build(self.readings)

    @cached_property
    def estimates(self) -> pd.DataFrame:
        return estimate_table.build(self.readings)

    @cached_property
    def agreement(self) -> pd.DataFrame:
        return comparisons.build(self.readings)

    @cached_property
    def grouped(self) -> cell_table.Groups:
        """The comparisons behind each row of `cells`."""
        return cell_table.grouped(self.readings, self.agreement)

    @cached_property
    def cells(self) -> pd.DataFrame:
        return cell_table.build(self.readings, self.agreement, self.grouped)

    @cached_property
    def reliability(self) -> pd.DataFrame:
        return reliability_table.build(self.readings, self.agreement, self.grouped)

    @cached_property
    def recall(self) -> pd.DataFrame:
        return recall_table.build(self.readings)

    @cached_property
    def gaps(self) -> pd.DataFrame:
        return gap_table.build(self.readings)

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        return verdict_table.build(self.readings, self.agreement, self.cells, self.gaps, self.reliability)

    @cached_property
    def twins(self) -> pd.DataFrame:
        return twin_table.build(self.readings, self.agreement)

    def write(self, folder: Path) -> list[Path]:
        """Each of WRITTEN, and of SOMETIMES what has rows, as a CSV file in `folder`, whole or not at all; the paths."""
        paths = []
        for name in (*WRITTEN, *SOMETIMES):
            path = folder / f"{name}.csv"
            if name in SOMETIMES and getattr(self, name).empty:
                path.unlink(missing_ok=True)  # of an earlier state
                continue
            with files.replacing(path) as temporary:
                getattr(self, name).to_csv(temporary, index=False, lineterminator="\n")
            paths.append(path)
        return paths


def pairs(experiment: Experiment, store: Store) -> pd.DataFrame:
    """One row per removed row, chosen test row, estimator and protocol. Columns: see `study.evidence.tables.pairs`."""
    return Tables(experiment, store).pairs


def trials(experiment: Experiment, store: Store) -> pd.DataFrame:
    """One row per trial and protocol. Columns: see `study.evidence.tables.trials`."""
    return Tables(experiment, store).trials


def agreement(experiment: Experiment, store: Store) -> pd.DataFrame:
    """One row per trial, test row, estimator and protocol. Columns: see `study.evidence.tables.comparisons`."""
    return Tables(experiment, store).agreement


def cells(experiment: Experiment, store: Store) -> pd.DataFrame:
    """One row per cell, estimator and protocol. Columns: see `study.evidence.tables.cells`."""
    return Tables(experiment, store).cells


def write(experiment: Experiment, store: Store) -> list[Path]:
    """Rebuild `results/<name>/tables/`. Returns the paths written."""
    return Tables(experiment, store).write(store.folder / "tables")
