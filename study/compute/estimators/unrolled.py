"""`unrolled`: the derivative of the training run itself, so that one that did not converge is predicted as it was run."""

from dataclasses import dataclass

import torch
from torch import Tensor

from study.compute import adjoints, fitting, sensitivities
from study.compute.estimators.prediction import Evidence, Prediction
from study.compute.fitting import Job
from study.compute.problems import Fitted
from study.specs import Unrolled

STEP = 1e-3  # of a removal, to either side, in the central difference
ROUGH = 0.01  # difference_error above which a derivative says little of a finite change, however small
TANGENTS = 1_000_000  # rows times parameters up to which every row's tangent is carried along: ten arrays of 8 MB
ADJOINTS = 8_000_000  # test points times parameters whose adjoints go back together, in about as many arrays


def predict(fitted: Fitted, settings: Unrolled) -> Prediction:
    """Δθ_i = dθ_T along the row's removal, Δ_it = ∇L_t(θ_T)ᵀΔθ_i = −(1/n) ∂L_t(θ_T)/∂w_i (Maclaurin et al. 2015).

    from = "base": of `steps` further steps from θ*, what `warm` runs; "init": of the training from the initial network, what
    `cold` runs. θ_T is the null's end. Forward mode, a tangent for every row, up to TANGENTS numbers; beyond, reverse mode, an
    adjoint for every test point (`reverse` = 1 in the evidence): Δ is then known and Δθ is not. difference_error: of the
    removal that is predicted to matter most, how far its Δ is from a central difference of two runs with its weight changed by
    0.1%, relative to the largest Δ; above ROUGH it is flagged "rough_run".
    """
    problem = fitted.problem
    removed = torch.arange(problem.objective.rows, device=fitted.theta.device)
    directions = problem.removal_weights(removed) - problem.weights
    run = _run(fitted, settings)
    forward = len(removed) * len(fitted.theta) <= TANGENTS
    change, delta, end = (_forward if forward else _backward)(fitted, directions, run)
    error = _difference_error(fitted, directions, delta, run)
    evidence: Evidence = {
        "steps": run.steps,
        "reverse": int(not forward),
        **({} if change is None else {"largest_change": change.norm(dim=1).max().item()}),
        "difference_error": error,
    }
    return Prediction(change, delta, evidence, ["rough_run"] * (error > ROUGH), origin=end)


@dataclass(frozen=True)
class _Run:
    """Start [P], steps and stage of the batch order."""

    start: Tensor
    steps: int
    stage: int


def _run(fitted: Fitted, settings: Unrolled) -> _Run:
    if settings.origin == "base":
        return _Run(fitted.theta, settings.steps, fitting.ONWARDS)
    trial = fitted.problem.settings
    [start] = fitting.initial(fitted.problem).theta
    return _Run(start, trial.training.steps, fitting.FROM_SCRATCH)


def _forward(fitted: Fitted, directions: Tensor, run: _Run) -> tuple[Tensor | None, Tensor, Tensor]:
    """Δθ [n, P], Δ [n, T] and θ_T [P]."""
    found = sensitivities.forward(fitted.problem, run.start, directions, run.steps, run.stage)
    return found.change, found.change @ fitted.target.gradients(found.end).T, found.end


def _backward(fitted: Fitted, directions: Tensor, run: _Run) -> tuple[Tensor | None, Tensor, Tensor]:
    """The same without Δθ, piece by piece of the test points."""
    tests, piece = torch.arange(len(fitted.target.x)), max(1, ADJOINTS // len(fitted.theta))
    found = [
        adjoints.backward(
            fitted.problem, run.start, fitted.target.rows(some.to(run.start.device)).gradients, run.steps, run.stage
        )
        for some in tests.split(piece)
    ]
    return None, directions @ torch.cat([part.slopes for part in found], dim=1), found[0].end


def _difference_error(fitted: Fitted, directions: Tensor, delta: Tensor, run: _Run) -> float:
    if not torch.isfinite(delta).all():
        return float("nan")
    if not delta.any():
        return 0.0
    row = int(delta.abs().amax(dim=1).argmax())
    weights = fitted.problem.weights + STEP * torch.stack([directions[row], -directions[row]])
    double = fitted.problem.in_double_precision()
    [ends] = fitting.first_order([Job(double, run.start.expand(2, -1), weights)], run.steps, run.stage)
    values = fitted.target.values(ends)
    return ((values[0] - values[1]) / (2 * STEP) - delta[row]).abs().max().item() / delta.abs().max().item()
