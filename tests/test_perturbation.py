"""Rows that move instead of leaving: derivatives against autograd, predictions against finite retraining."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from study import trials
from study.compute import estimators, fitting, perturbation
from study.compute.modules import ModuleNetwork
from study.compute.objective import row_losses
from study.compute.problems import problem
from study.errors import StudyError
from study.specs import Cg, Exact, PerturbInput
from tests import cases

MOVED = {
    "points.removal": "perturb_input",
    "points.perturbation": 1e-3,
    "data.test_rows": [83],
    "training.polish": True,
    "training.weight_decay": 0.02,
    "estimators": [{"kind": "perturb_input"}, {"kind": "exact"}],
}


def module():
    return nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 3))


@pytest.mark.parametrize("changes", [{"depth": 0}, *({"activation": name} for name in cases.ACTIVATIONS), {"depth": 3},
                                     {"task": "regression", "depth": 2}, {"module": True}])  # fmt: skip
def test_both_derivatives_are_those_of_autograd(changes):
    module_too = changes.get("module", False)
    case = cases.stack(**{key: value for key, value in changes.items() if key != "module"})
    objective, theta = case.objective, case.theta[0]
    if module_too:
        objective = replace(objective, network=ModuleNetwork(module))
        theta = objective.network.initial(3)
    generator = torch.Generator().manual_seed(1)
    moves = torch.randn(objective.x.shape, generator=generator, dtype=torch.float64)
    direction = torch.randn(theta.shape, generator=generator, dtype=torch.float64)

    def losses(parameters, x):
        return row_losses(objective.network.outputs(parameters[None], x), objective.y, objective.task)[0]

    # ∂²L_i/∂θ∂x_j is zero for i ≠ j: [n, P, n, d] holds each row's own on its diagonal
    whole = torch.func.jacfwd(torch.func.jacrev(losses), argnums=1)(theta, objective.x)
    own = torch.einsum("ipid->ipd", whole)
    expected = torch.einsum("ipd,id->ip", own, moves)
    torch.testing.assert_close(perturbation.mixed(objective, theta, moves), expected, rtol=1e-9, atol=1e-12)
    expected = torch.einsum("ipd,p->id", own, direction)
    torch.testing.assert_close(perturbation.by_input(objective, theta, direction), expected, rtol=1e-9, atol=1e-12)


def test_of_a_linear_regression_it_is_the_closed_form(tmp_path):
    changes = {
        **MOVED,
        "data.name": "diabetes",
        "data.test_rows": [5],
        "model.kind": "linear",
        "points.perturbation": 0.2,
    }
    fitted = cases.fitted(tmp_path, changes)
    found = estimators.predict(fitted, PerturbInput())
    x, y = cases.rows_of(fitted.problem)
    theta, n = fitted.theta.numpy(), len(y)
    hessian = x.T @ x / n + 0.02 * np.eye(x.shape[1])
    x_test = np.append(fitted.problem.split.x_test[0], 1.0)
    s = np.linalg.solve(hessian, (x_test @ theta - fitted.problem.split.y_test[0]) * x_test)
    # ∇L_i·s = (θᵀx − y) xᵀs, so its derivative by the features is (xᵀs) θ + (θᵀx − y) s
    by_input = (x @ s)[:, None] * theta[:-1] + (x @ theta - y)[:, None] * s[:-1]
    np.testing.assert_allclose(fitted.moves, -0.2 * np.sign(by_input))
    np.testing.assert_allclose(found.delta[:, 0], 0.2 * np.abs(by_input).sum(axis=1) / n, rtol=1e-9)
    assert (found.delta > 0).all()  # each row moves as the test loss rises
    # exact moves the gradient itself: with x' = x + δ, −(1/n) sᵀ[(θᵀx' − y) x' − (θᵀx − y) x]
    there = x.copy()
    there[:, :-1] += fitted.moves.numpy()
    lost = (there @ theta - y) * (there @ s) - (x @ theta - y) * (x @ s)
    np.testing.assert_allclose(estimators.predict(fitted, Exact()).delta[:, 0], -lost / n, rtol=1e-9)


@pytest.mark.parametrize("changes", [{}, {"points.direction": "random"}, {"target": "margin"}, {"model.depth": 2}])
def test_it_matches_finite_retraining(tmp_path, changes):
    record = cases.record(tmp_path, {**MOVED, "points.train": "random", "points.train_count": 30, **changes})
    assert record.arrays["certificate/stationary/certified"].all()
    assert record.arrays["moves"].shape == (30, 4)
    np.testing.assert_allclose(np.abs(record.arrays["moves"]), 1e-3)
    rows = np.searchsorted(record.arrays["train_rows"], record.arrays["removed_rows"])
    actual = record.arrays["actual/stationary"][:, 0]
    for name in ("perturb_input", "exact"):
        predicted = record.arrays[f"predicted/{name}"][rows, 0]
        assert np.polyfit(predicted, actual, 1)[0] == pytest.approx(1, abs=0.01)
        np.testing.assert_allclose(predicted, actual, atol=0.02 * np.abs(actual).max())
    assert 0 < record.header["estimators"]["perturb_input"]["step_error"] < 0.1


def test_a_move_too_large_for_its_derivative_is_said(tmp_path):
    errors = []
    for size in (1e-3, 3.0):
        fitted = cases.fitted(tmp_path, {**MOVED, "points.perturbation": size})
        errors.append(estimators.predict(fitted, PerturbInput()).evidence["step_error"])
    assert errors[0] < 0.1
    assert errors[1] > 1


def test_the_order_of_the_rows_does_not_matter(tmp_path):
    fitted = cases.fitted(tmp_path, MOVED)
    objective = fitted.problem.objective
    order = torch.randperm(objective.rows, generator=torch.Generator().manual_seed(4))
    shuffled = replace(fitted.problem, objective=replace(objective, x=objective.x[order], y=objective.y[order]))
    again = estimators.predict(replace(fitted, problem=shuffled), PerturbInput()).delta
    expected = estimators.predict(fitted, PerturbInput()).delta
    torch.testing.assert_close(again, expected[order], rtol=1e-7, atol=1e-9 * expected.abs().max().item())


def test_twice_the_move_has_four_times_the_error(tmp_path):
    """First order in the move as well: exact, which is first order in the weight only, stands for the truth here."""
    errors = []
    for size in (1e-3, 2e-3):
        fitted = cases.fitted(tmp_path, {**MOVED, "points.perturbation": size})
        gap = estimators.predict(fitted, PerturbInput()).delta - estimators.predict(fitted, Exact()).delta
        errors.append(gap.norm().item())
    assert errors[1] / errors[0] == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize("protocol", ["warm", "cold"])
def test_retraining_is_that_of_a_data_set_in_which_the_row_has_moved(tmp_path, protocol):
    asked = {"kind": protocol, **({"steps": 30} if protocol == "warm" else {})}
    changes = {
        **MOVED, "points.perturbation": 0.5, "training.polish": False, "training.optimizer": "adam", "training.steps": 60,
        "training.batch_size": 32, "points.train": "random", "points.train_count": 3, "protocols": [asked],
    }  # fmt: skip
    [trial] = cases.trials(tmp_path, changes)
    record = cases.record(tmp_path, changes)
    p = problem(trial)
    base = torch.tensor(record.arrays["base_parameters"])
    null = p.target.values(fitting.scratch([fitting.initial(p)])[0])
    for k, row in enumerate(record.arrays["removed_rows"]):
        place = int(np.searchsorted(record.arrays["train_rows"], row))
        x = p.objective.x.clone()
        x[place] += torch.tensor(record.arrays["moves"][k])
        there = replace(p, objective=replace(p.objective, x=x))
        if protocol == "cold":
            [end] = fitting.scratch([fitting.initial(there)])
            start = null
        else:
            [end] = fitting.first_order([fitting.Job(there, base[None], p.weights)], 30, fitting.ONWARDS)
            [still] = fitting.first_order([fitting.Job(p, base[None], p.weights)], 30, fitting.ONWARDS)
            start = p.target.values(still)
        expected = (p.target.values(end) - start)[0].numpy()
        np.testing.assert_allclose(record.arrays[f"actual/{protocol}"][k], expected, rtol=1e-7, atol=1e-12)
        assert abs(expected[0]) > 1e-6


def test_solvers_and_the_dense_answer_agree_on_moved_rows(tmp_path):
    fitted = cases.fitted(tmp_path, MOVED)
    torch.testing.assert_close(
        estimators.predict(fitted, Cg()).delta, estimators.predict(fitted, Exact()).delta, rtol=1e-7, atol=1e-12
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points.removal": "zero_weight"}, 'removal = "zero_weight" moves no row; write removal = "perturb_input"'),
        ({"estimators": [{"kind": "newton_step"}]}, "newton_step predicts removal only"),
        ({"estimators": [{"kind": "unrolled"}], "training.optimizer": "adam"}, "unrolled predicts removal only"),
        ({"data.test_rows": [83, 84]}, "each of the 2 test points would move a row its own way"),
        ({"points.fraction": 0.5}, "no weight goes; use perturbation"),
        ({"points.perturbation": 0.0}, "points.perturbation = 0.0: must be more than 0"),
        ({"points.direction": "up"}, 'points.direction = "up": must be one of'),
    ],
)  # fmt: skip
def test_what_has_no_meaning_is_refused(tmp_path, changes, message):
    def checked():
        cases.trials(tmp_path, {**MOVED, **changes})
        trials.check(trials.load(tmp_path / "case.toml"))

    with pytest.raises(StudyError, match=message):
        checked()
