"""Protocols measure what a removal really does. A new one is a file here, its class in study.specs and a line below."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from study.compute.fitting import Job
from study.compute.protocols import cold, cold_seeds, horizon, linearised_pbrf, pbrf, proximal, stationary, warm
from study.compute.protocols.retrained import Retrained

KINDS: dict[str, Callable[[Sequence[Job], Any], list[Retrained]]] = {
    "warm": warm.retrain,
    "cold": cold.retrain,
    "cold_seeds": cold_seeds.retrain,
    "horizon": horizon.retrain,
    "stationary": stationary.retrain,
    "proximal": proximal.retrain,
    "pbrf": pbrf.retrain,
    "linearised_pbrf": linearised_pbrf.retrain,
}


def retrain(jobs: Sequence[Job], settings: Any) -> list[Retrained]:
    """Retrain every job's null and removals by the protocol that `settings.kind` names.

    A job starts from its trained parameters θ* and holds the weights [R + 1, n], the null's first.
    """
    started = time.perf_counter()
    outcomes = KINDS[settings.kind](jobs, settings)
    share = (time.perf_counter() - started) / len(jobs)
    return [replace(outcome, seconds=share) for outcome in outcomes]


def alike(settings: Any) -> str:
    """A text that is equal for settings that one run serves: the name makes no difference, nor how far `horizon` looks."""
    return settings.model_dump_json(exclude={"name", "steps"} if settings.kind == "horizon" else {"name"})


def retrain_alike(jobs: Sequence[Job], several: Sequence[Any]) -> list[list[Retrained]]:
    """The jobs by each of several settings that are `alike` but differ."""
    if several[0].kind != "horizon":
        return [retrain(jobs, settings) for settings in several]
    started = time.perf_counter()
    found = horizon.along(jobs, several)
    share = (time.perf_counter() - started) / (len(jobs) * len(several))
    return [[replace(outcome, seconds=share) for outcome in outcomes] for outcomes in found]
