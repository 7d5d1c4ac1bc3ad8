"""Proximal objectives and Bregman responses against closed forms, their definitions in plain torch, and each other."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from study.compute import protocols
from study.compute.fitting import Job
from study.compute.protocols import pbrf
from study.errors import StudyError
from study.specs import LinearisedPbrf, Pbrf, Proximal, Stationary
from tests import cases

LINEAR = {"model.kind": "linear", "training.polish": True, "training.weight_decay": 0.02}
UNCONVERGED = {
    "training.optimizer": "adam",
    "training.steps": 40,
    "training.learning_rate": 0.05,
    "training.weight_decay": 0.01,
}
REGRESSION = {**UNCONVERGED, "data.name": "diabetes", "data.test_rows": [0, 5, 200]}
FEW = {"points.train": "random", "points.train_count": 12}
ROWS = [3, 40, 77]


def job_of(fitted, rows=ROWS):
    weights = torch.cat([fitted.problem.weights, fitted.problem.removal_weights(torch.tensor(rows))])
    return Job(fitted.problem, fitted.theta.expand(len(weights), -1), weights)


@pytest.mark.parametrize("removal", ["zero_weight", "renormalise"])
def test_on_softmax_regression_all_counterfactuals_are_one_and_the_linearisation_is_not(tmp_path, removal):
    kinds = [{"kind": "stationary"}, {"kind": "cold"}, {"kind": "cold", "name": "unpaired", "paired": False},
             {"kind": "warm", "steps": 200}, {"kind": "proximal", "damping": 0.0}, {"kind": "pbrf"},
             {"kind": "linearised_pbrf"}]  # fmt: skip
    record = cases.record(tmp_path, {**LINEAR, **FEW, "points.removal": removal, "protocols": kinds})
    expected = record.arrays["actual/stationary"]
    for kind in ("cold", "unpaired", "warm", "proximal", "pbrf"):
        if (kind, removal) == ("pbrf", "renormalise"):
            continue  # its δ does not grow with the weights, the penalty of the others does in effect
        np.testing.assert_allclose(record.arrays[f"actual/{kind}"], expected, rtol=0, atol=1e-8)
    for kind in ("stationary", "proximal", "pbrf"):
        assert record.arrays[f"certificate/{kind}/certified"].all()
    gap = np.abs(record.arrays["actual/linearised_pbrf"] - expected).max()
    assert gap > 1e-4 * np.abs(expected).max() > 0


def test_ridges_proximal_change_is_the_closed_form(tmp_path):
    changes = {"data.name": "diabetes", "data.test_rows": [0, 5], **LINEAR, "training.weight_decay": 0.03}
    fitted = cases.fitted(tmp_path, changes)
    x, y = cases.rows_of(fitted.problem)
    theta, n, d = fitted.theta.numpy(), len(y), 0.2
    [end] = protocols.retrain([job_of(fitted)], Proximal(damping=d))
    np.testing.assert_allclose(end.theta[0], theta, atol=1e-12)
    for k, row in enumerate(ROWS, start=1):
        kept = np.arange(n) != row
        hessian = x[kept].T @ x[kept] / n + 0.03 * np.eye(x.shape[1])
        gradient = x[kept].T @ (x[kept] @ theta - y[kept]) / n + 0.03 * theta
        expected = theta - np.linalg.solve(hessian + d * np.eye(x.shape[1]), gradient)
        np.testing.assert_allclose(end.theta[k], expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("changes", [UNCONVERGED, REGRESSION, {**UNCONVERGED, "model.depth": 2}])
def test_a_proximal_minimum_is_one_of_its_definition(tmp_path, changes):
    fitted = cases.fitted(tmp_path, changes)
    job = job_of(fitted)
    [end] = protocols.retrain([job], Proximal(damping=0.05))
    own = [cases.plain_value(fitted.problem.objective, job.weights, b) for b in range(len(job.weights))]
    for b, theta in enumerate(end.theta):

        def whole(p, b=b):
            return own[b](p) + 0.025 * (p - fitted.theta).square().sum()

        assert torch.func.grad(whole)(theta).norm() < 1e-9
        assert torch.linalg.eigvalsh(torch.func.hessian(whole)(theta))[0] > 0
    assert (end.theta[0] - fitted.theta).norm() > 1e-3  # the base had not converged, so its null moves


def test_first_order_training_to_stationarity_is_there_too(tmp_path):
    """`warm` and `cold` by plain gradient steps that do converge."""
    changes = {**LINEAR, **FEW, "training.polish": False, "training.weight_decay": 0.1, "training.optimizer": "sgd",
               "training.learning_rate": 0.1, "training.steps": 6000}  # fmt: skip
    kinds = [{"kind": "stationary"}, {"kind": "warm", "steps": 6000}, {"kind": "cold"}, {"kind": "pbrf"}]
    record = cases.record(tmp_path, {**changes, "protocols": kinds})
    for kind in ("warm", "cold", "pbrf"):
        expected = record.arrays["actual/stationary"]
        np.testing.assert_allclose(record.arrays[f"actual/{kind}"], expected, rtol=0, atol=1e-8)
    assert np.abs(expected).max() > 1e-4


@pytest.mark.parametrize("removal", ["zero_weight", "renormalise"])
@pytest.mark.parametrize("changes", [UNCONVERGED, REGRESSION, {**UNCONVERGED, "model.depth": 2}])
def test_without_the_gradient_the_null_stays_and_the_minimum_is_one_of_its_definition(tmp_path, changes, removal):
    fitted = cases.fitted(tmp_path, {**changes, "points.removal": removal})
    job = job_of(fitted)
    [end] = protocols.retrain([job], Proximal(damping=0.05, subtract_gradient=True))
    own = [cases.plain_value(fitted.problem.objective, job.weights, b) for b in range(len(job.weights))]
    slope = torch.func.grad(own[0])(fitted.theta)
    assert slope.norm() > 1e-3
    torch.testing.assert_close(end.theta[0], fitted.theta, rtol=0, atol=1e-12)
    for b, theta in enumerate(end.theta):

        def whole(p, b=b):
            return own[b](p) - slope @ p + 0.025 * (p - fitted.theta).square().sum()

        assert torch.func.grad(whole)(theta).norm() < 1e-9
        assert torch.linalg.eigvalsh(torch.func.hessian(whole)(theta))[0] > 0
    value = end.objective.value(end.theta, job.weights) - end.objective.value(fitted.theta.expand(4, -1), job.weights)
    expected = [whole(theta, b) - whole(fitted.theta, b) for b, theta in enumerate(end.theta)]
    torch.testing.assert_close(value, torch.stack(expected), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("changes", [UNCONVERGED, REGRESSION, {**UNCONVERGED, "model.depth": 2}])
def test_a_response_is_a_minimum_of_its_definition_and_the_null_stays(tmp_path, changes):
    fitted = cases.fitted(tmp_path, changes)
    job, objective, n = job_of(fitted), fitted.problem.objective, fitted.problem.objective.rows
    [end] = protocols.retrain([job], Pbrf(damping=0.1))
    outputs = cases.plain_outputs(objective.network, objective.x)
    trained = outputs(fitted.theta)

    def losses(f):
        return cases.plain_losses(f, objective.y, objective.task)

    slopes = torch.func.jacrev(lambda f: losses(f).sum())(trained)
    for b, theta in enumerate(end.theta):

        def whole(p, b=b):
            f = outputs(p)
            divergence = losses(f) - losses(trained) - (slopes * (f - trained)).sum(dim=1)
            removed = losses(f)[ROWS[b - 1]] / n if b else 0.0
            return divergence.mean() - removed + 0.5 * (0.01 + 0.1) * (p - fitted.theta).square().sum()

        assert torch.func.grad(whole)(theta).norm() < 1e-9
        assert torch.linalg.eigvalsh(torch.func.hessian(whole)(theta))[0] > 0
    torch.testing.assert_close(end.theta[0], fitted.theta, rtol=0, atol=1e-12)
    # the objective is the definition but for a constant
    bregman, weights = pbrf.response(job, 0.1)
    values = bregman.value(end.theta, weights)
    expected = torch.stack([whole(theta, b) for b, theta in enumerate(end.theta)])
    torch.testing.assert_close(values - values[0], expected - expected[0], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("damping", [0.0, 0.1])
@pytest.mark.parametrize("changes", [UNCONVERGED, REGRESSION])
def test_the_linearised_response_is_what_ggn_predicts(tmp_path, changes, damping):
    asked = {
        "estimators": [{"kind": "ggn", "damping": damping}],
        "protocols": [{"kind": "linearised_pbrf", "damping": damping}],
    }
    record = cases.record(tmp_path, {**changes, **asked})
    np.testing.assert_allclose(
        record.arrays["actual/linearised_pbrf"], record.arrays["plugin/ggn"], rtol=1e-7, atol=1e-13
    )
    np.testing.assert_allclose(
        record.arrays["actual_norm/linearised_pbrf"], record.arrays["predicted_norm/ggn"], rtol=1e-8
    )
    assert np.abs(record.arrays["null/linearised_pbrf"]).max() == 0


def test_a_response_far_from_a_minimum_is_certified_and_flagged_as_its_kind_promises(tmp_path):
    record = cases.record(
        tmp_path, {**UNCONVERGED, **FEW, "protocols": [{"kind": "pbrf", "damping": 0.1}, {"kind": "warm", "steps": 5}]}
    )
    assert record.header["base"]["gradient_norm"] > 1e-3
    assert record.arrays["certificate/pbrf/certified"].all()
    assert (record.arrays["flag/pbrf"] == "").all()
    assert not record.arrays["certificate/warm/certified"].any()


def test_a_strong_pull_keeps_every_removal_near_and_a_weak_one_lets_it_go(tmp_path):
    fitted = cases.fitted(tmp_path, {"training.polish": True})
    job = job_of(fitted)
    [free] = protocols.retrain([job], Stationary())
    moved = []
    for damping in (0.0, 1e-4, 1.0):
        [end] = protocols.retrain([job], Proximal(damping=damping))
        moved.append((end.theta[1:] - end.theta[0]).norm(dim=1))
    torch.testing.assert_close(moved[0], (free.theta[1:] - free.theta[0]).norm(dim=1), rtol=1e-7, atol=0)
    assert (moved[1] > 5 * moved[2]).all()


def test_soft_targets_have_the_cross_entropy_of_torch():
    case = cases.stack(depth=1)
    soft = torch.softmax(
        torch.randn(case.objective.y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2)), 1
    )
    objective = cases.replace(case.objective, y=soft)
    outputs = objective.network.outputs(case.theta, objective.x)
    for b in range(len(case.theta)):
        torch.testing.assert_close(
            objective.row_losses(case.theta)[b], cross_entropy(outputs[b], soft, reduction="none")
        )

    def total(theta):
        return (case.weights * objective.row_losses(theta)).sum()

    expected = torch.func.grad(total)(case.theta) + objective.decay * case.theta
    torch.testing.assert_close(objective.gradient(case.theta, case.weights)[1], expected)  # by the fused kernel


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training.weight_decay": 0.0, "protocols": [{"kind": "pbrf"}]}, "nothing keeps it near"),
        ({"training.decay_biases": False, "protocols": [{"kind": "linearised_pbrf"}]}, "nothing keeps it near"),
        ({"points.removal": "perturb_input", "protocols": [{"kind": "pbrf"}]}, 'has no such response; use "proximal"'),
        ({"protocols": [{"kind": "proximal", "damping": -1.0}]}, "must be"),
        (
            {"training.decay_biases": False, "protocols": [{"kind": "proximal", "damping": 0.0, "subtract_gradient": True}]},
            "nothing keeps it near",
        ),
    ],
)
def test_what_has_no_minimum_or_meaning_is_refused(tmp_path, changes, message):
    with pytest.raises(StudyError, match=message):
        cases.trials(tmp_path, changes)
    assert LinearisedPbrf().damping == 0
