"""Networks that share one factor of curvature: against a dense Hessian each, and against SciPy on plain torch."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from study.compute import certificates, fitting, preconditioned
from study.compute.mlp import Mlp
from study.compute.preconditioned import Factor
from study.compute.trial import run_unit
from study.records import Record
from tests import cases

FACTORS = pytest.mark.parametrize("cheap", [True, False], ids=["hessian", "gauss-newton"])


@pytest.fixture
def shared(monkeypatch):
    """Every network shares its factor, however small; nothing is remembered from another test."""

    def switch(cheap: bool = True) -> None:
        preconditioned._known.clear()
        monkeypatch.setattr(preconditioned, "DENSE_WORK", 0.0)
        monkeypatch.setattr(Mlp, "forms_cheaply", cheap)

    yield switch
    preconditioned._known.clear()


def minimum(networks=4, depth=1, weight_decay=0.05):
    """A small stack, all of one penalty, at a minimum of its first network's objective; the others leave one row each."""
    case = cases.stack(depth=depth, networks=networks, weight_decay=weight_decay)
    case.objective.decay[:] = weight_decay
    case.weights[:] = 1 / 11
    case.weights[torch.arange(1, networks), torch.arange(networks - 1)] = 0.0
    base = case.objective.networks(slice(0, 1))
    return case, fitting.polish(base, case.theta[:1], case.weights[:1], 1e-12).theta


@FACTORS
@pytest.mark.parametrize("removal", ["zero_weight", "renormalise"])
def test_leave_one_outs_are_those_with_a_hessian_each(tmp_path, shared, cheap, removal):
    changes = {"points.removal": removal, "points.train": "random", "points.train_count": 12}
    dense = cases.record(tmp_path, changes)
    shared(cheap)
    [found] = run_unit(cases.trials(tmp_path, changes))
    assert isinstance(found, Record), found
    assert found.header["base"]["gradient_norm"] < 1e-9
    np.testing.assert_allclose(found.arrays["actual/stationary"], dense.arrays["actual/stationary"], rtol=0, atol=1e-8)
    for name in ("certified", "positive_definite", "another_basin"):
        np.testing.assert_array_equal(found.arrays[f"certificate/stationary/{name}"],
                                      dense.arrays[f"certificate/stationary/{name}"])  # fmt: skip
    assert (found.arrays["flag/stationary"] == "").all()


@FACTORS
def test_leave_one_outs_are_where_scipy_ends(shared, cheap):
    case, null = minimum()
    shared(cheap)
    base = case.objective.networks(slice(0, 1))
    factor = preconditioned.factor(base, null, case.weights[:1])
    found = preconditioned.from_null(case.objective, null, case.weights, factor, 1e-10)
    assert found.iterations[0] == 0
    for b in range(1, 4):
        value = cases.plain_value(case.objective, case.weights, b)

        def both(point, value=value):
            at = torch.from_numpy(point)
            return value(at).item(), torch.func.grad(value)(at).numpy()

        slow = minimize(both, null[0].numpy(), jac=True, method="BFGS", options={"gtol": 1e-10, "maxiter": 5000})
        np.testing.assert_allclose(found.theta[b].numpy(), slow.x, rtol=0, atol=1e-6)  # where SciPy loses precision


@FACTORS
def test_a_network_descends_past_a_saddle_to_its_minimum(shared, cheap):
    case = cases.stack(depth=1, networks=1, weight_decay=0.001, width=2)
    case.weights[:] = 1 / 11
    flat = preconditioned.quasi_newton.minimise(case.objective, 0 * case.theta, case.weights, 1e-12, 500).theta
    shared(cheap)
    found = preconditioned.minimise(case.objective, flat, case.weights, 1e-9)
    assert found.gradient_norm[0] <= 1e-10
    values = torch.linalg.eigvalsh(case.objective.hessian(found.theta, case.weights)[0])
    assert values[0] > 0
    assert torch.linalg.eigvalsh(case.objective.hessian(flat, case.weights)[0])[0] < 0


@FACTORS
def test_bounds_hold_the_eigenvalues_and_the_error(shared, cheap):
    case, null = minimum()
    shared(cheap)
    factor = preconditioned.factor(case.objective.networks(slice(0, 1)), null, case.weights[:1])
    theta = preconditioned.from_null(case.objective, null, case.weights, factor, 1e-10).theta
    low, high = preconditioned.eigenvalue_bounds(case.objective, theta, case.weights, factor)
    correction = torch.eye(theta.shape[1]).double() + factor.vectors.mT @ ((factor.roots - 1)[:, None] * factor.vectors)
    c = factor.lower @ correction
    smallest, largest = factor.extremes()
    values = torch.linalg.eigvalsh(c @ c.mT)
    assert smallest <= values[0] * (1 + 1e-9)
    assert largest >= values[-1] * (1 - 1e-9)
    for b in range(4):
        hessian = case.objective.networks(slice(b, b + 1)).hessian(theta[b : b + 1], case.weights[b : b + 1])[0]
        inside = torch.linalg.eigvalsh(torch.linalg.solve(c, torch.linalg.solve(c, hessian).mT))
        assert 0 < low[b] <= inside[0] + 1e-7
        assert high[b] >= inside[-1] - 1e-7
    end = theta + 1e-8 * torch.randn(theta.shape, dtype=theta.dtype, generator=torch.Generator().manual_seed(0))
    end[0] = null
    found = certificates.certify(case.objective, end, case.weights, case.target, 1.0)
    preconditioned.DENSE_WORK = 1e99
    dense = certificates.certify(case.objective, end, case.weights, case.target, 1.0)
    assert (found.delta_error >= dense.delta_error * (1 - 1e-6)).all()
    assert (found.delta_error[1:] <= 1e3 * dense.delta_error[1:].max()).all()


def test_negative_curvature_is_never_certified(shared):
    case = cases.stack(depth=1, networks=2, weight_decay=0.001)
    case.objective.decay[:] = 0.001
    case.weights[:] = 1 / 11
    flat = preconditioned.quasi_newton.minimise(case.objective, 0 * case.theta, case.weights, 1e-12, 500).theta
    shared()
    found = certificates.certify(case.objective, flat, case.weights, case.target, 1e-9)
    assert (found.gradient_norm <= 1e-9).all()
    assert not found.positive_definite.any()
    assert not found.certified.any()


def test_far_from_a_minimum_curvature_is_not_looked_at(shared, monkeypatch):
    case = cases.stack(networks=3)
    shared()
    monkeypatch.setattr(preconditioned, "factor", None)
    found = certificates.certify(case.objective, case.theta, case.weights, case.target, 1e-9)
    assert not found.certified.any()
    assert np.isnan(found.delta_error).all()


def test_streamed_gauss_newton_is_the_matrix(monkeypatch):
    case = cases.stack(networks=1)
    monkeypatch.setattr("study.compute.objective.ROW_NUMBERS", 100)
    expected = case.objective.hessian(case.theta, case.weights, gauss_newton=True)[0]
    torch.testing.assert_close(case.objective.gauss_newton(case.theta[0], case.weights[0]), expected)


def test_a_hessian_of_many_inputs_goes_feature_by_feature(monkeypatch):
    case = cases.stack(networks=2, depth=2)
    expected = case.objective._hessian_by_layers(case.theta, case.weights, False)
    monkeypatch.setattr("study.compute.mlp.PRODUCTS", 0)
    torch.testing.assert_close(case.objective._hessian_by_layers(case.theta, case.weights, False), expected)


def test_differences_of_gradients_are_products():
    case = cases.stack(networks=3, depth=2)
    directions = torch.randn(case.theta.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = preconditioned.products(case.objective, case.theta, case.weights)(directions, torch.arange(3))
    expected = case.objective.hessian_products(case.theta, case.weights)(directions[:, None])[:, 0]
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-8)


def test_a_refined_factor_takes_outlying_directions_in():
    case, null = minimum(networks=1)
    base, weights = case.objective.networks(slice(0, 1)), case.weights[:1]
    hessian = base.hessian(null, weights)[0]
    lower = torch.linalg.cholesky(base.gauss_newton(null[0], weights[0]))
    empty = null.new_empty(0, null.shape[1])
    plain = Factor(lower, empty, empty[:, 0])
    run = preconditioned.lanczos(preconditioned.whitened(base, null, weights, plain), null, null.shape[1])
    values, vectors = run.pairs()
    refined = Factor(lower, vectors, values.abs().sqrt())
    torch.testing.assert_close(refined.inverse(), torch.linalg.inv(hessian), rtol=1e-5, atol=1e-6)
    expected = torch.linalg.eigvalsh(plain.whitened(plain.whitened(hessian).mT))
    torch.testing.assert_close(values, expected, rtol=1e-6, atol=1e-7)
