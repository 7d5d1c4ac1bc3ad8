"""Protocols and their certificates against scikit-learn refits, SciPy, and themselves one at a time."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression, Ridge

from study.compute import certificates, estimators, fitting, flags, newton, protocols
from study.compute.fitting import Job
from study.compute.problems import problem
from study.compute.trial import run_unit
from study.specs import Cold, Exact, Stationary, Warm
from tests import cases

FEW = {"points.train": "random", "points.train_count": 5}
ALL_PROTOCOLS = [{"kind": "warm", "steps": 25}, {"kind": "cold"}, {"kind": "stationary"}]


def job_of(fitted, rows):
    """The null and the removal of some rows, from θ*."""
    weights = torch.cat([fitted.problem.weights, fitted.problem.removal_weights(torch.tensor(rows))])
    return Job(fitted.problem, fitted.theta.expand(len(weights), -1), weights)


def positions(record):
    return np.searchsorted(record.arrays["train_rows"], record.arrays["removed_rows"])


@pytest.mark.parametrize("removal", ["zero_weight", "renormalise"])
@pytest.mark.parametrize("name", ["iris", "wine"])
def test_logistic_leave_one_out_is_scikit_learns(tmp_path, name, removal):
    changes = {
        **FEW,
        "data.name": name,
        "model.kind": "linear",
        "training.weight_decay": 0.02,
        "points.removal": removal,
    }
    record = cases.record(tmp_path, changes)
    p = problem(cases.trials(tmp_path, changes)[0])
    (x, y), x_test = cases.rows_of(p), np.column_stack([p.split.x_test, np.ones(3)])

    def losses(kept):
        rows = len(y) if removal == "zero_weight" else len(kept)  # zero_weight keeps 1/n
        model = LogisticRegression(
            C=1 / (rows * 0.02), fit_intercept=False, tol=1e-13, max_iter=10_000, solver="newton-cg"
        )
        return -model.fit(x[kept], y[kept]).predict_log_proba(x_test)[np.arange(3), p.split.y_test]

    everything = np.arange(len(y))
    expected = [losses(np.delete(everything, i)) - losses(everything) for i in positions(record)]
    np.testing.assert_allclose(record.arrays["actual/stationary"], expected, rtol=1e-6, atol=1e-9)
    assert record.arrays["certificate/stationary/certified"].all()
    assert (record.arrays["flag/stationary"] == "").all()


@pytest.mark.parametrize("kind", ["stationary", "cold"])
def test_ridge_leave_one_out_is_scikit_learns(tmp_path, kind):
    changes = {
        **FEW,
        "data.name": "diabetes",
        "model.kind": "linear",
        "training.weight_decay": 0.05,
        "training.polish": True,
        "protocols": [{"kind": kind}],
    }
    record = cases.record(tmp_path, changes)
    p = problem(cases.trials(tmp_path, changes)[0])
    (x, y), x_test = cases.rows_of(p), np.column_stack([p.split.x_test, np.ones(3)])

    def losses(kept):
        model = Ridge(alpha=len(y) * 0.05, fit_intercept=False, solver="cholesky").fit(x[kept], y[kept])
        return 0.5 * (model.predict(x_test) - p.split.y_test) ** 2

    everything = np.arange(len(y))
    expected = [losses(np.delete(everything, i)) - losses(everything) for i in positions(record)]
    np.testing.assert_allclose(record.arrays[f"actual/{kind}"], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "changes", [{"data.task": "classification"}, {"data.task": "regression"}], ids=["classification", "regression"]
)
def test_stationary_deltas_of_a_perceptron_are_an_independent_refit(tmp_path, changes):
    """SciPy minimises J₋ᵢ on plain torch, from the same start, by a trust region with the dense Hessian."""
    changes = {
        **cases.blobs(tmp_path),
        **changes,
        "data.test_rows": [0, 1, 5],
        "model.width": 2,
        "training.weight_decay": 0.05,
    }
    fitted, record = cases.fitted(tmp_path, changes), cases.record(tmp_path, changes)
    objective, target, n = fitted.problem.objective, fitted.target, 21
    outputs = cases.plain_outputs(objective.network, target.x)

    def refit(weights, start):
        value = cases.plain_value(objective, weights)
        gradient, hessian = torch.func.grad(value), torch.func.hessian(value)
        found = minimize(
            lambda t: value(torch.from_numpy(t)).item(),
            start,
            method="trust-exact",
            options={"gtol": 1e-9},
            jac=lambda t: gradient(torch.from_numpy(t)).numpy(),
            hess=lambda t: hessian(torch.from_numpy(t)).numpy(),
        )
        theta = torch.from_numpy(found.x)
        for _ in range(2):
            theta = theta - torch.linalg.solve(hessian(theta), gradient(theta))
        assert gradient(theta).norm() < 1e-14
        assert np.linalg.eigvalsh(hessian(theta).numpy())[0] > 0
        return theta.numpy(), cases.plain_losses(outputs(theta), target.y, objective.task).numpy()

    null, base = refit(fitted.problem.weights, fitted.theta.numpy())
    assert record.arrays["certificate/stationary/certified"].all()
    for i in range(0, n, 4):
        weights = torch.full((1, n), 1 / n, dtype=torch.float64)
        weights[0, i] = 0
        theta, losses = refit(weights, null)
        np.testing.assert_allclose(record.arrays["actual/stationary"][i], losses - base, rtol=1e-7, atol=1e-9)
        assert record.arrays["actual_norm/stationary"][i] == pytest.approx(np.linalg.norm(theta - null), rel=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"training.batch_size": 32, "training.dtype": "float32"},
        {"data.name": "breast_cancer", "model.kind": "linear"},
    ],
    ids=["full", "batches", "many-rows"],
)
def test_many_trials_in_one_stack_are_one_at_a_time_to_the_last_bit(tmp_path, changes):
    changes = {
        **FEW,
        "training.optimizer": "adam",
        "training.steps": 60,
        "training.schedule": "plateau",
        "training.patience": 5,
        "protocols": ALL_PROTOCOLS,
        **changes,
    }
    sweep = {
        "data.test_rows": [[0, 60], [60, 140]],
        "training.learning_rate": [0.001, 0.03],
        "training.weight_decay": [0.01, 0.1],
    }
    trials = cases.trials(tmp_path, changes, {**sweep, "seed": [0, 1]})
    together = run_unit(trials)
    assert len({record.arrays["base_parameters"].tobytes() for record in together}) == len(trials) == 16
    for trial, stacked in zip(trials[::3], together[::3], strict=True):
        [alone] = run_unit([trial])
        assert alone.key == stacked.key == trial.key
        for name, values in alone.arrays.items():
            assert np.array_equal(values, stacked.arrays[name], equal_nan=values.dtype.kind == "f"), name


def test_the_cold_null_is_the_base(tmp_path):
    changes = {
        **FEW,
        "training.optimizer": "adam",
        "training.steps": 60,
        "training.batch_size": 20,
        "protocols": [{"kind": "cold"}],
    }
    plain, polished = (
        cases.record(tmp_path, {**changes, "training.polish": polish}).arrays for polish in (False, True)
    )
    assert (plain["null/cold"] == 0).all()
    assert plain["null_norm/cold"] == 0
    assert (np.abs(polished["null/cold"]) <= 1e-9).all()
    assert np.array_equal(plain["actual/cold"], plain["actual_raw/cold"])
    assert (plain["actual/cold"] != 0).all()


@pytest.mark.parametrize("settings", [Warm(steps=30), Cold()])
def test_null_and_removals_share_their_randomness(tmp_path, settings):
    """A removal that removes nothing ends where the null does, to the last bit; another batch order would not."""
    fitted = cases.fitted(tmp_path, {"training.optimizer": "adam", "training.steps": 30, "training.batch_size": 10})
    weights = fitted.problem.weights.expand(3, -1).clone()
    weights[2, 0] = 0
    [end] = protocols.retrain([Job(fitted.problem, fitted.theta.expand(3, -1), weights)], settings)
    assert torch.equal(end.theta[0], end.theta[1])
    assert not torch.equal(end.theta[0], end.theta[2])
    assert torch.equal(end.theta[0], fitted.theta) == (settings.kind == "cold")


def test_warm_training_goes_on_with_a_fresh_optimiser_and_the_second_batch_order(tmp_path):
    fitted = cases.fitted(
        tmp_path,
        {"training.optimizer": "adam", "training.learning_rate": 0.01, "training.batch_size": 10, "training.steps": 30},
    )
    [end] = protocols.retrain([job_of(fitted, [3])], Warm(steps=12))
    module, objective = cases.plain_module(fitted.problem.network), fitted.problem.objective
    torch.nn.utils.vector_to_parameters(fitted.theta, module.parameters())
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01, weight_decay=0.01)
    kept, order = torch.ones(147).double(), fitting.training.batches.rows(0, 147, 10, stage=1)
    kept[3] = 0
    for rows, _ in zip(order, range(12), strict=False):
        optimizer.zero_grad()
        (kept[rows] * cases.plain_losses(module(objective.x[rows]), objective.y[rows], objective.task)).sum().div(
            10
        ).backward()
        optimizer.step()
    torch.testing.assert_close(
        end.theta[1], torch.nn.utils.parameters_to_vector(module.parameters()).detach(), rtol=1e-10, atol=1e-10
    )


def test_actual_is_against_the_null_and_raw_against_the_base(tmp_path):
    changes = {**FEW, "training.optimizer": "adam", "training.steps": 50, "protocols": [{"kind": "warm", "steps": 20}]}
    arrays = cases.record(tmp_path, changes).arrays
    np.testing.assert_allclose(arrays["actual/warm"] + arrays["null/warm"], arrays["actual_raw/warm"], atol=1e-15)
    assert (np.abs(arrays["null/warm"]) > 1e-6).all()


def test_without_a_penalty_separable_data_are_never_certified(tmp_path):
    changes = {
        **cases.blobs(tmp_path, apart=8.0),
        "data.test_rows": [0, 1],
        "model.kind": "linear",
        "training.weight_decay": 0,
        "training.polish": True,
    }
    record = cases.record(tmp_path, changes)
    assert {"no_minimum", "uncertified_base"} <= set(record.header["flags"])
    assert not record.header["base"]["certified"]
    assert record.arrays["certificate/stationary/gradient_norm"].max() < 1e-9  # the gradient alone would say converged
    assert not record.arrays["certificate/stationary/certified"].any()
    assert all("no_minimum" in reasons and "uncertified" in reasons for reasons in record.arrays["flag/stationary"])
    penalised = cases.record(tmp_path, {**changes, "training.weight_decay": 0.1})
    assert penalised.header["flags"] == []
    assert penalised.arrays["certificate/stationary/certified"].all()


def test_training_in_float32_is_certified_in_float64(tmp_path):
    changes = {
        **FEW,
        "training.optimizer": "adam",
        "training.steps": 50,
        "training.dtype": "float32",
        "protocols": ALL_PROTOCOLS[::2],
    }
    fitted, record = cases.fitted(tmp_path, changes), cases.record(tmp_path, changes)
    theta = torch.from_numpy(record.arrays["base_parameters"].copy())
    assert theta.dtype == torch.float64
    assert torch.equal(theta, theta.float().double())
    gradient = torch.func.grad(cases.plain_value(fitted.problem.objective, fitted.problem.weights))(theta)
    assert record.header["base"]["gradient_norm"] == pytest.approx(gradient.norm().item(), rel=1e-12)
    assert record.arrays["certificate/stationary/certified"].all()
    assert not record.arrays["certificate/warm/certified"].any()
    assert (record.arrays["flag/warm"] == "").all()  # only `stationary` promises a certificate


def certificate(fitted, theta, weights, tolerance=1e-9):
    return certificates.certify(fitted.problem.objective, theta, weights, fitted.target, tolerance)


def test_stopped_early_is_uncertified_by_its_gradient(tmp_path):
    fitted = cases.fitted(tmp_path, {"training.polish": True, "training.weight_decay": 0.05})
    stopped = fitted.theta + 1e-6
    found = certificate(fitted, torch.stack([fitted.theta, stopped]), fitted.problem.weights.expand(2, -1))
    assert found.certified.tolist() == [True, False]
    assert found.positive_definite.tolist() == [True, True]
    value = cases.plain_value(fitted.problem.objective, fitted.problem.weights)
    gradient, hessian = torch.func.grad(value)(stopped), torch.func.hessian(value)(stopped)
    outputs = cases.plain_outputs(fitted.problem.network, fitted.target.x)
    tests = torch.func.jacrev(lambda t: cases.plain_losses(outputs(t), fitted.target.y, "classification"))(stopped)
    assert found.gradient_norm[1] == pytest.approx(gradient.norm().item(), rel=1e-9)
    np.testing.assert_allclose(found.delta_error[1], (tests @ torch.linalg.solve(hessian, gradient)).abs(), rtol=1e-6)
    # the delta error is the error, to first order
    error = (fitted.target.values(stopped[None]) - fitted.target.values(fitted.theta[None]))[0].abs()
    np.testing.assert_allclose(found.delta_error[1], error, rtol=1e-3)


def test_a_small_gradient_does_not_bound_the_delta(tmp_path):
    fitted = cases.fitted(tmp_path, {"training.polish": True, "training.weight_decay": 0.05})
    found = certificate(fitted, fitted.theta[None] + 1e-6, fitted.problem.weights, tolerance=1.0)
    assert found.gradient_norm[0] < 1.0
    assert found.positive_definite[0]
    assert not found.certified[0]


def test_a_saddle_is_uncertified_by_its_curvature(tmp_path):
    fitted = cases.fitted(tmp_path, {**cases.blobs(tmp_path), "data.test_rows": [0, 1], "training.weight_decay": 1e-4})
    found = certificate(fitted, torch.zeros_like(fitted.theta)[None], fitted.problem.weights)
    assert found.gradient_norm[0] < 1e-12  # eleven rows of each class
    assert not found.positive_definite[0]
    assert not found.certified[0]


def test_stationary_leaves_the_saddle_it_starts_from(tmp_path):
    fitted = cases.fitted(
        tmp_path, {**cases.blobs(tmp_path, apart=2.0), "data.test_rows": [0, 1], "training.weight_decay": 1e-3}
    )
    job = job_of(fitted, [0, 5])
    [end] = protocols.retrain([Job(job.problem, torch.zeros_like(job.theta), job.weights)], Stationary())
    assert certificate(fitted, end.theta, job.weights).certified.all()


def permuted(theta):
    """The same function by other hidden units: another minimum of equal height."""
    first, bias, last, rest = theta.split([12, 3, 9, 3])
    order = [1, 2, 0]
    return torch.cat([first.view(3, 4)[order].flatten(), bias[order], last.view(3, 3)[:, order].flatten(), rest])


def test_another_basin_is_far_or_behind_a_ridge(tmp_path):
    fitted = cases.fitted(tmp_path, {"training.polish": True, "training.weight_decay": 0.02})
    other = permuted(fitted.theta)
    job = job_of(fitted, [0, 50, 100])
    [end] = protocols.retrain([job], Stationary())
    theta, weights = torch.cat([end.theta, other[None]]), torch.cat([job.weights, job.weights[:1]])
    found = certificate(fitted, theta, weights)
    assert found.another_basin.tolist() == [False, False, False, False, True]
    assert found.certified[-1]
    value = cases.plain_value(fitted.problem.objective, weights)
    along = [value(theta[0] + s * (other - theta[0])).item() for s in np.linspace(0, 1, 21)]
    assert found.segment_excess[-1] == pytest.approx(max(along[1:-1]) - max(along[0], along[-1]), rel=1e-6)
    assert found.segment_excess[-1] > 1e-3


def test_far_alone_is_another_basin(tmp_path):
    """Past ten times the first-order change, however convex the way there."""
    fitted = cases.fitted(tmp_path, {"model.kind": "linear", "training.polish": True})
    weights = job_of(fitted, [7]).weights[[0, 1, 1]]
    change = estimators.predict(fitted, Exact()).change[7]
    found = certificate(
        fitted, torch.stack([fitted.theta, fitted.theta + 9 * change, fitted.theta + 11 * change]), weights
    )
    assert (found.segment_excess[1:] < 0).all()
    assert found.another_basin.tolist() == [False, False, True]


def test_a_ridge_alone_is_another_basin(tmp_path):
    """Changed weights that predict a long way make the permuted minimum near, but a ridge lies between."""
    fitted = cases.fitted(tmp_path, {"training.polish": True, "training.weight_decay": 0.02})
    theta = torch.stack([fitted.theta, permuted(fitted.theta)])
    weights = fitted.problem.weights.repeat(2, 1)
    weights[1, ::2] *= 200
    found = certificate(fitted, theta, weights)
    hessian = torch.func.hessian(cases.plain_value(fitted.problem.objective, weights))(fitted.theta)
    change = (weights[1] - weights[0]) @ fitted.problem.objective.row_gradients(theta[:1])[0]
    assert (theta[1] - theta[0]).norm() < 10 * torch.linalg.solve(hessian, change).norm()
    assert found.segment_excess[1] > 1e-3
    assert found.another_basin.tolist() == [False, True]


def test_collapse_is_measured_against_a_constant_prediction(tmp_path):
    for changes in ({}, {"data.name": "diabetes"}):
        fitted = cases.fitted(tmp_path, {**changes, "training.steps": 1})
        objective, weights = fitted.problem.objective, fitted.problem.weights
        constant = torch.full_like(fitted.theta, 0.0)
        constant[:12] = 5.0  # a large norm, but no output depends on the input
        if not changes:
            constant[-3:] = objective.y.mean(dim=0).log()
        assert flags.collapsed(objective, constant[None], weights)[0]
        assert flags.collapsed(objective, torch.full_like(fitted.theta, 0.001)[None], weights)[0]
        trained = newton.minimise(objective, fitted.theta[None], weights, 1e-6, 50).theta
        assert not flags.collapsed(objective, trained, weights)[0]
