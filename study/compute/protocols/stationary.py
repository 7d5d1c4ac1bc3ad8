"""`stationary`: every leave-one-out at a stationary point of its own objective, reached from the null's."""

from collections.abc import Sequence

from study.compute.fitting import Job
from study.compute.protocols import minima
from study.compute.protocols.retrained import Retrained
from study.specs import Stationary


def retrain(jobs: Sequence[Job], settings: Stationary) -> list[Retrained]:
    """∇J₋ᵢ(θ₋ᵢ) = 0 to `tolerance`, then one more Newton step; a trial's removals are one stack."""
    return [
        minima.leave_one_out(job.objective, job.theta[:1], job.weights, settings.tolerance, job.factor) for job in jobs
    ]
