"""A table of an experiment as one file, in the format that its ending names."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from study.errors import StudyError
from study.evidence import files
from study.evidence.tables import Tables

TABLES = ("pairs", "trials")


def export(tables: Tables, out: str | Path, table: str = "pairs") -> Path:
    """Write `pairs` or `trials` to `out`, a .parquet or .csv file, whole or not at all.

    Raises StudyError for another ending or table, a folder that does not exist or cannot be written to.
    """
    if table not in TABLES:
        raise StudyError(f"--table {table}: no such table; choose one of {', '.join(TABLES)}")
    path = checked(out)
    write(tables.pairs if table == "pairs" else tables.trials, path)
    return path


def checked(out: str | Path) -> Path:
    """The path, known to be one that `write` can write to; StudyError otherwise."""
    path = Path(out)
    if path.suffix not in (".parquet", ".csv"):
        raise StudyError(f"--out {path}: cannot tell the format from {path.suffix!r}; end the name in .parquet or .csv")
    if not path.parent.is_dir():
        raise StudyError(f"--out {path}: the folder {path.parent} does not exist; make it first")
    return path


def write(frame: pd.DataFrame, path: Path) -> None:
    """The table as a .parquet or .csv file, whole or not at all."""
    try:
        with files.replacing(path) as temporary:
            _write(frame, temporary, path.suffix)
    except OSError as error:
        raise StudyError(f"--out {path}: cannot be written ({error.strerror})") from error


def _write(frame: pd.DataFrame, path: Path, suffix: str) -> None:
    if suffix == ".parquet":
        frame.to_parquet(path, index=False)
    else:
        frame.to_csv(path, index=False, lineterminator="\n")
