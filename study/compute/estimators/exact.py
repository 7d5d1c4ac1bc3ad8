"""`exact`: the influence function itself, with the whole Hessian."""

from study.compute.estimators import dense
from study.compute.estimators.prediction import Prediction
from study.compute.problems import Fitted
from study.specs import Exact


def predict(fitted: Fitted, settings: Exact) -> Prediction:
    """Δθ_i = (1/n)(H + δI)⁻¹∇L(z_i), H = ∇²J(θ*) with the penalty (Koh & Liang 2017, equation 1; Cook & Weisberg 1982).

    Under `renormalise` the right-hand side is the general one, −(H + δI)⁻¹ Σ_j Δw_j ∇L(z_j).
    """
    return dense.predict(fitted, settings, gauss_newton=False)
