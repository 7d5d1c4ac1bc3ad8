"""`warm`: further training from the trained parameters (Koh & Liang 2017; Basu et al. 2021)."""

from collections.abc import Sequence

import torch

from study.compute import fitting
from study.compute.fitting import Job
from study.compute.protocols.retrained import Retrained
from study.specs import Warm


def retrain(jobs: Sequence[Job], settings: Warm) -> list[Retrained]:
    """`steps` further steps with fresh optimiser state; null and removals share the batch order, so drift cancels in pairs.

    All but `parameters` stay as they are in the base network, to the last bit (Epifano et al. 2023).
    """
    ends = fitting.course(jobs, [settings.steps], fitting.ONWARDS, settings.parameters)
    return [Retrained(end[0], torch.full((end.shape[1],), settings.steps)) for end in ends]
