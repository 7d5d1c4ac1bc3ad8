"""L-BFGS on stacks against scipy.optimize."""

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from study.compute import quasi_newton
from study.compute.curvature import Spectrum
from tests import cases


def by_scipy(objective, theta, weights, b):
    """The minimum that SciPy finds from the same start, on plain torch."""
    value = cases.plain_value(objective, weights, b)

    def both(point):
        at = torch.from_numpy(point)
        return value(at).item(), torch.func.grad(value)(at).numpy()

    return minimize(both, theta[b].numpy(), jac=True, method="BFGS", options={"gtol": 1e-10, "maxiter": 5000})


@pytest.mark.parametrize(("task", "depth"), [("classification", 0), ("regression", 0), ("regression", 1)])
def test_the_stack_ends_where_scipy_does(task, depth):
    case = cases.stack(task, depth, activation="softplus", weight_decay=0.05)
    found = quasi_newton.minimise(case.objective, case.theta, case.weights, 1e-9, 2000)
    assert (found.gradient_norm <= 1e-9).all()
    for b in range(len(case.theta)):
        expected = by_scipy(case.objective, case.theta, case.weights, b)
        assert case.objective.value(found.theta, case.weights)[b].item() == pytest.approx(expected.fun, rel=1e-9)
        if depth == 0:
            np.testing.assert_allclose(found.theta[b], expected.x, atol=1e-7)


def test_the_base_inverse_hessian_as_start_takes_few_steps():
    case = cases.stack(depth=0, networks=6, weight_decay=0.0)
    case.objective.decay[:] = 0.05
    case.weights[:] = 1 / 11
    null = case.objective.networks(torch.tensor([0]))
    start = quasi_newton.minimise(null, case.theta[:1], case.weights[:1], 1e-12, 2000).theta
    inverse = Spectrum.of(null.hessian(start, case.weights[:1])[0]).preconditioner()
    case.weights[torch.arange(6), torch.arange(6)] *= 0.5
    arguments = (case.objective, start.expand(6, -1), case.weights, 1e-10, 2000)
    fast, slow = quasi_newton.minimise(*arguments, inverse), quasi_newton.minimise(*arguments)
    torch.testing.assert_close(fast.theta, slow.theta, rtol=0, atol=1e-8)
    assert fast.iterations.max() < 0.5 * slow.iterations.min()
    assert (fast.gradient_norm <= 1e-10).all()


def test_a_converged_network_stands_still_to_the_last_bit_while_others_move():
    case = cases.stack(depth=0)
    done = quasi_newton.minimise(case.objective, case.theta, case.weights, 1e-8, 2000).theta
    start = torch.cat([done[:1], case.theta[1:]])
    found = quasi_newton.minimise(case.objective, start, case.weights, 1e-8, 2000)
    assert torch.equal(found.theta[0], done[0])
    assert found.iterations.tolist()[0] == 0
    assert (found.iterations[1:] > 0).all()


def test_a_network_of_nan_stops_and_touches_no_other():
    case = cases.stack(depth=1)
    alone = quasi_newton.minimise(case.objective, case.theta, case.weights, 1e-8, 50)
    case.theta[1] = torch.nan
    found = quasi_newton.minimise(case.objective, case.theta, case.weights, 1e-8, 50)
    assert torch.equal(found.theta[[0, 2]], alone.theta[[0, 2]])
    assert torch.isnan(found.gradient_norm[1])


def test_it_never_goes_uphill_and_stops_at_the_limit():
    case = cases.stack(depth=3)
    values = [
        case.objective.value(
            quasi_newton.minimise(case.objective, case.theta, case.weights, 0.0, k).theta, case.weights
        )
        for k in range(6)
    ]
    assert all((after < before).all() for before, after in itertools.pairwise(values))
    assert quasi_newton.minimise(case.objective, case.theta, case.weights, 0.0, 4).iterations.tolist() == [4, 4, 4]
