"""What the figures of one experiment are drawn from: its tables, and how its sweep becomes panels and lines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from study.evidence.figures import derived, lines, published, style
from study.evidence.figures.lines import Line, Panel, Sweep
from study.evidence.figures.published import Published
from study.evidence.paths import HELD_OUT
from study.evidence.tables import Tables

NETWORKS = ("data.", "model.", "training.")  # the paths that change a trained network
MANY_TESTS = 10  # test rows of a cell, from where their losses are worth an axis


@dataclass(frozen=True)
class Material:
    """Everything is computed when first asked for."""

    tables: Tables

    @cached_property
    def sweep(self) -> Sweep:
        return Sweep(self.tables.readings)

    @cached_property
    def cells(self) -> pd.DataFrame:
        """The table; where nothing is swept the estimator takes the place of the axis."""
        return self.tables.cells

    @cached_property
    def panels(self) -> list[Panel]:
        return lines.panels(self.sweep, self.cells)

    @cached_property
    def behind(self) -> derived.Cells:
        return derived.Cells(self.sweep)

    @cached_property
    def network_sweep(self) -> Sweep:
        return Sweep(self.tables.readings, NETWORKS)

    @cached_property
    def network_panels(self) -> list[Panel]:
        """One per protocol, every trained network once. Protocols that start from the same networks share one panel."""
        table = derived.networks(self.tables.readings, self.tables.trials).assign(estimator="")
        table = table[table["largest_eigenvalue"].notna()]
        sweep = self.network_sweep
        held = [path for path in self.tables.experiment.swept_paths if path in HELD_OUT]
        table = table.drop_duplicates([*sweep.paths, *held, "seed", "protocol"])
        found: dict[frozenset[str], Panel] = {}
        for panel in lines.panels(sweep, table):
            same = frozenset(table.loc[table["protocol"] == panel.protocol, "trial"])
            found[same] = _shared(panel) if same in found else panel
        several = len(found) > 1
        return [_of_networks(panel, several) for panel in found.values()]

    @cached_property
    def losses(self) -> pd.DataFrame:
        return derived.test_losses(self.tables.readings, self.tables.agreement)

    @cached_property
    def knows_changes(self) -> bool:
        """Whether any estimator says how far a removal moves the parameters."""
        return any(
            np.isfinite(block.record.arrays[f"predicted_norm/{name}"]).any()
            for block in self.tables.readings.blocks
            for name in block.estimators
        )

    @property
    def many_tests(self) -> bool:
        return bool((self.cells["test_rows"] >= MANY_TESTS).any())

    @property
    def target(self) -> str:
        return str(self.tables.readings.blocks[0].record.header["spec"].get("target", "loss"))

    def published(self, panel: Panel, metric: str) -> list[Published]:
        """What others published for a setting of the panel."""
        specs: list[Any] = [
            block.record.header["spec"]
            for line in panel.lines
            for _, cell in line.cells.iterrows()
            for block in self.behind.blocks(cell)[:1]
        ]
        found, axis = published.matching(metric, panel.kind, specs), self.sweep.axis
        return [one for one in found if axis in one.settings]  # elsewhere it has no place on the axis


def numbered(panel: Panel) -> pd.DataFrame:
    """The rows of all lines of a panel, with `line`, the index of their look."""
    return pd.concat([line.cells.assign(line=index) for index, line in enumerate(panel.lines)], ignore_index=True)


def _of_networks(panel: Panel, several: bool) -> Panel:
    """A network knows no protocol: only what it was trained with tells it apart."""
    subtitle = panel.subtitle or (f"of: {panel.title}" if several else "")
    return replace(panel, title="Trained networks", subtitle=subtitle)


def _shared(panel: Panel) -> Panel:
    """In the colour of networks, not in that of the first protocol that starts from them."""
    count, found = len(panel.lines), []
    for rank, line in enumerate(panel.lines):
        look = replace(line.look, colour=style.shade(style.NETWORK_COLOUR, rank, count))
        found.append(Line(line.estimator, line.values, line.cells, look))
    return replace(panel, lines=found)
