"""`kfac` and `ekfac`: the Gauss-Newton matrix as one Kronecker product a layer, computed by curvlinops."""

from typing import Any

import torch
from torch import Tensor, nn

from study.compute.estimators.prediction import Prediction
from study.compute.estimators.through_tests import System
from study.compute.objective import CLASSIFICATION
from study.compute.problems import Fitted
from study.specs import Ekfac, Kfac


def kfac(fitted: Fitted, settings: Kfac) -> Prediction:
    """s_t = (⊕_l A_l ⊗ B_l + (λ + δ)I)⁻¹∇L_t: A_l the mean of a layer's inputs [h; 1][h; 1]ᵀ, B_l that of ∂²L by its outputs.

    B_l holds the Gauss-Newton part only, exactly, not by sampled labels (Martens & Grosse 2015; Eschenhagen et al. 2023). What
    layers have to do with each other is dropped. residual: against products with the Gauss-Newton matrix itself.
    """
    from curvlinops import KFACLinearOperator

    return _predict(fitted, settings, KFACLinearOperator)


def ekfac(fitted: Fitted, settings: Ekfac) -> Prediction:
    """As `kfac`, with the eigenvalues of A_l ⊗ B_l replaced by the matrix's own along its eigenvectors (George et al. 2018).

    The form in which influence is computed for large language models (Grosse et al. 2023).
    """
    from curvlinops import EKFACLinearOperator

    return _predict(fitted, settings, EKFACLinearOperator)


def _predict(fitted: Fitted, settings: Kfac | Ekfac, operator: Any) -> Prediction:
    from curvlinops import KFACInverseLinearOperator  # takes two seconds, which no other estimator should wait for

    system, training = System.of(fitted, "gauss_newton", settings.parameters), fitted.problem.settings.training
    if not torch.isfinite(fitted.theta).all():
        return system.undefined(settings.damping)
    loss, scale, labels = _loss(fitted)
    undamped = settings.model_dump_json(exclude={"name", "damping"})
    factors = fitted.once((undamped,), lambda: _factors(fitted, settings, operator, loss, labels))
    # torch's loss is `scale` times ours, and so is its curvature: the penalty has to be scaled alike
    damping = scale * (settings.damping + training.weight_decay)
    inverse = KFACInverseLinearOperator(factors, damping=damping, use_exact_damping=True)
    with torch.enable_grad():
        solution = scale * (inverse @ system.right.T).T
    return system.prediction(solution.detach(), settings.damping, {}, [])


def _factors(fitted: Fitted, settings: Kfac | Ekfac, operator: Any, loss: nn.Module, labels: Tensor) -> Any:
    """The Kronecker products, without damping: they serve every one."""
    module = fitted.problem.network.module(fitted.theta)
    chosen = fitted.problem.network.chosen(settings.parameters)
    return operator(
        module, loss, [parameter for name, parameter in module.named_parameters() if name in chosen],
        [(fitted.problem.objective.x, labels)], fisher_type="type-2", separate_weight_and_bias=False,
        check_deterministic=False,
    )  # fmt: skip


def _loss(fitted: Fitted) -> tuple[nn.Module, float, Tensor]:
    """torch's loss, how many times ours it is, and its targets."""
    objective = fitted.problem.objective
    if objective.task == CLASSIFICATION:
        return nn.CrossEntropyLoss(), 1.0, objective.y.argmax(dim=1)
    return nn.MSELoss(), 2.0, objective.y
