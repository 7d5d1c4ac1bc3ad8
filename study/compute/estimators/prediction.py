"""What an estimator returns."""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Prediction:
    """What an estimator says of every training row's removal.

    change: Δθ [n, P], None where an estimator solves for the test points only; delta: change of the target at each chosen
    test point, ∇_tᵀΔθ [n, T]; evidence: how the numbers were obtained, JSON-able; flags: reasons for doubt, such as
    "indefinite".
    """

    change: Tensor | None
    delta: Tensor
    evidence: dict[str, float | int | list[float]] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
