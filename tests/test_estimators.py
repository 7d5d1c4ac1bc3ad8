"""Estimators against closed forms, dense autograd and central differences in a row's weight."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from study.compute import bands, estimators, newton, protocols
from study.compute.fitting import Job
from study.compute.problems import Fitted
from study.compute.trial import run_unit
from study.specs import Cg, Exact, Ggn, Identity, Stationary
from tests import cases

RIDGE = {
    "data.name": "diabetes",
    "data.test_rows": [0, 5, 200],
    "model.kind": "linear",
    "training.polish": True,
    "training.weight_decay": 0.03,
}
POLISHED = {"training.polish": True, "training.weight_decay": 0.02}
ROWS = [3, 40, 77, 110]


def dense(fitted):
    """Hessian [P, P], row gradients [n, P] and test gradients [T, P] by autograd on the plain module."""
    objective, target = fitted.problem.objective, fitted.target
    value = cases.plain_value(objective, fitted.problem.weights)
    train, test = (cases.plain_outputs(objective.network, rows.x) for rows in (objective, target))
    rows = torch.func.jacrev(lambda theta: cases.plain_losses(train(theta), objective.y, objective.task))(fitted.theta)
    tests = torch.func.jacrev(lambda theta: cases.plain_losses(test(theta), target.y, objective.task))(fitted.theta)
    return torch.func.hessian(value)(fitted.theta), rows, tests


def solved(fitted, weights):
    """The test quantity [S, T] at the minima of J_w for weights [S, n], reached from θ*."""
    start = fitted.theta.expand(len(weights), -1).clone()
    found = newton.minimise(fitted.problem.objective, start, weights, 1e-13, 12)
    assert (found.gradient_norm < 1e-11).all()
    return fitted.target.values(found.theta)


def test_ridges_actual_change_is_the_predicted_one_over_one_minus_leverage(tmp_path):
    fitted = cases.fitted(tmp_path, RIDGE)
    x, y = cases.rows_of(fitted.problem)
    n, change = len(x), estimators.predict(fitted, Exact()).change.numpy()
    hessian = x.T @ x / n + 0.03 * np.eye(x.shape[1])
    leverage = np.einsum("ip,ip->i", x, np.linalg.solve(hessian, x.T).T) / n
    predicted = change / (1 - leverage)[:, None]
    for i in range(n):
        kept = np.arange(n) != i
        actual = np.linalg.solve(hessian - np.outer(x[i], x[i]) / n, x[kept].T @ y[kept] / n) - fitted.theta.numpy()
        np.testing.assert_allclose(predicted[i], actual, rtol=0, atol=1e-10)
    removed = torch.arange(0, n, 40)
    weights = torch.cat([fitted.problem.weights, fitted.problem.removal_weights(removed)])
    [end] = protocols.retrain([Job(fitted.problem, fitted.theta.expand(len(weights), -1), weights)], Stationary())
    np.testing.assert_allclose((end.theta[1:] - end.theta[0]).numpy(), predicted[removed], rtol=0, atol=1e-10)


@pytest.mark.parametrize("removal", ["zero_weight", "renormalise"])
@pytest.mark.parametrize(
    "changes",
    [{}, {"model.kind": "linear"}, {"data.name": "diabetes", "model.width": 2}],
    ids=["mlp", "linear", "regression"],
)
def test_a_central_difference_in_the_weight_is_the_prediction(tmp_path, removal, changes):
    fitted = cases.fitted(tmp_path, {**POLISHED, **changes, "points.removal": removal})
    predicted = estimators.predict(fitted, Exact()).delta[ROWS]
    base = fitted.problem.weights
    towards = fitted.problem.removal_weights(torch.tensor(ROWS)) - base
    expected = (solved(fitted, base + 1e-3 * towards) - solved(fitted, base - 1e-3 * towards)) / 2e-3
    torch.testing.assert_close(predicted, expected, rtol=1e-4, atol=2e-9)
    assert predicted.abs().max() > 1e-4


@pytest.mark.parametrize("removal", ["zero_weight", "renormalise"])
def test_the_weights_of_a_removal(tmp_path, removal):
    fitted = cases.fitted(tmp_path, {"points.removal": removal, "training.steps": 1})
    weights = fitted.problem.removal_weights(torch.tensor([4, 9]))
    n = weights.shape[1]
    others = 1 / n if removal == "zero_weight" else 1 / (n - 1)
    expected = np.full((2, n), others)
    expected[0, 4] = expected[1, 9] = 0
    np.testing.assert_allclose(weights, expected, rtol=1e-15)


@pytest.mark.parametrize("removal", ["zero_weight", "renormalise"])
def test_of_a_fraction_the_row_keeps_the_rest(tmp_path, removal):
    fitted = cases.fitted(tmp_path, {"points.removal": removal, "points.fraction": 0.3, "training.steps": 1})
    weights = fitted.problem.removal_weights(torch.tensor([4, 9]))
    n = weights.shape[1]
    np.testing.assert_allclose(weights[0, 4] / weights[0, 5], 0.7, rtol=1e-14)
    np.testing.assert_allclose(weights[:, 5], 1 / n if removal == "zero_weight" else 1 / (n - 0.3), rtol=1e-14)
    if removal == "renormalise":
        np.testing.assert_allclose(weights.sum(dim=1), 1, rtol=1e-14)


def test_the_slope_goes_to_one_with_the_fraction_of_the_weight(tmp_path):
    """At removal itself the step is finite; what influence promises is the limit."""
    slopes = []
    for fraction in (1.0, 0.1, 0.01):
        record = cases.record(tmp_path, {**POLISHED, "points.fraction": fraction, "data.test_rows": [83]})
        assert record.arrays["certificate/stationary/certified"].all()
        predicted, actual = record.arrays["predicted/exact"][:, 0], record.arrays["actual/stationary"][:, 0]
        slopes.append(np.polyfit(predicted, actual, 1)[0])
    away = np.abs(np.array(slopes) - 1)
    assert away[2] < 2e-3 < away[0]
    assert away[1] < 0.2 * away[0]


def test_the_two_sum_rules(tmp_path):
    fitted = cases.fitted(tmp_path, POLISHED)
    hessian, _, tests = dense(fitted)
    expected = -0.02 * tests @ torch.linalg.solve(hessian, fitted.theta)
    torch.testing.assert_close(estimators.predict(fitted, Exact()).delta.sum(dim=0), expected, rtol=1e-7, atol=1e-10)
    assert expected.abs().min() > 1e-3
    other = cases.fitted(tmp_path, {**POLISHED, "points.removal": "renormalise"})
    delta = estimators.predict(other, Exact()).delta
    torch.testing.assert_close(delta.sum(dim=0), torch.zeros_like(delta[0]), rtol=0, atol=1e-8)
    assert delta.abs().sum(dim=0).min() > 1e-2


@pytest.mark.parametrize("fraction", [1.0, 0.3])
@pytest.mark.parametrize("removal", ["zero_weight", "renormalise"])
def test_away_from_a_minimum_the_prediction_is_the_general_one(tmp_path, removal, fraction):
    far = {"training.steps": 3, "training.weight_decay": 0.3, "points.removal": removal, "points.fraction": fraction}
    fitted = cases.fitted(tmp_path, far)
    hessian, rows, tests = dense(fitted)
    change = fitted.problem.removal_weights(torch.arange(len(rows))) - fitted.problem.weights
    expected = -torch.linalg.solve(hessian + 0.1 * torch.eye(len(hessian)), (change @ rows).T).T
    found = estimators.predict(fitted, Exact(damping=0.1))
    torch.testing.assert_close(found.change, expected, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(found.delta, expected @ tests.T, rtol=1e-7, atol=1e-9)
    assert found.evidence["residual"] < 1e-9


def test_identity_is_the_gradient_product_over_n(tmp_path):
    fitted = cases.fitted(tmp_path, {"training.steps": 20})
    _, rows, tests = dense(fitted)
    torch.testing.assert_close(estimators.predict(fitted, Identity()).delta, rows @ tests.T / len(rows))


def test_ggn_is_exact_for_a_linear_softmax_model_and_not_for_a_perceptron(tmp_path):
    linear = cases.fitted(tmp_path, {"model.kind": "linear"})
    torch.testing.assert_close(estimators.predict(linear, Ggn()).change, estimators.predict(linear, Exact()).change)
    mlp = cases.fitted(tmp_path, {"training.steps": 10})
    exact, ggn = (estimators.predict(mlp, settings).change for settings in (Exact(), Ggn()))
    assert (exact - ggn).norm() > 1e-2 * exact.norm()


def test_ggn_is_the_solve_with_the_gauss_newton_matrix(tmp_path):
    fitted = cases.fitted(tmp_path, {"training.steps": 10, "training.weight_decay": 0.05})
    objective, (_, rows, tests) = fitted.problem.objective, dense(fitted)
    outputs = cases.plain_outputs(objective.network, objective.x)
    jacobian, p = torch.func.jacrev(outputs)(fitted.theta), torch.softmax(outputs(fitted.theta), dim=1)
    curvature = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    matrix = torch.einsum("ncp,ncd,ndq->pq", jacobian, curvature, jacobian) / len(rows) + (0.05 + 0.2) * torch.eye(
        len(fitted.theta)
    )
    expected = rows @ torch.linalg.solve(matrix, tests.T) / len(rows)
    torch.testing.assert_close(estimators.predict(fitted, Ggn(damping=0.2)).delta, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("parameters", ["last_layer", ["layer1.bias", "output.weight"]])
@pytest.mark.parametrize("kind", [Exact, Identity])
def test_a_subset_of_parameters_moves_alone(tmp_path, kind, parameters):
    fitted = cases.fitted(tmp_path, POLISHED)
    hessian, rows, tests = dense(fitted)
    layer1, bias1, weight2, bias2 = torch.arange(len(fitted.theta)).split([12, 3, 9, 3])
    chosen = torch.cat([weight2, bias2] if parameters == "last_layer" else [bias1, weight2])
    matrix = hessian[chosen][:, chosen] if kind is Exact else torch.eye(len(chosen), dtype=torch.float64)
    found = estimators.predict(fitted, kind(parameters=parameters))
    expected = rows[:, chosen] @ torch.linalg.solve(matrix, tests[:, chosen].T) / len(rows)
    torch.testing.assert_close(found.delta, expected, rtol=1e-7, atol=1e-9)
    assert (found.change[:, layer1] == 0).all()
    assert found.evidence["parameters"] == len(chosen)


def test_what_a_subset_of_parameters_leaves_out_is_said(tmp_path):
    fitted = cases.fitted(tmp_path, POLISHED)
    exact = estimators.predict(fitted, Exact()).delta
    for settings in (
        Exact(parameters="last_layer"),
        Cg(parameters=["output.weight"]),
        Identity(parameters="last_layer"),
    ):
        found = estimators.predict(fitted, settings)
        expected = ((found.delta - exact).norm(dim=0) / exact.norm(dim=0)).max().item()
        assert found.evidence["mismatch"] == pytest.approx(expected, rel=1e-6)
        assert expected > 1e-2
    assert "mismatch" not in estimators.predict(fitted, Exact()).evidence
    every = Exact(parameters=fitted.problem.network.names)
    assert estimators.predict(fitted, every).evidence["mismatch"] < 1e-9


def test_damping_and_gauss_newton_say_how_far_they_are_from_the_exact_solution(tmp_path):
    fitted = cases.fitted(tmp_path, POLISHED)
    hessian, _, tests = dense(fitted)
    exact = torch.linalg.solve(hessian, tests.T).T
    damped = torch.linalg.solve(hessian + 0.1 * torch.eye(len(hessian)), tests.T).T
    expected = ((damped - exact).norm(dim=1) / exact.norm(dim=1)).max().item()
    assert estimators.predict(fitted, Exact(damping=0.1)).evidence["distance_from_exact"] == pytest.approx(expected)
    assert estimators.predict(fitted, Exact()).evidence["distance_from_exact"] == 0
    assert estimators.predict(fitted, Ggn()).evidence["distance_from_exact"] > 1e-2


@pytest.mark.parametrize("settings", [Exact, Ggn])
@pytest.mark.parametrize("parameters", ["all", ["output.weight"]])
def test_without_its_penalty_the_matrix_is_that_of_the_data_alone(tmp_path, settings, parameters):
    """As published last-layer estimates have it; biases left free of the penalty lose nothing."""
    fitted = cases.fitted(tmp_path, {**POLISHED, "training.decay_biases": False})
    positions = fitted.problem.network.positions(parameters)
    _, rows, tests = (part[..., positions] for part in dense(fitted))
    hessian = dense(replace(fitted, problem=cases.unpenalised(fitted.problem)))[0]
    if settings is Ggn:
        hessian = fitted.gauss_newton - fitted.problem.objective.decay[0].diag()
    matrix = hessian[positions][:, positions] + 0.05 * torch.eye(len(positions), dtype=torch.float64)
    found = estimators.predict(fitted, settings(damping=0.05, penalty=False, parameters=parameters)).delta
    expected = rows @ torch.linalg.solve(matrix, tests.T) / len(rows)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-11 * expected.abs().max().item())


def test_an_indefinite_hessian_is_flagged_until_damped(tmp_path):
    trained = cases.fitted(tmp_path, {"training.steps": 1, "training.weight_decay": 1e-4})
    fitted = Fitted(trained.problem, 2 * trained.problem.network.initial(1), trained.target)
    values = np.linalg.eigvalsh(dense(fitted)[0].numpy())
    found = estimators.predict(fitted, Exact())
    assert values[0] < -1e-3
    assert found.flags == ["indefinite"]
    assert found.evidence["negative_eigenvalues"] == found.evidence["negative_after_damping"] == (values < 0).sum()
    assert found.evidence["smallest_eigenvalue"] == pytest.approx(values[0])
    assert found.evidence["largest_eigenvalue"] == pytest.approx(values[-1])
    assert found.evidence["condition_number"] == pytest.approx(np.abs(values).max() / np.abs(values).min(), rel=1e-6)
    damped = estimators.predict(fitted, Exact(damping=1.5 * abs(values[0])))
    assert (damped.flags, damped.evidence["negative_after_damping"]) == ([], 0)
    assert estimators.predict(fitted, Ggn()).flags == []


@pytest.mark.parametrize("kind", [Exact, Ggn])
def test_a_singular_hessian_is_flagged_until_damped(tmp_path, kind):
    """Without a penalty a softmax model may add a constant to all its outputs: one null direction a feature, and the bias."""
    fitted = cases.fitted(tmp_path, {"model.kind": "linear", "training.weight_decay": 0, "training.steps": 5})
    found = estimators.predict(fitted, kind())
    assert found.flags == ["singular"]
    assert found.evidence["dropped_directions"] == 5
    assert torch.isfinite(found.delta).all()
    hessian, rows, tests = dense(fitted)
    expected = rows @ torch.linalg.pinv(hessian, rtol=1e-12) @ tests.T / len(rows)
    torch.testing.assert_close(found.delta, expected, rtol=1e-7, atol=1e-9)
    assert estimators.predict(fitted, kind(damping=0.1)).flags == []


def test_a_network_of_nan_predicts_nan_without_an_exception(tmp_path):
    trained = cases.fitted(tmp_path, {"training.steps": 1})
    fitted = Fitted(trained.problem, torch.full_like(trained.theta, torch.nan), trained.target)
    for settings in (Exact(), Ggn(), Identity()):
        assert torch.isnan(estimators.predict(fitted, settings).delta).all()


def test_the_plug_in_is_the_change_of_the_target_at_the_predicted_parameters(tmp_path):
    fitted, record = cases.fitted(tmp_path, POLISHED), cases.record(tmp_path, POLISHED)
    hessian, rows, _ = dense(fitted)
    moved = fitted.theta + torch.linalg.solve(hessian, rows.T).T / len(rows)
    outputs = cases.plain_outputs(fitted.problem.network, fitted.target.x)
    losses = torch.stack(
        [cases.plain_losses(outputs(theta), fitted.target.y, "classification") for theta in [fitted.theta, *moved]]
    )
    np.testing.assert_allclose(record.arrays["plugin/exact"], losses[1:] - losses[0], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(record.arrays["predicted_norm/exact"], (moved - fitted.theta).norm(dim=1), rtol=1e-6)


@pytest.mark.parametrize("removal", ["zero_weight", "renormalise"])
@pytest.mark.parametrize("kind", [Exact, Ggn])
@pytest.mark.parametrize("parameters", ["all", "last_layer"])
@pytest.mark.parametrize(("damping", "many"), [(0.0, True), (0.01, False), (0.01, True)])
def test_a_large_definite_matrix_is_factored_with_the_same_result(
    tmp_path, monkeypatch, kind, parameters, removal, damping, many
):
    fitted = replace(cases.fitted(tmp_path, {**POLISHED, "points.removal": removal}), many_dampings=many)
    settings = kind(damping=damping, parameters=parameters)
    decomposed = estimators.predict(fitted, settings)
    monkeypatch.setattr("study.compute.estimators.dense.FACTORED", 1)
    monkeypatch.setattr("study.compute.bands.WIDTH", 4)
    factored = estimators.predict(fitted, settings)
    torch.testing.assert_close(factored.delta, decomposed.delta, rtol=1e-9, atol=1e-13)
    torch.testing.assert_close(factored.change, decomposed.change, rtol=1e-9, atol=1e-13)
    assert factored.evidence["residual"] < 1e-12
    assert factored.evidence["reduced"] == (damping > 0 and many)
    assert "smallest_eigenvalue" not in factored.evidence
    ratio = factored.evidence["condition_number"] / decomposed.evidence["condition_number"]
    assert 1 / 3 < ratio < len(fitted.theta)  # in the 1-norm, and estimated


@pytest.mark.parametrize("kind", [Exact, Ggn])
def test_a_large_matrix_is_reduced_once_for_a_grid_of_dampings(tmp_path, monkeypatch, kind):
    monkeypatch.setattr("study.compute.estimators.dense.FACTORED", 1)
    monkeypatch.setattr("study.compute.bands.WIDTH", 4)
    reductions, reduce = [], bands.Band.of
    monkeypatch.setattr(bands.Band, "of", lambda matrix: reductions.append(1) or reduce(matrix))
    fitted = replace(cases.fitted(tmp_path, POLISHED), many_dampings=True)
    _, rows, tests = dense(fitted)
    matrix, grid = fitted.hessian if kind is Exact else fitted.gauss_newton, (1e-6, 1e-4, 0.01, 1.0, 100.0)
    for damping in grid:
        found = estimators.predict(fitted, kind(damping=damping))
        expected = rows @ torch.linalg.solve(matrix + damping * torch.eye(len(matrix)).double(), tests.T) / len(rows)
        torch.testing.assert_close(found.delta, expected, rtol=1e-9, atol=1e-11 * expected.abs().max().item())
        assert (found.evidence["damping"], found.flags) == (damping, [])
        assert found.evidence["residual"] < 1e-12
    assert len(reductions) == 1
    alone = estimators.predict(replace(fitted), kind(damping=grid[-1]))
    assert torch.equal(alone.delta, found.delta)  # whatever was asked before


@pytest.mark.parametrize(
    ("listed", "swept", "reduced"),
    [([0.01], None, 0), ([0.01], {"estimators.*.damping": [0.0, 0.01]}, 1), ([10.0**-k for k in range(6)], None, 1)],
)
def test_the_spec_decides_whether_a_large_matrix_is_reduced(tmp_path, monkeypatch, listed, swept, reduced):
    monkeypatch.setattr("study.compute.estimators.dense.FACTORED", 1)
    kinds = [{"kind": "exact", "name": f"damped{k}", "damping": damping} for k, damping in enumerate(listed)]
    few = {"points.train": "random", "points.train_count": 2, "estimators": kinds}
    records = run_unit(cases.trials(tmp_path, {**POLISHED, **few}, swept))
    found = [entry for record in records for entry in record.header["estimators"].values()]
    assert all(entry["reduced"] == (reduced if entry["damping"] else 0) for entry in found)


def test_of_an_indefinite_large_matrix_only_enough_damping_is_solved_by_its_band(tmp_path, monkeypatch):
    monkeypatch.setattr("study.compute.estimators.dense.FACTORED", 1)
    monkeypatch.setattr("study.compute.bands.WIDTH", 4)
    trained = cases.fitted(tmp_path, {"training.steps": 1, "training.weight_decay": 1e-4})
    fitted = Fitted(trained.problem, 2 * trained.problem.network.initial(1), trained.target, many_dampings=True)
    hessian, rows, tests = dense(fitted)
    size = -np.linalg.eigvalsh(hessian.numpy())[0]
    for damping, flags in ((0.5 * size, ["indefinite"]), (1.5 * size, [])):
        found = estimators.predict(fitted, Exact(damping=damping))
        assert found.flags == flags
        assert ("reduced" in found.evidence) == (flags == [])
        expected = rows @ torch.linalg.solve(hessian + damping * torch.eye(len(hessian)).double(), tests.T) / len(rows)
        torch.testing.assert_close(found.delta, expected, rtol=1e-7, atol=1e-8)


def test_what_has_no_factor_is_decomposed(tmp_path, monkeypatch):
    monkeypatch.setattr("study.compute.estimators.dense.FACTORED", 1)
    linear = {"model.kind": "linear", "training.weight_decay": 0, "training.steps": 5}
    assert estimators.predict(cases.fitted(tmp_path, linear), Exact()).flags == ["singular"]
    trained = cases.fitted(tmp_path, {"training.steps": 1, "training.weight_decay": 1e-4})
    indefinite = Fitted(trained.problem, 2 * trained.problem.network.initial(1), trained.target)
    assert estimators.predict(indefinite, Exact()).flags == ["indefinite"]
    broken = Fitted(trained.problem, torch.full_like(trained.theta, torch.nan), trained.target)
    for damping, many in ((0.0, False), (0.1, False), (0.1, True)):
        asked = replace(broken, many_dampings=many)
        assert torch.isnan(estimators.predict(asked, Exact(damping=damping)).delta).all()
