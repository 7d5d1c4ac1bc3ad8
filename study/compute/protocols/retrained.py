"""What a protocol returns."""

from dataclasses import dataclass

from torch import Tensor

from study.compute.objective import Objective


@dataclass(frozen=True)
class Retrained:
    """A trial's null (first) and its removals: theta [R + 1, P] in float64, iterations [R + 1]: of the solver, or
    the steps asked for where training is first-order; seconds: this trial's share of the protocol's time; objective and
    weights: what the certificates are about, where that is not the trial's own objective.

    replicas: how often all of them were retrained, each time from another seed; theta is then [K(R + 1), P], a replica after
    the other."""

    theta: Tensor
    iterations: Tensor
    seconds: float = 0.0
    objective: Objective | None = None
    weights: Tensor | None = None
    replicas: int = 1

    @property
    def stacks(self) -> tuple[Tensor, ...]:
        """Null and removals of each replica, [R + 1, P]."""
        return self.theta.split(len(self.theta) // self.replicas)
