"""`perturb_input`: the influence of a row's features, first order in the row's weight and in its move."""

from dataclasses import replace

from study.compute import perturbation
from study.compute.estimators import dense
from study.compute.estimators.prediction import Prediction, largest_ratio
from study.compute.problems import Fitted
from study.specs import PerturbInput


def predict(fitted: Fitted, settings: PerturbInput) -> Prediction:
    """Δ_it = (1/n) I_pert,loss(z_i, z_t)·δ_i with I_pert,lossᵀ = −∇L_tᵀ(H + δI)⁻¹∂_x∇_θL(z_i) (Koh & Liang 2017, equation 5).

    δ_i is the move that `points.perturbation` and `points.direction` describe. step_error: the largest distance of
    ∂_x∇_θL(z_i)δ_i from the row's own change of gradient, relative to it: what is lost because the move is finite. `exact`
    uses that change itself.
    """
    problem, moves = fitted.problem, fitted.moves
    assert moves is not None  # the schema refuses the estimator otherwise
    pull = perturbation.mixed(problem.objective, fitted.theta, moves) / problem.objective.rows
    found = dense.predict(fitted, settings, gauss_newton=False, pull=pull)
    return replace(found, evidence={**found.evidence, "step_error": largest_ratio(pull - fitted.pull, fitted.pull)})
