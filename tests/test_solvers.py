"""Solves by products alone against NumPy, and what they say where there is nothing to find."""

import numpy as np
import pytest
import torch

from study.compute.indefinite import minimal_residuals
from study.compute.solvers import conjugate_gradients, relative_residual


def _definite(size=12, systems=5, seed=0):
    generator = np.random.default_rng(seed)
    factor = generator.normal(size=(systems, size, size))
    matrices = torch.as_tensor(factor @ factor.transpose(0, 2, 1) + 0.5 * np.eye(size))
    return matrices, torch.as_tensor(generator.normal(size=(systems, size)))


def _product(matrices):
    return lambda directions, which: torch.einsum("kpq,kq->kp", matrices[which], directions)


def test_every_system_is_solved_as_by_numpy_and_alone_as_in_company():
    matrices, right = _definite()
    found = conjugate_gradients(_product(matrices), right, 1e-12, 200)
    np.testing.assert_allclose(found.x, np.linalg.solve(matrices, right[..., None])[..., 0], rtol=1e-9)
    assert (found.residual < 1e-11).all()
    assert not found.negative_curvature.any()
    for k in range(len(right)):
        alone = conjugate_gradients(_product(matrices[k : k + 1]), right[k : k + 1], 1e-12, 200)
        torch.testing.assert_close(alone.x[0], found.x[k], rtol=1e-12, atol=1e-12)
        assert alone.iterations[0] == found.iterations[k]


def test_a_preconditioner_that_leaves_rank_two_needs_three_iterations():
    matrices, right = _definite(size=20, systems=1)
    tall = torch.as_tensor(np.random.default_rng(1).normal(size=(20, 2)))
    inverse = torch.linalg.inv(matrices[0])
    changed = matrices + tall @ tall.T
    found = conjugate_gradients(_product(changed), right, 1e-10, 50, lambda rest, _: rest @ inverse)
    assert found.iterations[0] <= 3
    np.testing.assert_allclose(found.x[0], np.linalg.solve(changed[0], right[0]), rtol=1e-8)


def test_too_few_iterations_and_negative_curvature_are_said():
    matrices, right = _definite()
    few = conjugate_gradients(_product(matrices), right, 1e-12, 2)
    assert (few.iterations == 2).all()
    assert (few.residual > 1e-6).all()
    matrices[2] = torch.diag(torch.linspace(-1, 3, 12, dtype=torch.float64))
    found = conjugate_gradients(_product(matrices), right, 1e-12, 200)
    assert found.negative_curvature.tolist() == [False, False, True, False, False]
    assert torch.isfinite(found.x).all()
    assert found.residual[2] > 1e-3
    assert (found.residual[[0, 1, 3, 4]] < 1e-11).all()


@pytest.mark.parametrize("preconditioned", [False, True])
def test_minimal_residuals_solve_what_is_indefinite_and_leave_the_others(preconditioned):
    matrices, right = _definite()
    shifts = torch.tensor([0.0, 3.0, 0.0, 8.0, 3.0], dtype=torch.float64)
    matrices = matrices - shifts[:, None, None] * torch.eye(12)
    right[4] = torch.nan
    first = conjugate_gradients(_product(matrices), right, 1e-11, 200)
    assert first.negative_curvature.tolist() == [False, True, False, True, False]
    values, vectors = torch.linalg.eigh(matrices)
    inverses = (vectors / (1 + values.abs())[:, None]) @ vectors.mT if preconditioned else None
    precondition = _product(inverses) if preconditioned else None
    found = minimal_residuals(_product(matrices), right, first, 1e-11, 200, precondition)
    expected = np.linalg.solve(matrices[:4], right[:4, :, None])[..., 0]
    np.testing.assert_allclose(found.x[:4], expected, rtol=1e-8)
    assert torch.equal(found.x[[0, 2]], first.x[[0, 2]])
    assert (found.residual[:4] < 1e-10).all()
    assert torch.isnan(found.residual[4])
    few = minimal_residuals(_product(matrices), right, first, 1e-11, 3, precondition)
    assert few.iterations[[1, 3]].tolist() == [3, 3]
    assert (few.residual[[1, 3]] > 1e-6).all()


def test_nothing_to_solve_and_nothing_finite():
    matrices, right = _definite()
    right[1] = 0
    right[3] = torch.nan
    found = conjugate_gradients(_product(matrices), right, 1e-12, 200)
    assert (found.x[1] == 0).all()
    assert (found.residual[1], found.iterations[1]) == (0, 0)
    assert torch.isnan(found.residual[3])
    assert (found.residual[[0, 2, 4]] < 1e-11).all()


@pytest.mark.parametrize("scale", [1.0, 1e-9])
def test_the_residual_is_relative(scale):
    matrices, right = _definite()
    x = torch.zeros_like(right)
    torch.testing.assert_close(relative_residual(_product(matrices), x, scale * right), torch.ones(5).double())
