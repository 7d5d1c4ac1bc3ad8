"""Runs what is missing of an experiment: units of one family on Dask workers, records stored as they arrive."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from study import costs, data, interrupts
from study.costs import Sizes
from study.evidence.store import Store
from study.interrupts import Interrupt
from study.progress import Progress
from study.records import Failure, Record
from study.specs.schema import PER_TEST_ROW
from study.trials import Experiment, Trial, family

UNIT_TRIALS, UNIT_SECONDS = 64, 120.0
POLL = 0.05  # seconds between two looks at what has ended
LOST = (
    "a worker died while it ran this trial, most often for lack of memory; "
    "run again with --retry-failed, perhaps with fewer workers"
)


@dataclass(frozen=True)
class Standing:
    """How far an experiment has come: keys of good records and of failures, reasons of damaged records by key."""

    good: set[str]
    failed: set[str]
    damaged: dict[str, str]
    pending: list[Trial]


@dataclass(frozen=True)
class Plan:
    """What a run would do. units: trials of one family each, largest cost first; the rest are counts and predictions."""

    units: list[list[Trial]]
    done: int
    failed: int
    damaged: int
    networks: int
    seconds: float
    bytes: int
    costs: dict[str, float] = field(repr=False)

    @property
    def pending(self) -> int:
        return sum(map(len, self.units))


@dataclass(frozen=True)
class Outcome:
    """How a run ended: records written, trials failed, and whether the user stopped it."""

    written: int
    failed: int
    interrupted: bool


def sizes(trial: Trial) -> Sizes:
    """The sizes of one trial, from its data set alone; removal sets of several test points as if disjoint."""
    settings = trial.settings
    loaded = data.load(settings.data, trial.folder)
    split = data.split(loaded, settings.data)
    rule = settings.points
    test_points = rule.test_count(len(split.test_rows))
    sets = test_points if rule.train in PER_TEST_ROW else 1
    rows = len(split.train_rows)
    removals = rows if rule.train == "all" else min(rows, sets * int(rule.train_count or 0))
    return Sizes(rows, test_points, split.features, max(loaded.classes, 1), removals)


def plan(experiment: Experiment, store: Store, retry_failed: bool = False) -> Plan:
    """Which trials still have to run, grouped into units; damaged records count as missing."""
    return planned(standing(experiment, store, retry_failed))


def standing(experiment: Experiment, store: Store, retry_failed: bool = False) -> Standing:
    """How far the experiment has come; a failed trial is pending only where `retry_failed` asks for it."""
    ours = [trial.key for trial in experiment.trials]
    good, damaged = store.verified_done(ours)
    failed = set() if retry_failed else (store.failed() - good).intersection(ours)
    pending = [t for t in experiment.trials if t.key not in good and t.key not in failed]
    return Standing(good, failed, damaged, pending)


def planned(work: Standing) -> Plan:
    """The pending trials in units, and what they will cost; needs the data."""
    measured = {t.key: sizes(t) for t in work.pending}
    seconds = {t.key: costs.seconds(t.settings, measured[t.key]) for t in work.pending}
    bases = {t.key: costs.base_seconds(t.settings, measured[t.key]) for t in work.pending}
    return Plan(
        units=_units(work.pending, seconds, bases),
        done=len(work.good),
        failed=len(work.failed),
        damaged=len(work.damaged),
        networks=sum(costs.networks(t.settings, measured[t.key]) for t in work.pending),
        seconds=sum(seconds.values()),
        bytes=sum(costs.record_bytes(t.settings, measured[t.key]) for t in work.pending),
        costs=seconds,
    )


def _units(trials: Sequence[Trial], seconds: dict[str, float], bases: dict[str, float]) -> list[list[Trial]]:
    """Of one family each, up to UNIT_TRIALS and about UNIT_SECONDS.

    Where the base networks cost most of that, as many as train at the cost of one go together. bases: seconds of those.
    """
    families: dict[str, list[Trial]] = {}
    for trial in trials:
        families.setdefault(family(trial), []).append(trial)
    units = [unit for members in families.values() for unit in _split(members, seconds, bases)]
    return sorted(units, key=lambda unit: -sum(seconds[t.key] for t in unit))


def _split(members: list[Trial], seconds: dict[str, float], bases: dict[str, float]) -> Iterator[list[Trial]]:
    unit, networks, whole, rest = list[Trial](), set[str](), 0.0, 0.0
    for trial in sorted(members, key=lambda t: t.settings.seed):  # trials of one base network meet in a unit
        whole, rest = whole + seconds[trial.key], rest + seconds[trial.key] - bases[trial.key]
        full = rest > UNIT_SECONDS or (whole > UNIT_SECONDS and len(networks) >= costs.lanes(trial.settings))
        if unit and (len(unit) == UNIT_TRIALS or full):
            yield unit
            unit, networks = [], set()
            whole, rest = seconds[trial.key], seconds[trial.key] - bases[trial.key]
        unit.append(trial)
        networks.add(trial.settings.model_dump_json(include={"data", "model", "training", "seed"}))
    yield unit


def run(
    experiment: Experiment, store: Store, work: Plan, workers: int | None, scheduler: str | None, device: str
) -> Outcome:
    """Run every unit of the plan; a finished unit's records are stored at once: stopping loses only units in flight."""
    if not work.units:
        return Outcome(0, 0, False)
    written = failed = 0
    progress = Progress(len(experiment.trials), work.done, sum(work.costs.values()))
    with interrupts.noticed() as interrupt, _client(workers, scheduler, len(work.units)) as dask_client:
        if _ready(dask_client, work.units, device, interrupt):
            store.write_spec(experiment.text, experiment.files)
            progress.begin()
            for unit, outcomes in _results(dask_client, work.units, device, interrupt):
                for outcome in outcomes:
                    written, failed = _keep(store, outcome, written, failed)
                progress.advance(len(unit), failed, sum(work.costs[t.key] for t in unit))
    if not interrupt.asked:
        progress.close()
    return Outcome(written, failed, interrupt.asked)


def _client(workers: int | None, scheduler: str | None, units: int) -> AbstractContextManager[Any]:
    from study.workers import client  # takes a second, which `study status` need not wait for

    return client(workers, scheduler, units)


def _ready(dask_client: Any, units: list[list[Trial]], device: str, interrupt: Interrupt) -> bool:
    """Whether the first worker has found nothing to refuse; StudyError where it has."""
    check = dask_client.submit(check_worker, _one_of_each_network(units), device, pure=False)
    for ended in _ended([check], interrupt):
        if not ended.result():
            print("study: no C++ compiler found: networks train about ten times slower", file=sys.stderr)
        return True
    return False


def _ended(futures: Iterable[Any], interrupt: Interrupt) -> Iterator[Any]:
    """The futures as they end, until an interrupt."""
    from distributed import as_completed

    waiting = as_completed(futures)
    while waiting.count() and not interrupt.asked:
        if waiting.has_ready():
            yield next(waiting)
        else:
            time.sleep(POLL)


def _keep(store: Store, outcome: Record | Failure, written: int, failed: int) -> tuple[int, int]:
    if isinstance(outcome, Failure):
        store.write_failure(outcome)
        print(f"study: trial {outcome.key[:12]} failed: {outcome.error}", file=sys.stderr)
        return written, failed + 1
    store.write(outcome)
    store.clear_failure(outcome.key)
    return written + 1, failed


def _results(
    dask_client: Any, units: list[list[Trial]], device: str, interrupt: Interrupt
) -> Iterator[tuple[list[Trial], list[Record | Failure]]]:
    # pure=False: a unit is never looked up by its arguments; the store alone says what is done
    futures = {dask_client.submit(run_unit, unit, device, pure=False): unit for unit in units}
    for future in _ended(futures, interrupt):
        unit = futures[future]
        if future.status == "finished":
            yield unit, future.result()
        else:
            reason = f"{LOST} ({future.exception()})"
            yield unit, [Failure(t.key, t.settings.model_dump(mode="json"), reason, "") for t in unit]
        future.release()


def run_unit(unit: list[Trial], device: str) -> list[Record | Failure]:
    """One unit on a worker; torch is imported there and nowhere else."""
    from study.compute import trial

    return trial.run_unit(unit, device)


def _one_of_each_network(units: list[list[Trial]]) -> list[Trial]:
    """A trial for every user's factory and data set, and one that needs FAISS; the rest is checked with the spec."""
    trials = [t for unit in units for t in unit if t.settings.model.is_module or t.settings.feature_layers]
    asked = [t.settings.model_dump_json(exclude={"seed", "points"}) + str(t.settings.feature_layers) for t in trials]
    return list(dict(zip(asked, trials, strict=True)).values())


def check_worker(trials: list[Trial], device: str) -> bool:
    """Whether a worker has a compiler; StudyError where it cannot use the device or where a user's network does not fit."""
    from study.compute import readiness

    return readiness.check(trials, device)
