"""Figures are drawn for every shape of experiment, whole or not at all, and say what the table says."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from study.evidence import figures, plots, style
from study.evidence.store import Store
from study.evidence.tables import Tables
from tests import synthetic


def _tables(tmp_path, axes, **options):
    experiment = synthetic.experiment(axes, seeds=2)
    return Tables(experiment, synthetic.filled(Store(tmp_path, "synthetic"), experiment, **options))


@pytest.mark.parametrize(
    "axes",
    [
        {},
        {"model.depth": [1, 2, 3]},
        {"training.weight_decay": [0.0, 1e-5, 1e-3], "model.kind": ["mlp", "linear"]},
        {"training.optimizer": ["adam", "sgd"], "points.test": [{"rows": [1]}]},
        {"model.depth": [1, None], "training.polish": [True, False]},
        {"model.width": list(range(1, 16))},
    ],
)
def test_every_shape_of_experiment_has_its_figures(tmp_path, axes):
    evidence = _tables(tmp_path, axes, protocols=("warm", "stationary"))
    paths = figures.write_all(evidence, tmp_path / "figures")
    assert sorted(paths) == sorted((tmp_path / "figures").iterdir())
    assert len(paths) == 6
    for path in paths:
        start = b"%PDF" if path.suffix == ".pdf" else b"\x89PNG"
        assert path.read_bytes().startswith(start)
        assert path.stat().st_size > 3000


def test_no_record_no_figure(tmp_path):
    assert figures.write(synthetic.experiment(), Store(tmp_path, "synthetic")) == []


def test_figures_rebuild_alike(tmp_path):
    evidence = _tables(tmp_path, {"model.depth": [1, 2]})
    first = [path.read_bytes() for path in figures.write_all(evidence, tmp_path / "figures")]
    assert [path.read_bytes() for path in figures.write_all(evidence, tmp_path / "figures")] == first


def test_the_axis_is_the_numeric_path_with_most_values():
    cells = pd.DataFrame({"a": [1, 2, 3, 1], "b": ["w", "x", "y", "z"], "c": [1, 2, 1, 2], "d": [1, 1, 1, 1]})
    assert figures.swept_axis(cells, list("abcd")) == "a"
    assert figures.swept_axis(cells, ["b", "d"]) == "b"
    assert figures.swept_axis(cells, ["d"]) is None


def test_a_line_shows_means_intervals_and_what_is_not_usable():
    table = pd.DataFrame({
        "model.depth": [1, 2], "spearman": [0.9, np.nan], "spearman_low": [0.8, np.nan], 
        "spearman_high": [0.95, np.nan],
        "usable": [5, 0], "total": [5, 5], "line": [0, 0],
    })  # fmt: skip
    axes = Figure().subplots()
    look = style.looks(["stationary"], ["exact"], ["certified"])
    assert plots.correlation_against(table, axes, "model.depth", "spearman", look) is axes
    line = next(line for line in axes.lines if line.get_label() == "certified")
    np.testing.assert_array_equal(line.get_ydata(), [0.9, np.nan])
    assert [text.get_text() for text in axes.texts] == ["0/5"]
    assert axes.get_ylim() == (-1.05, 1.05)


def test_pairs_are_drawn_on_equal_axes_and_outliers_counted():
    generator = np.random.default_rng(0)
    table = pd.DataFrame({"predicted": generator.normal(size=500), "actual": generator.normal(size=500)})
    table.loc[0, "actual"], table.loc[1, "predicted"] = 1e6, np.nan
    axes = Figure().subplots()
    assert plots.predicted_vs_actual(table, axes) is axes
    assert axes.get_xlim() == axes.get_ylim()
    assert 2 < axes.get_xlim()[1] < 10
    assert [text.get_text() for text in axes.texts] == ["3 beyond"]
    assert len(axes.collections[0].get_offsets()) == 499


def test_lines_differ_without_colour_and_labels_say_what_differs():
    lines = [("warm", "exact", "False"), ("certified", "exact", "True"), ("certified", "ggn", "True")]
    labels = figures._labels(lines, ["training.polish"])
    assert labels == ["warm, exact", "certified, exact", "certified, ggn"]
    looks = style.looks(["warm", "stationary", "stationary"], ["exact", "exact", "ggn"], labels)
    assert len({look.marker for look in looks}) == len({look.line for look in looks}) == 3
    assert not set(style.PROTOCOL_COLOURS.values()) & set(style.ESTIMATOR_COLOURS)
