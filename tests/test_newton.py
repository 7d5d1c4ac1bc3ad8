"""Newton's method: SciPy's minima, saddles left behind, a step past the tolerance."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from study.compute import newton
from study.compute.curvature import positive_definite
from tests import cases


def balanced_saddle(networks=2):
    """θ = 0 of a perceptron with equally many rows of each class: stationary, and a saddle under a small penalty."""
    case = cases.stack(depth=1, networks=networks, rows=12, weight_decay=1e-4)
    y = torch.eye(3, dtype=torch.float64).repeat(4, 1)
    x = case.objective.x + 2 * y
    case.weights[:] = 1 / 12
    return cases.replace(case, objective=cases.replace(case.objective, x=x, y=y), theta=torch.zeros_like(case.theta))


@pytest.mark.parametrize("own_rows", [False, True])
def test_a_perceptron_ends_in_a_minimum_far_below_the_tolerance(own_rows):
    case = cases.stack("regression", width=2, activation="softplus", rows=15, weight_decay=0.02, own_rows=own_rows)
    found = newton.minimise(case.objective, case.theta, case.weights, 1e-7, 200)
    assert (found.gradient_norm < 1e-12).all()  # the last step is quadratic
    for b, theta in enumerate(found.theta):
        value = cases.plain_value(case.objective, case.weights, b)
        gradient, hessian = torch.func.grad(value), torch.func.hessian(value)
        assert gradient(theta).norm() < 1e-12
        assert np.linalg.eigvalsh(hessian(theta).numpy())[0] > 0
        expected = minimize(
            lambda p, value=value: value(torch.from_numpy(p)).item(),
            theta.numpy() + 1e-3,
            method="trust-exact",
            jac=lambda p, gradient=gradient: gradient(torch.from_numpy(p)).numpy(),
            hess=lambda p, hessian=hessian: hessian(torch.from_numpy(p)).numpy(),
            options={"gtol": 1e-11},
        )
        np.testing.assert_allclose(theta, expected.x, atol=1e-8)


def test_a_saddle_is_left_behind():
    case = balanced_saddle()
    hessian = torch.func.hessian(cases.plain_value(case.objective, case.weights))(case.theta[0])
    assert case.objective.gradient(case.theta, case.weights)[1].norm() < 1e-15
    assert np.linalg.eigvalsh(hessian.numpy())[0] < -1e-2
    found = newton.minimise(case.objective, case.theta, case.weights, 1e-9, 200)
    assert (found.gradient_norm < 1e-10).all()
    for b, theta in enumerate(found.theta):
        value = cases.plain_value(case.objective, case.weights, b)
        assert np.linalg.eigvalsh(torch.func.hessian(value)(theta).numpy())[0] > 1e-8
        assert value(theta) < value(torch.zeros_like(theta)) - 0.1


def test_a_gradient_below_the_tolerance_is_not_enough_and_one_more_step_is_taken():
    case = cases.stack(depth=0)
    near = newton.minimise(case.objective, case.theta, case.weights, 1e-3, 200)
    assert (near.gradient_norm < 1e-5).all()
    again = newton.minimise(case.objective, near.theta, case.weights, 1e-3, 200)
    assert again.iterations.tolist() == [1, 1, 1]
    assert (again.gradient_norm < near.gradient_norm).all()


def test_a_network_of_nan_and_a_stack_of_nothing_else_are_no_error():
    case = cases.stack(depth=1)
    alone = newton.minimise(case.objective, case.theta, case.weights, 1e-9, 100)
    case.theta[1] = torch.nan
    found = newton.minimise(case.objective, case.theta, case.weights, 1e-9, 100)
    torch.testing.assert_close(found.theta[[0, 2]], alone.theta[[0, 2]], rtol=1e-10, atol=1e-10)
    assert torch.isnan(found.gradient_norm[1])
    assert torch.isnan(
        newton.minimise(case.objective, torch.full_like(case.theta, torch.nan), case.weights, 1e-9, 100).theta
    ).all()


def test_little_memory_changes_nothing_but_rounding(monkeypatch):
    case = cases.stack(networks=5)
    whole = newton.minimise(case.objective, case.theta, case.weights, 1e-9, 200).theta
    monkeypatch.setattr(newton, "CACHE_BYTES", 1)
    torch.testing.assert_close(
        newton.minimise(case.objective, case.theta, case.weights, 1e-9, 200).theta, whole, rtol=1e-7, atol=1e-8
    )


def test_a_minimum_too_flat_to_be_certified_is_reached_in_a_few_steps_all_the_same():
    case = cases.stack(depth=0, weight_decay=5e-11)  # adding a constant to all outputs costs the penalty only
    hessian = case.objective.hessian(case.theta, case.weights)
    assert not positive_definite(hessian)[0].any()
    assert (torch.linalg.eigvalsh(hessian)[:, 0] > 0).all()
    found = newton.minimise(case.objective, case.theta, case.weights, 1e-9, 200)
    assert (found.iterations <= 25).all()
    # along the penalty's own direction the gradient is 5e-11 θ: only a step of Newton's own length ends there
    shift = found.theta[:, :-3].unflatten(1, (3, -1)).mean(dim=1)
    assert (shift.abs() < 1e-4).all()
    assert (found.gradient_norm < 1e-13).all()


def test_the_last_step_is_a_short_one():
    case = cases.stack(depth=0)
    found = newton.minimise(case.objective, case.theta, case.weights, 1e-1, 200)
    assert (case.objective.gradient(case.theta, case.weights)[1].norm(dim=1) > 1e-1).all()
    assert (found.gradient_norm < newton.SHORT**2).all()
