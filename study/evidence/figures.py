"""The figures of an experiment: which plots, of which cells, in which file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from study.evidence import files, plots, style
from study.evidence.cells import cell_paths
from study.evidence.store import Store
from study.evidence.tables import Tables

if TYPE_CHECKING:
    from study.trials import Experiment

FORMATS = ("pdf", "png")
MOST_PANELS = 12
PANELS_PER_ROW = 4


def write(experiment: Experiment, store: Store) -> list[Path]:
    """Rebuild `results/<name>/figures/` as PDF and PNG. Returns the paths written, none when there is no record."""
    return write_all(Tables(experiment, store), store.folder / "figures")


def write_all(tables: Tables, folder: Path) -> list[Path]:
    """As `write`, from tables already at hand."""
    if tables.cells.empty:
        return []
    paths: list[Path] = []
    with style.applied():
        path = swept_axis(tables.cells, cell_paths(tables.experiment.swept_paths))
        name = f"{tables.experiment.primary}_against_{path.replace('.', '_') if path else 'cell'}"
        paths += _save(correlation_figure(tables, path), folder / name)
        for estimator, protocol in tables.cells[["estimator", "protocol"]].drop_duplicates().to_numpy():
            figure = predicted_vs_actual_figure(tables, estimator, protocol)
            paths += _save(figure, folder / f"predicted_vs_actual_{estimator}_{protocol}")
    return paths


def correlation_figure(tables: Tables, axis: str | None) -> Figure:
    """The primary metric against the swept path `axis`: a line per estimator, protocol and rest of the sweep."""
    cells = tables.cells.copy()
    rest = [path for path in cell_paths(tables.experiment.swept_paths) if path != axis]
    if axis is None:  # one cell: its estimators and protocols stand side by side
        axis = "estimator"
    parts = cells[["protocol", "estimator", *rest]].astype("str").fillna("none")
    if axis == "estimator":
        parts["estimator"] = ""
    rows = list(parts.itertuples(index=False, name=None))
    lines = list(dict.fromkeys(rows))
    cells["line"] = [lines.index(row) for row in rows]
    kinds = [cells.loc[cells["line"] == index, "kind"].iloc[0] for index in range(len(lines))]
    looks = style.looks(kinds, [line[1] for line in lines], _labels(lines, rest))
    figure = _figure(style.PAPER_COLUMN * 1.35, style.PAPER_COLUMN * (0.85 + 0.035 * len(lines)))
    axes = plots.correlation_against(cells, figure.add_subplot(), axis, tables.experiment.primary, looks)
    if len(lines) > 1:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=1 if len(lines) < 4 else 2)
    return figure


def predicted_vs_actual_figure(tables: Tables, estimator: str, protocol: str) -> Figure:
    """One panel per cell, at most MOST_PANELS spread over the cells, of the pairs that agreement counts."""
    cells, points = tables.cells, tables.points
    cells = cells[(cells["estimator"] == estimator) & (cells["protocol"] == protocol)]
    points = points[(points["estimator"] == estimator) & (points["protocol"] == protocol) & points["used"]]
    paths = [path for path in cell_paths(tables.experiment.swept_paths) if cells[path].nunique(dropna=False) > 1]
    shown = cells.iloc[np.unique(np.linspace(0, len(cells) - 1, min(len(cells), MOST_PANELS)).round().astype(int))]
    columns = min(PANELS_PER_ROW, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = _figure(max(style.PANEL * columns, 2.6) + 0.3, max((style.PANEL + 0.1 * len(paths)) * rows, 2.0) + 0.6)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (_, cell) in zip(panels[: len(shown)], shown.iterrows(), strict=True):
        names = [f"{path.rsplit('.', 1)[-1]} = {_short(cell[path])}" for path in paths]
        title = "\n".join([*names, _agreement(cell)])
        plots.predicted_vs_actual(_matching(points, cell, paths), axes, style.protocol_colour(cell["kind"]), title)
    for axes in panels[len(shown) :]:
        axes.remove()
    note = f" ({len(shown)} of {len(cells)} cells)" if len(shown) < len(cells) else ""
    figure.suptitle(f"{tables.experiment.name}: {estimator}, {protocol}{note}", fontsize=8)
    target = tables.readings.blocks[0].record.header["spec"].get("target", "loss")
    figure.supxlabel(f"Predicted change in test {target}", fontsize=8)
    figure.supylabel(f"Actual change in test {target}", fontsize=8)
    return figure


def swept_axis(cells: pd.DataFrame, paths: list[str]) -> str | None:
    """The numeric swept path with most values, else the swept path with most values, None where nothing varies."""
    counts = {path: cells[path].nunique() for path in paths if cells[path].nunique(dropna=False) > 1}
    numeric = {path: count for path, count in counts.items() if _is_number(cells[path])}
    candidates = numeric or counts
    return max(candidates, key=lambda path: candidates[path]) if candidates else None


def _is_number(values: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)


def _labels(lines: list[tuple[str, ...]], rest: list[str]) -> list[str]:
    """What tells the lines apart, in as few words as do: a key that always changes with the protocol says nothing."""
    names = ["protocol", "estimator", *rest]
    chosen: list[int] = []
    for place in range(len(names)):
        if len({tuple(line[i] for i in (*chosen, place)) for line in lines}) > len(
            {tuple(line[i] for i in chosen) for line in lines}
        ):
            chosen.append(place)
    chosen = chosen or [0]
    return [", ".join(_phrase(names[i], line[i]) for i in chosen if line[i]) for line in lines]


def _phrase(name: str, value: str) -> str:
    return value if name in ("protocol", "estimator") else f"{name.rsplit('.', 1)[-1]} {_short(value)}"


def _agreement(cell: pd.Series) -> str:
    counts = "" if cell["usable"] == cell["total"] else f"\n{cell['usable']}/{cell['total']} usable"
    return f"ρ = {_number(cell['spearman'])}, r = {_number(cell['pearson'])}{counts}"


def _number(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.2f}"


def _short(value: object) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 18 else text[:17] + "…"


def _matching(points: pd.DataFrame, cell: pd.Series, paths: list[str]) -> pd.DataFrame:
    keep = np.ones(len(points), dtype=bool)
    for path in paths:
        values = points[path]
        keep &= (values.isna() if pd.isna(cell[path]) else (values == cell[path]).fillna(False)).to_numpy(dtype=bool)
    return points[keep]


def _figure(width: float, height: float) -> Figure:
    """A figure of its own canvas: no display, no global state of pyplot."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, stem: Path) -> list[Path]:
    paths = []
    for suffix in FORMATS:
        path = stem.parent / f"{stem.name}.{suffix}"
        metadata = {"CreationDate": None} if suffix == "pdf" else {"Software": f"matplotlib {mpl.__version__}"}
        with files.replacing(path) as temporary:
            figure.savefig(temporary, format=suffix, metadata=metadata)
        paths.append(path)
    return paths
