"""Rows of the table `cells`, from the table itself or from its CSV file: in series, and in words; never imports pandas."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Row = Mapping[str, Any]  # of `cells`: from the table itself, or from its CSV file
ORDER = (
    "stationary",
    "proximal",
    "pbrf",
    "cold_seeds",
    "cold",
    "warm",
    "horizon",
    "linearised_pbrf",
)  # kinds of protocol, the best founded first
BOUNDED = (
    "pearson",
    "spearman",
    "kendall",
    "agreement",
    "overlap",
    "recall",
    "reliability",
    "ceiling",
    "disattenuated",
    "correlation",
)  # metrics of at most one: shown to three decimals
WORDS = {"": None, "True": True, "False": False}  # as a CSV file writes what is neither number nor text
TEXTS = ("experiment", "trial", "estimator", "protocol", "kind", "undefined", "resampled")  # columns never of numbers


@dataclass(frozen=True)
class Series:
    """The cells of one estimator and one protocol, in the order of the table."""

    estimator: str
    protocol: str
    kind: str
    rows: list[Row]

    @property
    def name(self) -> str:
        return f"{self.estimator}, {self.protocol}"


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a table's CSV file, numbers as numbers; none when there is no such file."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return [{name: _parsed(name, text) for name, text in row.items()} for row in csv.DictReader(file)]
    except OSError:
        return []


def series(rows: Iterable[Row]) -> list[Series]:
    """The rows by estimator and protocol, the best founded protocol first, else in the order of the table."""
    found: dict[tuple[str, str], Series] = {}
    for row in rows:
        name = (str(row["estimator"]), str(row["protocol"]))
        found.setdefault(name, Series(*name, str(row["kind"]), [])).rows.append(row)
    return sorted(found.values(), key=lambda part: ORDER.index(part.kind) if part.kind in ORDER else len(ORDER))


def cell_name(row: Row, paths: Iterable[str], rows: Iterable[Row] = ()) -> str:
    """`depth 3, weight_decay 0.005`: the paths that vary among `rows` (all of `paths` when none are given)."""
    paths, rows = list(paths), list(rows)
    shown = varying(rows, paths) if rows else paths
    return ", ".join(f"{short(path, paths)} {shown_value(row[path])}" for path in shown)


def varying(rows: Sequence[Row], paths: Iterable[str]) -> list[str]:
    return [path for path in paths if len({shown_value(row[path]) for row in rows}) > 1]


def short(path: str, among: Iterable[str]) -> str:
    """The last part of a dotted path, or all of it where another path ends alike."""
    last = path.rsplit(".", 1)[-1]
    return path if sum(other.rsplit(".", 1)[-1] == last for other in among) > 1 else last


def shown_value(value: Any) -> str:
    """A swept value as text: the same from the table and from its CSV file."""
    if value is None or value != value or str(value) in ("", "nan", "<NA>"):
        return "none"
    if not is_number(value):
        return str(value)
    return f"{float(value):.12g}"


def number(value: Any) -> float:
    """A cell of the table as a float, NaN where it has none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def is_number(value: Any) -> bool:
    return not isinstance(value, bool | np.bool_ | str) and not math.isnan(number(value))


def interval(row: Row, metric: str) -> str:
    """`0.969 [0.891, 0.998]`, without the brackets where there is no interval."""
    mean, low, high = (number(row.get(name)) for name in (metric, f"{metric}_low", f"{metric}_high"))
    form = ".3f" if metric.endswith(BOUNDED) else ".3g"
    if math.isnan(mean):
        return "undefined"
    return f"{mean:{form}}" if math.isnan(low) or math.isnan(high) else f"{mean:{form}} [{low:{form}}, {high:{form}}]"


def extremes(rows: Iterable[Row], metric: str) -> tuple[Row, Row]:
    """The cells of lowest and highest `metric`, the first of equals."""
    rows = defined(rows, metric)
    return min(rows, key=lambda row: number(row[metric])), max(rows, key=lambda row: number(row[metric]))


def defined(rows: Iterable[Row], metric: str) -> list[Row]:
    return [row for row in rows if not math.isnan(number(row.get(metric)))]


def overlap(first: Row, second: Row, metric: str) -> str:
    """Whether the intervals of two cells overlap, in words; empty for one and the same cell."""
    if first is second:
        return ""
    ends = [number(row.get(f"{metric}_{end}")) for row in (first, second) for end in ("low", "high")]
    if any(map(math.isnan, ends)):
        return "intervals are not both known"
    return "intervals overlap" if ends[0] <= ends[3] and ends[2] <= ends[1] else "intervals do not overlap"


def lowest_and_highest(part: Series, paths: list[str], metric: str) -> str:
    """`exact, certified: Spearman lowest 0.4 [0.3, 0.5] (depth 3), highest …: intervals overlap`; empty of one cell."""
    if len(defined(part.rows, metric)) < 2:
        return ""
    low, high = extremes(part.rows, metric)
    ends = [f"{interval(row, metric)} ({cell_name(row, paths, part.rows)})" for row in (low, high)]
    return f"{part.name}: {metric} lowest {ends[0]}, highest {ends[1]}{': ' * (low is not high)}{overlap(low, high, metric)}."


def reasons(rows: Iterable[Row]) -> dict[str, int]:
    """Undefined correlations by reason, over all rows."""
    counts: dict[str, int] = {}
    for row in rows:
        for entry in filter(None, str(row.get("undefined") or "").split(", ")):
            head, _, reason = entry.partition(" ")
            if head.isdigit():
                counts[reason] = counts.get(reason, 0) + int(head)
    return counts


def total(rows: Iterable[Row], column: str) -> int:
    return sum(int(number(row[column])) for row in rows)


def _parsed(name: str, text: str | None) -> Any:
    if name in TEXTS:
        return text
    for kind in (int, float):
        try:
            return kind(text)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            continue
    return WORDS.get(text, text) if text is not None else None
