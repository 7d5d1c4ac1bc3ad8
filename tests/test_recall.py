"""Recall of the nearest rows: by hand, and as a table over records."""

from types import SimpleNamespace

import numpy as np
import pytest

from study import trials
from study.evidence import figures, report
from study.evidence.figures.material import Material
from study.evidence.report import bibliography, recall_table
from study.evidence.statistics.bootstrap import Sampled, mean_interval
from study.evidence.statistics.recall import recall
from study.evidence.store import Store
from study.evidence.tables import Tables
from tests import synthetic

#                    row      0  1  2  3  4  5
PLACES = np.array([[0, 3, 1, 5, 2, 4]])  # nearest first: rows 0 2 4 1 5 3
VALUES = np.array([[0.1, -0.9, 0.5, 0.4, -0.6, 0.0]])  # largest first: rows 1 4 2 3 0 5


def test_recall_by_hand():
    found = recall(PLACES, VALUES, retrieved=[1, 3, 4, 6], top=[1, 2, 3])
    # of the top 1 {1}, the top 2 {1, 4} and the top 3 {1, 4, 2}: among {0}, {0, 2, 4}, {0, 2, 4, 1}, and all
    expected = [[0, 0, 0], [0, 1 / 2, 2 / 3], [1, 1, 1], [1, 1, 1]]
    np.testing.assert_allclose(found[0], expected)


def test_rows_that_are_not_known_are_not_among_the_top_but_may_be_retrieved():
    values = VALUES.copy()
    values[0, [1, 2]] = np.nan  # the top 2 are now 4 and 3; 0, 2 and 4 are still the three nearest
    assert recall(PLACES, values, [3], [2])[0, 0, 0] == 1 / 2
    assert np.isnan(recall(PLACES, values, [3], [5])[0, 0, 0])  # of four known rows there are no five


def test_ties_share_their_places():
    tied = np.array([[1.0, 0.5, -0.5, 0.5, 0.0, 0.0]])  # two of rows 1 2 3 belong to the top 3; 2 alone is near
    assert recall(PLACES, tied, [3], [3])[0, 0, 0] == pytest.approx((1 + 2 / 3) / 3)


def test_random_retrieval_finds_its_share():
    generator = np.random.default_rng(0)
    places = np.array([generator.permutation(40) for _ in range(2000)])
    found = recall(places, generator.normal(size=(2000, 40)), [10, 20], [1, 5]).mean(axis=0)
    np.testing.assert_allclose(found, [[0.25, 0.25], [0.5, 0.5]], atol=0.04)


def test_the_interval_of_a_mean_is_students_for_one_axis():
    """Close to the middle the arcsine is nearly straight."""
    values = np.array([0.45, 0.5, 0.55, 0.48, 0.52])
    seeds, tests, sampled = np.arange(5), np.zeros(5), Sampled(True, False, False)
    low, high = mean_interval("recall", values, seeds, tests, sampled, np.random.default_rng(0), draws=20_000)
    half = 2.776 * values.std(ddof=1) / np.sqrt(5)
    assert (low, high) == pytest.approx((0.5 - half, 0.5 + half), abs=3e-3)
    fixed = mean_interval("recall", values, seeds, tests, Sampled(False, True, False), np.random.default_rng(0))
    assert np.isnan(fixed).all()


def _filled(folder, experiment, change=lambda trial, record: None, near=("input",), **options):
    store = Store(folder, "synthetic")
    for trial in experiment.trials:
        record = synthetic.record(trial, **options)
        generator = np.random.default_rng(int(trial.key[:8], 16))
        for layer in near:
            rows, tests = record.arrays["predicted/exact"].shape
            places = np.stack([generator.permutation(rows) for _ in range(tests)], axis=1)
            record.arrays[f"neighbours/{layer}"] = places.astype(np.uint16)
        change(trial, record)
        store.write(record)
    return store


def by_hand(record, layer, values, k, m):
    """Mean over test rows, with plain sets."""
    found = []
    for places, column in zip(record.arrays[f"neighbours/{layer}"].T, values.T, strict=True):
        top = {row for _, row in sorted((-abs(value), row) for row, value in enumerate(column))[:m]}
        found.append(len(top & set(np.flatnonzero(places < k))) / m)
    return np.mean(found)


def test_the_table_is_the_mean_over_trials_and_test_rows(tmp_path):
    experiment = synthetic.experiment(seeds=3)
    options = {"tests": (3, 7), "estimators": ("exact", "lissa"), "near": ("input", "layer1")}
    store = _filled(tmp_path, experiment, **options)
    table = Tables(experiment, store).recall
    assert len(table) == 2 * 2 * 3 * 2 * 3  # cells, features, rankings, k of 10 20, m of 1 5 10
    assert set(table["rows"]) == {30}
    np.testing.assert_allclose(table["chance"], table["k"] / 30)
    for row in table.itertuples():
        records = [store.read(trial.key) for trial in experiment.trials if trial.swept["model.depth"] == row._2]
        values = [by_hand(r, row.features, r.arrays[f"{row.against}/{row.name}"], row.k, row.m) for r in records]
        assert row.recall == pytest.approx(np.mean(values))
        assert (row.trials, row.seeds, row.minima, row.test_rows, row.usable, row.total) == (3, 3, 3, 2, 6, 6)
        assert row.recall_low <= row.recall <= row.recall_high
        assert row.resampled == "seeds, tests"
    kinds = dict(zip(table["name"], table["against"], strict=True))
    assert kinds == {"exact": "predicted", "lissa": "predicted", "stationary": "actual"}


def test_actual_changes_count_only_where_all_rows_were_removed_and_only_certified_ones(tmp_path):
    experiment = synthetic.experiment({}, seeds=1)
    assert set(Tables(experiment, _filled(tmp_path / "some", experiment, removed=12)).recall["against"]) == {
        "predicted"
    }

    def uncertify(trial, record):
        record.arrays["actual/stationary"][4] = 1.0  # by far the largest
        record.arrays["certificate/stationary/certified"][5] = False  # the first is the null's

    store = _filled(tmp_path / "all", experiment, uncertify)
    table = Tables(experiment, store).recall
    record = store.read(experiment.trials[0].key)
    known = record.arrays["actual/stationary"].copy()
    known[4] = 0.0
    for row in table[table["against"] == "actual"].itertuples():
        assert row.recall == pytest.approx(by_hand(record, "input", known, row.k, row.m))


def test_undefined_trials_are_counted_and_left_out(tmp_path):
    experiment = synthetic.experiment({}, seeds=3)

    def collapse(trial, record):
        if trial.settings.seed == 1:
            record.header["flags"].append("collapsed")
        if trial.settings.seed == 2:
            record.arrays["predicted/exact"][:27] = np.nan

    table = Tables(experiment, _filled(tmp_path, experiment, collapse)).recall
    predicted = table[table["against"] == "predicted"].set_index(["k", "m"])
    assert (predicted.loc[(10, 1), "usable"], predicted.loc[(10, 1), "undefined"]) == (2, "1 collapsed")
    assert predicted.loc[(10, 5), "usable"] == 1
    assert set(predicted.loc[(10, 5), "undefined"].split(", ")) == {"1 collapsed", "1 too few rows"}
    actual = table[table["against"] == "actual"]
    assert set(actual["usable"]) == {2}


def test_trials_of_two_protocols_are_one_ranking(tmp_path):
    """Seeds that share their networks but not their protocol; the networks are not certified, so nulls are looked at."""
    experiment = synthetic.experiment({}, seeds=2)
    store = Store(tmp_path, "synthetic")
    for trial, protocol in zip(experiment.trials, ("warm", "stationary"), strict=True):
        record = synthetic.record(trial, protocols=(protocol,))
        record.header["base"]["certified"] = False
        record.arrays["neighbours/input"] = np.arange(30, dtype=np.uint16)[:, None]
        store.write(record)
    table = Tables(experiment, store).recall
    assert table.groupby("name")["trials"].first().to_dict() == {"exact": 2, "stationary": 1, "warm": 1}


def test_the_file_is_there_only_where_records_hold_neighbours(tmp_path):
    experiment = synthetic.experiment({}, seeds=1)
    written = Tables(experiment, _filled(tmp_path, experiment)).write(tmp_path / "tables")
    assert (tmp_path / "tables" / "recall.csv") in written
    written = Tables(experiment, _filled(tmp_path, experiment, near=())).write(tmp_path / "tables")
    assert not [path for path in [*written, *(tmp_path / "tables").iterdir()] if path.name == "recall.csv"]


@pytest.mark.filterwarnings("error::UserWarning")
def test_the_figure_shows_what_the_table_says(tmp_path):
    options = {"tests": (3, 7), "estimators": ("exact", "lissa"), "near": ("input", "layer1"), "rows": 120}
    experiment = synthetic.experiment({}, seeds=3)
    material = Material(Tables(experiment, _filled(tmp_path, experiment, **options)))
    table = material.tables.recall
    drawn = dict(figures.plan(material))["recall"]()
    panels = drawn.axes
    assert len(panels) == 3 * 2  # predicted by each of two, actual; two layers
    for axes, (against, name, layer) in zip(
        panels, [(a, n, f) for a, n in (("predicted", "exact"), ("predicted", "lissa"), ("actual", "stationary"))
                 for f in ("input", "layer1")], strict=True,
    ):  # fmt: skip
        own = table[(table["against"] == against) & (table["name"] == name) & (table["features"] == layer)]
        curves = [line for line in axes.lines if line.get_gid() == "line"]
        assert len(curves) == own["m"].nunique() == 4
        for curve, (_, part) in zip(curves, own.groupby("m"), strict=True):
            np.testing.assert_allclose(curve.get_ydata(), part["recall"])
            assert len({curve.get_marker(), *(other.get_marker() for other in curves)}) == 4
        [chance] = [line for line in axes.lines if line.get_gid() == "chance"]
        np.testing.assert_allclose(chance.get_ydata(), chance.get_xdata() / 120)
        assert axes.get_ylim()[0] == 0 < 1 <= axes.get_ylim()[1]


def test_there_is_a_figure_for_each_cell_and_none_without_neighbours(tmp_path):
    experiment = synthetic.experiment({"model.depth": [1, 2]}, seeds=1)
    store = _filled(tmp_path / "some", experiment)
    stems = [stem for stem, _ in figures.plan(Material(Tables(experiment, store)))]
    assert [stem for stem in stems if stem.startswith("recall")] == ["recall_depth_1", "recall_depth_2"]
    store = _filled(tmp_path / "none", experiment, near=())
    assert not [stem for stem, _ in figures.plan(Material(Tables(experiment, store))) if stem.startswith("recall")]


def test_the_report_has_the_table(tmp_path):
    experiment = SimpleNamespace(**vars(synthetic.experiment(seeds=2)), text="")
    tables = Tables(experiment, _filled(tmp_path, experiment))
    found = recall_table.recall(tables)
    assert [column.label for column in found.columns] == [
        "depth", "neighbours by", "changes", "k", "R@1", "R@5", "R@10", "k random rows", "usable",
    ]  # fmt: skip
    assert len(found.rows) == len(tables.recall) / 3
    some = tables.recall[tables.recall["m"] == 5].to_dict("records")[-1]
    shown = [cell.text for cell in found.rows[-1]]
    assert shown[:4] == ["2", "input", "actual (stationary)", "20"]
    assert shown[5].startswith(f"{some['recall']:.3f}")
    assert '<section id="recall">' in report.page(tables)
    nothing = Tables(experiment, _filled(tmp_path / "none", experiment, near=()))
    assert 'id="recall"' not in report.page(nothing)


def test_neighbours_are_cited(tmp_path):
    path = tmp_path / "case.toml"
    text = 'name = "a"\ndata.name = "iris"\nmodel.kind = "mlp"\n'
    text += 'estimators = [{ kind = "exact" }]\nprotocols = [{ kind = "cold" }]\n'
    path.write_text(text)
    assert not {"guo2021fastif", "douze2024faiss"} & set(bibliography.references(trials.load(path), [])[0])
    path.write_text(text + 'neighbours.features = ["input"]\n')
    keys, unknown = bibliography.references(trials.load(path), [])
    assert {"guo2021fastif", "douze2024faiss"} <= set(keys)
    assert not unknown
