"""Dense symmetric curvature matrices: definiteness with evidence, and solves that hide nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor

from study.checks import LARGEST_HESSIAN

DECOMPOSED = 3_000  # parameters up to which all eigenvalues are computed, where a factor tells their sign
RELATIVE_FLOOR, ABSOLUTE_FLOOR = 1e-8, 1e-10
EXTREMES_TOLERANCE, EXTREMES_ITERATIONS = 1e-4, 2_000  # of eigenvalues that only describe a network


def formed(parameters: int) -> bool:
    """Whether a matrix of so many parameters is formed; beyond, it is known by its products, and nothing is certified."""
    return parameters <= LARGEST_HESSIAN


def extreme_eigenvalues(
    product: Callable[[Tensor], Tensor], start: Tensor, ends: Sequence[str] = ("SA", "LA")
) -> list[float]:
    """Smallest ("SA") and largest ("LA") eigenvalue of a matrix known by its products with one vector [P].

    By ARPACK from `start` [P], to about 1e-4 of the largest; NaN where it does not converge or products are not finite.
    """

    def matvec(vector: np.ndarray) -> np.ndarray:
        return product(torch.as_tensor(vector.ravel()).to(start)).cpu().numpy()

    operator = LinearOperator((len(start), len(start)), matvec=matvec, dtype=np.float64)
    if not np.isfinite(matvec(start.cpu().numpy())).all():
        return [float("nan")] * len(ends)
    found = []
    for which in ends:
        try:
            [value] = eigsh(operator, k=1, which=which, v0=start.cpu().numpy(), tol=EXTREMES_TOLERANCE,
                            maxiter=EXTREMES_ITERATIONS, return_eigenvectors=False)  # fmt: skip
        except ArpackNoConvergence:
            value = float("nan")
        found.append(float(value))
    return found


def curvature_floor(largest: Tensor) -> Tensor:
    """μ = max(1e-8 λ_max, 1e-10), for which a positive definite H − μI is asked."""
    return (RELATIVE_FLOOR * largest).clamp(min=ABSOLUTE_FLOOR)


def positive_definite(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Whether H − μI has a Cholesky factor for μ = max(1e-8 λ_max, 1e-10), and the μ that was used, both [B].

    The Frobenius norm bounds λ_max from above: a factor with the larger μ proves more. Only where it fails is λ_max computed.
    """
    shift = (RELATIVE_FLOOR * torch.linalg.matrix_norm(matrices)).clamp(min=ABSOLUTE_FLOOR)
    definite = _factors(matrices, shift)
    doubtful = (~definite & torch.isfinite(shift)).nonzero()[:, 0]
    if len(doubtful):  # without a factor of H itself no shift can help
        doubtful = doubtful[_factors(matrices[doubtful], torch.zeros_like(shift[doubtful]))]
    if len(doubtful):
        top = torch.linalg.eigvalsh(matrices[doubtful])[:, -1]
        shift[doubtful] = (RELATIVE_FLOOR * top).clamp(min=ABSOLUTE_FLOOR)
        definite[doubtful] = _factors(matrices[doubtful], shift[doubtful])
    return definite, shift


def _factors(matrices: Tensor, shift: Tensor) -> Tensor:
    shifted = matrices.clone()
    shifted.diagonal(dim1=1, dim2=2).sub_(shift[:, None])
    factor, info = torch.linalg.cholesky_ex(shifted)
    return (info == 0) & torch.isfinite(factor.diagonal(dim1=1, dim2=2)).all(dim=1)


def solve_definite(matrices: Tensor, right: Tensor) -> Tensor:
    """H⁻¹r for stacks H [B, P, P] and r [B, P]: Cholesky where H is positive definite, LU elsewhere, NaN where singular."""
    factor, info = torch.linalg.cholesky_ex(matrices)
    solution = torch.cholesky_solve(right[..., None], factor)[..., 0]
    failed = ((info != 0) | ~torch.isfinite(solution).all(dim=1)).nonzero()[:, 0]
    if len(failed):
        other, singular = torch.linalg.solve_ex(matrices[failed], right[failed])
        solution[failed] = torch.where((singular == 0)[:, None], other, torch.nan)
    return solution


@dataclass(frozen=True)
class Spectrum:
    """Eigendecomposition H = V diag(μ) Vᵀ of one matrix [P, P], with its solves.

    A solve drops directions with |μ + δ| ≤ P·eps·max|μ + δ| (numerically singular) and keeps negative ones: a Newton-like
    answer for an indefinite H is still defined, and its flags say what it is.
    """

    values: Tensor
    vectors: Tensor

    @classmethod
    def of(cls, matrix: Tensor) -> "Spectrum":
        """Decompose; a matrix with non-finite entries has NaN eigenvalues throughout."""
        if not torch.isfinite(matrix).all():
            return cls(torch.full_like(matrix[0], torch.nan), torch.full_like(matrix, torch.nan))
        return cls(*torch.linalg.eigh(matrix))

    def inverse_values(self, damping: float) -> Tensor:
        damped = self.values + damping
        floor = len(damped) * torch.finfo(damped.dtype).eps * damped.abs().max()
        return torch.where(damped.abs() <= floor, 0.0, 1 / damped)

    def solve(self, right: Tensor, damping: float = 0.0) -> Tensor:
        """(H + δI)⁺r for the rows r of `right` [R, P]."""
        return (right @ self.vectors * self.inverse_values(damping)) @ self.vectors.T

    def preconditioner(self) -> Tensor:
        """V diag(1/max(|μ|, 1e-6 max|μ|)) Vᵀ: the inverse where H is well conditioned, positive definite everywhere."""
        size = self.values.abs()
        return (self.vectors / size.clamp(min=1e-6 * size.max().item())) @ self.vectors.T

    def evidence(self, damping: float) -> dict[str, float | int]:
        """Eigenvalue extremes of H, and what the damped solve did with them."""
        damped = self.values + damping
        size = damped.abs()
        dropped = int((self.inverse_values(damping) == 0).sum())
        kept = size[self.inverse_values(damping) != 0]
        return {
            "smallest_eigenvalue": self.values.min().item(),
            "largest_eigenvalue": self.values.max().item(),
            "negative_eigenvalues": int((self.values < 0).sum()),
            "negative_after_damping": int((self.inverse_values(damping) < 0).sum()),
            "dropped_directions": dropped,
            "damping": damping,
            "condition_number": (kept.max() / kept.min()).item() if len(kept) else float("nan"),
        }
