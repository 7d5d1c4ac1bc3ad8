"""Reliability of a truth over replicas: against loops, closed forms and noise of known size; and as a table over records."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import stdtrit

from study.evidence import figures, report
from study.evidence.figures import reliabilities, style
from study.evidence.figures.material import Material
from study.evidence.report import cite, reliability_table
from study.evidence.statistics import jackknife, reliability
from study.evidence.statistics.bootstrap import SEED, Sampled
from study.evidence.store import Store
from study.evidence.tables import Tables
from tests import synthetic, test_figures

ROWS_TOO = Sampled(seeds=False, tests=False, rows=True)
REPLICAS_ONLY = Sampled(seeds=False, tests=False, rows=False)


def measured(replicas=8, rows=60, noise=1.0, tests=1, seed=0):
    """[T, K, R]: effects of variance one over rows, noise of each replica, and what a whole replica adds."""
    generator = np.random.default_rng(seed)
    effect = generator.normal(size=(tests, 1, rows))
    shift = generator.normal(size=(tests, replicas, 1))
    return effect + noise * generator.normal(size=(tests, replicas, rows)) + shift


def everywhere(values):
    return np.ones((len(values), values.shape[2]), dtype=bool)


def halved(values, where=None, seed=0):
    split = reliability.halves(values.shape[1], np.random.default_rng(seed))
    return reliability.half_reliability(values, everywhere(values) if where is None else where, split), split


def group(values, where=None):
    where = everywhere(values) if where is None else where
    replicas, rows, tests = np.arange(values.shape[1]), np.arange(values.shape[2]), np.arange(len(values))
    return jackknife.Group(jackknife.left_out(values, where), replicas, rows, where.any(axis=0), tests, tests)


@pytest.mark.parametrize("replicas", [4, 7, 8])
def test_half_reliability_is_the_mean_correlation_of_disjoint_halves(replicas):
    values, generator = measured(replicas, tests=2), np.random.default_rng(1)
    where = generator.random((2, 60)) < 0.7
    found, split = halved(values, where)
    assert len(split.first) == reliability.SPLITS
    for t, counted in enumerate(where):
        correlations = []
        for first, second in zip(split.first, split.second, strict=True):
            one, two = np.flatnonzero(first), np.flatnonzero(second)
            assert len(one) == len(two) == replicas // 2
            assert not set(one) & set(two)
            own = values[t][:, counted]
            correlations.append(np.corrcoef(own[one].mean(axis=0), own[two].mean(axis=0))[0, 1])
        assert found[t] == pytest.approx(np.mean(correlations), abs=1e-12)


def test_predictions_and_truth_come_from_disjoint_halves():
    actual, predicted = measured(6), measured(6, noise=0.3, seed=3)
    split = reliability.halves(6, np.random.default_rng(0))
    found = reliability.half_pearson(predicted, actual, everywhere(actual), split)
    pairs = [
        np.corrcoef(predicted[0][a > 0].mean(axis=0), actual[0][b > 0].mean(axis=0))[0, 1]
        for first, second in zip(split.first, split.second, strict=True)
        for a, b in ((first, second), (second, first))
    ]
    assert found[0] == pytest.approx(np.mean(pairs), abs=1e-12)


@pytest.mark.parametrize(("replicas", "noise"), [(4, 1.0), (5, 2.0), (10, 3.0), (20, 0.2), (20, 6.0)])
def test_noise_of_known_size_is_recovered(replicas, noise):
    values = measured(replicas, rows=20_000, noise=noise)
    half, split = halved(values)
    assert half[0] == pytest.approx(1 / (1 + noise**2 / split.size), abs=0.02)
    assert reliability.lengthened(half, replicas / split.size)[0] == pytest.approx(
        replicas / (replicas + noise**2), abs=0.02
    )


def test_the_mean_of_many_replicas_correlates_with_the_effect_at_the_ceiling_and_is_corrected_to_one():
    generator = np.random.default_rng(5)
    effect = generator.normal(size=20_000)
    values = (effect + 3 * generator.normal(size=(10, 20_000)))[None]
    half, split = halved(values)
    whole = float(reliability.lengthened(half, 10 / split.size)[0])
    top = reliability.ceiling(whole)
    assert np.corrcoef(effect, values[0].mean(axis=0))[0, 1] == pytest.approx(top, abs=0.01)
    predicted = np.broadcast_to(effect, values.shape)
    r = float(reliability.half_pearson(predicted, values, everywhere(values), split)[0])
    disjoint = reliability.lengthened_pearson(r, float(half[0]), 10 / split.size)
    assert disjoint == pytest.approx(top, abs=0.01)
    assert r / np.sqrt(half[0]) == pytest.approx(disjoint / top)  # by either length the same
    assert disjoint / top == pytest.approx(1, abs=0.01)


def test_a_perfect_truth_has_reliability_one():
    values = np.repeat(np.random.default_rng(0).normal(size=(1, 1, 30)), 6, axis=1)
    half, split = halved(values)
    whole = float(reliability.lengthened(half, 6 / split.size)[0])
    assert whole == pytest.approx(1, abs=1e-12)
    assert jackknife.interval(whole, [group(values)], ROWS_TOO) == pytest.approx((1, 1), abs=1e-9)
    assert reliability.share_above_noise(values, everywhere(values)) == 1


def test_pure_noise_has_reliability_zero_within_its_interval():
    generator, inside = np.random.default_rng(2), 0
    estimates = []
    for _ in range(100):
        values = generator.normal(size=(1, 10, 50))
        half, split = halved(values)
        estimates.append(float(reliability.lengthened(half, 10 / split.size)[0]))
        low, high = jackknife.interval(estimates[-1], [group(values)], ROWS_TOO)
        assert low <= estimates[-1] <= high
        inside += low <= 0 <= high
    assert abs(np.mean(estimates)) < 0.1
    assert 92 <= inside <= 99
    assert np.isnan(reliability.ceiling(-0.2))
    assert np.isnan(reliability.ceiling(0.0))


def test_what_a_replica_adds_to_all_rows_and_the_unit_change_nothing():
    values = measured(6)
    shifted = 1e-180 * (values + np.arange(6)[:, None])
    np.testing.assert_allclose(halved(shifted)[0], halved(values)[0], rtol=1e-9)
    found, same = jackknife.left_out(shifted, everywhere(values)), jackknife.left_out(values, everywhere(values))
    np.testing.assert_allclose(found.both, same.both, rtol=1e-7)


def test_too_few_rows_or_none_that_vary_have_no_reliability():
    values = measured(6, rows=10)
    where = np.zeros((1, 10), dtype=bool)
    where[0, :2] = True
    assert np.isnan(halved(values, where)[0])
    assert np.isnan(halved(np.full((1, 6, 10), 0.3))[0])


def test_standard_errors_and_the_share_above_them_by_hand():
    values = np.array([[[1.0, 0.0, 0.0], [1.2, 0.1, 0.0], [0.8, -0.1, 0.0], [1.0, 0.3, 0.0]]])
    errors = reliability.standard_errors(values)
    np.testing.assert_allclose(errors[0, 0], np.sqrt((0.2**2 + 0.2**2) / 3 / 4))
    # 1 is 12 errors from zero, 0.075 less than one, and no error at all is not exceeded by nothing
    np.testing.assert_allclose(reliability.share_above_noise(values, everywhere(values)), 1 / 3)
    where = np.array([[True, False, False]])
    np.testing.assert_allclose(reliability.share_above_noise(values, where), 1)
    np.testing.assert_allclose(reliability.root_mean_square(errors, where), errors[0, 0])


def test_a_mean_over_replicas_of_nothing_but_noise_exceeds_1_96_errors_as_often_as_said():
    values = np.random.default_rng(0).normal(size=(1, 5, 40_000))
    assert reliability.share_above_noise(values, everywhere(values))[0] == pytest.approx(0.12, abs=0.01)
    values = np.random.default_rng(0).normal(size=(1, 4, 40_000))
    assert reliability.share_above_noise(values, everywhere(values))[0] == pytest.approx(0.15, abs=0.01)


def by_variance(values, times):
    """ρ_h from the two-way analysis of variance of [K, R], without a thought for speed."""
    replicas, rows = values.shape
    of_rows, of_replicas = values.mean(axis=0), values.mean(axis=1, keepdims=True)
    between = replicas * ((of_rows - values.mean()) ** 2).sum() / (rows - 1)
    within = ((values - of_rows - of_replicas + values.mean()) ** 2).sum() / ((rows - 1) * (replicas - 1))
    return (between / within - 1) / (between / within - 1 + times)


@pytest.mark.parametrize("replicas", [5, 8])
def test_leaving_out_equals_computing_anew(replicas):
    values, where = measured(replicas, rows=12, tests=2), np.ones((2, 12), dtype=bool)
    where[1, [3, 7]] = False
    found = jackknife.left_out(values, where)
    for t in range(2):
        own = values[t][:, where[t]]
        assert found.whole[t] == pytest.approx(by_variance(own, found.times))
        for k in range(replicas):
            assert found.replica[t, k] == pytest.approx(by_variance(np.delete(own, k, axis=0), found.times))
        for place, i in enumerate(np.flatnonzero(where[t])):
            less = np.delete(own, place, axis=1)
            assert found.row[t, i] == pytest.approx(by_variance(less, found.times))
            for k in range(replicas):
                assert found.both[t, i, k] == pytest.approx(by_variance(np.delete(less, k, axis=0), found.times))
    np.testing.assert_allclose(found.row[1, [3, 7]], found.whole[1])
    np.testing.assert_allclose(found.both[1, [3, 7]], np.tile(found.replica[1], (2, 1)))


def test_analysis_of_variance_and_splits_agree():
    for noise in (0.3, 1.0, 3.0):
        values = measured(20, rows=400, noise=noise)
        assert jackknife.left_out(values, everywhere(values)).whole[0] == pytest.approx(halved(values)[0][0], abs=3e-3)


@pytest.mark.parametrize("sampled", [ROWS_TOO, REPLICAS_ONLY])
def test_the_interval_is_students_on_the_scale_of_the_logarithm_of_f(sampled):
    values = measured(8, rows=25)
    found = group(values).found

    def spread(halves):
        z = 2 * np.arctanh(np.asarray(halves))  # log F, for halves of an even number
        return (len(z) - 1) / len(z) * ((z - z.mean()) ** 2).sum()

    v, freedom = [spread(found.replica[0])], [7]
    if sampled.rows:
        z = 2 * np.arctanh(found.both[0])
        d = z - z.mean(axis=0) - z.mean(axis=1, keepdims=True) + z.mean()
        v = [max(v[0] - 24 / 25 * 7 / 8 * (d**2).sum(), 0.0), spread(found.row[0])]
        freedom.append(24)
    degrees = sum(v) ** 2 / sum(one**2 / f for one, f in zip(v, freedom, strict=True))
    reach = stdtrit(degrees, 0.975) * np.sqrt(sum(v))
    whole = 2 * found.whole[0] / (1 + found.whole[0])
    expected = [1 - (1 - whole) * np.exp(side * reach) for side in (1, -1)]
    assert jackknife.interval(whole, [group(values)], sampled) == pytest.approx(expected)
    assert jackknife.interval(-9.0, [group(values)], sampled) == pytest.approx((-9.0, expected[1]))


def test_one_replica_that_holds_the_noise_leaves_all_open():
    values = np.repeat(measured(1, rows=149), 6, axis=1) + 1e-4 * measured(6, rows=149, seed=1)
    values[0, 0, :3] += 5.0
    half, split = halved(values)
    whole = float(reliability.lengthened(half, 6 / split.size)[0])
    low, high = jackknife.interval(whole, [group(values)], REPLICAS_ONLY)
    assert 0.9 < whole < high
    assert low == 0


def test_the_interval_of_several_test_rows_is_that_of_their_mean():
    """Test rows apart in two groups are as the same test rows in one; more replicas or fewer interactions are not."""
    values = measured(8, rows=25, tests=4)
    whole = group(values)
    for sampled in (ROWS_TOO, REPLICAS_ONLY, Sampled(seeds=False, tests=True, rows=True)):
        parts = [
            jackknife.Group(
                jackknife.left_out(part, everywhere(part)), whole.replicas, whole.rows, whole.used, tests, tests
            )
            for part, tests in ((values[:1], np.array([0])), (values[1:], np.array([1, 2, 3])))
        ]
        assert jackknife.interval(0.8, parts, sampled) == pytest.approx(jackknife.interval(0.8, [whole], sampled))
    wide, narrow = (
        jackknife.interval(0.8, [whole], Sampled(seeds=False, tests=tests, rows=False)) for tests in (True, False)
    )
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_trials_of_their_own_retrainings_are_the_sample():
    """Each trial's replicas are its own; the spread over trials holds theirs, and few trials make a wide interval."""
    values = measured(8, rows=40, tests=3)
    groups = []
    for t, one in enumerate(values[:, None]):
        left = jackknife.left_out(one, everywhere(one))
        groups.append(
            jackknife.Group(left, np.arange(8) + 8 * t, np.arange(40), np.ones(40, bool), np.zeros(1), np.array([t]))
        )
    halves = np.array([part.found.whole[0] for part in groups])
    z = -np.log1p(-reliability.lengthened((halves.sum() - halves) / 2, 2.0))
    reach = stdtrit(2, 0.975) * np.sqrt(2 / 3 * ((z - z.mean()) ** 2).sum())
    low, high = jackknife.interval(0.8, groups, Sampled(seeds=True, tests=False, rows=False))
    noise = 1 - reliability.lengthened(halves.mean(), 2.0)
    assert (low, high) == pytest.approx((1 - noise * np.exp(reach), 1 - noise * np.exp(-reach)))


def _store(folder, experiment, change=lambda trial, record: None, **options):
    store = Store(folder, "synthetic")
    for trial in experiment.trials:
        record = synthetic.record(trial, **options)
        change(trial, record)
        store.write(record)
    return store


def _table(folder, experiment, change=lambda trial, record: None, **options):
    return Tables(experiment, _store(folder, experiment, change, **options)).reliability


def _retrained(replicas, noise, tests=1):
    """Changes of a record for a protocol `cold_seeds`: each replica measures the row's effect with noise."""

    def change(trial, record):
        generator = np.random.default_rng(int(trial.key[12:20], 16))
        actual = record.arrays["actual/cold_seeds"]
        effects = actual + noise * generator.normal(size=(replicas, *actual.shape))
        record.arrays["effects/cold_seeds"] = effects
        record.arrays["actual/cold_seeds"] = effects.mean(axis=0)
        record.arrays["standard_error/cold_seeds"] = effects.std(axis=0, ddof=1) / np.sqrt(replicas)
        record.header["protocols"]["cold_seeds"] |= {"count": replicas, "paired": True}

    return change


def by_hand(predicted, actual):
    """ρ_h, r_h and r of [K, R] from their own splits."""
    split = reliability.halves(len(actual), np.random.default_rng(SEED))
    half, cross = [], []
    for first, second in zip(split.first > 0, split.second > 0, strict=True):
        half.append(np.corrcoef(actual[first].mean(0), actual[second].mean(0))[0, 1])
        cross += [
            np.corrcoef(predicted[a].mean(0), actual[b].mean(0))[0, 1] for a, b in ((first, second), (second, first))
        ]
    return np.mean(half), np.mean(cross), np.corrcoef(predicted.mean(0), actual.mean(0))[0, 1]


def test_the_table_is_what_its_records_say(tmp_path):
    experiment = synthetic.experiment(seeds=6)
    store = _store(tmp_path, experiment, tests=(3, 7), estimators=("exact", "lissa"), protocols=("warm", "stationary"))
    table = Tables(experiment, store).reliability
    assert len(table) == 2 * 2 * 2
    for row in table.to_dict("records"):
        records = [store.read(t.key) for t in experiment.trials if t.swept["model.depth"] == row["model.depth"]]
        actual = np.stack([record.arrays[f"actual/{row['protocol']}"] for record in records])
        predicted = np.stack([record.arrays[f"predicted/{row['estimator']}"] for record in records])
        found = np.array([by_hand(predicted[..., t], actual[..., t]) for t in range(2)]).mean(axis=0)
        assert row["half_reliability"] == pytest.approx(found[0])
        assert row["reliability"] == pytest.approx(2 * found[0] / (1 + found[0]))
        assert row["ceiling"] == pytest.approx(np.sqrt(row["reliability"]))
        assert row["seed_mean_pearson"] == pytest.approx(found[2])
        assert row["disattenuated"] == pytest.approx(found[1] / np.sqrt(found[0]))
        assert row["disjoint_pearson"] == pytest.approx(row["disattenuated"] * row["ceiling"])
        assert row["reliability_low"] < row["reliability"] < row["reliability_high"]
        assert row["effect_rms"] == pytest.approx(np.sqrt((actual**2).mean(axis=(0, 1))).mean())
        assert (row["null_rms"], row["replicas"], row["replicas_from"]) == (pytest.approx(1e-4), 6, "trials")
        errors = actual.std(axis=0, ddof=1) / np.sqrt(6)
        assert row["standard_error_rms"] == pytest.approx(np.sqrt((errors**2).mean(axis=0)).mean())
        assert row["share_above_noise"] == pytest.approx((np.abs(actual.mean(0)) > 1.96 * errors).mean())
        counts = [row[name] for name in ("trials", "seeds", "test_rows", "test_rows_total", "rows", "rows_total")]
        assert counts == [6, 6, 2, 2, 30, 30]
        assert (row["undefined"], row["uncorrected"], row["resampled"]) == ("", "", "replicas, tests, rows")


def test_the_noise_of_seeds_is_recovered_from_records(tmp_path):
    """Actual changes are shared by seeds but for 0.3 of a normal, predictions have 0.5 of another beside."""
    experiment, seeds, rows = synthetic.experiment({}, seeds=40), 40, 400
    [row] = _table(tmp_path, experiment, rows=rows).to_dict("records")
    shared = np.random.default_rng(0).standard_t(3, size=(rows, 1)).var(ddof=1)
    true = shared / (shared + 0.09 / seeds)
    assert 1 - row["reliability"] == pytest.approx(1 - true, rel=0.15)
    assert row["reliability_low"] < true < row["reliability_high"]
    predictable = shared / (shared + (0.09 + 0.25) / (seeds / 2))  # of predictions averaged over half of the seeds
    assert row["disattenuated"] == pytest.approx(np.sqrt(predictable), abs=1e-3)


def test_few_seeds_leave_sizes_and_say_why_there_is_no_reliability(tmp_path):
    table = _table(tmp_path, synthetic.experiment(seeds=3))
    assert set(table["undefined"]) == {"1 too few minima"}
    assert set(table["uncorrected"]) == {"no reliability"}
    assert set(table["resampled"]) == {"nothing"}
    assert (table["replicas"] == 3).all()
    assert table["null_to_effect"].notna().all()
    assert table[["reliability", "reliability_low", "ceiling", "disattenuated"]].isna().all(axis=None)


def test_seeds_at_one_minimum_are_one_replica(tmp_path):
    """Eight seeds at four minima are four replicas, each the mean of its seeds; at three they are too few."""

    def at(minima):
        def change(trial, record):
            record.header["base"]["objective"] = 0.1 + 0.01 * (trial.settings.seed % minima)

        return change

    experiment = synthetic.experiment({}, seeds=8)
    store = _store(tmp_path / "four", experiment, at(4))
    [row] = Tables(experiment, store).reliability.to_dict("records")
    records = [store.read(trial.key).arrays for trial in experiment.trials]
    actual, predicted = (
        np.stack([(records[m][name] + records[m + 4][name])[:, 0] / 2 for m in range(4)])
        for name in ("actual/stationary", "predicted/exact")
    )
    half, cross, both = by_hand(predicted, actual)
    assert (row["replicas"], row["seeds"]) == (4, 8)
    assert row["half_reliability"] == pytest.approx(half)
    assert row["seed_mean_pearson"] == pytest.approx(both)
    assert row["disattenuated"] == pytest.approx(cross / np.sqrt(half))
    [row] = _table(tmp_path / "three", experiment, at(3)).to_dict("records")
    assert (row["replicas"], row["undefined"]) == (3, "1 too few minima")


def test_only_rows_that_all_seeds_removed_count(tmp_path):
    def other_rows(trial, record):
        first = 2 * trial.settings.seed  # rows 100 + first, …, 30 of 40
        record.arrays["removed_rows"] = np.arange(100, 140)[first : first + 30]

    experiment = synthetic.experiment({}, seeds=5)
    store = _store(tmp_path / "some", experiment, other_rows, rows=40, removed=30)
    [row] = Tables(experiment, store).reliability.to_dict("records")
    common = [
        store.read(t.key).arrays["actual/stationary"][8 - 2 * s : 30 - 2 * s, 0]
        for s, t in enumerate(experiment.trials)
    ]
    assert (row["rows"], row["rows_total"]) == (22, 30)
    assert row["half_reliability"] == pytest.approx(by_hand(np.stack(common), np.stack(common))[0])

    def far_apart(trial, record):
        record.arrays["removed_rows"] = np.arange(100, 140)[7 * trial.settings.seed :][:10]

    [row] = _table(tmp_path / "none", experiment, far_apart, rows=40, removed=10).to_dict("records")
    assert (row["rows"], row["undefined"]) == (0, "1 too few common rows")


def test_rows_that_are_not_certified_and_networks_that_collapsed_do_not_count(tmp_path):
    def spoil(trial, record):
        if trial.settings.seed == 0:
            record.header["flags"].append("collapsed")
            record.arrays["actual/stationary"][:] = 1.0
        if trial.settings.seed == 1:
            record.arrays["certificate/stationary/certified"][3] = False  # the first is the null's
            record.arrays["actual/stationary"][2] = 1.0

    [row] = _table(tmp_path, synthetic.experiment({}, seeds=6), spoil).to_dict("records")
    assert (row["replicas"], row["seeds"], row["rows"]) == (5, 5, 29)
    assert row["effect_rms"] < 0.01


def test_retrainings_within_a_trial_are_its_replicas(tmp_path):
    experiment = synthetic.experiment({}, seeds=2)
    store = _store(tmp_path, experiment, _retrained(10, 2e-3), rows=80, tests=(3, 7), protocols=("cold_seeds",))
    [row] = Tables(experiment, store).reliability.to_dict("records")
    found, errors = [], []
    for trial, t in itertools.product(experiment.trials, range(2)):
        arrays = store.read(trial.key).arrays
        half, _, _ = by_hand(arrays["effects/cold_seeds"][..., t], arrays["effects/cold_seeds"][..., t])
        r = np.corrcoef(arrays["predicted/exact"][:, t], arrays["actual/cold_seeds"][:, t])[0, 1]
        found.append((half, r))
        errors.append(np.sqrt((arrays["standard_error/cold_seeds"][:, t] ** 2).mean()))
    half, r = np.mean(found, axis=0)
    assert (row["replicas_from"], row["replicas"], row["trials"], row["test_rows"]) == ("retraining", 10, 2, 2)
    assert row["half_reliability"] == pytest.approx(half)
    assert row["standard_error_rms"] == pytest.approx(np.mean(errors))
    assert row["seed_mean_pearson"] == row["disjoint_pearson"] == pytest.approx(r)
    assert row["disattenuated"] == pytest.approx(r / np.sqrt(2 * half / (1 + half)))
    assert row["resampled"] == "seeds, tests, rows"


def test_noise_injected_into_retrainings_is_recovered(tmp_path):
    experiment, noise, rows = synthetic.experiment({}, seeds=1), 4e-3, 20_000
    seen = {}

    def change(trial, record):
        seen["variance"] = record.arrays["actual/cold_seeds"].var(ddof=1)
        _retrained(10, noise)(trial, record)

    [row] = _table(tmp_path, experiment, change, rows=rows, protocols=("cold_seeds",)).to_dict("records")
    true = seen["variance"] * 10 / (seen["variance"] * 10 + noise**2)
    assert 0.4 < true < 0.9
    assert row["reliability"] == pytest.approx(true, abs=0.02)
    assert row["reliability_low"] < true < row["reliability_high"]
    assert row["resampled"] == "replicas, rows"


def test_a_truth_of_noise_is_not_corrected(tmp_path):
    def noise(trial, record):
        generator = np.random.default_rng(int(trial.key[:8], 16))
        record.arrays["actual/stationary"][:] = 1e-3 * generator.normal(size=(30, 1))

    [row] = _table(tmp_path, synthetic.experiment({}, seeds=10), noise).to_dict("records")
    assert abs(row["reliability"]) < 0.7
    assert row["reliability_low"] < 0.1
    assert np.isnan(row["disattenuated"])
    assert np.isfinite(row["disjoint_pearson"])
    assert row["uncorrected"] == "interval below 0.1"


def test_rows_held_out_in_turn_are_test_rows_of_one_cell(tmp_path):
    axes = {"data.test_rows": [[83], [90], [7]]}
    experiment = synthetic.experiment(axes, seeds=5)

    def hold_out(trial, record):
        record.arrays["test_rows"] = np.array(trial.swept["data.test_rows"])

    def without_one(trial, record):
        hold_out(trial, record)
        if trial.settings.seed < 2 and trial.swept["data.test_rows"] == [90]:
            record.header["flags"].append("collapsed")

    [row] = _table(tmp_path / "all", experiment, hold_out).to_dict("records")
    assert (row["test_rows"], row["replicas"], row["trials"], row["undefined"]) == (3, 5, 15, "")
    [less] = _table(tmp_path / "less", experiment, without_one).to_dict("records")
    assert (less["test_rows"], less["test_rows_total"], less["trials"]) == (2, 3, 10)
    assert less["undefined"] == "1 too few minima"
    assert less["half_reliability"] != row["half_reliability"]


def test_a_cell_does_not_depend_on_the_others_and_tables_rebuild_alike(tmp_path):
    both, one = synthetic.experiment(seeds=5), synthetic.experiment({"model.depth": [1]}, seeds=5)
    store = _store(tmp_path, both)
    table = Tables(both, store).reliability
    assert table.equals(Tables(both, store).reliability)
    assert table.iloc[:1].equals(Tables(one, _store(tmp_path / "one", one)).reliability)
    assert tmp_path / "t" / "reliability.csv" in Tables(both, store).write(tmp_path / "t")


def _drawn(tmp_path, change=lambda trial, record: None, seeds=5, axes=None, **options):
    axes = {"model.depth": [1, 2, 3], "training.weight_decay": [0.005, 0.0]} if axes is None else axes
    experiment = synthetic.experiment(axes, seeds=seeds)
    material = Material(Tables(experiment, _store(tmp_path, experiment, change, **options)))
    return material, dict(figures.plan(material)).get(f"reliability_against_{next(iter(axes)).replace('.', '_')}")


@pytest.mark.filterwarnings("error::UserWarning")
def test_the_figure_shows_what_the_table_says(tmp_path):
    material, draw = _drawn(tmp_path, protocols=("warm", "stationary"))
    panels = draw().axes
    assert len(panels) == 4
    table = material.tables.reliability
    for place, protocol in enumerate(("warm", "stationary")):
        for axes, column in ((panels[place], "reliability"), (panels[2 + place], "disjoint_pearson")):
            found = [line.get_ydata() for line in axes.lines if line.get_gid() == "line"]
            assert len(found) == 2
            for values, decay in zip(found, (0.005, 0.0), strict=True):
                own = table[(table["protocol"] == protocol) & (table["training.weight_decay"] == decay)]
                np.testing.assert_allclose(values, own.sort_values("model.depth")[column])
        ceilings = [line.get_ydata() for line in panels[2 + place].lines if line.get_gid() == "ceiling"]
        own = table[(table["protocol"] == protocol) & (table["training.weight_decay"] == 0.005)]
        np.testing.assert_allclose(ceilings[0], own["ceiling"])


def test_the_figure_says_where_seeds_reached_too_few_minima_and_is_not_drawn_where_all_did(tmp_path):
    def shared(trial, record):
        if trial.swept["model.depth"] == 1:
            record.header["base"]["objective"] = 0.1

    _, draw = _drawn(tmp_path / "some", shared)
    texts = [text for text in draw().axes[0].texts if text.get_gid() == "absent"]
    assert [text.get_text() for text in texts] == ["too few minima"]
    assert texts[0].get_position()[0] == 1
    assert _drawn(tmp_path / "none", seeds=3)[1] is None


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("count", [1, 2, 7])
def test_no_text_of_the_figure_overlaps(tmp_path, count):
    kinds = ("warm", "stationary", "cold", "proximal", "pbrf", "linearised_pbrf", "identity")[:count]

    def certify(trial, record):
        for name in {"proximal", "pbrf"} & set(kinds):
            record.arrays[f"certificate/{name}/certified"] = np.ones(31, dtype=bool)

    material, _ = _drawn(tmp_path, certify, axes={"model.depth": [1, 2, 3]}, protocols=kinds)
    with style.applied():
        figure = reliabilities.reliabilities(material)
        test_figures._check_texts("reliability", figure)
    assert len(figure.axes) == 2 * min(count, reliabilities.MOST_PANELS)


def test_report_and_citation_have_the_numbers(tmp_path):
    experiment = SimpleNamespace(**vars(synthetic.experiment(seeds=5)), text="")
    tables = Tables(experiment, _store(tmp_path, experiment))
    found = reliability_table.reliability(tables)
    heads = [column.label for column in found.columns]
    assert heads[:3] == ["depth", "replicas", "rows"]
    assert {"reliability", "noise ceiling", "corrected for noise", "null / effect", "why not"} <= set(heads)
    row = tables.reliability.to_dict("records")[0]
    shown = {head: cell.text for head, cell in zip(heads, found.rows[0], strict=True)}
    assert (
        shown["reliability"]
        == f"{row['reliability']:.3f} [{row['reliability_low']:.3f}, {row['reliability_high']:.3f}]"
    )
    assert shown["corrected for noise"] == f"{row['disattenuated']:.3f}"
    assert '<section id="reliability">' in report.page(tables)
    name = r"\SyntheticAtDepthOneExactStationary"
    text = cite.numbers(tables)
    assert rf"\newcommand{{{name}Reliability}}{{{row['reliability']:.3f}}}" in text
    assert rf"\newcommand{{{name}Replicas}}{{5}}" in text
    assert f"reliability of the truth {shown['reliability']} over 5 replicas" in cite.headline(tables)
    few = Tables(experiment, _store(tmp_path / "few", synthetic.experiment(seeds=3)))
    assert "Reliability" not in cite.numbers(few)
    assert "reliability of the truth" not in cite.headline(few)
