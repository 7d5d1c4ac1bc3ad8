"""The table `cells` for reading: per protocol the correlations and counts, then all other metrics."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd

from study.evidence import wording
from study.evidence.paths import cell_paths
from study.evidence.report import answers, cell_rows
from study.evidence.report.displays import Cell, Column, Table, across, column, fractions, label, missing, sort_key

if TYPE_CHECKING:
    from study.trials import Experiment

Shown = tuple[Column, list[Cell]]

DRAWN = ("level", "draws", "bootstrap_seed")  # how intervals were drawn: the same for every cell
COUNTED = ("usable", "total", "rows_used", "rows_total")
BOOKKEEPING = ("experiment", "protocol", "kind", *COUNTED, *DRAWN)
FIRST = (
    "minima",
    *answers.CORRELATIONS,
    "kendall",
    "slope_median",
    "ratio_median",
)  # always shown, before all other numbers
MEANINGS = {
    "usable": "comparisons (one trial and one test row each) whose correlation is defined, of all; it is not where the "
    "network collapsed or diverged, where fewer than three removals are certified, or where values do not vary",
    "minima": "distinct minima that the usable seeds reached: seeds at the same one are one observation, so few minima make "
    "wide intervals; networks that are not certified are at the same one unless they differ by more than their gradients "
    "explain, and where there is no minimum every seed counts",
    "spearman": "correlation of the ranks of predicted and actual changes, mean over usable comparisons",
    "pearson": "correlation of predicted and actual changes, mean over usable comparisons",
    "kendall": "share of pairs of removals in the predicted order less that in the opposite one, mean over usable comparisons",
    "slope_median": "actual change per unit of predicted change, by least squares within a comparison; median over usable ones",
    "ratio_median": "actual by predicted change of the median removal of a comparison, which a few removals do not move; median "
    "over usable ones",
    "ratio": "mean of the ratios whose median is shown above",
    "slope": "mean of the slopes whose median is shown above; one nearly constant prediction can make it anything",
    "intercept": "actual change where the predicted one is 0, by the same lines; mean over usable comparisons",
    "removals counted": "leave-one-outs behind the usable comparisons, of all that were selected",
    "undefined": "comparisons without a correlation, by reason",
    "resampled": "what the intervals treat as a sample of something larger",
    "ties": "removals that share a rank, their actual changes being closer than their certified errors",
    "top_k": "removals compared by the overlap of the largest",
    "top_k_overlap": "share of the k removals of largest actual change that is among the k of largest predicted change",
    "sign_agreement": "share of removals whose predicted and actual changes have the same sign",
    "mean_absolute_error": "mean distance of predicted from actual change, in units of the target",
}
SHUFFLED = "where 95% of the mean lies when predictions are given to the wrong rows"
EXPLAINED = ("usable", "minima")


def cells(experiment: Experiment, table: pd.DataFrame) -> list[Table]:
    """The correlations of every protocol, the best founded first, then the further metrics of every protocol.

    A metric and its interval stand in one column: any NAME with NAME_low and NAME_high, or NAME_band_low and
    NAME_band_high. What never varies within a protocol is said in the caption or in a note below.
    """
    rows: list[Any] = table[["estimator", "protocol", "kind"]].to_dict("records")
    names = list(dict.fromkeys(part.protocol for part in cell_rows.series(rows)))
    parts = [_Part(experiment, table[table["protocol"] == name], name, len(names) > 1) for name in names]
    found = [part.correlations() for part in parts]
    if found:
        found[-1].notes.extend(_common(table))
    return found + [further for part in parts if (further := part.further()) is not None]


class _Part:
    """The cells of one protocol."""

    def __init__(self, experiment: Experiment, table: pd.DataFrame, protocol: str, several: bool) -> None:
        self.table, self.paths = table, cell_paths(experiment.swept_paths)
        columns = set(table.columns)
        self.metrics = [name for name in table.columns if {f"{name}_low", f"{name}_high"} <= columns]
        self.bands = [name for name in table.columns if f"{name}_band_low" in columns]
        ends = {f"{name}_{end}" for name in self.metrics for end in ("low", "high")}
        ends |= {f"{name}_band_{end}" for name in self.bands for end in ("low", "high")}
        shown = [name for name in table.columns if name not in ends and name not in BOOKKEEPING]
        if "trials" in shown and (table["trials"] == table["seeds"]).all():
            shown.remove("trials")
        self.alike = [name for name in shown if name not in FIRST and _constant(table[name])]
        self.shown = [name for name in shown if name not in self.alike]
        fixed = ", ".join(wording.phrase(path, table[path].iloc[0]) for path in self.paths if path in self.alike)
        self.name = (f", protocol “{protocol}”" if several else "") + (f" ({fixed})" if fixed else "")

    def correlations(self) -> Table:
        words = [name for name in self._numbers() if not pd.api.types.is_numeric_dtype(self.table[name])]
        first = [name for name in self.shown if name in FIRST]
        counted = Column("removals counted", meaning=MEANINGS["removals counted"])
        removals = fractions(self.table["rows_used"], self.table["rows_total"])
        shown = [*self._leading(), *self._of(sorted(first, key=lambda name: name != "minima")), (counted, removals)]
        return Table(f"Correlations by cell{self.name}", *across([*shown, *self._of(words)]), notes=self._notes())

    def further(self) -> Table | None:
        names = [name for name in self._numbers() if pd.api.types.is_numeric_dtype(self.table[name])]
        if not names:
            return None
        return Table(f"Further metrics by cell{self.name}", *across([*self._leading(), *self._of(names)]))

    def _numbers(self) -> list[str]:
        return [name for name in self.shown if name not in (*FIRST, *self.paths, "estimator")]

    def _leading(self) -> list[Shown]:
        names = [name for name in self.shown if name in (*self.paths, "estimator")]
        usable = Column("usable", meaning=MEANINGS["usable"])
        counts = fractions(self.table["usable"], self.table["total"])
        return [*(column(label(name, self.paths), self.table[name]) for name in names), (usable, counts)]

    def _of(self, names: list[str]) -> list[Shown]:
        rows: list[Any] = self.table.to_dict("records")
        found: list[Shown] = []
        for name in names:
            head = Column(label(name, self.paths), meaning=_meaning(name))
            if name in self.metrics or name.endswith(cell_rows.BOUNDED):
                found.append((head, [Cell(cell_rows.interval(row, name), sort_key(row[name])) for row in rows]))
            else:
                plain, entries = column(head.label, self.table[name])
                found.append((Column(head.label, plain.numeric, head.meaning), entries))
            if name in self.bands:
                found.append((Column(f"{head.label} of shuffled rows", meaning=SHUFFLED), _bands(self.table, name)))
        return found

    def _notes(self) -> list[str]:
        first = self.table.iloc[0]
        named = [
            f"{name.replace('_', ' ')} {cell_rows.shown_value(first[name])}"
            for name in self.alike
            if name not in self.paths and not missing(first[name]) and first[name] != ""
        ]
        return [f"The same in all cells: {'; '.join(named)}."] if named else []


def _meaning(name: str) -> str:
    """For the pointer that rests on a column."""
    base = name.removesuffix("_median")
    if base.startswith("plugin_"):
        return (
            f"as {base.removeprefix('plugin_').replace('_', ' ')}, of the loss at θ* + Δθ instead of its linear change"
        )
    if base.startswith("norm_"):
        return f"{base.removeprefix('norm_').capitalize()} correlation of predicted and actual ‖Δθ‖"
    return MEANINGS.get(name) or MEANINGS.get(base, "")


def _common(table: pd.DataFrame) -> list[str]:
    """What holds for all tables of correlations."""
    first = table.iloc[0]
    drawn = ", ".join(
        f"{name.replace('_', ' ')} {cell_rows.shown_value(first[name])}" for name in DRAWN if name in table
    )
    return [
        "Each correlation is a mean over usable comparisons (one trial and one test row each), never pooled; in brackets its "
        f"crossed bootstrap interval ({drawn}), none where nothing is a sample.",
        *(f"{name}: {MEANINGS[name]}." for name in EXPLAINED if name in table),
    ]


def _bands(cells: pd.DataFrame, name: str) -> list[Cell]:
    ends = [
        (cell_rows.number(low), cell_rows.number(high))
        for low, high in zip(cells[f"{name}_band_low"], cells[f"{name}_band_high"], strict=True)
    ]
    return [
        Cell("–", "") if math.isnan(low) else Cell(f"{low:.3f} to {high:.3f}", sort_key(high)) for low, high in ends
    ]


def _constant(values: pd.Series) -> bool:
    return len(values) > 1 and values.nunique(dropna=False) == 1
