"""`newton_step`: one Newton step on the objective without the row, so that only the change of its curvature is neglected."""

import torch
from torch import Tensor

from study.compute.estimators.prediction import Evidence, Prediction
from study.compute.objective import Objective
from study.compute.problems import Fitted
from study.compute.solvers import Product, conjugate_gradients
from study.specs import NewtonStep


def predict(fitted: Fitted, settings: NewtonStep) -> Prediction:
    """Δθ_i = −H₋ᵢ⁻¹∇J₋ᵢ(θ*) + H⁻¹∇J(θ*), exact for a quadratic loss (Pregibon 1981; Beirami et al. 2017).

    H₋ᵢ = ∇²J₋ᵢ(θ*) differs from H by the row's own curvature: for ridge the step is predicted/(1 − h_i). The second term
    is the null's own step, as actual changes are against the null. Each H₋ᵢ is solved by conjugate gradients preconditioned
    with H⁻¹, which a change of low rank ends in few iterations. Flags: "negative_curvature", "unconverged", and "indefinite"
    where H itself has no inverse that could precondition: then |H|⁻¹ does.
    """
    p = fitted.problem
    theta, spectrum = fitted.theta, fitted.spectrum(torch.arange(len(fitted.theta)))
    gradient = p.objective.gradient(theta[None], p.weights)[1]
    inverse = spectrum.preconditioner()
    removed = torch.arange(p.objective.rows, device=theta.device)
    product = _without(fitted, removed)
    found = conjugate_gradients(
        product, fitted.pull + gradient, settings.tolerance, settings.max_iterations, lambda rest, _: rest @ inverse
    )
    change = -found.x + spectrum.solve(gradient)
    flags = ["indefinite"] * bool((spectrum.values <= 0).any()) + found.flags(settings.tolerance)
    evidence: Evidence = {
        "residual": found.residual.max().item(),
        **found.evidence(),
        "smallest_eigenvalue": spectrum.values.min().item(),
    }
    return Prediction(change, change @ fitted.test_gradients.T, evidence, flags)


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
