"""Figures are drawn for every shape of experiment, whole or not at all, and say what the tables say."""

import itertools
import re
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from study.evidence import figures, wording
from study.evidence.figures import (
    correlations,
    eigenvalues,
    lines,
    losses,
    norms,
    overview,
    plots,
    published,
    scales,
    scatters,
    solves,
    style,
)
from study.evidence.figures.material import Material
from study.evidence.figures.style import Look
from study.evidence.paths import swept_axis, tied
from study.evidence.store import Store
from study.evidence.tables import Tables
from study.specs import Twin
from tests import synthetic
from tests.experiments import ROOT

DEPTHS = {"model.depth": [1, 2, 3]}
TWO_AXES = {"model.depth": [1, 2, 3, 4], "training.weight_decay": [0.005, 5e-4, 0.0]}
SHAPES = [
    {},
    DEPTHS,
    TWO_AXES,
    {"training.weight_decay": [0.0, 1e-5, 1e-3], "model.kind": ["mlp", "linear"]},
    {"training.optimizer": ["adam", "sgd"], "points.test": [{"rows": [1]}]},
    {"model.depth": [1, None], "training.polish": [True, False]},
    {"model.width": list(range(1, 16)), "estimators.exact.damping": [0.0, 0.1]},
    {
        "model.depth": [1, 2],
        "points.train": ["highest_loss", "highest_influence"],
        "training.dtype": ["float32", "float64"],
    },
]

pytestmark = pytest.mark.filterwarnings("error::UserWarning")  # such as a layout that found no room


def _tables(tmp_path, axes, seeds=3, **options):
    experiment = synthetic.experiment(axes, seeds=seeds)
    return Tables(experiment, synthetic.filled(Store(tmp_path, "synthetic"), experiment, **options))


def _varied(tmp_path, axes, change, seeds=3, **options):
    """Tables of records that `change` was applied to."""
    experiment, store = synthetic.experiment(axes, seeds=seeds), Store(tmp_path, "synthetic")
    for trial in experiment.trials:
        record = synthetic.record(trial, **options)
        change(trial, record)
        store.write(record)
    return Tables(experiment, store)


def _alive(trial, record):
    """Eigenvalues, norms and test losses that differ; the last seed collapsed."""
    generator = np.random.default_rng(int(trial.key[:8], 16))
    record.header["base"]["largest_eigenvalue"] = float(10 ** generator.normal())
    if trial.settings.seed == 2:
        record.header["flags"].append("collapsed")
    for name, values in record.arrays.items():
        if name.startswith(("predicted_norm", "actual_norm", "null_norm", "test_losses")):
            record.arrays[name] = 10 ** generator.normal(size=values.shape)


@pytest.mark.parametrize("axes", SHAPES, ids=lambda axes: "+".join(axes) or "nothing swept")
def test_every_shape_of_experiment_has_its_figures(tmp_path, axes):
    evidence = _varied(tmp_path, axes, _alive, protocols=("warm", "stationary"), rows=12)
    paths = figures.write_all(evidence, tmp_path / "figures")
    assert sorted(paths) == sorted((tmp_path / "figures").iterdir())
    starts = {".pdf": b"%PDF", ".png": b"\x89PNG", ".svg": b"<?xml"}
    assert {path.suffix for path in paths} == set(starts)
    for path in paths:
        assert path.read_bytes().startswith(starts[path.suffix])
        assert path.stat().st_size > 3000
    stems = {path.stem for path in paths}
    axis = (Material(evidence).sweep.axis or "estimator").replace(".", "_")
    assert {"overview", f"spearman_against_{axis}", f"pearson_against_{axis}"} <= stems
    assert any(stem.startswith("predicted_vs_actual_exact_warm") for stem in stems)


def test_which_figures_follow_from_the_tables(tmp_path):
    swept = Material(_tables(tmp_path / "a", DEPTHS))
    assert [stem for stem, _ in figures.plan(swept)] == [
        "overview", "spearman_against_model_depth", "pearson_against_model_depth", "top_eigenvalue_against_model_depth",
        "parameter_change_against_model_depth", "predicted_vs_actual_exact_stationary",
    ]  # fmt: skip
    tests = Material(_tables(tmp_path / "b", {}, tests=tuple(range(12))))
    assert [stem for stem, _ in figures.plan(tests)] == [
        "overview", "spearman_against_estimator", "pearson_against_estimator", "spearman_against_test_loss",
        "predicted_vs_actual_exact_stationary",
    ]  # fmt: skip
    many = {"model.depth": [1, 2, 3, 4, 5, 6, 7], "training.weight_decay": [0.005, 0.0]}
    names = [stem for stem, _ in figures.plan(Material(_tables(tmp_path / "c", many, seeds=1)))][5:]
    assert names == [f"predicted_vs_actual_exact_stationary_weight_decay_{value}" for value in ("0.005", "0")]
    more = {"model.depth": [1, 2], "training.weight_decay": [k / 1000 for k in range(15)]}
    material = Material(_tables(tmp_path / "d", more, seeds=1))
    assert material.sweep.axis == "training.weight_decay"
    more = {"model.depth": list(range(1, 18)), "training.weight_decay": [k / 1000 for k in range(15)]}
    both = _tables(tmp_path / "e", more, seeds=1, protocols=("warm", "stationary"))
    names = [stem for stem, _ in figures.plan(Material(both))]
    assert sum(stem.startswith("predicted_vs_actual") for stem in names) == figures.MOST_SCATTERS


def test_file_names_do_not_depend_on_how_many_trials_are_done(tmp_path):
    experiment, store = synthetic.experiment(TWO_AXES, seeds=2), Store(tmp_path, "synthetic")
    names, looks = [], []
    for trial in [trial for trial in experiment.trials if trial.swept["model.depth"] == 1]:
        store.write(synthetic.record(trial))
        material = Material(Tables(experiment, store))
        names.append([stem for stem, _ in figures.plan(material)])
        looks.append({line.look.label: line.look for line in material.panels[0].lines})
    assert all(found == names[0] for found in names)
    assert all(look == looks[-1][label] for found in looks for label, look in found.items())


def test_no_record_no_figure(tmp_path):
    assert figures.write(synthetic.experiment(), Store(tmp_path, "synthetic")) == []


def test_figures_rebuild_to_the_same_bytes_and_stale_ones_go(tmp_path):
    evidence = _varied(tmp_path, {"model.depth": [1, 2]}, _alive, protocols=("warm", "stationary"), rows=12)
    first = {path.name: path.read_bytes() for path in figures.write_all(evidence, tmp_path / "figures")}
    (tmp_path / "figures" / "spearman_against_model_width.svg").write_text("of an earlier spec")
    (tmp_path / "figures" / "mine.svg").write_text("not ours")
    code = (
        "import sys\nfrom pathlib import Path\nfrom study.evidence import figures\n"
        "from study.evidence.store import Store\nfrom study.evidence.tables import Tables\nfrom tests import synthetic\n"
        "experiment = synthetic.experiment({'model.depth': [1, 2]}, seeds=3)\nfolder = Path(sys.argv[1])\n"
        "figures.write_all(Tables(experiment, Store(folder, 'synthetic')), folder / 'figures')\n"
    )
    environment = {"PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=ROOT, env=environment)
    again = {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    assert again.pop("mine.svg") == b"not ours"
    assert again == first


def test_the_axis_is_the_numeric_path_with_most_values():
    values = {
        "a": [1, 2, 3, 1],
        "b": list("wxyz"),
        "c": [1, 2, 1, None],
        "d": [1, 1, 1, 1],
        "e": [True, False, True, False],
    }
    assert swept_axis(values) == "a"
    assert swept_axis({path: values[path] for path in "bcd"}) == "c"
    assert swept_axis({path: values[path] for path in "deb"}) == "b"
    assert swept_axis({"d": values["d"]}) is None


# --- what is drawn is what the table says


def _cells(**columns):
    table = {
        "model.depth": [1, 2], "spearman": [0.9, np.nan], "spearman_low": [0.8, np.nan], "spearman_high": [0.95, np.nan],
        "spearman_band_low": [-0.2, -0.3], "spearman_band_high": [0.25, 0.35], "usable": [5, 0], "total": [5, 5],
        "line": [0, 0],
    }  # fmt: skip
    return pd.DataFrame(table | columns)


def _by_gid(artists, gid):
    return [artist for artist in artists if artist.get_gid() == gid]


def test_a_line_shows_means_intervals_band_and_what_is_not_usable():
    axes = Figure().subplots()
    scale = scales.of("model.depth", [1, 2])
    assert plots.correlation_against(_cells(), axes, scale, "spearman", [Look("green", label="certified")]) is axes
    line = _by_gid(axes.lines, "line")[0]
    np.testing.assert_array_equal(line.get_ydata(), [0.9, np.nan])
    np.testing.assert_array_equal(line.get_xdata(), [1, 2])
    intervals = [path.vertices[:, 1] for path in axes.collections[-1].get_paths()]
    np.testing.assert_array_equal(intervals[0], [0.8, 0.95])
    band = [path.vertices[:, 1] for path in _by_gid(axes.collections, "band")[0].get_paths()]
    np.testing.assert_array_equal([(part.min(), part.max()) for part in band], [(-0.2, 0.25), (-0.3, 0.35)])
    assert [text.get_text() for text in _by_gid(axes.texts, "usable")] == ["0/5"]
    assert axes.get_ylim()[1] == 1.05
    assert axes.get_ylim()[0] < -1.05


def test_without_permutation_columns_there_is_no_band():
    axes = Figure().subplots()
    table = _cells().drop(columns=["spearman_band_low", "spearman_band_high"])
    plots.correlation_against(table, axes, scales.of("model.depth", [1, 2]), "spearman", [Look("green")])
    assert not _by_gid(axes.collections, "band")


def test_the_figure_of_an_experiment_draws_its_cells(tmp_path):
    material = Material(_varied(tmp_path, TWO_AXES, _alive, protocols=("warm", "stationary"), noise=1.0))
    with style.applied():
        figure = correlations.correlation(material, "spearman")
    cells = material.cells
    assert len(figure.axes) == len(material.panels) == 2
    for axes, panel in zip(figure.axes, material.panels, strict=True):
        drawn = _by_gid(axes.lines, "line")
        assert [line.get_label() for line in drawn] == ["λ = 5·10⁻³", "λ = 5·10⁻⁴", "λ = 0"]
        for line, value in zip(drawn, [0.005, 5e-4, 0.0], strict=True):
            part = cells[(cells["protocol"] == panel.protocol) & (cells["training.weight_decay"] == value)]
            np.testing.assert_array_equal(line.get_ydata(), part.sort_values("model.depth")["spearman"])
        counts = [text.get_text() for text in _by_gid(axes.texts, "usable")]
        assert counts == ["2/3"] * 12


def test_zero_stands_apart_on_a_logarithmic_axis():
    scale = scales.of("training.weight_decay", [0.0, 1e-5, 1e-4, 5e-4, 5e-3])
    assert scale.places[5e-3] - scale.places[5e-4] == pytest.approx(1)
    assert scale.places[0.0] < scale.gap < scale.places[1e-5]
    table = pd.DataFrame({"training.weight_decay": [5e-3, 0.0, 1e-5], "largest_eigenvalue": [3.0, 1.0, 2.0],
                          "defined": True, "line": 0})  # fmt: skip
    axes = Figure().subplots()
    plots.eigenvalue_against(table, axes, scale, [Look("green")])
    np.testing.assert_array_equal(_by_gid(axes.lines, "line")[0].get_ydata(), [1, np.nan, 2, 3])
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "10⁻⁵", "10⁻⁴", "5·10⁻⁴", "5·10⁻³"]
    assert scales.of("model.width", [8, 50, 14]).places == {8: 8.0, 14: 14.0, 50: 50.0}
    assert scales.of("model.depth", [None, 1]).places == {None: 0.0, 1: 1.0}


def test_one_notation_for_the_values_of_a_path():
    assert scales.of("training.weight_decay", [0.0, 1e-5, 0.01, 0.5]).names == ["0", "10⁻⁵", "10⁻²", "5·10⁻¹"]
    assert scales.of("training.weight_decay", [0.001, 0.01, 0.1, 10]).names == ["10⁻³", "10⁻²", "10⁻¹", "10"]
    assert scales.of("estimators.exact.damping", [0.0, 0.05, 0.1]).names == ["0", "0.05", "0.1"]
    assert scales.of("model.width", [8, 50, 1000]).names == ["8", "50", "1000"]


def test_every_value_has_a_tick_and_decades_are_named_first():
    axes = Figure(figsize=(2, 2)).subplots()
    scales.of("training.weight_decay", [0.0, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2]).dress(axes)
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "10⁻⁴", "10⁻³", "10⁻²"]
    np.testing.assert_allclose(axes.get_xticks(minor=True), np.log10([5e-4, 5e-3]))


def test_no_figure_has_decimals_beside_powers_on_its_logarithmic_axes(tmp_path):
    axes_of = {"training.weight_decay": [0.0, 1e-5, 1e-4, 5e-4, 1e-3, 0.005, 0.01], "model.depth": [1, 3]}
    material = Material(_varied(tmp_path, axes_of, _alive, protocols=("warm", "stationary"), rows=12))
    with style.applied():
        for stem, draw in figures.plan(material):
            if not stem.startswith("predicted"):
                words = [text.get_text() for text, _ in _texts(draw())]
                assert any("10⁻" in word for word in words), stem
                assert not [word for word in words if re.fullmatch(r"(λ = )?0\.0\d+", word)], stem


def test_pairs_are_drawn_on_equal_axes_and_outliers_counted():
    generator = np.random.default_rng(0)
    table = pd.DataFrame({"predicted": generator.normal(size=500), "actual": generator.normal(size=500)})
    table.loc[0, "actual"], table.loc[1, "predicted"] = 1e6, np.nan
    axes = Figure().subplots()
    assert plots.predicted_vs_actual(table, axes) is axes
    assert axes.get_xlim() == axes.get_ylim()
    assert 2 < axes.get_xlim()[1] < 10
    assert [text.get_text() for text in axes.texts] == ["3 beyond"]
    kept = table.drop(index=1).to_numpy()
    np.testing.assert_array_equal(axes.collections[0].get_offsets(), kept)


def test_one_large_change_in_every_trial_is_no_outlier():
    generator = np.random.default_rng(0)
    predicted = generator.uniform(-0.1, 0.1, size=1490)
    table = pd.DataFrame({"predicted": predicted, "actual": predicted})
    table.loc[:7, "actual"] = -0.6  # 8 of 1490
    axes = plots.predicted_vs_actual(table, Figure().subplots())
    assert axes.get_xlim()[0] < -0.6
    assert not axes.texts


def test_pairs_fill_their_axes_and_few_ticks_name_them():
    table = pd.DataFrame({"predicted": [-0.24, -0.1, 0.02], "actual": [-1.4, -0.5, 0.03]})
    axes = plots.predicted_vs_actual(table, Figure().subplots())
    low, high = axes.get_xlim()
    assert axes.get_ylim() == (low, high)
    assert -1.6 < low < -1.4
    assert 0.03 < high < 0.2
    assert [text.get_text() for text in axes.get_xticklabels()] == ["−1.5", "−1", "−0.5", "0"]


def test_axes_of_changes_say_of_what(tmp_path):
    def change(trial, record):
        _alive(trial, record)
        record.header["spec"]["target"] = "margin"

    material = Material(_varied(tmp_path, DEPTHS, change, rows=20))
    with style.applied():
        drawn = scatters.scatter(material, "exact", "stationary", material.panels[0].lines)
        page = overview.figure(material)
    assert drawn.get_supxlabel() == "Predicted change in test margin"
    assert drawn.get_supylabel() == "Actual change in test margin"
    labels = [axes.get_xlabel() for axes in page.get_axes()]
    assert "Predicted change in test margin" in labels
    assert not any("test loss" in label for label in labels)


def test_a_cell_is_drawn_from_the_pairs_that_agreement_counts(tmp_path):
    def change(trial, record):
        _alive(trial, record)
        record.arrays["certificate/stationary/certified"][3] = False

    material = Material(_varied(tmp_path, DEPTHS, change, rows=20))
    cell = material.cells.iloc[1]
    axes = scatters.draw_cell(material, Figure().subplots(), cell, "depth 2", "black")
    points = material.tables.points
    points = points[points["used"] & (points["model.depth"] == 2)]
    collapsed = set(material.tables.agreement.query("undefined != ''")["trial"])
    points = points[~points["trial"].isin(collapsed)]
    drawn, expected = np.asarray(axes.collections[0].get_offsets()), points[["predicted", "actual"]].to_numpy()
    np.testing.assert_array_equal(drawn[np.lexsort(drawn.T)], expected[np.lexsort(expected.T)])
    slopes = [np.polyfit(part["predicted"], part["actual"], 1)[0] for _, part in points.groupby("trial")]
    assert f"median slope {np.median(slopes):.2f}" in axes.get_title()
    assert axes.get_title().split("\n")[0] == "depth 2"
    assert f"r {cell['pearson']:.2f}" in axes.get_title()
    assert "2/3 usable" in axes.get_title()


def test_eigenvalues_show_every_network_once_and_the_median_of_those_that_count(tmp_path):
    axes_of = {"model.depth": [1, 2], "points.train": ["highest_loss", "highest_influence"]}
    material = Material(_varied(tmp_path, axes_of, _alive, seeds=3))
    with style.applied():
        figure = eigenvalues.eigenvalues(material)
    drawn = figure.axes[0]
    table = material.tables.trials[material.tables.trials["points.train"] == "highest_loss"]
    good = table[table["flags"] == ""]
    assert len(good) == 4
    np.testing.assert_array_equal(_by_gid(drawn.lines, "seeds")[0].get_ydata(), good["largest_eigenvalue"])
    crosses = _by_gid(drawn.lines, "undefined")[0].get_ydata()
    np.testing.assert_array_equal(crosses, table[table["flags"] != ""]["largest_eigenvalue"])
    medians = good.groupby("model.depth")["largest_eigenvalue"].median()
    np.testing.assert_array_equal(_by_gid(drawn.lines, "line")[0].get_ydata(), medians)
    assert drawn.get_yscale() == "log"


def test_protocols_that_start_from_the_same_networks_share_a_panel(tmp_path):
    material = Material(_tables(tmp_path, DEPTHS, protocols=("warm", "stationary")))
    assert [panel.title for panel in material.network_panels] == ["Trained networks"]


def test_norms_are_medians_and_quartiles_over_the_rows_that_count(tmp_path):
    material = Material(_varied(tmp_path, DEPTHS, _alive, protocols=("warm",), rows=20, removed=15))
    with style.applied():
        figure = norms.norms(material)
    drawn = {line.get_label(): line.get_ydata() for line in _by_gid(figure.axes[0].lines, "line")}
    found = {name: [] for name in ("predicted_norm/exact", "actual_norm/warm", "null_norm/warm")}
    for depth in DEPTHS["model.depth"]:
        blocks = [b for b in material.tables.readings.blocks if b.trial.swept["model.depth"] == depth]
        own = [block.record.arrays for block in blocks if not block.undefined]
        assert len(own) == 2
        for name, values in found.items():
            values.append(np.median(np.concatenate([np.atleast_1d(arrays[name])[:15] for arrays in own])))
    np.testing.assert_allclose(drawn["predicted (exact)"], found["predicted_norm/exact"])
    np.testing.assert_allclose(drawn["actual (warm)"], found["actual_norm/warm"])
    np.testing.assert_allclose(drawn["drift, nothing removed"], found["null_norm/warm"])


def test_correlation_against_loss_joins_each_comparison_with_its_own_test_row(tmp_path):
    material = Material(_varied(tmp_path, {}, _alive, tests=tuple(range(20, 32))))
    axes = losses.draw_against_loss(material, Figure().subplots(), material.cells.iloc[0], "spearman")
    drawn = np.asarray(axes.collections[0].get_offsets())
    agreement = material.tables.agreement.query("undefined == ''")
    np.testing.assert_array_equal(drawn[:, 1], agreement["spearman"])
    blocks = {block.trial.key: block.record.arrays for block in material.tables.readings.blocks}
    expected = [blocks[row.trial]["test_losses"][row.test_row - 20] for row in agreement.itertuples()]
    np.testing.assert_array_equal(drawn[:, 0], expected)
    bins = plots.loss_bins(drawn[:, 0], drawn[:, 1])
    assert len(bins) == 4
    np.testing.assert_array_equal(_by_gid(axes.lines, "median")[0].get_ydata(), bins["median"])


_PUBLISHED_TRAINING = {"polish": False, "steps": 60000, "batch_size": "full"}


def test_published_values_stand_only_where_the_setting_is_theirs():
    spec = {
        "data": {"name": "iris"}, "model": {"kind": "mlp", "depth": 1, "width": 5},
        "training": {**_PUBLISHED_TRAINING, "weight_decay": 0.005},
    }  # fmt: skip
    bare = spec | {"training": {**_PUBLISHED_TRAINING, "weight_decay": 0.0}}
    short = spec | {"training": {**spec["training"], "steps": 250}}
    assert published.matching("spearman", "warm", [short]) == []
    assert [p.value for p in published.matching("spearman", "warm", [spec])] == [0.97]
    assert [p.value for p in published.matching("spearman", "warm", [spec, bare])] == [0.97, 0.51]
    assert published.matching("pearson", "warm", [spec]) == []
    assert published.matching("spearman", "stationary", [spec]) == []
    assert published.matching("spearman", "warm", [spec | {"data": {"name": "digits"}}, {}]) == []
    wide = spec | {"model": {"kind": "mlp", "depth": 1, "width": 50}}
    axes, scale = Figure().subplots(), scales.of("model.width", [8, 50])
    plots.published_points(published.matching("spearman", "warm", [wide]), axes, scale)
    assert [line.get_ydata() for line in _by_gid(axes.lines, "published")] == [[0.56]]


def _as_published(trial, record):
    """The published Iris setting, with the trial's depth and penalty."""
    swept, spec = trial.swept, record.header["spec"]
    spec["data"], spec["model"] = {"name": "iris"}, {"kind": "mlp", "width": 5, "depth": swept["model.depth"]}
    spec["training"] = {**_PUBLISHED_TRAINING, "weight_decay": swept["training.weight_decay"]}
    spec["points"] = {"train": "highest_loss", "test": "highest_loss"}
    if trial.settings.seed == 1:
        record.header["flags"].append("collapsed")


def test_published_values_name_the_settings_that_the_axis_does_not(tmp_path):
    axes_of = {"model.depth": [1, 2, 3], "training.weight_decay": [0.005, 1e-4, 0.0]}
    by_depth = Material(_varied(tmp_path / "a", axes_of, _as_published, protocols=("warm", "stationary"), rows=12))
    by_penalty = Material(
        _varied(tmp_path / "b", axes_of | {"model.depth": [1, 3]}, _as_published, protocols=("warm",))
    )
    for material, label in (
        (by_depth, "Basu et al. 2021: 0.97 (λ = 5·10⁻³), 0.51 (λ = 0)"),
        (by_penalty, "Basu et al. 2021, depth 1"),
    ):
        with style.applied():
            figure = correlations.correlation(material, "spearman")
            _check_texts("spearman", figure)
            stars = [line for axes in figure.axes for line in _by_gid(axes.lines, "published")]
            assert sorted(float(star.get_ydata()[0]) for star in stars) == [0.51, 0.97]
        assert label in [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_published_value_without_a_place_on_the_axis_is_not_in_the_legend_either(tmp_path):
    def change(trial, record):
        _as_published(trial, record)
        record.header["spec"]["training"]["learning_rate"] = trial.swept["training.learning_rate"]

    axes_of = {"training.learning_rate": [1e-4, 1e-3, 1e-2], "model.depth": [1], "training.weight_decay": [0.005]}
    with style.applied():
        figure = correlations.correlation(Material(_varied(tmp_path, axes_of, change, protocols=("warm",))), "spearman")
    assert not any("Basu" in text.get_text() for text in figure.legends[0].get_texts())


def test_a_mean_without_interval_and_usable_are_explained_in_the_figure(tmp_path):
    experiment, store = synthetic.experiment(DEPTHS, seeds=2), Store(tmp_path, "synthetic")
    for trial in experiment.trials:
        flags = ("collapsed",) if trial.settings.seed else ()
        points = {"train": "highest_loss", "test": "highest_loss"}
        store.write(synthetic.record(trial, points=points, flags=flags))
    material = Material(Tables(experiment, store))
    with style.applied():
        figure = correlations.correlation(material, "spearman")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["95% of permutations", "no bar: one minimum, no interval", "usable: correlation defined"]
    with style.applied():
        words = [text.get_text() for text, _ in _texts(overview.figure(material))]
    assert "Spearman correlation, mean [95% interval]; none: one minimum; usable: correlation defined" in words


def test_the_cell_of_the_overview_is_that_of_median_agreement(tmp_path):
    noise = {1: 0.2, 2: 3.0, 3: 0.5, 4: 0.3, 5: 2.0}
    axes_of = {"model.depth": list(noise)}
    material = Material(
        _tables(tmp_path, axes_of, protocols=("warm", "stationary"), noise=lambda t: noise[t.swept["model.depth"]])
    )
    panel, _, cell, rule = overview.main_cell(material)
    own = material.cells[material.cells["protocol"] == "stationary"]
    assert (panel.protocol, rule) == ("stationary", "median Spearman of 5 cells")
    assert cell["spearman"] == own["spearman"].median()
    with style.applied():
        assert any(rule in text.get_text() for text, _ in _texts(overview.figure(material)))


def test_certificates_of_the_overview_are_those_of_certified_removals(tmp_path):
    def spoil(trial, record):
        record.arrays["certificate/stationary/certified"][3] = False
        record.arrays["certificate/stationary/delta_error"][3] = 3e-7

    material = Material(_varied(tmp_path, DEPTHS, spoil, protocols=("warm", "stationary")))
    warm, certified = overview._checks(material)[1:]
    assert warm[1:6] == ["9", "9/9", "–", "–", "–"]
    assert certified[1:6] == ["9", "9/9", "261/270", "10⁻¹⁰", "10⁻¹⁰"]


def test_values_that_a_protocol_was_never_to_have_are_marked(tmp_path):
    experiment = synthetic.experiment({"training.weight_decay": [0.0, 1e-4, 1e-2]}, seeds=1)
    store, trials = Store(tmp_path, "synthetic"), []
    for trial in experiment.trials:
        names = ("warm", "stationary") if trial.swept["training.weight_decay"] else ("warm",)
        settings = SimpleNamespace(seed=0, protocols=[SimpleNamespace(name=name) for name in names])
        trials.append(replace(trial, settings=settings))
        store.write(synthetic.record(trial, protocols=names))
    material = Material(Tables(replace(experiment, trials=trials), store))
    with style.applied():
        figure = correlations.correlation(material, "spearman")
    marked = [[text.get_position()[0] for text in _by_gid(axes.texts, "absent")] for axes in figure.axes]
    assert marked == [[], [material.sweep.scale.places[0.0]]]
    (text,) = _by_gid(figure.axes[1].texts, "absent")
    assert text.get_text() == "no minimum"


# --- how it looks


def test_lines_differ_without_colour_and_one_colour_means_one_thing(tmp_path):
    material = Material(
        _tables(tmp_path, TWO_AXES | {"points.train": ["all", "random"]}, seeds=1, protocols=("warm", "cold"))
    )
    for panel in material.panels:
        looks = [line.look for line in panel.lines]
        assert len({(look.marker, str(look.line), look.fill) for look in looks}) == len(looks) == 6
        assert looks[0].label == "λ = 5·10⁻³, all rows"
    used = [*style.PROTOCOL_COLOURS.values(), *style.ESTIMATOR_FAMILIES, style.OTHER_COLOUR, style.NETWORK_COLOUR,
            style.PUBLISHED_COLOUR]  # fmt: skip
    assert len(set(used)) == len(used)
    kinds = list(itertools.chain(*style.ESTIMATOR_FAMILIES.values()))
    assert len(set(kinds)) == len(kinds)


def test_several_estimators_take_the_colours_of_their_families(tmp_path):
    material = Material(_tables(tmp_path, DEPTHS, estimators=("exact", "ggn", "identity")))
    looks = [line.look for line in material.panels[0].lines]
    assert [look.colour for look in looks] == [style.estimator_colour(name) for name in ("exact", "ggn", "identity")]
    assert len({str(look.line) for look in looks}) == 3


@pytest.mark.parametrize("axes", [{}, DEPTHS])
def test_several_estimators_without_overlaps(tmp_path, axes):
    options = {"estimators": ("exact", "identity"), "protocols": ("warm", "cold", "stationary"), "rows": 12}
    material = Material(_varied(tmp_path, axes, _alive, **options))
    with style.applied():
        drawn = {stem: draw() for stem, draw in figures.plan(material)}
        for stem, figure in drawn.items():
            _check_texts(stem, figure)
    assert sum(stem.startswith("predicted_vs_actual") for stem in drawn) == 6
    if axes:
        titles = {axes.get_title() for axes in drawn["parameter_change_against_model_depth"].axes}
        assert titles == {""}  # a panel of several estimators has none of their names


def test_so_many_estimators_that_no_lines_could_tell_them_apart_stand_along_the_axis(tmp_path):
    names = ("exact", "newton_step", "cg", "lissa", "arnoldi", "nystrom", "ggn", "kfac", "ekfac", "last_layer_weights")
    material = Material(_varied(tmp_path, {"model.depth": [1, 3, 5]}, _alive, estimators=names, rows=12))
    assert [line.values for line in material.panels[0].lines] == [{"model.depth": depth} for depth in (1, 3, 5)]
    with style.applied():
        drawn = {stem: draw() for stem, draw in figures.plan(material)}
        for stem, figure in drawn.items():
            _check_texts(stem, figure)
    labels = [label.get_text() for label in drawn["spearman_against_estimator"].axes[0].get_xticklabels()]
    assert labels == [name.replace("_", " ") for name in names]


def test_the_drift_has_a_colour_of_its_own():
    assert style.REFERENCE not in [*style.ESTIMATOR_FAMILIES, *style.PROTOCOL_COLOURS.values()]


def test_the_words_of_the_published_validation():
    published_settings = {"training.dtype": "float32", "training.polish": False}
    assert wording.protocol_title("warm", "warm", published_settings) == "As published: warm restart"
    assert wording.protocol_title("warm", "warm", {}) == "Warm restart"
    assert wording.protocol_title("long", "warm", {}) == "Warm restart (long)"
    assert wording.protocol_title("certified", "stationary", {}) == "Certified"
    assert wording.phrase("points.train", "highest_loss") == "highest loss"
    assert wording.phrase("training.polish", np.False_) == "unpolished"
    assert wording.phrase("model.depth", pd.NA) == "depth none"
    assert [wording.number(value) for value in (0, 0.005, 12, 5e-4, 1e-5, -2.5e7)] == [
        "0", "0.005", "12", "5·10⁻⁴", "10⁻⁵", "−2.5·10⁷"]  # fmt: skip


def _texts(figure):
    """Every text as drawn, with its bounding box."""
    found, original = [], Text.draw

    def draw(self, renderer, *args, **kwargs):
        if self.get_visible() and self.get_text().strip():
            found.append((self, self.get_window_extent(renderer)))
        return original(self, renderer, *args, **kwargs)

    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", draw)
        figure.canvas.draw()
    return list({id(text): (text, box) for text, box in found}.values())


CROWDED = {
    "model.depth": list(range(1, 7)),
    "training.weight_decay": [0.005, 0.0],
    "points.train": ["highest_loss", "highest_influence"],
}


@pytest.mark.parametrize("axes", [*SHAPES, CROWDED], ids=lambda axes: "+".join(axes) or "nothing swept")
def test_no_text_overlaps_leaves_the_page_or_is_too_small(tmp_path, axes):
    evidence = _varied(tmp_path, axes, _alive, protocols=("warm", "stationary"), rows=12, tests=tuple(range(11)))
    with style.applied():
        for stem, draw in figures.plan(Material(evidence)):
            _check_texts(stem, draw())


def _check_texts(stem, figure):
    """None overlaps another, leaves the page or is too small; the page is one or two columns wide."""
    assert figure.get_size_inches()[0] in (style.COLUMN, style.PAGE)
    assert figure.get_size_inches()[1] <= style.PAGE_HEIGHT
    texts = _texts(figure)
    width, height = figure.bbox.size
    for text, box in texts:
        assert text.get_fontsize() >= style.SMALL, (stem, text.get_text())
        assert box.x0 >= -1, (stem, text.get_text())
        assert box.x1 <= width + 1, (stem, text.get_text())
        assert box.y0 >= -1, (stem, text.get_text())
        assert box.y1 <= height + 1, (stem, text.get_text())
    for (first, a), (second, b) in itertools.combinations(texts, 2):
        apart = a.x1 <= b.x0 + 1 or b.x1 <= a.x0 + 1 or a.y1 <= b.y0 + 1 or b.y1 <= a.y0 + 1
        if first.get_rotation() % 90 and first.get_rotation() == second.get_rotation():  # slanted beside each other
            across = abs(a.x1 - b.x1) * np.sin(np.radians(first.get_rotation()))
            apart = apart or across >= first.get_fontsize() * figure.dpi / 72
        assert apart, (stem, first.get_text(), second.get_text())


def test_a_plan_names_the_protocols_of_each_trial(tmp_path):
    """What a trial says of its protocols decides which lines a protocol has, before any record does."""
    experiment = synthetic.experiment(DEPTHS, seeds=1)
    names = ["warm", "warm", "cold"]
    trials = [
        replace(trial, settings=SimpleNamespace(seed=0, protocols=[SimpleNamespace(name=name)]))
        for trial, name in zip(experiment.trials, names, strict=True)
    ]
    sweep = lines.Sweep(SimpleNamespace(experiment=replace(experiment, trials=trials), blocks=[]))
    assert list(sweep.plan["protocol"]) == ["warm", "warm", "cold"]
    assert sweep.planned("warm", {"model.depth": 2})
    assert not sweep.planned("cold", {"model.depth": 2})


def test_estimators_that_know_no_change_of_parameters_are_left_out_of_its_figure(tmp_path):
    def change(trial, record):
        _alive(trial, record)
        record.arrays["predicted_norm/cg"] = np.full(20, np.nan)

    material = Material(_varied(tmp_path, DEPTHS, change, rows=20, estimators=("exact", "cg")))
    handles = norms.draw_norms(material, Figure().subplots(), material.panels[0], material.panels[0].lines)
    assert [handle.get_label() for handle in handles] == ["predicted (exact)", "actual (stationary)"]

    def unknown(trial, record):
        _alive(trial, record)
        record.arrays["predicted_norm/exact"] = np.full(20, np.nan)

    none = Material(_varied(tmp_path / "none", DEPTHS, unknown, rows=20))
    stems = [stem for stem, _ in figures.plan(none)]
    assert not any(stem.startswith("parameter_change") for stem in stems)
    with style.applied():
        assert not any("Δθ" in axes.get_ylabel() for axes in overview.figure(none).get_axes())


def test_solves_beyond_measure_are_arrows_and_a_single_estimator_is_not_named_again(tmp_path):
    axes_of = {"estimators.lissa.depth": [10, 100], "estimators.lissa.scale": [3.0, 30.0]}

    def change(trial, record):
        _alive(trial, record)
        far = 1e30 if trial.swept["estimators.lissa.scale"] == 3.0 else 0.25
        record.header["estimators"]["lissa"] |= {"distance_from_exact": far, "seconds": 0.5}

    material = Material(_varied(tmp_path, axes_of, change, rows=20, estimators=("lissa",)))
    with style.applied():
        figure = solves.solves(material)
    left, right = figure.axes
    assert [list(line.get_ydata()) for line in _by_gid(left.lines, "beyond")] == [[10.0, 10.0], []]
    assert _by_gid(left.lines, "line")[1].get_ydata() == pytest.approx([0.25, 0.25])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "scale 3", "scale 30", "beyond 10 times the exact solution",
    ]  # fmt: skip
    assert left.get_xlabel() == "Lissa depth"
    assert all(list(line.get_ydata()) == [0.5, 0.5] for line in _by_gid(right.lines, "line"))


def test_numbers_that_are_not_positive_are_arrows_at_the_bottom():
    scale = scales.of("estimators.lissa.depth", [1, 2, 3])
    table = pd.DataFrame({"estimators.lissa.depth": [1, 2, 3], "line": 0, "slope_median": [2.0, -1.0, 4.0]})
    axes = plots.positive_against(table, Figure().subplots(), scale, [Look("black")], "slope_median", "Slope", mark=1.0)
    (arrow,) = _by_gid(axes.lines, "not positive")
    assert list(arrow.get_xdata()) == [2]
    np.testing.assert_array_equal(_by_gid(axes.lines, "line")[0].get_ydata(), [2.0, np.nan, 4.0])
    positive = plots.positive_against(
        table.iloc[[0, 2]], Figure().subplots(), scale, [Look("black")], "slope_median", "Slope"
    )
    assert not _by_gid(positive.lines, "not positive")


def test_the_overview_counts_what_estimates_raised(tmp_path):
    def change(trial, record):
        _alive(trial, record)
        record.header["estimators"]["exact"]["flags"] = ["indefinite"] * (trial.settings.seed == 0)

    material = Material(_varied(tmp_path, DEPTHS, change, rows=20))
    flags = overview._flags(material, material.tables.trials, "stationary")
    assert f"indefinite: {len(DEPTHS['model.depth'])} estimates" in flags


def test_what_is_tied_to_the_axis_makes_no_lines(tmp_path):
    """A width chosen for every depth: one line along the depth, its widths told in the panel's title."""
    found = tied({"model.depth": [1, 1, 2], "model.width": [9, 9, 4], "seed": [0, 1, 0]}, "model.depth")
    assert found == ["model.width"]
    free = synthetic.experiment({"model.depth": [1, 2], "model.width": [9, 4]}, seeds=2)
    chosen = [trial for trial in free.trials if tuple(trial.swept.values()) in ((1, 9), (2, 4))]
    for experiment, lines_wanted in ((free, 2), (replace(free, trials=chosen), 1)):
        store = synthetic.filled(Store(tmp_path / str(lines_wanted), "synthetic"), experiment)
        [panel] = Material(Tables(experiment, store)).panels
        assert len(panel.lines) == lines_wanted
    assert panel.subtitle == "width 9, 4"


def test_no_line_joins_one_word_to_the_next(tmp_path):
    experiment = synthetic.experiment({"model.activation": ["tanh", "relu"]}, seeds=2)
    material = Material(Tables(experiment, synthetic.filled(Store(tmp_path, "synthetic"), experiment)))
    axes = dict(figures.plan(material))["spearman_against_model_activation"]().axes[0]
    [drawn] = [line for line in axes.lines if line.get_gid() == "line"]
    assert (drawn.get_linestyle(), drawn.get_marker()) == ("None", "o")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["tanh", "relu"]


def test_many_twins_of_long_names_fit_on_the_page(tmp_path):
    """Sixty pairs of cells are more than a page holds: those shown are told."""
    changes = ("pair the randomness", "match the estimand: retrain only the last layer's weights", "sign")
    sides = {"published": {"protocol": "warm"}, "corrected": {"protocol": "stationary"}}
    twins = tuple(Twin(name=f"{name} {n}", **sides) for n in (1, 2) for name in changes)
    experiment = synthetic.experiment({"model.depth": list(range(1, 11))}, seeds=2, twins=twins)
    store = Store(tmp_path, "synthetic")
    for trial in experiment.trials:
        points = {"train": "highest_loss", "test": {"rows": [83]}}
        record = synthetic.record(trial, protocols=("warm", "stationary"), points=points)
        if trial.settings.seed == 1 and trial.swept["model.depth"] > 5:
            record.header["flags"].append("collapsed")
        store.write(record)
    with style.applied():
        figure = dict(figures.plan(Material(Tables(experiment, store))))["twins"]()
        _check_texts("twins", figure)
    assert figure.get_suptitle() == "48 of 60 pairs of cells"
