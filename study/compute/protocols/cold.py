"""`cold`: training from scratch, with the initialisation and the batch order of the base network."""

from collections.abc import Sequence

import torch

from study.compute import fitting
from study.compute.fitting import Job
from study.compute.protocols.retrained import Retrained
from study.compute.seeds import COLD, derived
from study.specs import Cold


def retrain(jobs: Sequence[Job], settings: Cold) -> list[Retrained]:
    """The whole training of the spec again, polish included; the null therefore ends where the base did.

    Not `paired`, every network has a seed of its own, the null too: so that a validation which compares with whatever
    network another run gave can be reproduced.
    """
    ends = fitting.scratch([fitting.restarted(job, None if settings.paired else _own(job)) for job in jobs])
    return [
        Retrained(end, torch.full((len(end),), job.problem.settings.training.steps))
        for end, job in zip(ends, jobs, strict=True)
    ]


def _own(job: Job) -> list[int]:
    return [derived(job.problem.settings.seed, COLD, place) for place in range(len(job.weights))]
