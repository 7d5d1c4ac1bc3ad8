"""What a protocol returns."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Retrained:
    """A trial's null (first) and its removals: theta [R + 1, P] in float64, iterations [R + 1]; seconds: its share of time."""

    theta: Tensor
    iterations: Tensor
    seconds: float = 0.0
