"""`cg`: conjugate gradients for every chosen test point at once."""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from study.compute.blocks import block_conjugate_gradients
from study.compute.estimators.prediction import Prediction
from study.compute.estimators.through_tests import System
from study.compute.indefinite import minimal_residuals
from study.compute.problems import Fitted
from study.compute.solvers import Solution, conjugate_gradients, joined
from study.specs import Cg

BLOCK_NUMBERS = 8_000_000  # of test points times parameters that are solved together, in six arrays of so many numbers


def predict(fitted: Fitted, settings: Cg) -> Prediction:
    """Δ_it = (1/n)∇L(z_i)ᵀs_t with (M + δI)s_t = ∇L_t by conjugate gradients (Martens 2010; Koh & Liang 2017, section 3).

    M is the Hessian, penalty included, or its Gauss-Newton part, known by its products only, or formed once where that is
    cheaper (`System.formed`; `formed` in the evidence). Test points are solved as one block (O'Leary 1980), which the
    evidence calls `block`; where the block does not end within `max_iterations`, or meets negative curvature, each is solved
    alone (`block` = 1), so that what a truncated solve says does not depend on its company. A test point that meets negative
    curvature is solved by MINRES instead (Paige & Saunders 1975), which an indefinite matrix does not stop, and the flag is
    "negative_curvature"; "unconverged" where the residual, computed anew at the end, is above the tolerance.
    """
    system = System.of(fitted, settings.matrix, settings.parameters)
    width = max(1, min(len(system.right), BLOCK_NUMBERS // system.right.shape[1]))
    steps = min(settings.max_iterations, -(-system.right.shape[1] // width))
    matrix = system.formed(width, steps)
    product = partial(system.products, damping=settings.damping, matrix=matrix)
    solved = [_solved(product, some, settings) for some in system.right.split(width)]
    found = joined([solution for solution, _ in solved])
    evidence = {
        "residual": found.residual.max().item(),
        "formed": int(matrix is not None),
        "block": min(block for _, block in solved),
        **found.evidence(),
    }
    return system.prediction(found.x, settings.damping, {**evidence}, found.flags(settings.tolerance))


def _solved(product: Callable[[Tensor], Tensor], right: Tensor, settings: Cg) -> tuple[Solution, int]:
    """With how many systems shared a block."""
    tolerance, most = settings.tolerance, settings.max_iterations
    if len(right) > 1:
        together = block_conjugate_gradients(product, right, tolerance, most)
        if together is not None:
            return together, len(right)

    def own(directions: Tensor, _: Tensor) -> Tensor:
        return product(directions)

    found = conjugate_gradients(own, right, tolerance, most)
    if found.negative_curvature.any():
        found = minimal_residuals(own, right, found, tolerance, most)
    return found, 1
