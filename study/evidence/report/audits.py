"""What `study audit` found, where its files lie beside the records: read as they are, never computed here."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from study.evidence.report.displays import Table, across, column

FOLDER = "audit"
SHOWN = ("cell", "package", "version", "method", "setting", "pearson", "slope", "largest_difference", "zero_tests", "nan_tests",
         "tests", "seconds", "warning", "error")  # fmt: skip
TEXTS = ("cell", "package", "version", "method", "setting", "warning", "error")
MEANINGS = (
    "Pearson: mean over test rows whose correlation is defined; slope: of the package's on the exact answer, median over them; "
    "largest difference: relative to the largest exact prediction; zero and NaN: test rows. Predictions are in "
    "audit/predictions.npz, what was installed in audit/environments."
)


def tables(folder: Path) -> list[Table]:
    """The answers of each package and the minimal cases; none where nothing was audited."""
    found = []
    if (folder / "audit.csv").is_file():
        answers = pd.read_csv(folder / "audit.csv", dtype=dict.fromkeys(TEXTS, str))
        found.append(_table("Packages against the exact answer", answers[list(SHOWN)], [MEANINGS]))
    if (folder / "defects.csv").is_file():
        found.append(_table("Minimal cases", pd.read_csv(folder / "defects.csv", dtype=str), []))
    return found


def _table(caption: str, content: pd.DataFrame, notes: list[str]) -> Table:
    columns = [column(str(name).replace("_", " "), content[name]) for name in content]
    return Table(caption, *across(columns), notes)
