"""`cold_seeds`: training from scratch over several seeds, so that the truth's own noise is known and averages out."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from study.compute import fitting
from study.compute.fitting import Job
from study.compute.protocols.retrained import Retrained
from study.compute.seeds import COLD_SEEDS, derived
from study.specs import ColdSeeds

HELD_NUMBERS = 20_000_000  # weights of one stack, networks × rows, that are held at once


def retrain(jobs: Sequence[Job], settings: ColdSeeds) -> list[Retrained]:
    """The whole training of the spec from `count` other initialisations and batch orders, null and removals each time.

    Replica k of a trial with seed s has the seed `derived(s, 1, k)`, which its null and its removals share; not `paired`,
    each network has one of its own, `derived(s, 1, k, place)`, and nothing cancels (K & Søgaard 2021). All networks of all
    replicas are one stack.
    """
    again = [fitting.restarted(job, seeds) for k in range(settings.count) for job, seeds in _seeded(jobs, settings, k)]
    ends = [end for some in _together(again) for end in fitting.scratch(some)]
    return [_gathered(job, ends[j :: len(jobs)]) for j, job in enumerate(jobs)]


def _seeded(jobs: Sequence[Job], settings: ColdSeeds, k: int) -> Iterator[tuple[Job, list[int]]]:
    for job in jobs:
        seed, places = job.problem.settings.seed, range(len(job.weights))
        shared = derived(seed, COLD_SEEDS, k)
        yield job, [shared if settings.paired else derived(seed, COLD_SEEDS, k, place) for place in places]


def _together(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Jobs in order, as many at once as memory allows: no network's numbers depend on its neighbours."""
    some, held = list[Job](), 0
    for job in jobs:
        if some and held + job.weights.numel() > HELD_NUMBERS:
            yield some
            some, held = [], 0
        some, held = [*some, job], held + job.weights.numel()
    yield some


def _gathered(job: Job, replicas: Sequence[Tensor]) -> Retrained:
    iterations = torch.full((len(job.weights),), job.problem.settings.training.steps)
    return Retrained(torch.cat(list(replicas)), iterations, replicas=len(replicas))
