"""Predictions from a dense curvature matrix; exact and ggn differ only in the matrix."""

from collections.abc import Callable
from dataclasses import dataclass
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

    What costs P³ is done once for a whole grid of dampings. A small matrix is decomposed. A large one is factored anew for each,
    unless the spec asks for many (`Fitted.many_dampings`): it is then reduced to a band (`Band`), whose factors take next to no
    time, and `reduced` is 1 in the evidence. The reduction takes as long as about five factors. The spec alone decides, so that
    no number depends on what was asked before.
    """
    positions = fitted.problem.network.positions(settings.parameters)
    penalty = getattr(settings, "penalty", True)
    matrix = fitted.matrix(positions, gauss_newton, penalty)
    if len(positions) > FACTORED:
        if settings.damping and fitted.many_dampings:
            definite = _reduced(fitted, positions, gauss_newton, penalty, settings.damping)
        else:
            definite = _factored(fitted, positions, matrix, penalty, settings.damping)
        if definite is not None and _well_conditioned(definite.pivots):
            return _by_factor(fitted, positions, settings.damping, matrix, definite, pull)
    spectrum = fitted.spectrum(positions, gauss_newton, penalty)
    return _by_spectrum(fitted, positions, settings.damping, matrix, spectrum, fitted.pull if pull is None else pull)


@dataclass(frozen=True)
class _Definite:
    """A positive definite M + δI: the `solution` (M + δI)⁻¹∇L_t [T, p] for the test points, how to `solve` for any rows [K, p],
    the pivots of its factor [p], and how to learn its condition number.
    """

    solution: Tensor
    solve: Callable[[Tensor], Tensor]
    pivots: Tensor
    condition: Callable[[], float]
    reduced: bool


def _factored(
    fitted: Fitted, positions: Tensor, matrix: Tensor, penalty: bool, damping: float
) -> _Definite | None:
    """By the Cholesky factor of M + δI, None where it has none; that of H itself is the one that a trial shares."""
    if damping:
        matrix = matrix.clone()
        matrix.diagonal().add_(damping)
    if fitted.problem.network.is_linear and penalty and damping == 0 and len(positions) == len(fitted.theta):
        factor = fitted.factor
    else:
        factor = _cholesky(matrix)
    if factor is None:
        return None
    solve, condition = partial(_solved, factor), partial(_condition, matrix, factor)
    return _Definite(solve(_gradients(fitted, positions)), solve, factor.diagonal().square(), condition, False)


def _cholesky(matrix: Tensor) -> Tensor | None:
    factor, info = torch.linalg.cholesky_ex(matrix)
    return factor if info == 0 else None


def _reduced(fitted: Fitted, positions: Tensor, gauss_newton: bool, penalty: bool, damping: float) -> _Definite | None:
    """By the factor of M's band plus δI, None where there is none; band and turned gradients serve all dampings."""
    band = fitted.band(positions, gauss_newton, penalty)
    factor = band.factor(damping)
    if factor is None:
        return None
    key = ("turned", gauss_newton, penalty, bytes(positions.numpy()))
    turned = fitted.once(key, lambda: band.turned(_gradients(fitted, positions)))
    solve, condition = partial(band.solve, factor=factor), partial(band.condition, damping, factor)
    return _Definite(band.solve_turned(turned, factor), solve, factor.pivots, condition, True)


def _gradients(fitted: Fitted, positions: Tensor) -> Tensor:
    """∇L_t [T, p] of the test points."""
    return fitted.test_gradients[:, positions.to(fitted.theta.device)]


def _solved(factor: Tensor, right: Tensor) -> Tensor:
    return torch.cholesky_solve(right.T, factor).T


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
    fitted: Fitted, positions: Tensor, damping: float, matrix: Tensor, definite: _Definite, pull: Tensor | None
) -> Prediction:
    """matrix: M, without the damping."""
    right, solution = _gradients(fitted, positions), definite.solution
    positions = positions.to(fitted.theta.device)
    if pull is None and fitted.holds_pull:
        pull = fitted.pull
    if pull is None:
        embedded = right.new_zeros(len(right), len(fitted.theta))
        embedded[:, positions] = solution
        delta = -fitted.pull_along(embedded)
    else:
        delta = -(pull[:, positions] @ solution.T)
    evidence = {
        "condition_number": definite.condition(),
        "negative_after_damping": 0,
        "dropped_directions": 0,
        "damping": damping,
        "residual": largest_ratio(solution @ matrix + damping * solution - right, right),
        "reduced": int(definite.reduced),
        "parameters": len(positions),
    }
    if pull is None:
        changes_of = partial(_changes_of, fitted, positions, definite.solve)
        return Prediction(None, delta, {**evidence}, changes_of=changes_of)
    return Prediction(partial(_changes, pull, positions, definite.solve), delta, {**evidence})


def _changes_of(fitted: Fitted, positions: Tensor, solve: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    return _changes(fitted.pull_of(rows), positions, solve)


def _changes(pull: Tensor, positions: Tensor, solve: Callable[[Tensor], Tensor]) -> Tensor:
    change = torch.zeros_like(pull)
    change[:, positions] = -solve(pull[:, positions])
    return change


def _condition(matrix: Tensor, factor: Tensor) -> float:
    """LAPACK's estimate of ‖A‖₁‖A⁻¹‖₁ from the factor, within a small factor of the truth (Higham 1988)."""
    norm = torch.linalg.matrix_norm(matrix, 1).item()
    reciprocal, _ = dpocon(factor.cpu().numpy().T, norm, uplo="U")
    return 1 / reciprocal if reciprocal else float("inf")


def _well_conditioned(pivots: Tensor) -> bool:
    """No pivot so small that a direction would count as singular: the eigenvectors must then say which."""
    return bool(pivots.min() > len(pivots) * torch.finfo(pivots.dtype).eps * pivots.max())
