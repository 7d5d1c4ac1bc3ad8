"""Predictions from a dense curvature matrix by its eigendecomposition; exact and ggn differ only in the matrix."""

import torch
from torch import Tensor

from study.compute.curvature import Spectrum
from study.compute.estimators.prediction import Prediction
from study.compute.problems import Fitted


def predict(fitted: Fitted, matrix: Tensor, damping: float, positions: Tensor) -> Prediction:
    """Δθ_i = −(M + δI)⁻¹ Σ_j Δw_j ∇L(z_j) on the parameters at `positions`, zero elsewhere.

    matrix: M [P, P]. Nothing is hidden: negative eigenvalues are kept and flagged "indefinite", dropped directions are
    flagged "singular", and the largest relative residual over the rows is recorded.
    """
    positions = positions.to(matrix.device)
    chosen, pull = matrix[positions][:, positions], fitted.pull[:, positions]
    spectrum = Spectrum.of(chosen)
    solution = -spectrum.solve(pull, damping)
    change = torch.zeros_like(fitted.pull)
    change[:, positions] = solution
    residual = (solution @ chosen + damping * solution + pull).norm(dim=1) / pull.norm(dim=1)
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
    return Prediction(change, change @ fitted.test_gradients.T, evidence, flags)
