"""Many right-hand sides in one Krylov space against NumPy, and where the block has to give up."""

import numpy as np
import pytest
import torch

from study.compute.blocks import block_conjugate_gradients
from study.compute.solvers import conjugate_gradients


def _matrix(size=40, condition=1e3, seed=0):
    generator = np.random.default_rng(seed)
    basis = np.linalg.qr(generator.normal(size=(size, size)))[0]
    return torch.as_tensor(basis * np.geomspace(1, condition, size) @ basis.T)


def _right(systems, size=40, seed=1):
    return torch.as_tensor(np.random.default_rng(seed).normal(size=(systems, size)))


def _solved(matrix, right, tolerance=1e-11, most=200):
    return block_conjugate_gradients(lambda rows: rows @ matrix, right, tolerance, most)


@pytest.mark.parametrize("condition", [1e1, 1e3, 1e5])
@pytest.mark.parametrize("systems", [1, 7, 40, 55])
def test_every_system_is_solved_as_by_numpy(systems, condition):
    matrix, right = _matrix(condition=condition), _right(systems)
    found = _solved(matrix, right, 1e-10)
    expected = np.linalg.solve(matrix.numpy(), right.numpy().T).T
    np.testing.assert_allclose(found.x.numpy(), expected, rtol=0, atol=1e-10 * condition * np.abs(expected).max())
    assert (found.residual <= 1e-9).all()
    assert not found.negative_curvature.any()


def test_a_block_needs_few_iterations_where_each_alone_needs_many():
    matrix, right = _matrix(), _right(10)
    alone = conjugate_gradients(lambda rows, _: rows @ matrix, right, 1e-11, 500)
    together = _solved(matrix, right)
    assert (together.iterations <= 6).all()  # of the four that ten directions of forty take in exact arithmetic
    assert (alone.iterations > 30).all()
    torch.testing.assert_close(together.x, alone.x, rtol=0, atol=1e-9 * alone.x.abs().max().item())


def test_right_hand_sides_that_depend_on_each_other_or_are_zero_break_nothing():
    right = _right(6)
    right[1], right[2], right[3] = right[0], 0, right[4] - 2 * right[5]
    right[5] *= 1e-8
    found = _solved(_matrix(), right)
    np.testing.assert_allclose(found.x.numpy(), np.linalg.solve(_matrix().numpy(), right.numpy().T).T, rtol=1e-7, atol=1e-18)
    assert (found.x[2] == 0).all()
    assert (_solved(_matrix(), torch.zeros_like(right)).iterations == 0).all()


def test_it_gives_up_on_negative_curvature_too_few_iterations_and_what_is_not_finite():
    matrix, right = _matrix(), _right(5)
    assert _solved(matrix - 1.5 * torch.eye(40), right) is None
    assert _solved(matrix, right, most=2) is None
    assert _solved(matrix, right, most=2, tolerance=10.0) is not None
    assert _solved(torch.full_like(matrix, torch.nan), right) is None
    right[3, 3] = torch.nan
    assert _solved(matrix, right) is None
