"""Predictions by a solve per test point, s_t = (M + δI)⁻¹∇L_t: all removals follow from it, and M is needed by products only."""

from dataclasses import dataclass

import torch
from torch import Tensor

from study.compute.estimators.prediction import Prediction
from study.compute.problems import Fitted

DENSE = 3_000  # parameters up to which the exact answer is computed beside every approximate one


@dataclass(frozen=True)
class System:
    """M on the chosen parameters, and the gradients ∇L_t [T, p] of the test points there."""

    fitted: Fitted
    positions: Tensor
    gauss_newton: bool
    right: Tensor

    @classmethod
    def of(cls, fitted: Fitted, matrix: str, parameters: str | list[str]) -> "System":
        positions = fitted.problem.network.positions(parameters)
        right = fitted.test_gradients[:, positions.to(fitted.theta.device)]
        return cls(fitted, positions, matrix == "gauss_newton", right)

    def products(self, directions: Tensor, damping: float = 0.0) -> Tensor:
        """(M + δI)v for the rows v of `directions` [K, p]."""
        return (
            self.restricted(self.fitted.products(self.embedded(directions), self.gauss_newton)) + damping * directions
        )

    def embedded(self, values: Tensor) -> Tensor:
        """[.., p] among all parameters [.., P], zero elsewhere."""
        whole = values.new_zeros(*values.shape[:-1], len(self.fitted.theta))
        whole[..., self.positions.to(values.device)] = values
        return whole

    def restricted(self, values: Tensor) -> Tensor:
        return values[..., self.positions.to(values.device)]

    def prediction(self, solution: Tensor, damping: float, evidence: dict[str, float | int | list[float]],
                   flags: list[str]) -> Prediction:  # fmt: skip
        """Δ_it = −∇L_tᵀ(M + δI)⁻¹ Σ_j Δw_j ∇L(z_j) from the solutions s_t [T, p], with how far they are from what they claim.

        residual: largest ‖(M + δI)s − ∇L_t‖/‖∇L_t‖. distance_from_exact: largest ‖s − H⁻¹∇L_t‖/‖H⁻¹∇L_t‖, without damping
        and with the whole curvature, where the matrix is small enough (NaN elsewhere).
        """
        rest = self.products(solution, damping) - self.right
        evidence = {
            "damping": damping, "residual": _largest_ratio(rest, self.right), "distance_from_exact": self._distance(solution),
            "parameters": len(self.positions), **evidence,
        }  # fmt: skip
        return Prediction(None, -self.fitted.pull_along(self.embedded(solution)), evidence, flags)

    def undefined(self, damping: float) -> Prediction:
        """Of a network that diverged: its numbers are NaN."""
        return self.prediction(torch.full_like(self.right, torch.nan), damping, {}, [])

    def _distance(self, solution: Tensor) -> float:
        if len(self.positions) > DENSE:
            return float("nan")
        exact = self.fitted.spectrum(self.positions).solve(self.right)
        return _largest_ratio(solution - exact, exact)


def _largest_ratio(values: Tensor, of: Tensor) -> float:
    """The largest ‖value‖/‖of‖ over test points; one without a gradient, 0/0, counts as 0."""
    sizes, wholes = values.norm(dim=1), of.norm(dim=1)
    return torch.where((sizes == 0) & (wholes == 0), 0.0, sizes / wholes).max().item()
