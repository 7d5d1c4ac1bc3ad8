"""Predictions from a dense curvature matrix by its eigendecomposition; exact and ggn differ only in the matrix."""

import torch

from study.compute.estimators.prediction import Prediction
from study.compute.problems import Fitted
from study.specs import Exact, Ggn


def predict(fitted: Fitted, settings: Exact | Ggn, gauss_newton: bool) -> Prediction:
    """Δθ_i = −(M + δI)⁻¹ Σ_j Δw_j ∇L(z_j) on the chosen parameters, zero elsewhere; M is H, or its Gauss-Newton part.

    Nothing is hidden: negative eigenvalues are kept and flagged "indefinite", dropped directions are flagged "singular",
    and the largest relative residual over the rows is recorded.
    """
    positions = fitted.problem.network.positions(settings.parameters)
    spectrum = fitted.spectrum(positions, gauss_newton)
    positions, damping = positions.to(fitted.theta.device), settings.damping
    matrix = (fitted.gauss_newton if gauss_newton else fitted.hessian)[positions][:, positions]
    pull = fitted.pull[:, positions]
    solution = -spectrum.solve(pull, damping)
    change = torch.zeros_like(fitted.pull)
    change[:, positions] = solution
    residual = (solution @ matrix + damping * solution + pull).norm(dim=1) / pull.norm(dim=1)
    evidence = {
        **spectrum.evidence(damping),
        "residual": residual.nan_to_num(0.0).max().item(),
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
