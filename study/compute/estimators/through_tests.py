"""Predictions by a solve per test point, s_t = (M + δI)⁻¹∇L_t: all removals follow from it, and M is needed by products only."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from study.compute.curvature import Spectrum
from study.compute.estimators.prediction import Evidence, Prediction, largest_ratio
from study.compute.problems import Fitted

DENSE = 3_000  # parameters up to which the exact answer is computed beside every approximate one
CACHED = 512  # parameters of a matrix that stays in a core's second-level cache
STREAMED = 30  # directions whose products with a larger matrix take as long as reading it from memory


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

    def products(self, directions: Tensor, damping: float = 0.0, matrix: Tensor | None = None) -> Tensor:
        """(M + δI)v for the rows v of `directions` [K, p], by `matrix` = M where it is `formed`."""
        if matrix is not None:
            return torch.addmm(directions, directions, matrix, beta=damping)
        return (
            self.restricted(self.fitted.products(self.embedded(directions), self.gauss_newton)) + damping * directions
        )

    def formed(self, together: int, times: int) -> Tensor | None:
        """M on the chosen parameters, [p, p], where it is `cheaper_formed` and the network knows a cheap way, else None."""
        size, problem = len(self.fitted.theta), self.fitted.problem
        if not (self.fitted.forms and problem.network.forms_cheaply):
            return None
        if not cheaper_formed(size, problem.objective.rows, together, times):
            return None
        return self.fitted.matrix(self.positions, self.gauss_newton)

    def embedded(self, values: Tensor) -> Tensor:
        """[.., p] among all parameters [.., P], zero elsewhere."""
        whole = values.new_zeros(*values.shape[:-1], len(self.fitted.theta))
        whole[..., self.positions.to(values.device)] = values
        return whole

    def restricted(self, values: Tensor) -> Tensor:
        return values[..., self.positions.to(values.device)]

    def prediction(
        self, solution: Tensor, damping: float, evidence: Evidence, flags: list[str], diagnostics: float = 0.0
    ) -> Prediction:
        """Δ_it = −∇L_tᵀ(M + δI)⁻¹ Σ_j Δw_j ∇L(z_j) from the solutions s_t [T, p], with how far they are from what they claim.

        residual, unless the evidence has it already: largest ‖(M + δI)s − ∇L_t‖/‖∇L_t‖. distance_from_exact: largest
        ‖s − H⁻¹∇L_t‖/‖H⁻¹∇L_t‖, without damping and with the whole curvature, where the matrix is small enough (NaN
        elsewhere). diagnostics: seconds already spent so.
        """
        delta = -self.fitted.pull_along(self.embedded(solution))
        if "residual" not in evidence:
            rest = self.products(solution, damping) - self.right
            evidence = {"residual": largest_ratio(rest, self.right), **evidence}
        started = time.perf_counter()
        exact = self.spectrum()
        distance = float("nan")
        if exact is not None:
            expected = exact.solve(self.right)
            distance = largest_ratio(solution - expected, expected)
        evidence = {
            "damping": damping, "residual": evidence["residual"], "distance_from_exact": distance,
            "parameters": len(self.positions), **evidence,
        }  # fmt: skip
        return Prediction(None, delta, evidence, flags, diagnostics=diagnostics + time.perf_counter() - started)

    def spectrum(self, gauss_newton: bool = False) -> Spectrum | None:
        """Of the exact matrix on the chosen parameters, None where it is too large to be decomposed."""
        if len(self.positions) > DENSE or not self.fitted.forms:
            return None
        return self.fitted.spectrum(self.positions, gauss_newton)

    def generator(self, *seeds: int) -> np.random.Generator:
        """Its draws differ from trial to trial, so that a mean over seeds is one over the estimator's own noise as well."""
        return np.random.default_rng([*seeds, self.fitted.problem.settings.seed])

    def undefined(self, damping: float) -> Prediction:
        """Of a network that diverged: its numbers are NaN."""
        return self.prediction(torch.full_like(self.right, torch.nan), damping, {}, [])


def cheaper_formed(parameters: int, rows: int, together: int, times: int) -> bool:
    """Whether forming the matrix saves time over `times` products with so many directions together.

    In multiplications: forming costs 2P²n; a product by rows 20Pn a direction, for it reaches half the speed of a matrix
    product; one with the matrix 2P² a direction, and beyond the cache at least as much as of STREAMED. Never above DENSE
    parameters, 72 MB. Sizes and settings alone decide, so that a number does not depend on what was asked before.
    """
    read = max(together, STREAMED if parameters > CACHED else 1)
    return parameters <= DENSE and parameters * (rows + times * read) <= 10 * rows * together * times
