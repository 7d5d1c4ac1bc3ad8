"""Correlations against SciPy, the bootstrap against a slow loop and against simulated truth."""

import numpy as np
import pytest
from scipy import stats

from study.evidence.agreement import pearson, spearman
from study.evidence.bootstrap import METRICS, Sampled, counted_pearson, counted_spearman, crossed_bootstrap


def test_correlations_are_scipys_with_sign_and_ties():
    generator = np.random.default_rng(0)
    a = generator.integers(0, 6, size=(4, 5, 20)).astype(float)
    b = -a + generator.normal(size=a.shape).round()
    for index in np.ndindex(4, 5):
        assert pearson(a, b)[index] == pytest.approx(stats.pearsonr(a[index], b[index])[0], abs=1e-13)
        assert spearman(a, b)[index] == pytest.approx(stats.spearmanr(a[index], b[index])[0], abs=1e-13)
    assert (spearman(a, b) < 0).all()


def test_only_the_rows_that_count_matter():
    generator = np.random.default_rng(1)
    a, b = generator.normal(size=(2, 30))
    where = generator.random(30) < 0.5
    spoiled = np.where(where, a, np.nan)
    for function in (pearson, spearman):
        assert function(spoiled, b, where) == pytest.approx(function(a[where], b[where]), abs=1e-14)


@pytest.mark.parametrize("scale", [1.0, 1e-160, 1e160])
def test_scale_does_not_matter(scale):
    a, b = np.random.default_rng(2).normal(size=(2, 10))
    assert pearson(a * scale, b) == pytest.approx(pearson(a, b), abs=1e-12)


@pytest.mark.parametrize(
    "bad",
    [
        np.full(10, 0.1),
        np.zeros(10),
        0.1 + 1e-17 * np.arange(10),
        np.array([0.3, np.nextafter(0.3, 1)] * 5),  # rounding, not variance
        np.array([np.nan, *range(9)]),
        np.array([np.inf, *range(9)]),
    ],
)
def test_undefined_is_nan(bad):
    good = np.random.default_rng(3).normal(size=10)
    for function in (pearson, spearman):
        assert np.isnan(function(bad, good))
        assert np.isnan(function(good, bad))


def test_fewer_than_three_rows_are_undefined():
    for function in (pearson, spearman):
        assert np.isnan(function(np.arange(2.0), np.arange(2.0)))
        assert np.isnan(function(np.empty((1, 0)), np.empty((1, 0)))).all()
        assert function(np.arange(3.0), np.arange(3.0)) == pytest.approx(1.0)


def test_counted_correlations_are_those_of_the_repeated_rows():
    generator = np.random.default_rng(4)
    a = generator.integers(0, 8, size=12).astype(float)
    b = a + generator.normal(size=12).round(1)
    counts = generator.multinomial(12, np.full(12, 1 / 12), size=40).T.astype(float)
    for draw in range(40):
        rows = np.repeat(np.arange(12), counts[:, draw].astype(int))
        assert counted_pearson(a, b, counts)[draw] == pytest.approx(pearson(a[rows], b[rows]), abs=1e-10)
        assert counted_spearman(a, b, counts)[draw] == pytest.approx(spearman(a[rows], b[rows]), abs=1e-5)


def test_a_draw_of_one_row_is_undefined():
    a, b = np.random.default_rng(5).normal(size=(2, 6))
    counts = np.zeros((6, 1))
    counts[2] = 6
    assert np.isnan(counted_pearson(a, b, counts)).all()
    assert np.isnan(counted_spearman(a, b, counts)).all()


def _slow_interval(predicted, actual, seeds, tests, sampled, generator, draws):
    """The same draws, one comparison at a time."""
    by_seed = generator.multinomial(3, np.full(3, 1 / 3), size=draws)
    by_test = generator.multinomial(2, np.full(2, 1 / 2), size=draws) if sampled.tests else np.ones((draws, 2), int)
    rows = predicted.shape[1]
    by_row = generator.multinomial(rows, np.full(rows, 1 / rows), size=draws) if sampled.rows else None
    means = []
    for draw in range(draws):
        values = []
        for k in range(len(predicted)):
            chosen = np.arange(rows) if by_row is None else np.repeat(np.arange(rows), by_row[draw])
            a, b = predicted[k, chosen], actual[k, chosen]
            used = np.isfinite(a) & np.isfinite(b)
            values += [spearman(a[used], b[used])] * int(by_seed[draw, seeds[k]] * by_test[draw, tests[k]])
        means.append(np.nanmean(values) if np.isfinite(values).any() else np.nan)
    return np.nanpercentile(means, [2.5, 97.5])


@pytest.mark.parametrize("axes", [(True, True, True), (True, False, False), (True, True, False)])
def test_the_bootstrap_is_the_slow_loop(axes):
    sampled = Sampled(*axes)
    generator = np.random.default_rng(6)
    actual = generator.normal(size=(6, 15))
    predicted = actual + generator.normal(size=(6, 15))
    predicted[generator.random((6, 15)) < 0.2] = np.nan
    predicted[4] = np.nan  # an undefined comparison is drawn, but counts in no mean
    seeds, tests = np.repeat(np.arange(3), 2), np.tile(np.arange(2), 3)
    arguments = (predicted, actual, seeds, tests, sampled)
    fast = crossed_bootstrap(*arguments, np.random.default_rng(7), draws=60)["spearman"]
    slow = _slow_interval(*arguments, np.random.default_rng(7), draws=60)
    np.testing.assert_allclose(fast, slow, atol=1e-6)


def test_an_interval_of_nothing_resampled_is_undefined():
    a, b = np.random.default_rng(8).normal(size=(2, 1, 25))
    one = np.zeros(1, dtype=int)
    ends = crossed_bootstrap(a, b, one, one, Sampled(True, True, False), np.random.default_rng(0))
    assert np.isnan(list(ends.values())).all()


def test_the_generator_alone_decides():
    a, b = np.random.default_rng(9).normal(size=(2, 4, 20))
    arguments = (a, b, np.arange(4), np.zeros(4), Sampled(True, False, True))
    first, again, other = (crossed_bootstrap(*arguments, np.random.default_rng(seed), 100) for seed in (1, 1, 2))
    assert first == again != other


def test_intervals_cover_the_mean_correlation():
    """20 seeds sharing 30 sampled rows: seeds differ in noise, rows in effect. 300 simulations, standard error 1.3%."""
    generator = np.random.default_rng(10)

    def simulated():
        actual = generator.standard_t(4, size=30) + 0.3 * generator.normal(size=(20, 30))
        noise = np.exp(0.4 * generator.normal(size=(20, 1)))
        return actual + noise * generator.normal(size=actual.shape), actual

    truth = np.mean([[f(*simulated()).mean() for f in (pearson, spearman)] for _ in range(3000)], axis=0)
    covered = np.zeros(2)
    for _ in range(300):
        arguments = (*simulated(), np.arange(20), np.zeros(20), Sampled(True, False, True), generator)
        ends = crossed_bootstrap(*arguments, draws=200)
        covered += [ends[name][0] <= value <= ends[name][1] for name, value in zip(METRICS, truth, strict=True)]
    assert (np.abs(covered / 300 - 0.9475) < 0.0475).all(), covered / 300
