"""`cold`: training from scratch, with the initialisation and the batch order of the base network."""

from collections.abc import Sequence

import torch

from study.compute import fitting
from study.compute.fitting import Job
from study.compute.protocols.retrained import Retrained
from study.specs import Cold


def retrain(jobs: Sequence[Job], settings: Cold) -> list[Retrained]:
    """The whole training of the spec again, polish included; the null therefore ends where the base did."""
    ends = fitting.scratch([fitting.restarted(job) for job in jobs])
    return [
        Retrained(end, torch.full((len(end),), job.problem.settings.training.steps))
        for end, job in zip(ends, jobs, strict=True)
    ]
