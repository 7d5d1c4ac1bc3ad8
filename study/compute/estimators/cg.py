"""`cg`: conjugate gradients for every chosen test point at once."""

from torch import Tensor

from study.compute.estimators.prediction import Prediction
from study.compute.estimators.through_tests import System
from study.compute.problems import Fitted
from study.compute.solvers import conjugate_gradients, minimal_residuals
from study.specs import Cg


def predict(fitted: Fitted, settings: Cg) -> Prediction:
    """Δ_it = (1/n)∇L(z_i)ᵀs_t with (M + δI)s_t = ∇L_t by conjugate gradients (Martens 2010; Koh & Liang 2017, section 3).

    M is the Hessian, penalty included, or its Gauss-Newton part, known by its products only. A test point that meets negative
    curvature is solved by MINRES instead (Paige & Saunders 1975), which an indefinite matrix does not stop, and the flag is
    "negative_curvature"; "unconverged" where the residual, computed anew at the end, is above the tolerance.
    """
    system = System.of(fitted, settings.matrix, settings.parameters)

    def product(directions: Tensor, _: Tensor) -> Tensor:
        return system.products(directions, settings.damping)

    found = conjugate_gradients(product, system.right, settings.tolerance, settings.max_iterations)
    if found.negative_curvature.any():
        found = minimal_residuals(product, system.right, found, settings.tolerance, settings.max_iterations)
    return system.prediction(found.x, settings.damping, {**found.evidence()}, found.flags(settings.tolerance))
