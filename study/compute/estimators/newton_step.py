"""`newton_step`: one Newton step on the objective without the row, so that only the change of its curvature is neglected."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from study.compute.curvature import Spectrum
from study.compute.estimators.prediction import Evidence, Prediction, largest_ratio
from study.compute.indefinite import minimal_residuals
from study.compute.objective import Objective
from study.compute.problems import Fitted
from study.compute.solvers import Product, Solution, conjugate_gradients
from study.specs import NewtonStep

ROWS_TOGETHER = 200_000  # networks times rows whose gradients are computed at once


def predict(fitted: Fitted, settings: NewtonStep) -> Prediction:
    """Δθ_i = −H₋ᵢ⁻¹∇J₋ᵢ(θ*) + H⁻¹∇J(θ*), exact for a quadratic loss (Pregibon 1981; Beirami et al. 2017).

    H₋ᵢ = ∇²J₋ᵢ(θ*) differs from H by the row's own curvature: for ridge the step is predicted/(1 − h_i). The second term
    is the null's own step, as actual changes are against the null. Each H₋ᵢ is solved by conjugate gradients preconditioned
    with H⁻¹, which a change of low rank ends in few iterations. Where H₋ᵢ is indefinite they stop at the last iterate before
    negative curvature, or (`indefinite` = "minres") the system is solved by MINRES, preconditioned alike. Flags:
    "negative_curvature" either way, "unconverged", and "indefinite" where H itself has no inverse that could precondition: then
    |H|⁻¹ does.

    distance_to_stationary: of the predicted changes from those of stationary points, as far as the next step knows; see
    `_distance_to_stationary`. Where the trial has certified ones, it records the actual distance beside it.
    """
    p, theta = fitted.problem, fitted.theta
    spectrum = fitted.spectrum(torch.arange(len(theta)))
    gradient = p.objective.gradient(theta[None], p.weights)[1]
    solver = _Solver(_without(fitted, torch.arange(p.objective.rows, device=theta.device)), spectrum, settings)
    found = solver.solve(fitted.pull + gradient)
    null = -spectrum.solve(gradient)
    change = -found.x - null
    flags = ["indefinite"] * bool((spectrum.values <= 0).any()) + found.flags(settings.tolerance)
    delta = change @ fitted.test_gradients.T
    started = time.perf_counter()
    evidence: Evidence = {
        "residual": found.residual.max().item(),
        "distance_to_stationary": _distance_to_stationary(fitted, solver, theta - found.x, theta + null, delta),
        **found.evidence(),
        "smallest_eigenvalue": spectrum.values.min().item(),
    }
    return Prediction(change, delta, evidence, flags, diagnostics=time.perf_counter() - started)


@dataclass(frozen=True)
class _Solver:
    """H₋ᵢ by its products, for all rows i, with the spectrum of H and how to solve."""

    product: Product
    spectrum: Spectrum
    settings: NewtonStep

    def solve(self, right: Tensor) -> Solution:
        """H₋ᵢ⁻¹r_i for the rows r_i of `right` [n, P]."""
        inverse, settings = self.spectrum.preconditioner(), self.settings

        def prepared(rest: Tensor, _: Tensor) -> Tensor:
            return rest @ inverse

        found = conjugate_gradients(self.product, right, settings.tolerance, settings.max_iterations, prepared)
        if settings.indefinite == "minres" and found.negative_curvature.any():
            found = minimal_residuals(
                self.product, right, found, settings.tolerance, settings.max_iterations, prepared
            )
        return found


@torch.no_grad()
def _distance_to_stationary(fitted: Fitted, solver: _Solver, ends: Tensor, null: Tensor, delta: Tensor) -> float:
    """The largest distance over test points of Δ [n, T] from the changes after one more step, relative to those.

    That step, from where the first ended [n, P] (and the null's, [1, P]), is Newton's with the first one's matrix,
    −H₋ᵢ(θ*)⁻¹∇J₋ᵢ(θ_i): what it adds is what the change of curvature along the first step, and the loss's own, left out.
    """
    p, target = fitted.problem, fitted.target
    weights = p.removal_weights(torch.arange(len(ends), device=ends.device))
    piece = max(1, ROWS_TOGETHER // p.objective.rows)
    parts = zip(ends.split(piece), weights.split(piece), strict=True)
    gradients = torch.cat([p.objective.gradient(some, own)[1] for some, own in parts])
    further = ends - solver.solve(gradients).x
    null_further = null - solver.spectrum.solve(p.objective.gradient(null, p.weights)[1])
    values = torch.cat([target.values(some) for some in further.split(piece)])
    changes = values - target.values(null_further)
    return largest_ratio((delta - changes).T, changes.T)


def _without(fitted: Fitted, removed: Tensor) -> Product:
    """(v, which) ↦ H₋ᵢ v: the dense H for all rows, and the single row's curvature by products."""
    p, theta = fitted.problem, fitted.theta
    weights = p.removal_weights(removed[:1])[0]
    base, others, lost = p.weights[0, 0].item(), weights.max().item(), (weights.max() - weights[0]).item()
    of_data = fitted.hessian - torch.diag(p.objective.decay[0])
    single = Objective(p.network, p.objective.task, p.objective.x[:, None], p.objective.y[:, None],
                       torch.zeros_like(p.objective.decay))  # fmt: skip

    def product(directions: Tensor, which: Tensor) -> Tensor:
        rows = removed[which]
        weights = torch.full((len(rows), 1), lost, dtype=theta.dtype, device=theta.device)
        own = single.networks(rows).hessian_products(theta.expand(len(rows), -1), weights)(directions[:, None])[:, 0]
        return others / base * (directions @ of_data) - own + p.objective.decay * directions

    return product
