"""`unrolled`: the derivative of the training run itself, so that one that did not converge is predicted as it was run."""

import torch
from torch import Tensor

from study.compute import fitting, sensitivities
from study.compute.estimators.prediction import Evidence, Prediction
from study.compute.fitting import Job
from study.compute.problems import Fitted
from study.specs import Unrolled

STEP = 1e-3  # of a removal, to either side, in the central difference


def predict(fitted: Fitted, settings: Unrolled) -> Prediction:
    """Δθ_i = dθ_T along the row's removal, Δ_it = ∇L_t(θ_T)ᵀΔθ_i = −(1/n) ∂L_t(θ_T)/∂w_i (Maclaurin et al. 2015, forward mode).

    from = "base": of `steps` further steps from θ*, what `warm` runs; "init": of the training from the initial network, what
    `cold` runs. θ_T is the null's end. difference_error: of the removal that is predicted to matter most, how far its Δ is
    from a central difference of two runs with its weight changed by 0.1%, relative to the largest Δ.
    """
    problem = fitted.problem
    removed = torch.arange(problem.objective.rows, device=fitted.theta.device)
    directions = problem.removal_weights(removed) - problem.weights
    start, steps, stage = _run(fitted, settings)
    found = sensitivities.forward(problem, start, directions, steps, stage)
    delta = found.change @ fitted.target.gradients(found.end).T
    evidence: Evidence = {
        "steps": steps,
        "largest_change": found.change.norm(dim=1).max().item(),
    }
    evidence["difference_error"] = _difference_error(fitted, directions, delta, start, steps, stage)
    return Prediction(found.change, delta, evidence, origin=found.end)


def _run(fitted: Fitted, settings: Unrolled) -> tuple[Tensor, int, int]:
    """Start, steps and stage of the batch order."""
    if settings.origin == "base":
        return fitted.theta, settings.steps, fitting.ONWARDS
    trial = fitted.problem.settings
    [start] = fitting.initial(fitted.problem).theta
    return start, trial.training.steps, fitting.FROM_SCRATCH


def _difference_error(
    fitted: Fitted, directions: Tensor, delta: Tensor, start: Tensor, steps: int, stage: int
) -> float:
    if not torch.isfinite(delta).all():
        return float("nan")
    if not delta.any():
        return 0.0
    row = int(delta.abs().amax(dim=1).argmax())
    weights = fitted.problem.weights + STEP * torch.stack([directions[row], -directions[row]])
    double = fitted.problem.in_double_precision()
    [ends] = fitting.first_order([Job(double, start.expand(2, -1), weights)], steps, stage)
    values = fitted.target.values(ends)
    return ((values[0] - values[1]) / (2 * STEP) - delta[row]).abs().max().item() / delta.abs().max().item()
