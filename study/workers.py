"""The processes that compute: a Dask cluster on this machine, or one that exists. Importing this imports Dask."""

import contextlib
import os
import signal
from collections.abc import Iterator
from multiprocessing import resource_tracker
from typing import Any

import dask
from distributed import Client, LocalCluster, Nanny, Status

from study.errors import StudyError

# Dask's nanny trims freed memory eagerly by default, which doubles the time of a small training step
ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
SETTINGS = {
    "distributed.nanny.pre-spawn-environ": ENVIRONMENT,
    "distributed.logging.distributed": "critical",
    "distributed.admin.log-format": "%(message)s",
}


class DeafNanny(Nanny):
    """Starts a worker that no Ctrl-C reaches, and ends it without waiting for the unit it may be computing."""

    async def instantiate(self) -> Status:
        # a terminal interrupts every process of the command; whoever starts a process bequeaths what it blocks
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        return await super().instantiate()

    async def close(self, timeout: float = 2, reason: str = "nanny-close") -> Any:  # type: ignore[override]
        with contextlib.suppress(TimeoutError):  # killed, but slow to be gone: all that matters is stored already
            await super().close(timeout, reason)
        return "OK"


@contextlib.contextmanager
def client(workers: int | None, scheduler: str | None, units: int) -> Iterator[Client]:
    """A Dask client: of an existing scheduler by address, else of single-threaded processes on this machine."""
    with dask.config.set(SETTINGS):
        if scheduler is not None:
            with _connected(scheduler) as connection:
                yield connection
            return
        resource_tracker.ensure_running()  # whoever starts it has Ctrl-C unblocked again: not a nanny
        with _cluster(min(workers or os.cpu_count() or 1, units)) as cluster, Client(cluster) as connection:
            yield connection


def _connected(scheduler: str) -> Client:
    try:
        return Client(scheduler, timeout=10)
    except (OSError, ValueError) as error:
        raise StudyError(
            f"--scheduler {scheduler}: cannot be reached ({error}); start one with `dask scheduler`"
        ) from error


def _cluster(count: int) -> LocalCluster:
    return LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        worker_class=DeafNanny,
        dashboard_address=":0",
        memory_limit=0,
        silence_logs="CRITICAL",
    )
