"""Correlations against SciPy."""

import numpy as np
import pytest
from scipy import stats

from study.evidence.statistics.agreement import pearson, spearman


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
