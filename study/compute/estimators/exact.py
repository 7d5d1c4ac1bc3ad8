"""`exact`: the influence function itself, with the whole Hessian."""

from torch import Tensor

from study.compute import preconditioned
from study.compute.estimators import dense
from study.compute.estimators.prediction import Prediction
from study.compute.estimators.through_tests import System
from study.compute.indefinite import minimal_residuals
from study.compute.problems import Fitted
from study.compute.solvers import conjugate_gradients
from study.specs import Exact

TOLERANCE, MOST = 1e-8, 300  # of the solves where no Hessian is formed: relative residual, iterations


def predict(fitted: Fitted, settings: Exact) -> Prediction:
    """Δθ_i = (1/n)(H + δI)⁻¹∇L(z_i), H = ∇²J(θ*) with the penalty (Koh & Liang 2017, equation 1; Cook & Weisberg 1982).

    Under `renormalise` the right-hand side is the general one, −(H + δI)⁻¹ Σ_j Δw_j ∇L(z_j). Where no Hessian is formed, it is
    solved for the test points, to a residual that the record holds.
    """
    if not fitted.forms:
        return _solved(fitted, settings)
    return dense.predict(fitted, settings, gauss_newton=False)


def _solved(fitted: Fitted, settings: Exact) -> Prediction:
    """(H + δI)s_t = ∇L_t by conjugate gradients, or MINRES where H + δI is indefinite, with the shared factor as preconditioner.

    H + δI is the Hessian of the proximal objective, and its products are differences of gradients. "unconverged" where the
    residual, computed anew at the end, stays above the tolerance.
    """
    system, theta, weights = (
        System.of(fitted, "hessian", settings.parameters),
        fitted.theta[None],
        fitted.problem.weights,
    )
    objective = fitted.problem.objective
    if settings.damping:
        objective = objective.proximal(fitted.theta, settings.damping)
    count = len(system.right)
    times = preconditioned.products(objective, theta.expand(count, -1), weights.expand(count, -1))
    shared = preconditioned.factor(objective, theta, weights) if settings.parameters == "all" else None

    def product(directions: Tensor, which: Tensor) -> Tensor:
        return system.restricted(times(system.embedded(directions), which))

    def precondition(right: Tensor, _: Tensor) -> Tensor:
        return right if shared is None else shared.solve(right)

    found = conjugate_gradients(product, system.right, TOLERANCE, MOST, precondition)
    indefinite = bool(found.negative_curvature.any())
    if indefinite:
        found = minimal_residuals(product, system.right, found, TOLERANCE, MOST, precondition)
    flags = ["indefinite"] * indefinite + [flag for flag in found.flags(TOLERANCE) if flag == "unconverged"]
    evidence = {"residual": found.residual.max().item(), **found.evidence()}
    return system.prediction(found.x, settings.damping, {**evidence}, flags)
