"""The permutation band against a slow loop and against scrambled rows."""

import numpy as np
import pytest

from study.evidence.statistics import metrics
from study.evidence.statistics.agreement import pearson, spearman
from study.evidence.statistics.permutation import bands, permuted_sums


def test_the_band_is_that_of_the_slow_loop():
    generator = np.random.default_rng(0)
    predicted, actual = generator.normal(size=(2, 5, 20)).round(1)
    found = bands(metrics.compared(predicted, actual), np.ones(5, dtype=bool), np.random.default_rng(1), draws=200)
    orders = np.random.default_rng(1).permuted(np.broadcast_to(np.arange(20), (200, 20)), axis=1)
    for name, function in (("pearson", pearson), ("spearman", spearman)):
        means = [function(predicted[:, order], actual).mean() for order in orders]
        assert found[name] == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])), abs=1e-12)


def test_blocks_of_columns_change_nothing(monkeypatch):
    generator = np.random.default_rng(2)
    a, b = generator.normal(size=(2, 3, 11))
    orders = generator.permuted(np.broadcast_to(np.arange(11), (6, 11)), axis=1)
    expected = [(a[:, order] * b).sum() for order in orders]
    monkeypatch.setattr("study.evidence.statistics.permutation.BLOCK", 40)
    assert permuted_sums(a, b, orders) == pytest.approx(expected)


def test_many_seeds_with_one_ranking_are_no_more_than_one():
    predicted, actual = np.random.default_rng(3).normal(size=(2, 1, 25))
    one, many = (
        bands(metrics.compared(predicted.repeat(k, 0), actual.repeat(k, 0)), np.ones(k, bool), np.random.default_rng(4))
        for k in (1, 30)
    )
    assert many["spearman"] == pytest.approx(one["spearman"], abs=1e-12)
    assert one["spearman"][1] == pytest.approx(1.96 / np.sqrt(24), abs=0.03)


@pytest.mark.parametrize("missing", [0.0, 0.5])
def test_scrambled_rows_fall_inside_as_often_as_they_should(missing):
    generator = np.random.default_rng(5)
    inside = np.zeros(2)
    for _ in range(300):
        predicted, actual = generator.normal(size=(2, 8, 40)) + generator.normal(size=(2, 1, 40))
        predicted[generator.random(predicted.shape) < missing] = np.nan
        values = metrics.compared(predicted, actual)
        found = metrics.measured(values)
        ends = bands(values, np.ones(8, dtype=bool), generator, draws=200)
        inside += [low <= found[name].mean() <= high for name, (low, high) in ends.items()]
    assert (np.abs(inside / 300 - 0.95) < 0.04).all(), inside / 300


def test_without_a_usable_comparison_there_is_no_band():
    values = metrics.compared(np.ones((2, 9)), np.ones((2, 9)))
    assert np.isnan(list(bands(values, np.zeros(2, bool), np.random.default_rng(0)).values())).all()
