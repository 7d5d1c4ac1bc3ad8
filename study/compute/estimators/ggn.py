"""`ggn`: influence with the Gauss-Newton matrix in place of the Hessian."""

from study.compute.estimators import dense
from study.compute.estimators.prediction import Prediction
from study.compute.problems import Fitted
from study.specs import Ggn


def predict(fitted: Fitted, settings: Ggn) -> Prediction:
    """Δθ_i = (1/n)(G + λI + δI)⁻¹∇L(z_i) with G = (1/n) Σ_j J_jᵀ (∂²L/∂f²) J_j, never indefinite (Martens 2020)."""
    return dense.predict(fitted, settings, gauss_newton=True)
