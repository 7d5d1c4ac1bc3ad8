"""Tables against values taken straight from the records, and everything without torch."""

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from study import trials as real_trials
from study.errors import StudyError
from study.evidence import tables
from study.evidence.report.headline import headline
from study.evidence.store import Store
from study.evidence.tables import Tables, comparisons, estimates
from study.evidence.tables.export import export
from tests import synthetic

PAIRS = ["experiment", "trial", "seed", "model.depth", "estimator", "protocol", "train_row", "test_row",
         "predicted", "actual", "actual_raw", "flag"]  # fmt: skip


def _changed(store, trial, change, **options):
    """Write the trial's record after `change` has altered its header or arrays."""
    record = synthetic.record(trial, **options)
    change(record)
    store.write(record)


def test_pairs_are_rows_by_test_rows_by_estimators_by_protocols(tmp_path):
    experiment = synthetic.experiment(seeds=2)
    options = {"tests": (3, 7), "removed": 10, "estimators": ("exact", "identity"), "protocols": ("warm", "stationary")}
    store = synthetic.filled(Store(tmp_path, "synthetic"), experiment, **options)
    pairs = tables.pairs(experiment, store)
    assert list(pairs.columns) == PAIRS
    assert len(pairs) == 4 * 10 * 2 * 2 * 2
    assert not pairs.duplicated(["trial", "estimator", "protocol", "train_row", "test_row"]).any()
    record = store.read(experiment.trials[1].key)
    for row in pairs[pairs["trial"] == record.key].sample(40, random_state=0).itertuples():
        r, t = row.train_row - 100, [3, 7].index(row.test_row)
        assert row.predicted == record.arrays[f"predicted/{row.estimator}"][r, t]
        assert row.actual == record.arrays[f"actual/{row.protocol}"][r, t]
        assert row.actual_raw == record.arrays[f"actual_raw/{row.protocol}"][r, t]
        assert row.seed == 1
        assert row.flag == ""


def test_training_rows_may_stand_in_any_order(tmp_path):
    experiment = synthetic.experiment({}, seeds=1)
    store, order = Store(tmp_path, "synthetic"), np.random.default_rng(0).permutation(30)

    def shuffle(record):
        for name in ("train_rows", "predicted/exact"):
            record.arrays[name] = record.arrays[name][order]

    _changed(store, experiment.trials[0], shuffle)
    plain = synthetic.filled(Store(tmp_path, "plain"), experiment)
    pd.testing.assert_frame_equal(tables.pairs(experiment, store), tables.pairs(experiment, plain))


def test_flags_of_trial_estimator_protocol_and_row_are_joined_once(tmp_path):
    experiment = synthetic.experiment({}, seeds=1)
    store = Store(tmp_path, "synthetic")

    def flag(record):
        record.header["flags"].append("collapsed")
        record.header["estimators"]["exact"]["flags"].append("indefinite")
        record.arrays["flag/stationary"][4] = "uncertified; collapsed"

    _changed(store, experiment.trials[0], flag)
    flags = tables.pairs(experiment, store)["flag"]
    assert flags[4] == "collapsed; indefinite; uncertified"
    assert (flags.drop(4) == "collapsed; indefinite").all()


def test_swept_columns_keep_their_kind(tmp_path):
    axes = {"a.int": [1, 2], "a.list": [[1, 2]], "a.mixed": ["full", 16], "a.flag": [True, None], "a.none": [None, 3]}
    experiment = synthetic.experiment(axes, seeds=1)
    store = synthetic.filled(Store(tmp_path, "synthetic"), experiment)
    path = export(Tables(experiment, store), tmp_path / "pairs.parquet")
    for pairs in (tables.pairs(experiment, store), pd.read_parquet(path)):
        assert pairs["a.int"].dtype == np.int64
        assert set(pairs["a.list"]) == {"[1, 2]"}
        assert set(pairs["a.mixed"]) == {"full", "16"}
        assert set(pairs["a.none"].dropna()) == {3}
        assert pairs["a.flag"].isna().sum() == pairs["a.none"].isna().sum() == len(pairs) // 2


def test_trials_hold_certificates_and_spread(tmp_path):
    experiment = synthetic.experiment({}, seeds=1)
    store = Store(tmp_path, "synthetic")

    def uncertify(record):
        record.arrays["certificate/stationary/certified"][3] = False
        record.arrays["certificate/stationary/delta_error"][3] = 1e-5
        record.arrays["certificate/stationary/delta_error"][0] = 1.0  # the null's is not a removal's
        record.arrays["certificate/stationary/another_basin"][3] = True

    _changed(store, experiment.trials[0], uncertify, protocols=("warm", "stationary"))
    trials = tables.trials(experiment, store).set_index("protocol")
    row, actual = trials.loc["stationary"], store.read(experiment.trials[0].key).arrays["actual/stationary"]
    assert row["removals_certified"] == 29
    assert row["null_certified"]
    assert row["another_basin"] == 1
    assert row["max_delta_error"] == 1e-5
    assert row["sd_actual"] == pytest.approx(actual.std(ddof=1))
    assert row["delta_error_ratio"] == pytest.approx(1e-5 / actual.std(ddof=1))
    assert row["median_iterations"] == 4
    assert row["train_accuracy"] == 0.98
    assert row["mean_test_loss"] == 0.1
    assert row["dtype"] == "float64"
    assert trials.loc["warm", ["removals_certified", "max_delta_error"]].isna().all()


def test_agreement_uses_selected_finite_certified_rows_only(tmp_path):
    experiment = synthetic.experiment({}, seeds=1)
    store = Store(tmp_path, "synthetic")

    def spoil(record):
        record.arrays["selected"][0] = False
        record.arrays["certificate/stationary/certified"][2] = False  # index 0 is the null: this is removal 1
        record.arrays["actual/stationary"][2] = np.nan

    _changed(store, experiment.trials[0], spoil)
    row, record = tables.agreement(experiment, store).iloc[0], store.read(experiment.trials[0].key)
    a, b = record.arrays["predicted/exact"][3:, 0], record.arrays["actual/stationary"][3:, 0]
    assert (row["rows_used"], row["rows_total"], row["undefined"]) == (27, 29, "")
    assert row["spearman"] == pytest.approx(stats.spearmanr(a, b)[0])
    assert row["pearson"] == pytest.approx(stats.pearsonr(a, b)[0])


def test_undefined_correlations_are_counted_with_their_reason(tmp_path):
    experiment = synthetic.experiment({}, seeds=4)
    store = Store(tmp_path, "synthetic")
    changes = [
        lambda record: None,
        lambda record: record.header["flags"].append("collapsed"),
        lambda record: record.arrays["predicted/exact"].fill(0.1),
        lambda record: record.arrays["selected"][2:].fill(False),
    ]
    for trial, change in zip(experiment.trials, changes, strict=True):
        _changed(store, trial, change)
    evidence = Tables(experiment, store)
    assert list(evidence.agreement["undefined"]) == ["", "collapsed", "constant", "too few rows"]
    cell = evidence.cells.iloc[0]
    assert (cell["usable"], cell["total"]) == (1, 4)
    assert cell["spearman"] == evidence.agreement["spearman"][0]
    assert "1/4" in headline(experiment, store)
    assert "1 collapsed" in headline(experiment, store)


def test_what_estimators_share_is_counted_once(tmp_path):
    experiment = synthetic.experiment({}, seeds=3)
    store, options = Store(tmp_path, "synthetic"), {"estimators": ("exact", "identity"), "tests": (3, 7)}

    def uncertify(record):
        record.arrays["certificate/stationary/certified"][2] = False

    store.write(synthetic.record(experiment.trials[0], **options))
    _changed(store, experiment.trials[1], lambda record: record.header["flags"].append("collapsed"), **options)
    _changed(store, experiment.trials[2], uncertify, **options)
    text = headline(experiment, store)
    assert "Undefined: 2 collapsed, of 6 comparisons" in text
    assert "2 of 120 removals of the others left out" in text


def test_the_headline_compares_the_lowest_cell_with_the_highest(tmp_path):
    experiment = synthetic.experiment({"model.depth": [1, 2]}, seeds=4)
    near = synthetic.filled(Store(tmp_path, "near"), experiment)
    far = synthetic.filled(
        Store(tmp_path, "far"), experiment, noise=lambda t: 0.01 if t.swept["model.depth"] == 1 else 9.0
    )
    for store, said in ((near, "intervals overlap."), (far, "intervals do not overlap.")):
        lines = [line for line in headline(experiment, store).splitlines() if line.endswith(said)]
        assert [line.split(" lowest ")[0] for line in lines] == [
            f"exact, stationary: {m}" for m in ("spearman", "pearson")
        ]


def test_removals_of_undefined_comparisons_are_not_counted(tmp_path):
    experiment = synthetic.experiment({}, seeds=3)
    store = Store(tmp_path, "synthetic")

    def drown(record):
        record.arrays["certificate/stationary/delta_error"] = np.ones((31, 1))

    changes = [lambda record: None, lambda record: record.header["flags"].append("collapsed"), drown]
    for trial, change in zip(experiment.trials, changes, strict=True):
        _changed(store, trial, change)
    evidence = Tables(experiment, store)
    assert list(evidence.agreement["rows_used"]) == [30, 0, 0]
    assert list(evidence.agreement["rows_total"]) == [30, 30, 30]
    cell = evidence.cells.iloc[0]
    assert (cell["rows_used"], cell["rows_total"], cell["usable"], cell["ties"]) == (30, 90, 1, 0)


AGREEMENT = [
    "experiment", "trial", "seed", "model.depth", "estimator", "protocol", "kind", "test_row", "rows_used",
    "rows_total", "pearson", "spearman", "undefined", "kendall", "slope", "intercept", "ratio",
    "sign_agreement", "mean_absolute_error", "top_k_overlap", "norm_pearson", "norm_spearman", "plugin_pearson",
    "plugin_spearman", "plugin_kendall", "plugin_slope", "plugin_intercept", "plugin_ratio",
    "plugin_sign_agreement", "plugin_mean_absolute_error",
    "plugin_top_k_overlap", "top_k", "ties",
]  # fmt: skip


def test_every_metric_of_agreement_and_its_mean(tmp_path):
    experiment = synthetic.experiment(seeds=2)
    store = Store(tmp_path, "synthetic")

    def move(record):
        record.arrays["predicted_norm/exact"] = np.arange(40.0) ** 2
        record.arrays["actual_norm/stationary"] = np.arange(30.0)
        record.arrays["actual/stationary"] = record.arrays["actual/stationary"] + 0.01

    for trial in experiment.trials:
        _changed(store, trial, move, rows=40, removed=30, tests=(3, 7))
    evidence = Tables(experiment, store)
    assert list(evidence.agreement.columns) == AGREEMENT
    row, record = evidence.agreement.iloc[1], store.read(experiment.trials[0].key)
    p, a = record.arrays["predicted/exact"][:30, 1], record.arrays["actual/stationary"][:, 1]
    assert row["kendall"] == pytest.approx(stats.kendalltau(p, a)[0])
    assert (row["slope"], row["intercept"]) == pytest.approx(tuple(np.polyfit(p, a, 1)))
    assert row["mean_absolute_error"] == pytest.approx(np.abs(p - a).mean())
    assert row["ratio"] == pytest.approx(np.median(a / p))
    assert row["sign_agreement"] == pytest.approx(np.mean(np.sign(p) == np.sign(a)))
    assert row["norm_pearson"] == pytest.approx(stats.pearsonr(np.arange(30) ** 2, np.arange(30))[0])
    assert row["norm_spearman"] == pytest.approx(1)
    assert row["top_k"] == 6
    means = evidence.agreement.groupby("model.depth").mean(numeric_only=True)
    for name in AGREEMENT[13:-2]:
        np.testing.assert_allclose(evidence.cells[name], means[name])


def test_one_prediction_that_hardly_varies_does_not_set_the_slope_of_a_cell(tmp_path):
    experiment = synthetic.experiment({}, seeds=5)
    store = synthetic.filled(Store(tmp_path, "synthetic"), experiment, noise=0.0)

    def flatten(record):
        record.arrays["predicted/exact"] = 1 - 1e-8 * record.arrays["predicted/exact"]

    _changed(store, experiment.trials[2], flatten, noise=0.0)
    cell = tables.cells(experiment, store).iloc[0]
    assert cell["slope"] < -1e6
    assert (cell["slope_median"], cell["intercept_median"]) == pytest.approx((1.0, 0.0), abs=1e-6)


def test_the_plug_in_prediction_is_measured_like_the_linear_one(tmp_path):
    experiment = synthetic.experiment({}, seeds=1)
    store = synthetic.filled(Store(tmp_path, "synthetic"), experiment)
    read = tables.Tables(experiment, store).readings
    record, block = store.read(experiment.trials[0].key), read.blocks[0]
    plugin = {"plugin/exact": record.arrays["predicted/exact"] ** 3}  # whatever the reading keeps
    arrays = {**block.record.arrays, **plugin}
    block = replace(block, record=replace(block.record, arrays=arrays))
    row = comparisons.build(replace(read, blocks=[block])).iloc[0]
    p, a = plugin["plugin/exact"][:, 0], record.arrays["actual/stationary"][:, 0]
    assert row["plugin_pearson"] == pytest.approx(stats.pearsonr(p, a)[0])
    assert row["plugin_slope"] == pytest.approx(np.polyfit(p, a, 1)[0])
    assert row["plugin_spearman"] == row["spearman"]


@pytest.mark.parametrize("protocol", ["stationary", "warm"])
def test_changes_closer_than_their_certificate_tie(tmp_path, protocol):
    experiment = synthetic.experiment({}, seeds=2)
    store = Store(tmp_path, "synthetic")

    def blur(record):
        actual = record.arrays[f"actual/{protocol}"]
        actual[5] = actual[4] + 1e-9
        record.arrays[f"certificate/{protocol}/delta_error"] = np.full((31, 1), 6e-10)

    def drown(record):
        record.arrays[f"certificate/{protocol}/delta_error"] = np.ones((31, 1))

    _changed(store, experiment.trials[0], blur, protocols=(protocol,))
    _changed(store, experiment.trials[1], drown, protocols=(protocol,))
    first, second = (row for _, row in tables.agreement(experiment, store).iterrows())
    record = store.read(experiment.trials[0].key)
    p, a = record.arrays["predicted/exact"][:, 0], record.arrays[f"actual/{protocol}"][:, 0].copy()
    if protocol == "stationary":  # a drift of further training is no error bound
        a[5] = a[4]
        assert first["ties"] == 1
        assert (second["undefined"], second["ties"]) == ("tied", 29)
        assert np.isnan(second["pearson"])
    else:
        assert first["ties"] == second["ties"] == 0
        assert second["undefined"] == ""
    assert first["spearman"] == pytest.approx(stats.spearmanr(p, a)[0])


def _at_minima(store, experiment, labels, **options):
    """Records whose seeds share a minimum where `labels` are equal."""
    for trial, label in zip(experiment.trials, labels, strict=True):

        def place(record, label=label, seed=trial.settings.seed):
            record.header["base"]["objective"] = label if label is None else 0.08 + 0.01 * label
            record.arrays["base_test"] = record.arrays["base_test"] + 1e-8 * seed

        _changed(store, trial, place, **options)
    return store


def test_seeds_at_one_minimum_are_one_observation(tmp_path):
    experiment = synthetic.experiment({}, seeds=4)
    points = {"train": "highest_loss", "test": "highest_loss"}
    found = {}
    for name, labels in {"one": [0, 0, 0, 0], "two": [0, 1, 0, 0], "apart": [None, None, 0, 1]}.items():
        store = _at_minima(Store(tmp_path, name), experiment, labels, points=points)
        found[name] = tables.cells(experiment, store).iloc[0]
    assert [found[name]["minima"] for name in found] == [1, 2, 4]  # an objective that is not finite agrees with none
    assert [found[name]["resampled"] for name in found] == ["nothing", "seeds", "seeds"]
    assert np.isnan(found["one"]["spearman_low"])
    width = {name: found[name]["spearman_high"] - found[name]["spearman_low"] for name in ("two", "apart")}
    assert width["two"] > width["apart"] > 0


def test_other_test_losses_are_another_minimum(tmp_path):
    experiment = synthetic.experiment({"data.split_seed": [0, 1]}, seeds=3)
    store = _at_minima(Store(tmp_path, "synthetic"), experiment, [0, 0, 0, 5, 5, 5])
    assert tables.cells(experiment, store)["minima"].tolist() == [1]
    with_other = experiment.trials[4]

    def lift(record):
        record.header["base"]["objective"] = 0.08 + 0.01 * 5
        record.arrays["base_test"] = record.arrays["base_test"] + 1e-5

    _changed(store, with_other, lift)
    assert tables.cells(experiment, store)["minima"].tolist() == [2]


def _near_minima(store, experiment, seeds, curvature=0.01, flags=()):
    """Warm records of networks near a minimum: of each seed the excess of J, that of the null's test loss, and ‖∇J‖."""
    for trial, (objective, loss, gradient) in zip(experiment.trials, seeds, strict=True):

        def place(record, objective=objective, loss=loss, gradient=gradient, seed=trial.settings.seed):
            base = record.header["base"]
            base |= {"objective": 0.08 + objective, "certified": False, "smallest_eigenvalue": curvature}
            base |= {"gradient_norm": gradient}
            record.arrays["base_test"] = record.arrays["base_test"] + 0.3 * seed
            record.arrays["null/warm"] = 0.1 + loss - record.arrays["base_test"]
            record.arrays["certificate/warm/delta_error"] = np.full((31, 1), 10 * gradient)
            record.header["flags"] += flags
            record.header["spec"]["training"]["polish"] = False

        _changed(store, trial, place, protocols=("warm",))
    return tables.cells(experiment, store)["minima"].tolist()


def test_networks_near_one_minimum_are_told_apart_by_more_than_their_distance_explains(tmp_path):
    experiment = synthetic.experiment({}, seeds=3)
    same = [(0.0, 0.0, 1e-6), (4e-6, 1e-2, 1e-3), (0.0, 0.0, 1e-6)]  # 1e-3² / 0.02 = 5e-5, twice 10 · 1e-3 = 2e-2
    assert _near_minima(Store(tmp_path, "same"), experiment, same) == [1]
    lower = [(0.0, 0.0, 1e-6), (-4e-6, 0.0, 1e-3), (0.0, 0.0, 1e-6)]  # a minimum cannot lie above a point near it
    assert _near_minima(Store(tmp_path, "lower"), experiment, lower) == [2]
    losses = [(0.0, 0.0, 1e-6), (4e-6, 3e-2, 1e-3), (0.0, 0.0, 1e-6)]
    assert _near_minima(Store(tmp_path, "losses"), experiment, losses) == [2]
    assert _near_minima(Store(tmp_path, "saddles"), experiment, same, curvature=-1e-9) == [3]
    assert _near_minima(Store(tmp_path, "none"), experiment, same, flags=["no_minimum"]) == [3]


def test_a_network_known_badly_does_not_join_two_minima(tmp_path):
    experiment = synthetic.experiment({}, seeds=3)
    found = [(4e-5, 1e-2, 1e-3), (0.0, 0.0, 1e-6), (3e-5, 1e-2, 1e-6)]
    assert _near_minima(Store(tmp_path, "synthetic"), experiment, found) == [2]


def test_a_collapsed_seed_is_no_minimum_behind_the_mean(tmp_path):
    experiment = synthetic.experiment({}, seeds=3)
    store = synthetic.filled(Store(tmp_path, "synthetic"), experiment)
    _changed(store, experiment.trials[0], lambda record: record.header["flags"].append("collapsed"))
    cell = tables.cells(experiment, store).iloc[0]
    assert (cell["seeds"], cell["minima"], cell["usable"]) == (3, 2, 2)
    for trial in experiment.trials[1:]:
        _changed(store, trial, lambda record: record.header["flags"].append("collapsed"))
    cell = tables.cells(experiment, store).iloc[0]
    assert (cell["minima"], cell["usable"], cell["total"]) == (0, 0, 3)
    assert cell[["spearman", "spearman_low", "spearman_band_low", "slope", "top_k"]].isna().all()


def test_scrambled_predictions_fall_inside_the_band_and_good_ones_above(tmp_path):
    experiment = synthetic.experiment({}, seeds=5)
    good = synthetic.filled(Store(tmp_path, "good"), experiment)
    bad = Store(tmp_path, "bad")
    order = np.random.default_rng(0).permutation(30)
    for trial in experiment.trials:
        _changed(bad, trial, lambda record: record.arrays.update(
            {"predicted/exact": record.arrays["predicted/exact"][order]}))  # fmt: skip
    good, bad = (tables.cells(experiment, store).iloc[0] for store in (good, bad))
    for metric in ("spearman", "pearson"):
        assert bad[f"{metric}_band_low"] < bad[metric] < bad[f"{metric}_band_high"] < good[metric]
    assert good["band_draws"] == 2000


def test_cells_average_over_seeds_and_rows_held_out_in_turn(tmp_path):
    experiment = synthetic.experiment({"model.depth": [1, 2], "data.test_rows": [[0], [1], [2]]}, seeds=4)
    store = Store(tmp_path, "synthetic")
    for trial in experiment.trials:
        store.write(synthetic.record(trial, tests=tuple(trial.swept["data.test_rows"])))
    evidence = Tables(experiment, store)
    cells = evidence.cells
    assert list(cells["model.depth"]) == [1, 2]
    assert "data.test_rows" not in cells
    assert (cells["trials"] == 12).all()
    assert (cells["seeds"] == 4).all()
    assert (cells["test_rows"] == 3).all()
    assert (cells["resampled"] == "seeds, tests, rows").all()
    means = evidence.agreement.groupby("model.depth")["spearman"].mean()
    np.testing.assert_allclose(cells["spearman"], means)
    for depth, part in evidence.agreement.groupby("model.depth"):
        ends = part.groupby("test_row")["spearman"].mean().quantile([0.05, 0.95])
        cell = cells[cells["model.depth"] == depth].iloc[0]
        assert [cell["spearman_test_rows_low"], cell["spearman_test_rows_high"]] == pytest.approx(list(ends))
    assert ((cells["spearman_low"] < cells["spearman"]) & (cells["spearman"] < cells["spearman_high"])).all()


@pytest.mark.parametrize(
    ("points", "resampled"),
    [
        ({"train": "all", "test": "all"}, "seeds, tests, rows"),
        ({"train": "random", "test": {"rows": [3, 7]}}, "seeds, rows"),
        ({"train": "highest_loss", "test": "highest_loss"}, "seeds"),
    ],
)
def test_only_what_is_sampled_is_resampled(tmp_path, points, resampled):
    experiment = synthetic.experiment({}, seeds=3)
    store = synthetic.filled(Store(tmp_path, "synthetic"), experiment, tests=(3, 7), points=points)
    assert list(tables.cells(experiment, store)["resampled"]) == [resampled]


def test_one_seed_and_chosen_rows_have_no_interval(tmp_path):
    experiment = synthetic.experiment({}, seeds=1)
    points = {"train": "highest_loss", "test": "highest_loss"}
    store = synthetic.filled(Store(tmp_path, "synthetic"), experiment, points=points)
    cell = tables.cells(experiment, store).iloc[0]
    assert np.isfinite(cell["spearman"])
    assert cell[["spearman_low", "pearson_high"]].isna().all()
    assert cell["resampled"] == "nothing"
    assert "No interval" in headline(experiment, store)


def test_an_interval_does_not_depend_on_the_other_cells(tmp_path):
    experiment = synthetic.experiment()
    store = synthetic.filled(Store(tmp_path, "synthetic"), experiment)
    alone = replace(experiment, trials=experiment.trials[3:])
    whole = tables.cells(experiment, store).iloc[1:].reset_index(drop=True)
    pd.testing.assert_frame_equal(whole, tables.cells(alone, store))


def test_missing_and_damaged_records_are_left_out_and_counted(tmp_path):
    experiment = synthetic.experiment()
    store = synthetic.filled(Store(tmp_path, "synthetic"), experiment)
    store.record_path(experiment.trials[0].key).write_bytes(b"?")
    store.record_path(experiment.trials[1].key).unlink()
    assert set(tables.pairs(experiment, store)["trial"]) == {trial.key for trial in experiment.trials[2:]}
    assert "4 of 6 trials, damaged records left out: 1" in headline(experiment, store)


def test_nothing_done_yet_gives_empty_tables(tmp_path):
    experiment, store = synthetic.experiment(), Store(tmp_path, "synthetic")
    evidence = Tables(experiment, store)
    assert list(evidence.pairs.columns) == PAIRS
    assert all(table.empty for table in (evidence.pairs, evidence.trials, evidence.agreement, evidence.cells))
    assert "0 of 6 trials" in headline(experiment, store)


def test_the_primary_metric_comes_first(tmp_path):
    experiment = synthetic.experiment(seeds=1, primary="pearson")
    store = synthetic.filled(Store(tmp_path, "synthetic"), experiment)
    columns = list(tables.cells(experiment, store).columns)
    text = headline(experiment, store)
    assert columns.index("pearson") < columns.index("spearman")
    assert text.index("pearson") < text.index("spearman")


def test_export_writes_what_it_is_told_or_says_why_not(tmp_path):
    experiment = synthetic.experiment()
    store = synthetic.filled(Store(tmp_path, "synthetic"), experiment)
    pairs = tables.pairs(experiment, store)
    for suffix, read in ((".parquet", pd.read_parquet), (".csv", pd.read_csv)):
        back = read(export(Tables(experiment, store), tmp_path / f"pairs{suffix}"))
        back["flag"] = back["flag"].astype("str").fillna("")  # CSV cannot tell an empty text from none
        pd.testing.assert_frame_equal(back, pairs, check_dtype=False)
    trials = pd.read_csv(export(Tables(experiment, store), tmp_path / "trials.csv", "trials"))
    assert len(trials) == 6
    assert {"max_delta_error", "sd_actual", "delta_error_ratio"} <= set(trials.columns)
    for out, table in ((tmp_path / "pairs.xlsx", "pairs"), (tmp_path / "no" / "a.csv", "pairs"), ("a.csv", "cells")):
        with pytest.raises(StudyError):
            export(Tables(experiment, store), out, table)


def test_reading_changes_no_evidence_and_tables_rebuild_alike(tmp_path):
    experiment = synthetic.experiment()
    store = synthetic.filled(Store(tmp_path, "synthetic"), experiment)
    before = {path: path.read_bytes() for path in (store.folder / "records").iterdir()}
    written = {path: path.read_bytes() for path in tables.write(experiment, store)}
    names = ["trials", "estimates", "agreement", "cells", "verdicts", "reliability"]
    assert [path.name for path in written] == [f"{name}.csv" for name in names]
    assert {path: path.read_bytes() for path in tables.write(experiment, store)} == written
    assert {path: path.read_bytes() for path in (store.folder / "records").iterdir()} == before


SPEC = """
name = "small"
[data]
name = "iris"
test_rows = [83]
[model]
kind = "mlp"
[points]
test = {{ rows = [83] }}
[[estimators]]
kind = "exact"
[[protocols]]
kind = "stationary"
[[sweep]]
"model.depth" = [1, 2]
"points.train" = ["all"]
seed = {{ first = 0, count = 2 }}
"""


def test_a_real_experiment_fits(tmp_path):
    (tmp_path / "small.toml").write_text(SPEC.format())
    experiment = real_trials.load(tmp_path / "small.toml")
    store = Store(tmp_path / "results", experiment.name)
    for trial in experiment.trials:
        record = synthetic.record(trial)
        record.header["spec"] = trial.settings.model_dump(mode="json")
        store.write(record)
    evidence = Tables(experiment, store)
    assert list(evidence.pairs.columns)[3:5] == experiment.swept_paths
    assert list(evidence.cells["model.depth"]) == [1, 2]
    assert (evidence.cells["resampled"] == "seeds, rows").all()


BLOCKED = """
import sys
sys.modules["torch"] = None
from study.evidence import figures, tables
from study.evidence.tables import export
from study.evidence.report import headline
from study.evidence.store import Store
from tests import synthetic
experiment = synthetic.experiment(seeds=2)
store = synthetic.filled(Store(sys.argv[1], "synthetic"), experiment)
tables.write(experiment, store), figures.write(experiment, store), headline.headline(experiment, store)
"""


def test_evidence_needs_no_torch(tmp_path):
    command = [sys.executable, "-c", BLOCKED, str(tmp_path)]
    subprocess.run(command, check=True, cwd=Path(__file__).parent.parent)


def test_estimates_say_how_predictions_were_obtained_and_the_worst_of_every_cell(tmp_path):
    experiment = synthetic.experiment({"model.depth": [1, 2]}, seeds=2)
    store = Store(tmp_path, "synthetic")
    for place, trial in enumerate(experiment.trials):
        record = synthetic.record(trial, estimators=("exact", "lissa"))
        record.header["estimators"]["exact"] |= {"residual": 1e-12 * place, "damping": 0.0}
        own = {"kind": "lissa", "flags": ["diverged_recursion"] * (place == 3), "growth": 0.5 + place,
               "captured_gradient": 0.1 * place, "norms": [1.0, 2.0], "distance_from_exact": 0.25}  # fmt: skip
        record.header["estimators"]["lissa"] = own
        store.write(record)
    evidence = Tables(experiment, store)
    table = evidence.estimates
    assert list(table["estimator"]) == ["exact", "lissa"] * 4
    assert "norms" not in table
    assert list(table.columns[3:9]) == ["model.depth", "estimator", "estimator_kind", "flags", "damping", "residual"]
    assert list(table["growth"].dropna()) == [0.5, 1.5, 2.5, 3.5]
    worst = estimates.worst(table, ["model.depth"]).set_index(["model.depth", "estimator"])
    assert worst.loc[(2, "exact"), "residual"] == 3e-12
    assert worst.loc[(2, "lissa"), ["trials", "flagged", "growth"]].tolist() == [2, 1, 3.5]
    assert worst.loc[(2, "lissa"), "captured_gradient"] == pytest.approx(0.2)
    table.loc[table["growth"] == 2.5, "growth"] = math.nan  # nothing is known of the worst
    again = estimates.worst(table, ["model.depth"]).set_index(["model.depth", "estimator"])
    assert math.isnan(again.loc[(2, "lissa"), "growth"])
    assert again.loc[(1, "lissa"), "growth"] == 1.5
    assert math.isnan(worst.loc[(1, "exact"), "growth"])
    written = evidence.write(tmp_path / "tables")
    assert "estimates.csv" in {path.name for path in written}
