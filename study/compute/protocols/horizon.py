"""`horizon`: further training as `warm` does it, looked at after several numbers of steps: how an effect grows and fades."""

from collections.abc import Sequence

import torch

from study.compute import fitting
from study.compute.fitting import Job
from study.compute.protocols.retrained import Retrained
from study.specs import Horizon


def retrain(jobs: Sequence[Job], settings: Horizon) -> list[Retrained]:
    """What `warm` does, `steps` further steps with fresh optimiser state (Schioppa et al. 2023)."""
    return along(jobs, [settings])[0]


def along(jobs: Sequence[Job], settings: Sequence[Horizon]) -> list[list[Retrained]]:
    """The jobs by each of the settings, which differ in `steps` alone: one run, looked at after each of these numbers."""
    marks = sorted({one.steps for one in settings})
    courses = fitting.course(jobs, marks, fitting.ONWARDS, settings[0].parameters)
    return [
        [Retrained(ends[marks.index(one.steps)], torch.full((ends.shape[1],), one.steps)) for ends in courses]
        for one in settings
    ]
