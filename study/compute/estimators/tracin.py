"""`tracin`: gradient products at checkpoints along the training run, each counting for the steps that it stands for."""

import torch
from torch import Tensor

from study.compute import fitting, training
from study.compute.estimators.prediction import Evidence, Prediction
from study.compute.problems import Fitted
from study.compute.training import Stack
from study.specs import Tracin


def predict(fitted: Fitted, settings: Tracin) -> Prediction:
    """Δ_it = Σ_k η_k ∇L_t(θ_k)·∇L_i(θ_k)/n: what row i's steps took off the loss of t, to first order (Pruthi et al. 2020).

    The run is cut into `checkpoints` stretches; θ_k is where stretch k begins and η_k the sum of its learning rates, over
    1 − μ where there is momentum. Exact for a single stretch of one plain step. Under `renormalise` it is the general
    −Σ_k η_k ∇L_t(θ_k)·Σ_j Δw_j ∇L_j(θ_k). `end_distance`: of the run's end, computed anew in float64, from θ*.
    """
    problem, spec = fitted.problem, fitted.problem.settings.training
    removed = torch.arange(problem.objective.rows, device=fitted.theta.device)
    directions = problem.removal_weights(removed) - problem.weights
    chosen = problem.network.positions(settings.parameters).to(fitted.theta.device)
    theta = fitting.initial(problem).theta.clone()
    starts = {round(k * spec.steps / settings.checkpoints) + 1 for k in range(settings.checkpoints)}
    delta = torch.zeros(len(removed), len(fitted.target.x), dtype=theta.dtype, device=theta.device)
    products, total = torch.zeros_like(delta), 0.0
    for step in training.run(Stack.of_one(problem), theta, spec, spec.steps, fitting.FROM_SCRATCH):
        if step.number in starts:
            products = _products(fitted, theta, directions, chosen)
        rate = step.rate.item() / (1 - spec.momentum)
        delta, total = delta - rate * products, total + rate
    evidence: Evidence = {
        "checkpoints": len(starts),
        "total_rate": total,
        "end_distance": (theta[0] - fitted.theta).norm().item(),
        "parameters": len(chosen),
    }
    return Prediction(None, delta, evidence)


def _products(fitted: Fitted, theta: Tensor, directions: Tensor, chosen: Tensor) -> Tensor:
    """Σ_j Δw_j ∇L_j(θ)·∇L_t(θ) on the chosen parameters, [n, T]."""
    rows = fitted.problem.objective.row_gradients(theta)[0][:, chosen]
    return directions @ (rows @ fitted.target.gradients(theta[0])[:, chosen].T)
