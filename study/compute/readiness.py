"""Whether a worker is ready for the trials it will get, asked once before any of them runs."""

from collections.abc import Sequence

import torch

from study.compute import fused, neighbours, problems
from study.errors import StudyError
from study.trials import Trial


def check(trials: Sequence[Trial], device: str) -> bool:
    """Whether there is a C++ compiler for the fused kernel.

    Raises StudyError where this machine cannot use the torch device or lacks FAISS for a trial that needs it, or where a
    trial's own network, or the parameters or layers that its spec names, do not fit.
    """
    for trial in trials:
        try:
            problems.check(trial)
            neighbours.check(trial.settings)
        except StudyError:
            raise
        except Exception:  # a network that cannot be built is a failure of its own trials, not of all
            continue
    try:
        torch.zeros(1, dtype=torch.float64, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:  # torch raises each of these, by device and build
        reason = str(error).partition("\n")[0]
        raise StudyError(f"--device {device}: a worker cannot use it ({reason}); leave it out for the CPU") from None
    return bool(fused.compiler())
