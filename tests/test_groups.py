"""Removal of groups: who leaves together, what retraining then does and what is predicted of it; scrambled removal."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from study import costs
from study.audit import exchange
from study.compute import estimators, fitting, groups, newton, sensitivities
from study.compute.problems import problem
from study.compute.trial import run_unit
from study.errors import StudyError
from study.evidence import readings
from study.records import to_bytes
from study.specs import Cg, Exact, Ggn, Identity, Unrolled, schema
from study.sweep import sizes
from study.trials import check, load
from tests import cases

POLISHED = {"training.polish": True, "training.weight_decay": 0.02, "data.test_rows": [83, 20]}
FEW = {"points.train": "random", "points.train_count": 6}
RULES = ["random", "same_class", "nearest", "influence"]


def of(record, name):
    """Positions of row numbers among the training rows."""
    return np.searchsorted(record.arrays["train_rows"], record.arrays[name])


@pytest.mark.parametrize("rule", RULES)
def test_a_smaller_group_is_the_beginning_of_a_larger_one_and_the_rest_makes_no_difference(tmp_path, rule):
    changes = {**POLISHED, "data.test_rows": [83], "points.group": rule, "points.select_seed": 4}
    small, large, other = (
        cases.record(tmp_path, {**changes, **own, "points.group_size": size})
        for size, own in ((3, FEW), (5, FEW), (3, {"points.train": "highest_loss", "points.train_count": 60}))
    )
    assert small.arrays["members"].shape == (6, 3)
    assert np.array_equal(large.arrays["members"][:, :3], small.arrays["members"])
    assert np.array_equal(small.arrays["members"][:, 0], small.arrays["removed_rows"])
    assert np.array_equal(small.arrays["predicted_rows"], small.arrays["removed_rows"])
    for members in (small.arrays["members"], large.arrays["members"], other.arrays["members"]):
        assert all(len(set(row)) == len(row) for row in members.tolist())
    both, first, second = np.intersect1d(small.arrays["removed_rows"], other.arrays["removed_rows"], return_indices=True)
    assert len(both) > 1
    assert np.array_equal(small.arrays["members"][first], other.arrays["members"][second])
    again = cases.record(tmp_path, {**changes, **FEW, "points.group_size": 3, "points.select_seed": 5})
    assert set(again.arrays["removed_rows"]) != set(small.arrays["removed_rows"])


def test_each_rule_groups_as_it_says(tmp_path):
    base = {**POLISHED, "data.test_rows": [83], "points.group_size": 4, "model.depth": 2}
    found = {rule: cases.record(tmp_path, {**base, "points.group": rule, "points.features": "layer2"}) for rule in RULES}
    p = problem(cases.trials(tmp_path, base)[0])
    drawn = of(found["random"], "members")
    assert len({p.split.y_train[row] for row in drawn[0]} | {p.split.y_train[row] for row in drawn[1]}) > 1
    assert len(set(drawn[:, 1])) > 60
    for members in of(found["same_class"], "members"):
        assert len(set(p.split.y_train[members])) == 1
    theta = torch.from_numpy(found["nearest"].arrays["base_parameters"].copy())
    module = cases.plain_module(p.network)
    torch.nn.utils.vector_to_parameters(theta, module.parameters())
    features = module[:4](p.objective.x).detach().numpy()
    for leader, *others in of(found["nearest"], "members"):
        distances = np.linalg.norm(features - features[leader], axis=1)
        distances[leader] = np.inf
        assert distances[others].max() <= np.partition(distances, 2)[2] + 1e-12
        assert distances[others].tolist() == sorted(distances[others])
    single = cases.record(tmp_path, {**base, "points.group_size": 1}).arrays["predicted/exact"][:, 0]
    order = np.argsort(-np.abs(single), kind="stable").tolist()
    for members in of(found["influence"], "members").tolist():
        place = order.index(members[0])
        below, above = order[place : place + 4], order[:place][::-1]
        assert members == [*below, *above][:4]


def test_windows_of_highest_influence_slide(tmp_path):
    changes = {**POLISHED, "data.test_rows": [83], "points.train": "highest_influence", "points.train_count": 8}
    record = cases.record(tmp_path, {**changes, "points.group": "influence", "points.group_size": 3})
    everything = cases.record(tmp_path, {**POLISHED, "data.test_rows": [83]})
    order = np.argsort(-np.abs(everything.arrays["predicted/exact"][:, 0]))
    expected = {order[k]: order[k : k + 3].tolist() for k in range(8)}
    assert {members[0]: members.tolist() for members in of(record, "members")} == expected


def test_a_group_of_one_is_leave_one_out_to_the_last_bit(tmp_path):
    changes = {**POLISHED, **FEW, "protocols": [{"kind": "stationary"}, {"kind": "warm", "steps": 20}]}
    plain = cases.record(tmp_path, changes)
    for rule in RULES:
        single = cases.record(tmp_path, {**changes, "points.group": rule, "points.group_size": 1})
        assert sorted(single.arrays) == sorted(plain.arrays)
        for name, values in plain.arrays.items():
            np.testing.assert_array_equal(values, single.arrays[name], err_msg=name)
    assert single.key != plain.key == cases.trials(tmp_path, {**changes, "points.group_size": 1})[0].key
    # and what is predicted of groups of one is what is predicted of rows
    fitted = cases.fitted(tmp_path, {**changes, "points.removal": "renormalise", "points.fraction": 0.3})
    prediction, rows = estimators.predict(fitted, Exact()), np.array([4, 9, 30])
    grouped = groups.predicted(fitted.problem, prediction, rows[:, None])
    assert torch.equal(grouped.delta, prediction.delta[rows])
    assert torch.equal(grouped.change, prediction.change[rows])
    one, many = (fitted.problem.removal_weights(torch.from_numpy(some)) for some in (rows, rows[:, None]))
    assert torch.equal(one, many)


@pytest.mark.parametrize("removal", ["zero_weight", "renormalise"])
def test_logistic_regression_without_a_group_is_scikit_learns(tmp_path, removal):
    changes = {**POLISHED, **FEW, "model.kind": "linear", "points.removal": removal, "points.group_size": 9,
               "protocols": [{"kind": "stationary"}, {"kind": "cold"}]}  # fmt: skip
    record = cases.record(tmp_path, changes)
    p = problem(cases.trials(tmp_path, changes)[0])
    (x, y), x_test = cases.rows_of(p), np.column_stack([p.split.x_test, np.ones(2)])

    def losses(kept):
        rows = len(y) if removal == "zero_weight" else len(kept)  # zero_weight keeps 1/n
        model = LogisticRegression(C=1 / (rows * 0.02), fit_intercept=False, tol=1e-13, max_iter=10_000, solver="newton-cg")
        return -model.fit(x[kept], y[kept]).predict_log_proba(x_test)[np.arange(2), p.split.y_test]

    everything = np.arange(len(y))
    expected = [losses(np.delete(everything, members)) - losses(everything) for members in of(record, "members")]
    for kind in ("stationary", "cold"):
        np.testing.assert_allclose(record.arrays[f"actual/{kind}"], expected, rtol=1e-6, atol=1e-9)
    assert record.arrays["certificate/stationary/certified"].all()


@pytest.mark.parametrize("fraction", [1.0, 0.4])
@pytest.mark.parametrize("removal", ["zero_weight", "renormalise"])
def test_predictions_of_groups_are_the_derivative_in_the_groups_weight(tmp_path, removal, fraction):
    """A central difference of minima, found by Newton's method, along the change of weights that the group makes."""
    changes = {**POLISHED, **FEW, "points.removal": removal, "points.fraction": fraction, "points.group_size": 7}
    record, fitted = cases.record(tmp_path, changes), cases.fitted(tmp_path, changes)
    objective, n = fitted.problem.objective, 148
    others = 1 / n if removal == "zero_weight" else 1 / (n - fraction * 7)
    for r, members in enumerate(of(record, "members")):
        weights = np.full(n, others)
        weights[members] *= 1 - fraction
        step = 1e-4 * torch.from_numpy(weights - 1 / n)[None]
        ends = [
            newton.minimise(objective, fitted.theta[None], fitted.problem.weights + side * step, 1e-12, 50).theta
            for side in (1, -1)
        ]
        expected = (fitted.target.values(ends[0]) - fitted.target.values(ends[1]))[0] / 2e-4
        np.testing.assert_allclose(record.arrays["predicted/exact"][r], expected, rtol=1e-4, atol=1e-7)
        change = (ends[0] - ends[1])[0] / 2e-4
        assert record.arrays["predicted_norm/exact"][r] == pytest.approx(change.norm().item(), rel=1e-4)


@pytest.mark.parametrize("removal", ["zero_weight", "renormalise"])
def test_every_estimator_is_linear_in_the_weights_so_that_groups_are_theirs(tmp_path, removal):
    changes = {"training.optimizer": "sgd", "training.steps": 30, "training.learning_rate": 0.05, "points.removal": removal,
               "points.fraction": 0.5, "points.group_size": 5}  # fmt: skip
    fitted = cases.fitted(tmp_path, changes)
    p = fitted.problem
    chosen = np.array([[3, 8, 20, 41, 90], [100, 1, 2, 70, 71]])
    directions = p.removal_weights(torch.from_numpy(chosen)) - p.weights
    pull = directions @ p.objective.row_gradients(fitted.theta[None])[0]
    for settings, matrix in ((Exact(damping=0.1), fitted.hessian), (Ggn(damping=0.1), fitted.gauss_newton)):
        solved = torch.linalg.solve(matrix + 0.1 * torch.eye(len(matrix), dtype=pull.dtype), pull.T).T
        found = groups.predicted(p, estimators.predict(fitted, settings), chosen)
        torch.testing.assert_close(found.change, -solved, rtol=1e-8, atol=1e-12)
    found = groups.predicted(p, estimators.predict(fitted, Unrolled(steps=10)), chosen)
    run = sensitivities.forward(p, fitted.theta, directions, 10, fitting.ONWARDS)
    torch.testing.assert_close(found.change, run.change, rtol=1e-9, atol=1e-12)
    identity = groups.predicted(p, estimators.predict(fitted, Identity()), chosen)
    torch.testing.assert_close(identity.delta, -pull @ fitted.test_gradients.T, rtol=1e-9, atol=1e-12)
    by_test_points = groups.predicted(p, estimators.predict(fitted, Cg(damping=0.3, tolerance=1e-12)), chosen)
    solved = torch.linalg.solve(fitted.hessian + 0.3 * torch.eye(len(pull.T), dtype=pull.dtype), pull.T).T
    torch.testing.assert_close(by_test_points.delta, -solved @ fitted.test_gradients.T, rtol=1e-8, atol=1e-12)
    assert by_test_points.change is None


def test_every_protocol_removes_groups(tmp_path):
    kinds = [{"kind": "stationary"}, {"kind": "proximal", "damping": 0.0}, {"kind": "pbrf"}, {"kind": "cold"},
             {"kind": "warm", "steps": 100}, {"kind": "cold_seeds", "count": 2}]  # fmt: skip
    changes = {**POLISHED, **FEW, "model.kind": "linear", "points.group_size": 5, "protocols": kinds}
    record = cases.record(tmp_path, changes)
    for kind in ("proximal", "pbrf", "cold", "warm", "cold_seeds"):
        expected = record.arrays["actual/stationary"]
        np.testing.assert_allclose(record.arrays[f"actual/{kind}"], expected, rtol=0, atol=1e-8, err_msg=kind)
    assert np.abs(expected).max() > 1e-3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"estimators": [{"kind": "newton_step"}]}, "newton_step predicts single removals only"),
        ({"points.removal": "perturb_input", "points.direction": "random"}, "group_size = 3: removal"),
        ({"neighbours.features": ["input"]}, "neighbours: they are compared with removals of single rows"),
        ({"points.group_size": 0}, "at least 1"),
        ({"points.group": "closest"}, "must be one of"),
    ],
)
def test_what_has_no_groups_is_refused(tmp_path, changes, message):
    with pytest.raises(StudyError, match=message):
        cases.trials(tmp_path, {"points.group_size": 3, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points.group_size": 147}, "points.group_size = 147: there are only 147 training rows"),
        ({"points.group": "influence"}, "each of the 3 test points ranks the rows its own way"),
        ({"points.group": "same_class", "points.group_size": 50}, "one of the classes has only 49 training rows"),
        ({"points.group": "same_class", "data.name": "diabetes"}, "diabetes is a regression and has no classes"),
        ({"points.group": "nearest", "points.features": "layer4"}, "points.features: the network has no layer"),
    ],
)
def test_what_the_data_cannot_serve_is_refused(tmp_path, changes, message):
    cases.trials(tmp_path, {"points.group_size": 3, **changes})
    with pytest.raises(StudyError, match=message):
        check(load(tmp_path / "case.toml"))


def block_of(tmp_path, changes):
    [trial] = cases.trials(tmp_path, changes)
    [record] = run_unit([trial])
    return trial, record, readings.block(trial, record)


def test_groups_are_read_by_their_leaders(tmp_path):
    _, record, block = block_of(tmp_path, {**POLISHED, **FEW, "points.group_size": 4})
    np.testing.assert_array_equal(block.predicted[0, 0], record.arrays["predicted/exact"].T)
    np.testing.assert_array_equal(block.removed, record.arrays["members"][:, 0])
    assert block.used.all()
    # whatever the order they are kept in
    turned = {name: values[::-1] for name, values in record.arrays.items() if name.startswith(("predicted", "plugin"))}
    mixed = readings.block(block.trial, cases.replace(record, arrays={**record.arrays, **turned}))
    np.testing.assert_array_equal(mixed.predicted, block.predicted)


def test_of_very_many_pairs_only_the_removed_rows_predictions_are_kept(tmp_path, monkeypatch):
    changes = {**POLISHED, **FEW, "estimators": [{"kind": "exact"}, {"kind": "cg"}]}
    trial, whole, before = block_of(tmp_path, changes)
    monkeypatch.setattr(schema, "MOST_PREDICTIONS", 148 * 2 * 2 - 1)
    _, record, after = block_of(tmp_path, changes)
    rows = of(whole, "removed_rows")
    assert "predicted_rows" not in whole.arrays
    for name in ("predicted/exact", "plugin/exact", "predicted_norm/exact", "predicted/cg"):
        np.testing.assert_allclose(record.arrays[name], whole.arrays[name][rows], rtol=1e-13, atol=1e-15, err_msg=name)
    np.testing.assert_array_equal(before.predicted, after.predicted)
    assert len(to_bytes(record)) < len(to_bytes(whole))
    assert costs.record_bytes(trial.settings, sizes(trial)) == pytest.approx(len(to_bytes(record)), rel=0.1)
    with pytest.raises(StudyError, match="holds predictions of the removed rows only"):
        exchange.question(trial, record)
    monkeypatch.setattr(schema, "MOST_PREDICTIONS", 148 * 2 * 2)
    assert "predicted_rows" not in block_of(tmp_path, changes)[1].arrays


def test_the_audit_knows_single_rows_only(tmp_path):
    trial, record, _ = block_of(tmp_path, {**POLISHED, **FEW, "points.group_size": 4})
    with pytest.raises(StudyError, match=r"points\.group_size = 4; audited is removal of single rows"):
        exchange.question(trial, record)


@pytest.mark.parametrize("size", [1, 3])
def test_scrambled_removals_are_those_of_other_rows(tmp_path, size):
    changes = {**POLISHED, "points.train": "random", "points.train_count": 12, "points.group_size": size}
    plain, scrambled = (cases.record(tmp_path, {**changes, "points.scrambled": mixed}) for mixed in (False, True))
    assert np.array_equal(plain.arrays["removed_rows"], scrambled.arrays["removed_rows"])
    assert sorted(scrambled.arrays["retrained_rows"]) == plain.arrays["removed_rows"].tolist()
    places = np.searchsorted(plain.arrays["removed_rows"], scrambled.arrays["retrained_rows"])
    assert (places != np.arange(12)).sum() > 6
    np.testing.assert_allclose(scrambled.arrays["actual/stationary"], plain.arrays["actual/stationary"][places], atol=1e-9)
    np.testing.assert_array_equal(scrambled.arrays["predicted/exact"], plain.arrays["predicted/exact"])
    assert set(scrambled.arrays["flag/stationary"]) == {"scrambled"}
    assert set(plain.arrays["flag/stationary"]) == {""}
    others = {
        cases.record(tmp_path, {**changes, "points.train": "highest_loss", "points.scrambled": True,
                                "points.select_seed": seed}).arrays["retrained_rows"].tobytes() for seed in (0, 1)
    }  # fmt: skip
    assert len(others) == 2
