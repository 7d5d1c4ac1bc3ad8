"""The figures of an experiment: which ones it gets, and in which files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from study.evidence import copies, files, wording
from study.evidence.figures import (
    correlations,
    eigenvalues,
    gaps,
    layout,
    lines,
    losses,
    norms,
    overview,
    recalls,
    reliabilities,
    scatters,
    slopes,
    solves,
    style,
    twins,
)
from study.evidence.figures.lines import Line, Panel
from study.evidence.figures.material import Material
from study.evidence.store import Store
from study.evidence.tables import Tables

if TYPE_CHECKING:
    from study.trials import Experiment

__all__ = ["plan", "save", "write", "write_all"]

FORMATS: dict[str, Any] = {"pdf": FigureCanvasPdf, "png": FigureCanvasAgg, "svg": FigureCanvasSVG}
METADATA: dict[str, dict[str, Any]] = {  # without a date: the same records make the same bytes
    "pdf": {"CreationDate": None},
    "svg": {"Date": None},
    "png": {"Software": f"matplotlib {mpl.__version__}"},
}
MOST_SCATTERS = 12  # files of predicted against actual
MOST_RECALLS = 12
STEMS = (
    "overview",
    "spearman_",
    "pearson_",
    "slope_",
    "solves_",
    "predicted_vs_actual",
    "top_eigenvalue_",
    "parameter_change_",
    "recall",
    "reliability_",
    "gaps_",
    "twins",
)


def write(experiment: Experiment, store: Store) -> list[Path]:
    """Rebuild `results/<name>/figures/` as PDF, PNG and SVG. Returns the paths written, none when there is no record."""
    return write_all(Tables(experiment, store), store.folder / "figures")


def write_all(tables: Tables, folder: Path) -> list[Path]:
    """As `write`, from tables already at hand. Figures of an earlier state that no longer apply are removed."""
    if tables.cells.empty:
        return []
    with style.applied():
        jobs = [partial(_drawn, draw, folder / stem) for stem, draw in plan(Material(tables))]
        paths = [path for written in copies.results(jobs) for path in written]
    for path in folder.iterdir():
        if path not in paths and path.name.startswith(STEMS) and path.suffix[1:] in FORMATS:
            path.unlink()
    return paths


def plan(material: Material) -> Iterator[tuple[str, Callable[[], Figure]]]:
    """The stem of each figure that the experiment gets, and what draws it.

    overview                          always
    METRIC_against_AXIS               Spearman and Pearson; AXIS is the numeric swept path with most planned values, else
                                      the swept path with most, else `estimator`
    slope_against_AXIS                where the axis is a setting of the estimators: damping scales every prediction
    solves_against_AXIS               likewise, where estimates say how far they are from the exact one
    reliability_against_AXIS          where the truth of some cell has a reliability
    top_eigenvalue_against_AXIS       where trained networks vary along the axis and some eigenvalue is recorded
    parameter_change_against_AXIS     where the axis is a swept path and some estimator knows how far parameters move
    recall, or recall_VALUES          where records rank neighbours: a file per cell; at most MOST_RECALLS, evenly spread
    gaps_PATH_against_AXIS            where records follow paths and something is swept: a file per path
    twins                             where the spec has twins and both sides of some have records
    PRIMARY_against_test_loss         where some cell has at least MANY_TESTS test rows
    predicted_vs_actual_ESTIMATOR_PROTOCOL          all cells in one file, if at most MOST_PANELS are planned;
    predicted_vs_actual_ESTIMATOR_PROTOCOL_VALUES   else a file per line of the rest of the sweep; at most MOST_SCATTERS
                                                    files, evenly spread, each saying so

    Stems depend on the spec and not on how many trials are done.
    """
    sweep = material.sweep
    axis = _axis_stem(sweep.axis or lines.ESTIMATOR)
    yield "overview", partial(overview.figure, material)
    for metric in wording.METRICS:
        yield f"{metric}_against_{axis}", partial(correlations.correlation, material, metric)
    if sweep.axis is not None and sweep.axis.startswith("estimators."):
        yield f"slope_against_{axis}", partial(slopes.slopes, material)
        if solves.has_solves(material):
            yield f"solves_against_{axis}", partial(solves.solves, material)
    if reliabilities.known(material):
        yield f"reliability_against_{axis}", partial(reliabilities.reliabilities, material)
    if sweep.axis is not None and sweep.axis in sweep.paths:
        if sweep.axis == material.network_sweep.axis and material.network_panels:
            yield f"top_eigenvalue_against_{axis}", partial(eigenvalues.eigenvalues, material)
        if material.knows_changes:
            yield f"parameter_change_against_{axis}", partial(norms.norms, material)
    if not material.tables.twins.empty:
        yield "twins", partial(twins.twins, material)
    if material.many_tests:
        primary = material.tables.experiment.primary
        yield f"{primary}_against_test_loss", partial(losses.against_loss, material, primary)
    for path, swept in gaps.paths(material):
        yield f"gaps_{path}_against_{_axis_stem(swept)}", partial(gaps.gaps, material, path)
    yield from _recalls(material)
    yield from _scatters(material)


def _axis_stem(axis: str) -> str:
    return wording.stem(axis.replace(".*", "").replace(".", "_"))


def _recalls(material: Material) -> Iterator[tuple[str, Callable[[], Figure]]]:
    found = list(recalls.cells(material))
    shown = lines.spread(found, MOST_RECALLS)
    note = f"{len(shown)} of {len(found)} such figures" if len(shown) < len(found) else ""
    for values, cell in shown:
        yield wording.stem("recall", *values), partial(recalls.recalls, material, cell, note)


def _scatters(material: Material) -> Iterator[tuple[str, Callable[[], Figure]]]:
    found: list[tuple[str, str, str, list[Line]]] = []
    for panel in material.panels:
        for estimator in dict.fromkeys(cell for line in panel.lines for cell in line.cells["estimator"]):
            own = [line for line in panel.lines if estimator in set(line.cells["estimator"])]
            for values, chosen in _files(material, panel, own):
                found.append((wording.stem("predicted_vs_actual", estimator, panel.protocol, *values),
                              estimator, panel.protocol, chosen))  # fmt: skip
    shown = lines.spread(found, MOST_SCATTERS)
    note = f"{len(shown)} of {len(found)} such figures" if len(shown) < len(found) else ""
    for stem, estimator, protocol, chosen in shown:
        yield stem, partial(scatters.scatter, material, estimator, protocol, chosen, note)


def _files(material: Material, panel: Panel, own: list[Line]) -> list[tuple[list[str], list[Line]]]:
    """The lines of each file, with the swept values that its name states."""
    sweep = material.sweep
    planned = int((sweep.plan["protocol"] == panel.protocol).sum())
    if planned <= layout.MOST_PANELS:
        return [([], own)]
    varying = sweep.varying(panel.protocol)
    return [([wording.slug(path, line.values[path]) for path in varying], [line]) for line in own]


def _drawn(draw: Callable[[], Figure], stem: Path) -> list[Path]:
    return save(draw(), stem)


def save(figure: Figure, stem: Path) -> list[Path]:
    """The figure as `stem`.pdf, .png and .svg: laid out once, then drawn once in each (`savefig` would draw each twice)."""
    figure.set_dpi(style.RASTER_DPI)
    if engine := figure.get_layout_engine():
        engine.execute(figure)
        figure.set_layout_engine("none")
    paths = []
    for suffix, canvas in FORMATS.items():
        path = stem.parent / f"{stem.name}.{suffix}"
        figure.set_dpi(style.RASTER_DPI)  # the vector formats change it
        with files.replacing(path) as temporary:
            getattr(canvas(figure), f"print_{suffix}")(temporary, metadata=METADATA[suffix])
        paths.append(path)
    return paths
