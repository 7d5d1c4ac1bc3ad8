"""Predictions from a dense curvature matrix; exact and ggn differ only in the matrix."""

from functools import partial

import torch
from scipy.linalg.lapack import dpocon
from torch import Tensor

from study.compute.curvature import Spectrum
from study.compute.estimators.prediction import Prediction, largest_ratio
from study.compute.problems import Fitted
from study.specs import Exact, Ggn, PerturbInput

FACTORED = 512  # parameters beyond which eigenvectors take far longer than a Cholesky factor


def predict(
    fitted: Fitted, settings: Exact | Ggn | PerturbInput, gauss_newton: bool, pull: Tensor | None = None
) -> Prediction:
    """Δθ_i = −(M + δI)⁻¹ p_i on the chosen parameters, zero elsewhere; M is H, or its Gauss-Newton part, with or without diag λ.

    pull: p_i [n, P], the change of ∇J at θ* that the row's removal makes, Σ_j Δw_j ∇L(z_j), by default the one of the trial, of
    which a large problem never holds all rows' at once.

    Nothing is hidden: negative eigenvalues are kept and flagged "indefinite", dropped directions are flagged "singular",
    and the largest relative residual is recorded. A large matrix that is positive definite is factored instead of
    decomposed, and solved for the test points: no eigenvalues then, and an estimate of the condition number.

    Eigenvectors serve every damping of a grid. A large matrix is factored anew for each, which is quicker for short grids: at
    2,410 parameters the eigenvectors take as long as twenty factors, or as eight dampings with all that goes with them.
    """
    positions = fitted.problem.network.positions(settings.parameters)
    penalty = getattr(settings, "penalty", True)
    if len(positions) > FACTORED:
        matrix, factor = _factored(fitted, positions, gauss_newton, settings.damping, penalty)
        if factor is not None and _well_conditioned(factor):
            return _by_factor(fitted, positions, settings.damping, matrix, factor, pull)
    matrix = fitted.matrix(positions, gauss_newton, penalty)
    spectrum = fitted.spectrum(positions, gauss_newton, penalty)
    return _by_spectrum(fitted, positions, settings.damping, matrix, spectrum, fitted.pull if pull is None else pull)


def _factored(
    fitted: Fitted, positions: Tensor, gauss_newton: bool, damping: float, penalty: bool
) -> tuple[Tensor, Tensor | None]:
    """M + δI and its Cholesky factor, None where it has none; H and its own factor are those that a trial shares."""
    if fitted.problem.network.is_linear and penalty and damping == 0 and len(positions) == len(fitted.theta):
        return fitted.hessian, fitted.factor
    matrix = fitted.matrix(positions, gauss_newton, penalty).clone()
    matrix.diagonal().add_(damping)
    factor, info = torch.linalg.cholesky_ex(matrix)
    return matrix, factor if info == 0 else None


def _by_spectrum(
    fitted: Fitted, positions: Tensor, damping: float, matrix: Tensor, spectrum: Spectrum, pull: Tensor
) -> Prediction:
    """spectrum: that of the matrix M at `positions`, without the damping."""
    chosen, positions = positions, positions.to(fitted.theta.device)
    change, pull = torch.zeros_like(pull), pull[:, positions]
    solution = -spectrum.solve(pull, damping)
    change[:, positions] = solution
    evidence = {
        **spectrum.evidence(damping),
        "residual": largest_ratio(solution @ matrix + damping * solution + pull, pull),
        "distance_from_exact": _distance(fitted, chosen, spectrum, damping),
        "parameters": len(positions),
    }
    flags = [
        name
        for name, count in (
            ("indefinite", evidence["negative_after_damping"]),
            ("singular", evidence["dropped_directions"]),
        )
        if count
    ]
    return Prediction(change, change @ fitted.test_gradients.T, {**evidence}, flags)


def _distance(fitted: Fitted, positions: Tensor, spectrum: Spectrum, damping: float) -> float:
    """As of other estimators: of the test points' solutions from H⁻¹∇L_t, the largest; NaN where that takes long to know."""
    if len(positions) > FACTORED:
        return float("nan")
    right = fitted.test_gradients[:, positions.to(fitted.theta.device)]
    expected = fitted.spectrum(positions).solve(right)
    return largest_ratio(spectrum.solve(right, damping) - expected, expected)


def _by_factor(
    fitted: Fitted, positions: Tensor, damping: float, matrix: Tensor, factor: Tensor, pull: Tensor | None
) -> Prediction:
    """matrix: M + δI with its Cholesky factor."""
    positions = positions.to(fitted.theta.device)
    right = fitted.test_gradients[:, positions]
    solution = torch.cholesky_solve(right.T, factor).T
    if pull is None and fitted.holds_pull:
        pull = fitted.pull
    if pull is None:
        embedded = right.new_zeros(len(right), len(fitted.theta))
        embedded[:, positions] = solution
        delta = -fitted.pull_along(embedded)
    else:
        delta = -(pull[:, positions] @ solution.T)
    evidence = {
        "condition_number": _condition(matrix, factor),
        "negative_after_damping": 0,
        "dropped_directions": 0,
        "damping": damping,
        "residual": largest_ratio(solution @ matrix - right, right),
        "parameters": len(positions),
    }
    if pull is None:
        return Prediction(None, delta, {**evidence}, changes_of=partial(_changes_of, fitted, positions, factor))
    return Prediction(partial(_changes, pull, positions, factor), delta, {**evidence})


def _changes_of(fitted: Fitted, positions: Tensor, factor: Tensor, rows: Tensor) -> Tensor:
    return _changes(fitted.pull_of(rows), positions, factor)


def _changes(pull: Tensor, positions: Tensor, factor: Tensor) -> Tensor:
    change = torch.zeros_like(pull)
    change[:, positions] = -torch.cholesky_solve(pull[:, positions].T, factor).T
    return change


def _condition(matrix: Tensor, factor: Tensor) -> float:
    """LAPACK's estimate of ‖A‖₁‖A⁻¹‖₁ from the factor, within a small factor of the truth (Higham 1988)."""
    norm = torch.linalg.matrix_norm(matrix, 1).item()
    reciprocal, _ = dpocon(factor.cpu().numpy().T, norm, uplo="U")
    return 1 / reciprocal if reciprocal else float("inf")


def _well_conditioned(factor: Tensor) -> bool:
    """No pivot so small that a direction would count as singular: the eigenvectors must then say which."""
    pivots = factor.diagonal().square()
    return bool(pivots.min() > len(pivots) * torch.finfo(factor.dtype).eps * pivots.max())
