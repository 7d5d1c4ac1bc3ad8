"""Linear models of large tables against the perceptron of depth 0, their minima and certificates against those with a Hessian
of every network's own, and scikit-learn.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from study import checks
from study.compute import certificates, convex, estimators, fitting, linear, problems
from study.compute.fitting import Job
from study.compute.linear import Linear
from study.compute.mlp import Mlp
from study.compute.objective import output_derivatives
from study.compute.protocols import stationary
from study.compute.trial import run_unit
from study.evidence import readings
from study.specs import Cg, Exact, Ggn, Identity, Lissa, Stationary, schema
from tests import cases, image_files

PLAIN = {"model.kind": "linear", "model.intercept": False, "training.polish": True}
TOLERANCE = 1e-12  # the bound of the error divides by λ
TASKS = ["classification", "regression"]


@pytest.fixture(autouse=True)
def large(monkeypatch):
    """The path of large problems for small ones, too; not all rows' solves together."""
    monkeypatch.setattr(convex, "SMALL", 0)
    monkeypatch.setattr(convex, "COLUMNS", 30)


@pytest.fixture
def pieces(monkeypatch):
    """So few rows and networks together that every loop goes round."""
    monkeypatch.setattr(linear, "SMALLEST", 4)
    monkeypatch.setattr(linear, "PIECE", 1)
    monkeypatch.setattr(linear, "TOGETHER", 2)
    monkeypatch.setattr(convex, "STACK", 2)


def both(task, own_rows=False, sparse=True):
    """A perceptron without hidden layers, and the same objective and target of a `Linear`."""
    stack = cases.stack(task, depth=0, own_rows=own_rows, rows=13)
    x = stack.objective.x.clone()
    if sparse:
        x[..., 0] *= x[..., 0] > 0
        x[..., 2] = 0.0
    slow = replace(stack.objective, x=x)
    network = Linear(3, slow.y.shape[-1])
    return stack, slow, replace(slow, network=network), replace(stack.target, network=network)


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("own_rows", [False, True])
def test_every_derivative_is_the_perceptrons(task, own_rows):
    stack, slow, fast, target = both(task, own_rows)
    theta, weights = stack.theta, stack.weights
    assert fast.network.names == slow.network.names
    assert torch.equal(fast.network.initial(5), slow.network.initial(5))
    close = torch.testing.assert_close
    close(fast.network.outputs(theta, fast.x), slow.network.outputs(theta, slow.x))
    close(fast.data_loss(theta, weights), slow.data_loss(theta, weights))
    for one, other in zip(fast.gradient(theta, weights), slow.gradient(theta, weights), strict=True):
        close(one, other, rtol=1e-11, atol=1e-13)
    close(fast.row_gradients(theta), slow.row_gradients(theta))
    close(fast.hessian(theta, weights), slow.hessian(theta, weights), rtol=1e-11, atol=1e-13)
    directions = torch.randn(len(theta), 2, theta.shape[1], dtype=theta.dtype, generator=torch.Generator().manual_seed(1))
    expected = slow.hessian_products(theta, weights)(directions)
    close(fast.hessian_products(theta, weights)(directions), expected, rtol=1e-11, atol=1e-13)
    norms = stack.target.gradients(theta[0]).norm(dim=1)
    close(convex.gradient_norms(target, theta)[0], norms)


@pytest.mark.parametrize("task", TASKS)
def test_without_an_intercept_it_is_the_perceptron_whose_bias_is_zero(task):
    stack, slow, _, _ = both(task)
    network = Linear(3, slow.y.shape[-1], intercept=False)
    weight = ~slow.network.biases()
    theta = stack.theta * weight
    fast = replace(slow, network=network, decay=slow.decay[:, weight])
    assert network.names == ["output.weight"]
    own = theta[:, weight]
    torch.testing.assert_close(network.outputs(own, fast.x), slow.network.outputs(theta, slow.x))
    torch.testing.assert_close(
        fast.gradient(own, stack.weights)[1], slow.gradient(theta, stack.weights)[1][:, weight], rtol=1e-11, atol=1e-13
    )
    hessian = slow.hessian(theta, stack.weights)[:, weight][:, :, weight]
    torch.testing.assert_close(fast.hessian(own, stack.weights), hessian, rtol=1e-11, atol=1e-13)
    x = fast.x[:3]
    pull, _ = output_derivatives(network.outputs(own, x), fast.y[:3], task)
    torch.testing.assert_close(network.outer(pull[0], x), network.row_gradients(own[:1], x, pull[:1])[0])
    torch.testing.assert_close(network.outputs_of_each(own, x), network.outputs(own, x).diagonal().T)


@pytest.mark.parametrize("task", TASKS)
def test_the_bounds_of_the_curvature_hold(task):
    stack, _, fast, _ = both(task, sparse=False)
    for weights in (stack.weights, torch.zeros_like(stack.weights)):
        smallest, largest = convex.bounds(fast, weights)
        values = torch.linalg.eigvalsh(fast.hessian(3 * stack.theta, weights))
        assert (smallest <= values[:, 0] * (1 + 1e-12)).all()
        assert (largest >= values[:, -1]).all()


def test_what_is_not_convex_for_certain_is_left_to_newton():
    stack, slow, fast, _ = both("classification")
    assert convex.applies(fast, stack.weights)
    assert not convex.applies(slow, stack.weights)
    assert not convex.applies(fast, stack.weights - 0.05)
    assert not convex.applies(replace(fast, decay=fast.decay * fast.network.biases()), stack.weights)
    assert not convex.applies(both("classification", own_rows=True)[2], stack.weights)


def leave_one_outs(tmp_path, monkeypatch, changes, table):
    """All removals of a small problem as computed for large tables, or as for small ones."""
    monkeypatch.setattr(checks, "LARGE_TABLE", table)
    fitted = cases.fitted(tmp_path, {"model.kind": "linear", "training.polish": True, **changes})
    p = fitted.problem
    weights = torch.cat([p.weights, p.removal_weights(torch.arange(p.objective.rows))])
    job = Job(p, fitted.theta.expand(len(weights), -1), weights, None, lambda: fitted.factor)
    [found] = stationary.retrain([job], Stationary(tolerance=TOLERANCE))
    return found, certificates.certify(p.objective, found.theta, weights, p.target, TOLERANCE), p


@pytest.mark.parametrize(
    "changes",
    [
        {"training.weight_decay": 0.01},
        {"training.weight_decay": 1e-3},  # removals of high leverage
        {"points.removal": "renormalise"},
        {"points.fraction": 0.5},
        {"data.name": "diabetes", "data.test_rows": list(range(60, 442)), "training.weight_decay": 0.1},
    ],
)
def test_minima_and_certificates_agree_with_those_by_dense_hessians(tmp_path, monkeypatch, changes):
    changes = {"data.test_rows": list(range(60, 150)), **changes}
    slow, dense, p = leave_one_outs(tmp_path, monkeypatch, changes, 10**9)
    fast, proven, large = leave_one_outs(tmp_path, monkeypatch, changes, 0)
    assert isinstance(p.network, Mlp)
    assert isinstance(large.network, Linear)
    torch.testing.assert_close(fast.theta, slow.theta, rtol=0, atol=1e-7)
    for name in ("certified", "positive_definite", "another_basin"):
        np.testing.assert_array_equal(getattr(proven, name), getattr(dense, name))
    assert proven.certified.all()
    assert (proven.gradient_norm <= TOLERANCE).all()
    assert (proven.curvature_shift >= dense.curvature_shift * 0.99).all()
    assert (proven.segment_excess == 0).all()
    assert (dense.segment_excess <= 1e-15).all()


def test_the_error_bound_is_above_the_error(tmp_path, monkeypatch):
    found, _, p = leave_one_outs(tmp_path, monkeypatch, {"data.test_rows": list(range(100, 150))}, 0)
    rough = found.theta + 1e-7 * torch.randn(found.theta.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = torch.cat([p.weights, p.removal_weights(torch.arange(p.objective.rows))])
    proven = certificates.certify(p.objective, rough, weights, p.target, TOLERANCE)
    error = (p.target.values(rough) - p.target.values(found.theta)).abs().numpy()
    assert (error <= proven.delta_error * (1 + 1e-5) + 1e-14).all()
    assert not proven.certified.any()


def test_what_the_chords_leave_goes_on_by_newton(tmp_path, monkeypatch):
    monkeypatch.setattr(convex, "CHORDS", 0)
    _, proven, _ = leave_one_outs(tmp_path, monkeypatch, {"data.test_rows": list(range(40, 150))}, 0)
    assert proven.certified.all()


def test_parameters_that_are_not_finite_prove_nothing(tmp_path, monkeypatch):
    found, _, p = leave_one_outs(tmp_path, monkeypatch, {"data.test_rows": list(range(40, 150))}, 0)
    theta = found.theta.clone()
    theta[3] = torch.nan
    weights = torch.cat([p.weights, p.removal_weights(torch.arange(p.objective.rows))])
    proven = certificates.certify(p.objective, theta, weights, p.target, TOLERANCE)
    assert np.flatnonzero(~proven.certified).tolist() == [3]
    assert not proven.positive_definite[3]


def test_a_network_that_diverged_is_flagged_and_kept(tmp_path):
    changes = {
        **PLAIN, "training.optimizer": "sgd", "training.learning_rate": 1e300, "training.steps": 3, "points.train": "random",
        "points.train_count": 2,
    }  # fmt: skip
    record = cases.record(tmp_path, changes)
    assert record.header["flags"] == ["diverged"]
    assert (record.arrays["flag/stationary"] == "diverged; uncertified").all()
    assert not record.arrays["certificate/stationary/certified"].any()


def test_a_proximal_objective_is_convex_too(tmp_path, monkeypatch):
    changes = {"data.test_rows": list(range(50, 150)), "protocols": [{"kind": "proximal", "damping": 0.1}]}
    found = []
    for table in (10**9, 0):
        monkeypatch.setattr(checks, "LARGE_TABLE", table)
        record = cases.record(tmp_path, {"model.kind": "linear", "training.polish": True, **changes})
        assert record.arrays["certificate/proximal/certified"].all()
        found.append(record.arrays["actual/proximal"])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["iris", "diabetes"])
def test_without_an_intercept_leave_one_out_is_scikit_learns(tmp_path, name):
    few = {"points.train": "random", "points.train_count": 5, "protocols": [{"kind": "stationary", "tolerance": 1e-11}]}
    record = cases.record(tmp_path, {**PLAIN, **few, "data.name": name, "data.test_rows": [3, 90]})
    fitted = cases.fitted(tmp_path, {**PLAIN, "data.name": name, "data.test_rows": [3, 90]})
    p, n = fitted.problem, len(record.arrays["train_rows"])
    removed = np.searchsorted(record.arrays["train_rows"], record.arrays["removed_rows"])
    for place, row in enumerate(removed):
        keep = np.arange(n) != row
        x, y = p.split.x_train[keep], p.split.y_train[keep]
        if name == "iris":
            model = LogisticRegression(C=1 / (n * 0.01), fit_intercept=False, tol=1e-12, max_iter=10_000).fit(x, y)
            losses = -model.predict_log_proba(p.split.x_test)[[0, 1], p.split.y_test]
        else:
            model = Ridge(alpha=n * 0.01, fit_intercept=False).fit(x, y)
            losses = 0.5 * (model.predict(p.split.x_test) - p.split.y_test) ** 2
        whole = record.arrays["base_test"] + record.arrays["actual_raw/stationary"][place]
        np.testing.assert_allclose(whole, losses, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("removal", ["zero_weight", "renormalise"])
@pytest.mark.parametrize("settings", [Exact(), Ggn(), Identity(), Exact(damping=0.1), Exact(parameters=["output.weight"])])
def test_predictions_do_not_depend_on_what_is_held_at_once(tmp_path, monkeypatch, settings, removal):
    monkeypatch.setattr("study.compute.estimators.dense.FACTORED", 1)
    changes = {**PLAIN, "points.removal": removal}
    whole = estimators.predict(cases.fitted(tmp_path, changes), settings)
    monkeypatch.setattr(problems, "LARGEST_PULL", 0)
    parts = estimators.predict(cases.fitted(tmp_path, changes), settings)
    torch.testing.assert_close(parts.delta, whole.delta, rtol=1e-9, atol=1e-13)
    rows = torch.tensor([5, 3, 70])
    one, other = (found.of_rows(rows) for found in (parts, whole))
    torch.testing.assert_close(one.change, other.change, rtol=1e-9, atol=1e-13)
    torch.testing.assert_close(one.delta, whole.delta[rows], rtol=1e-9, atol=1e-13)
    assert parts.change is None


@pytest.mark.parametrize("settings", [Cg(tolerance=1e-12), Lissa(depth=4000, batch_size="full", scale=8.0)])
def test_iterative_estimators_find_the_exact_answer(tmp_path, settings):
    fitted = cases.fitted(tmp_path, {**PLAIN, "training.weight_decay": 0.05})
    exact = estimators.predict(fitted, Exact()).delta
    torch.testing.assert_close(estimators.predict(fitted, settings).delta, exact, rtol=1e-5, atol=1e-9)


def test_lissa_on_batches_draws_the_rows_of_the_perceptron(tmp_path, monkeypatch):
    settings, found = Lissa(depth=50, batch_size=3, repeats=2), []
    for table in (10**9, 0):
        monkeypatch.setattr(checks, "LARGE_TABLE", table)
        fitted = cases.fitted(tmp_path, {"model.kind": "linear", "training.polish": True})
        found.append(estimators.predict(fitted, settings).delta)
    torch.testing.assert_close(found[1], found[0], rtol=1e-6, atol=1e-10)


def test_a_record_of_many_rows_holds_what_is_removed_only(tmp_path, monkeypatch):
    image_files.write_mnist(tmp_path, monkeypatch, classes=5, side=8)
    changes = {
        **PLAIN, "data.name": "mnist", "data.standardize": False, "points.train": "random",
        "points.train_count": 6, "points.test": {"quantiles": [0.5, 1.0]}, "data.n_test": 20,
        "estimators": [{"kind": "exact"}, {"kind": "cg", "tolerance": 1e-12}],
    }  # fmt: skip
    monkeypatch.delitem(cases.IRIS, "data.test_rows")
    [trial] = cases.trials(tmp_path, changes)
    [whole] = run_unit([trial])
    monkeypatch.setattr(schema, "MOST_PREDICTED_ROWS", 10)
    monkeypatch.setattr(problems, "LARGEST_PULL", 0)
    [part] = run_unit([trial])
    assert part.arrays["certificate/stationary/certified"].all()
    assert np.array_equal(part.arrays["predicted_rows"], part.arrays["removed_rows"])
    assert part.arrays["predicted/exact"].shape == (6, 2)
    one, other = (readings.block(trial, record) for record in (whole, part))
    np.testing.assert_allclose(one.predicted, other.predicted, rtol=1e-8, atol=1e-14)
    np.testing.assert_allclose(one.actual, other.actual, rtol=1e-8, atol=1e-14)
    assert other.used.all()
    assert np.isfinite(part.arrays["plugin/exact"]).all()
    assert np.isnan(part.arrays["plugin/cg"]).all()


def test_objectives_of_the_two_paths_polish_to_the_same_point():
    stack, slow, fast, _ = both("classification")
    ends = [fitting.polish(objective, stack.theta, stack.weights, 1e-11) for objective in (slow, fast)]
    torch.testing.assert_close(ends[0].theta, ends[1].theta, rtol=0, atol=1e-8)
    assert (ends[1].gradient_norm <= 1e-11).all()
