"""The noise of the truth as a table of a report: a row per cell, estimator and protocol."""

from __future__ import annotations

from typing import Any

import pandas as pd

from study.evidence.paths import cell_paths
from study.evidence.report import cell_rows
from study.evidence.report.displays import Cell, Column, Table, across, column, label, sort_key
from study.evidence.tables import Tables

MEANINGS = {
    "replicas": "measurements of one truth: seeds, those that reached one minimum counted once, or retrainings within a trial; "
    "at least four are needed",
    "rows": "removed rows that every replica measured, of the test row with fewest",
    "effect_rms": "size of the actual changes: root mean square over trials and rows, mean over test rows",
    "null_to_effect": "drift of the null, with nothing removed, by the size of the effects: above 1 the yardstick itself moves "
    "further than what it is to measure",
    "standard_error_rms": "size of the standard errors of the mean over replicas",
    "share_above_noise": "share of the rows whose mean effect is more than 1.96 of its standard errors from zero",
    "reliability": "share of the variance over rows of the replicas' mean that another such mean would have in common with it; "
    "2ρ/(1 + ρ), ρ the correlation of the means of two halves",
    "ceiling": "√reliability: what a perfect prediction of the expected effects would reach against this truth",
    "seed_mean_pearson": "Pearson correlation of predicted with actual changes, each averaged over all replicas; where both come "
    "from the same networks, what these have in common counts as agreement",
    "disjoint_pearson": "the same where prediction and truth share no seed: to be compared with the ceiling",
    "disattenuated": "disjoint Pearson over ceiling: the correlation with a truth without noise of its seeds. Not clipped; none "
    "where the interval of the reliability reaches below 0.1. Noise of the prediction over seeds is not corrected",
}
NAMES = {"null_to_effect": "null / effect", "disattenuated": "corrected for noise", "ceiling": "noise ceiling"}
NOTES = (
    "Seeds disagree about the same removal. Reliability says how much of the truth's mean over seeds they agree on: 1 when "
    "another set of seeds would give the same changes, 0 when what is ranked is noise. Its root is the noise ceiling: no "
    "prediction of the expected change can correlate higher with this truth, on average. A prediction made at the very network "
    "that is retrained knows what is particular to that network, and its correlation within networks, in the tables above, may "
    "lie above this ceiling.",
    "All numbers are of a test row and averaged over test rows. Intervals by leaving out replicas, and rows and test rows where "
    "those are samples.",
)


def reliability(tables: Tables) -> Table | None:
    """None where there is no cell."""
    table = tables.reliability
    if table.empty:
        return None
    paths = cell_paths(tables.experiment.swept_paths)
    leading = [*paths, "estimator", "protocol"]
    shown = [
        column(label(name, paths), table[name])
        for name in leading
        if len(table) == 1 or table[name].nunique(dropna=False) > 1
    ]
    rows: list[Any] = table.to_dict("records")
    for name, meaning in MEANINGS.items():
        head = Column(NAMES.get(name, label(name, paths)), meaning=meaning)
        if name in ("replicas", "rows") or not name.endswith(cell_rows.BOUNDED):
            plain, entries = column(head.label, table[name])
            shown.append((Column(head.label, plain.numeric, meaning), entries))
        else:
            shown.append((head, [Cell(cell_rows.interval(row, name), sort_key(row[name])) for row in rows]))
    shown.append(
        (Column("why not", False, "test rows without a reliability, or why there is no correction"), _why(table))
    )
    return Table("Noise of the truth by cell", *across(shown), notes=list(NOTES))


def _why(table: pd.DataFrame) -> list[Cell]:
    return [
        Cell("; ".join(filter(None, [undefined, "" if uncorrected == "no reliability" else uncorrected])))
        for undefined, uncorrected in zip(table["undefined"], table["uncorrected"], strict=True)
    ]
