"""`identity`: the gradient dot product, as if the Hessian were the identity."""

import torch

from study.compute.estimators.prediction import Prediction
from study.compute.problems import Fitted
from study.specs import Identity


def predict(fitted: Fitted, settings: Identity) -> Prediction:
    """Δθ_i = ∇L(z_i)/n, so that Δ = ∇L_t·∇L_i/n (Charpiat et al. 2019); right in sign and rank at best, not in size.

    Under `renormalise` it is the general −Σ_j Δw_j ∇L(z_j).
    """
    positions = fitted.problem.network.positions(settings.parameters).to(fitted.pull.device)
    change = torch.zeros_like(fitted.pull)
    change[:, positions] = -fitted.pull[:, positions]
    return Prediction(change, change @ fitted.test_gradients.T, {"parameters": len(positions)})
