"""Which points are looked at and which rows removed, on numbers small enough to read."""

import numpy as np
import pytest

from study.compute import points
from study.specs import Points
from tests import cases

TEST_ROWS, TEST_LOSSES = np.array([50, 7, 99, 12, 30]), np.array([0.3, 0.1, 0.9, 0.5, 0.2])
LOSSES = np.array([0.5, 0.1, 0.9, 0.3, 0.7, 0.2])
PREDICTED = np.array([[0.1, -3.0], [-0.5, 0.1], [0.3, 0.2], [-0.2, 0.0], [0.0, 1.0], [0.4, -0.3]])


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ("all", [0, 1, 2, 3, 4]),
        ("highest_loss", [2]),
        ("median_loss", [0]),
        ({"rows": [12, 50]}, [3, 0]),
        ({"quantiles": [0.0, 0.5, 1.0]}, [1, 0, 2]),
        ({"quantiles": [0.25, 0.75]}, [4, 3]),
        ({"quantiles": [1.0, 0.99]}, [2]),
    ],
)
def test_test_points(test, expected):
    assert points.test_positions(Points(test=test), TEST_ROWS, TEST_LOSSES).tolist() == expected


def test_of_an_even_number_the_lower_median_is_taken():
    for test in ("median_loss", {"quantiles": [0.5]}):
        assert points.test_positions(Points(test=test), TEST_ROWS[:4], TEST_LOSSES[:4]).tolist() == [0]


def chosen(train, count=2, test_points=2, **keys):
    settings = Points(train=train, train_count=None if train == "all" else count, **keys)
    removed, selected = points.removals(settings, LOSSES, PREDICTED[:, :test_points])
    return removed.tolist(), selected.T.tolist()


def test_all_rows_for_all_test_points():
    assert chosen("all") == ([0, 1, 2, 3, 4, 5], [[True] * 6] * 2)


def test_highest_loss_chooses_the_same_rows_for_all():
    assert chosen("highest_loss", 3) == ([0, 2, 4], [[True] * 3] * 2)


@pytest.mark.parametrize(
    ("rule", "order", "first", "second"),
    [
        ("highest_influence", "absolute", [1, 5], [0, 4]),
        ("highest_influence", "signed", [5, 2], [4, 2]),
        ("lowest_influence", "absolute", [4, 0], [3, 1]),
        ("lowest_influence", "signed", [1, 3], [0, 5]),
    ],
)
def test_influence_rules_rank_per_test_point_and_remove_the_union(rule, order, first, second):
    removed, selected = chosen(rule, order=order)
    assert removed == sorted({*first, *second})
    assert [[row for row, hit in zip(removed, hits, strict=True) if hit] for hits in selected] == [
        sorted(first),
        sorted(second),
    ]


def test_a_band_is_cut_from_the_ascending_order():
    # |influence| of the first test point ascending: rows 4 0 3 2 5 1; quantiles 1/3 to 2/3 of six: rows 3 and 2
    assert chosen("influence_band", 2, test_points=1, band=[1 / 3, 2 / 3])[0] == [2, 3]
    assert chosen("influence_band", 1, test_points=1, band=[0.99, 1.0])[0] == [1]
    inside = {chosen("influence_band", 1, test_points=1, band=[0.0, 0.5], select_seed=seed)[0][0] for seed in range(20)}
    assert inside == {4, 0, 3}


def test_random_rows_are_distinct_and_drawn_from_the_select_seed():
    draws = [chosen("random", 3, select_seed=seed) for seed in range(20)]
    assert all(len(set(removed)) == 3 and selected == [[True] * 3] * 2 for removed, selected in draws)
    assert len({tuple(removed) for removed, _ in draws}) > 10
    assert draws[4] == chosen("random", 3, select_seed=4)


def test_equal_losses_are_taken_in_order():
    removed, _ = points.removals(Points(train="highest_loss", train_count=2), np.ones(5), np.zeros((5, 1)))
    assert removed.tolist() == [0, 1]


@pytest.mark.parametrize("by", ["plain", "newton"])
def test_influence_rules_rank_by_the_named_estimator_end_to_end(tmp_path, by):
    estimators = [{"kind": "exact", "name": "newton"}, {"kind": "identity", "name": "plain"}]
    changes = {"points.train": "highest_influence", "points.train_count": 4, "points.by": by, "estimators": estimators}
    arrays = cases.record(tmp_path, changes).arrays
    sets = [set(np.argsort(-np.abs(column))[:4]) for column in arrays[f"predicted/{by}"].T]
    positions = np.searchsorted(arrays["train_rows"], arrays["removed_rows"])
    assert set(positions) == set.union(*sets)
    assert len(positions) > 4
    assert [set(positions[hits]) for hits in arrays["selected"].T] == sets
    assert arrays["actual/stationary"].shape == (len(positions), 3)


def test_by_default_the_first_estimator_ranks(tmp_path):
    estimators = [{"kind": "identity"}, {"kind": "exact"}]
    arrays = cases.record(
        tmp_path, {"points.train": "highest_influence", "points.train_count": 2, "estimators": estimators}
    ).arrays
    sets = [set(np.argsort(-np.abs(column))[:2]) for column in arrays["predicted/identity"].T]
    assert set(np.searchsorted(arrays["train_rows"], arrays["removed_rows"])) == set.union(*sets)


def test_chosen_test_points_are_the_columns_of_the_record(tmp_path):
    everything = cases.record(tmp_path, {"data.test_rows": [83, 20, 120, 7, 60]}).arrays
    order = np.argsort(everything["test_losses"])
    for test, columns in (("highest_loss", order[-1:]), ("median_loss", order[2:3]), ({"rows": [7, 83]}, [3, 0])):
        arrays = cases.record(tmp_path, {"data.test_rows": [83, 20, 120, 7, 60], "points.test": test}).arrays
        assert arrays["test_rows"].tolist() == everything["test_rows"][columns].tolist()
        np.testing.assert_allclose(arrays["predicted/exact"], everything["predicted/exact"][:, columns], rtol=1e-12)
        np.testing.assert_allclose(
            arrays["actual/stationary"], everything["actual/stationary"][:, columns], rtol=1e-9, atol=1e-15
        )
