"""`identity`: the gradient dot product, as if the Hessian were the identity."""

from functools import partial

import torch
from torch import Tensor

from study.compute.estimators.prediction import Evidence, Prediction
from study.compute.problems import Fitted
from study.specs import Identity


def predict(fitted: Fitted, settings: Identity) -> Prediction:
    """Δθ_i = ∇L(z_i)/n, so that Δ = ∇L_t·∇L_i/n (Charpiat et al. 2019); right in sign and rank at best, not in size.

    Under `renormalise` it is the general −Σ_j Δw_j ∇L(z_j).
    """
    chosen = torch.zeros_like(fitted.theta)
    chosen[fitted.problem.network.positions(settings.parameters).to(fitted.theta.device)] = 1.0
    delta = -fitted.pull_along(fitted.test_gradients * chosen)
    evidence: Evidence = {"parameters": int(chosen.sum())}
    if not fitted.holds_pull:
        return Prediction(None, delta, evidence, changes_of=partial(_changes_of, fitted, chosen))
    return Prediction(partial(_changes, fitted, chosen), delta, evidence)


def _changes(fitted: Fitted, chosen: Tensor) -> Tensor:
    return -(fitted.pull * chosen)


def _changes_of(fitted: Fitted, chosen: Tensor, rows: Tensor) -> Tensor:
    return -(fitted.pull_of(rows) * chosen)
