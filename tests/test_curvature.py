"""Definiteness and solves against eigenvalues computed by NumPy."""

import math

import numpy as np
import pytest
import torch

from study.compute.curvature import Spectrum, positive_definite, solve_definite


def with_eigenvalues(values, seed=0):
    generator = torch.Generator().manual_seed(seed)
    basis, _ = torch.linalg.qr(torch.randn(len(values), len(values), generator=generator, dtype=torch.float64))
    matrix = (basis * torch.tensor(values, dtype=torch.float64)) @ basis.T
    return 0.5 * (matrix + matrix.T)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 2.0, 30.0], True),
        ([-1e-3, 1.0, 2.0], False),
        ([-5.0, -1.0, -2.0], False),
        ([0.0, 1.0, 2.0], False),
        ([1.05e-8, 0.9, 0.95, 1.0], True),
        ([0.95e-8, 0.9, 0.95, 1.0], False),  # only λ_max, not the Frobenius norm, can tell
        ([1.1e-10, 1e-5], True),
        ([0.9e-10, 1e-5], False),  # the absolute floor
        ([1e-9, 1e-12], False),
    ],
)
def test_definiteness_is_what_the_eigenvalues_say(values, expected):
    matrix = with_eigenvalues(values)
    definite, shift = positive_definite(matrix[None])
    assert definite.item() == expected
    smallest, largest = np.linalg.eigvalsh(matrix.numpy())[[0, -1]]
    floor = max(1e-8 * largest, 1e-10)
    assert expected == (smallest > floor)
    if expected:  # a proof with a larger shift proves more
        assert floor * (1 - 1e-9) <= shift.item() <= smallest
    elif smallest > 0:  # only then can a smaller shift matter, and λ_max itself is computed
        assert shift.item() == pytest.approx(floor, rel=1e-6)


def test_definiteness_is_decided_matrix_by_matrix_and_nan_is_not_definite():
    matrices = torch.stack([with_eigenvalues(v) for v in ([1.0, 2.0], [-1.0, 2.0], [1e-9, 1e-3], [3.0, 4.0])])
    broken = torch.stack([*matrices, torch.full((2, 2), torch.nan).double(), torch.full((2, 2), torch.inf).double()])
    assert positive_definite(broken)[0].tolist() == [True, False, True, True, False, False]
    assert torch.isfinite(matrices).all()


def test_solve_definite_solves_definite_and_indefinite_and_says_nan_for_singular():
    matrices = torch.stack(
        [with_eigenvalues(v) for v in ([1.0, 2.0, 3.0], [-1.0, 2.0, 3.0])] + [torch.zeros(3, 3).double()]
    )
    right = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = solve_definite(matrices, right)
    for k in range(2):
        np.testing.assert_allclose(found[k], np.linalg.solve(matrices[k].numpy(), right[k].numpy()), rtol=1e-12)
    assert torch.isnan(found[2]).all()


def test_a_spectrums_solve_drops_singular_directions_and_keeps_negative_ones():
    matrix, right = with_eigenvalues([-2.0, 0.0, 1.0, 5.0]), torch.randn(3, 4, dtype=torch.float64)
    spectrum = Spectrum.of(matrix)
    np.testing.assert_allclose(
        spectrum.solve(right), right.numpy() @ np.linalg.pinv(matrix.numpy(), rcond=1e-12), atol=1e-12
    )
    damped = np.linalg.inv(matrix.numpy() + 0.3 * np.eye(4))
    np.testing.assert_allclose(spectrum.solve(right, damping=0.3), right.numpy() @ damped, atol=1e-12)


def test_evidence_says_what_the_solve_did():
    evidence = Spectrum.of(with_eigenvalues([-2.0, 0.0, 1.0, 5.0])).evidence(damping=0.0)
    assert evidence["smallest_eigenvalue"] == pytest.approx(-2)
    assert evidence["largest_eigenvalue"] == pytest.approx(5)
    assert evidence["dropped_directions"] == 1
    assert evidence["condition_number"] == pytest.approx(5)
    damped = Spectrum.of(with_eigenvalues([-2.0, 1.0, 5.0])).evidence(damping=3.0)
    assert (damped["negative_eigenvalues"], damped["negative_after_damping"], damped["dropped_directions"]) == (1, 0, 0)
    assert damped["condition_number"] == pytest.approx(8)
    assert Spectrum.of(with_eigenvalues([-2.0, 1.0, 5.0])).evidence(damping=0.5)["negative_after_damping"] == 1


def test_a_dropped_direction_is_not_counted_as_negative():
    values = torch.tensor([-1e-17, 1e-17, 1.0], dtype=torch.float64)
    evidence = Spectrum(values, torch.eye(3, dtype=torch.float64)).evidence(damping=0.0)
    assert (evidence["dropped_directions"], evidence["negative_after_damping"]) == (2, 0)


def test_the_preconditioner_is_the_inverse_or_the_absolute_inverse():
    definite, indefinite = with_eigenvalues([1.0, 2.0, 5.0]), with_eigenvalues([-1.0, 2.0, 5.0])
    np.testing.assert_allclose(Spectrum.of(definite).preconditioner(), np.linalg.inv(definite.numpy()), atol=1e-12)
    values, vectors = np.linalg.eigh(indefinite.numpy())
    np.testing.assert_allclose(
        Spectrum.of(indefinite).preconditioner(), (vectors / np.abs(values)) @ vectors.T, atol=1e-12
    )


def test_a_matrix_with_nan_has_a_spectrum_of_nan():
    spectrum = Spectrum.of(torch.full((3, 3), torch.nan, dtype=torch.float64))
    assert torch.isnan(spectrum.solve(torch.ones(1, 3, dtype=torch.float64))).all()
    assert math.isnan(spectrum.evidence(0.0)["smallest_eigenvalue"])
