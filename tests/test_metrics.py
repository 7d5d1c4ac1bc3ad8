"""Every metric of agreement against SciPy, NumPy and slow loops."""

import itertools

import numpy as np
import pytest
from scipy import stats

from study.evidence.statistics import metrics, ties
from study.evidence.statistics.kendall import inversions


def _pairs(seed=0, shape=(6, 20), missing=0.0):
    generator = np.random.default_rng(seed)
    predicted = generator.integers(-4, 5, size=shape).astype(float)
    actual = 0.7 * predicted + generator.normal(size=shape).round(1)
    predicted[generator.random(shape) < missing] = np.nan
    return predicted, actual


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_metrics_are_those_of_scipy_and_numpy_row_by_row(missing):
    predicted, actual = _pairs(missing=missing)
    found = metrics.measured(metrics.compared(predicted, actual))
    for k in range(len(predicted)):
        used = np.isfinite(predicted[k])
        p, a = predicted[k, used], actual[k, used]
        slope, intercept = np.polyfit(p, a, 1)
        expected = {
            "pearson": stats.pearsonr(p, a)[0],
            "spearman": stats.spearmanr(p, a)[0],
            "kendall": stats.kendalltau(p, a)[0],
            "slope": slope,
            "intercept": intercept,
            "ratio": np.median(a[p != 0] / p[p != 0]),
            "sign_agreement": np.mean(np.where((p == 0) | (a == 0), 0.5, np.sign(p) == np.sign(a))),
            "mean_absolute_error": np.abs(p - a).mean(),
        }
        assert {name: found[name][k] for name in expected} == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("rows", [1, 2, 3, 17, 64, 100])
def test_inversions_are_counted(rows):
    values = np.random.default_rng(rows).integers(0, 12, size=(5, rows))
    expected = [sum(a > b for a, b in itertools.combinations(row, 2)) for row in values.tolist()]
    assert inversions(values).tolist() == expected


def test_kendall_is_scipys_without_ties_and_with_many_rows():
    a, b = np.random.default_rng(1).normal(size=(2, 3, 501))
    found = metrics.measured(metrics.compared(a, a + b))["kendall"]
    assert found == pytest.approx([stats.kendalltau(x, x + y)[0] for x, y in zip(a, b, strict=True)], abs=1e-13)


def test_top_k_counts_shared_rows_of_largest_size_whatever_their_sign():
    predicted, actual = np.random.default_rng(2).normal(size=(2, 4, 60))
    predicted[:, 50:], where = np.nan, np.arange(60) < 50
    found = metrics.top_k_overlap(predicted, actual, np.broadcast_to(where, (4, 60)))
    for k in range(4):
        top = [set(np.argsort(-np.abs(values[k, :50]))[:10]) for values in (predicted, actual)]
        assert found[k] == len(top[0] & top[1]) / 10
    assert metrics.top_k(np.array([3, 25, 49, 149])).tolist() == [1, 5, 9, 10]


def test_top_k_shares_the_last_places_among_tied_rows():
    predicted = np.array([[3.0, 1.0, -1.0, 1.0, 1.0, 0, 0, 0, 0, 0]])  # k = 2: one place for four
    actual = np.array([[9.0, 8.0, 0, 0, 0, 0, 0, 0, 0, 0]])
    where = np.ones((1, 10), dtype=bool)
    assert metrics.top_k_overlap(predicted, actual, where) == pytest.approx((1 + 0.25) / 2)
    assert metrics.top_k_overlap(np.ones((1, 10)), np.ones((1, 10)), where) == pytest.approx(0.2)  # chance


def _slow_places(values, errors):
    """Chains by comparing every pair until nothing changes."""
    group = list(range(len(values)))
    for i, j in list(itertools.combinations(range(len(values)), 2)) * len(values):
        if values[i] == values[j] or abs(values[i] - values[j]) < errors[i] + errors[j]:
            group[i] = group[j] = min(group[i], group[j])
    means = {g: np.mean([v for v, own in zip(values, group, strict=True) if own == g]) for g in set(group)}
    order = sorted(means, key=means.get)
    return [order.index(g) for g in group]


def test_values_closer_than_their_errors_tie_through_chains():
    generator = np.random.default_rng(3)
    for _ in range(40):
        values = generator.normal(size=12).round(1)
        errors = generator.exponential(0.06, size=12) * generator.integers(0, 2, size=12)
        where = np.ones(12, dtype=bool)
        assert ties.merged(values, errors, where).tolist() == _slow_places(values, errors)


def test_ties_by_certificate_change_ranks_and_nothing_else():
    predicted = np.array([[1.0, 2.0, 3.0, 4.0, 5.0]])
    actual = np.array([[1.0, 2.0 + 1e-9, 2.0, 4.0, 5.0]])
    plain = metrics.measured(metrics.compared(predicted, actual))
    tied = metrics.measured(metrics.compared(predicted, actual, np.full((1, 5), 1e-9)))
    assert plain["spearman"] == pytest.approx(0.9)
    assert tied["spearman"] == pytest.approx(stats.spearmanr(predicted[0], [1, 2, 2, 4, 5])[0])
    assert tied["kendall"] == pytest.approx(stats.kendalltau(predicted[0], [1, 2, 2, 4, 5])[0])
    assert tied["pearson"] == plain["pearson"]


def test_a_comparison_tied_throughout_is_undefined():
    predicted, actual = np.random.default_rng(4).normal(size=(2, 1, 9))
    found = metrics.measured(metrics.compared(predicted, actual, np.full((1, 9), 10.0)))
    assert np.isnan(list(found.values())).all()


def test_a_sign_that_is_not_known_counts_one_half():
    predicted, actual = np.array([1.0, 1.0, 0.0, -1.0, np.nan]), np.array([2.0, 1e-9, 5.0, 1.0, 1.0])
    np.testing.assert_array_equal(ties.sign_scores(predicted, actual, 1e-8), [1, 0.5, 0.5, 0, np.nan])


def test_the_median_ratio_is_not_moved_by_few_rows_and_leaves_out_what_was_predicted_unchanged():
    predicted = np.array([[1.0, 2.0, -1.0, 0.0, 4.0], [0.0, 0.0, 0.0, 0.0, np.nan]])
    actual = np.array([[1.1, 2.2, -1.1, 7.0, -4e9], [1.0, 2.0, 3.0, 4.0, 5.0]])
    found = metrics.median_ratio(predicted, actual, np.isfinite(predicted))
    np.testing.assert_allclose(found, [1.1, np.nan])


def test_undefined_comparisons_are_nan_in_every_metric():
    predicted, actual = np.random.default_rng(5).normal(size=(2, 4, 8))
    predicted[0], actual[1], predicted[2, 2:] = 0.3, 0.0, np.nan
    found = metrics.measured(metrics.compared(predicted, actual))
    for values in found.values():
        assert np.isnan(values).tolist() == [True, True, True, False]


def test_no_comparison_at_all_gives_empty_metrics():
    for shape in ((0, 7), (3, 0)):
        found = metrics.measured(metrics.compared(np.empty(shape), np.empty(shape)))
        assert all(values.shape == shape[:1] and np.isnan(values).all() for values in found.values())
