"""`proximal`: leave-one-out minima that are held near the trained parameters (Bae et al. 2022, section 4)."""

from collections.abc import Sequence

from study.compute.fitting import Job
from study.compute.protocols import minima
from study.compute.protocols.retrained import Retrained
from study.specs import Proximal


def retrain(jobs: Sequence[Job], settings: Proximal) -> list[Retrained]:
    """argmin J₋ᵢ(θ) + (d/2)‖θ − θ*‖² with d = `damping`, to the certificate of that objective; the null with nothing removed.

    `subtract_gradient`: with −∇J(θ*)ᵀθ added, so that the null is θ* itself, converged or not.
    """
    return [_retrain(job, settings) for job in jobs]


def _retrain(job: Job, settings: Proximal) -> Retrained:
    objective = job.objective.proximal(job.theta[0], settings.damping)
    if settings.subtract_gradient:
        base = job.objective.networks(slice(0, 1))
        objective = objective.tilted(base.gradient(job.theta[:1], job.weights[:1])[1][0])
    return minima.of_another(objective, job.theta[:1], job.weights, settings.tolerance)
