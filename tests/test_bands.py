"""Matrices in band form against NumPy: solves, definiteness and condition for every damping."""

import numpy as np
import pytest
import torch

from study.compute import bands
from study.compute.bands import Band


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    monkeypatch.setattr(bands, "WIDTH", 8)


def _matrix(size, condition=1e4, seed=0):
    generator = np.random.default_rng(seed)
    basis = np.linalg.qr(generator.normal(size=(size, size)))[0]
    return torch.as_tensor(basis * np.geomspace(1 / condition, 1, size) @ basis.T)


def _assembled(band):
    """B as one dense matrix."""
    whole = torch.block_diag(*band.diagonal)
    for k, block in enumerate(band.below):
        row, column = 8 * (k + 1), 8 * k
        whole[row : row + len(block), column : column + 8] = block
        whole[column : column + 8, row : row + len(block)] = block.mT
    return whole.numpy()


@pytest.mark.parametrize("size", [1, 7, 8, 9, 16, 29, 41])
def test_one_reduction_solves_for_every_damping_as_numpy_does(size):
    matrix, right = _matrix(size), torch.as_tensor(np.random.default_rng(1).normal(size=(5, size)))
    band = Band.of(matrix.clone())
    for damping in (0.0, 1e-4, 0.3, 100.0):
        found = band.solve(right, band.factor(damping))
        expected = np.linalg.solve(matrix.numpy() + damping * np.eye(size), right.numpy().T).T
        np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize("size", [9, 30])
def test_the_band_has_the_eigenvalues_of_the_matrix_and_leaves_it_alone(size):
    matrix = _matrix(size) - 0.2 * torch.eye(size)
    given = matrix.clone()
    band = Band.of(given)
    assert torch.equal(given, matrix)
    assert len(band.diagonal) > 1
    np.testing.assert_allclose(np.linalg.eigvalsh(_assembled(band)), np.linalg.eigvalsh(matrix.numpy()), atol=1e-13)


def test_where_nothing_needs_reflecting_nothing_is():
    """Columns of zeros below the diagonal: a matrix that is diagonal, and one of blocks."""
    blocks = torch.block_diag(_matrix(9), _matrix(12, seed=1), torch.eye(6))
    for matrix in (torch.diag(torch.linspace(1, 3, 27, dtype=torch.float64)), blocks):
        band, right = Band.of(matrix), torch.ones(1, 27, dtype=torch.float64)
        found = band.solve(right, band.factor(0.1))
        np.testing.assert_allclose(found[0], np.linalg.solve(matrix.numpy() + 0.1 * np.eye(27), np.ones(27)), rtol=1e-9)


@pytest.mark.parametrize("size", [8, 30])
def test_a_factor_is_there_exactly_where_the_damped_matrix_is_positive_definite(size):
    matrix = _matrix(size, 10.0)
    smallest = np.linalg.eigvalsh(matrix.numpy())[0]
    band = Band.of(matrix)
    assert band.factor(-0.99 * smallest) is not None
    assert band.factor(-1.01 * smallest) is None
    indefinite = Band.of(matrix - 2 * smallest * torch.eye(size))
    assert indefinite.factor(0.0) is None
    assert indefinite.factor(1.5 * smallest) is not None
    assert Band.of(torch.full_like(matrix, torch.nan)).factor(1.0) is None


@pytest.mark.parametrize("size", [1, 8, 30, 41])
@pytest.mark.parametrize("condition", [10.0, 1e8])
def test_the_condition_is_that_of_the_damped_band_within_a_factor_of_three(size, condition):
    for seed, damping in ((0, 0.0), (1, 0.0), (2, 0.5)):
        band = Band.of(_matrix(size, condition, seed))
        expected = np.linalg.cond(_assembled(band) + damping * np.eye(size), 1)
        assert expected / 3 <= band.condition(damping, band.factor(damping)) <= expected * (1 + 1e-6)
