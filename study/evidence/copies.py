"""Jobs in copies of this process, one per core: they see all that is in memory, and nothing has to be sent to them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")
FEWEST = 4  # jobs, from where a copy is worth its start

_jobs: Sequence[Callable[[], object]] = ()  # of the copies: set before they are made


def results(jobs: Sequence[Callable[[], Result]]) -> list[Result]:
    """What each job returns, in their order; one after another where this process cannot be copied safely.

    A process of several threads cannot: a lock that another thread holds would stay locked in the copy for ever.
    """
    global _jobs
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    if sys.platform != "linux" or cores < 2 or threading.active_count() > 1 or len(jobs) < FEWEST:
        return [job() for job in jobs]
    _jobs = jobs
    pool = ProcessPoolExecutor(min(cores, len(jobs)), multiprocessing.get_context("fork"), _leave_interrupts)
    try:
        found: list[Result] = list(pool.map(_run, range(len(jobs))))  # type: ignore[arg-type]
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)  # or Ctrl-C would wait for every job that is left
        raise
    finally:
        _jobs = ()
    pool.shutdown()
    return found


def _leave_interrupts() -> None:
    """Ctrl-C is for the process that the user started."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run(place: int) -> object:
    return _jobs[place]()
