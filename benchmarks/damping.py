"""A grid of dampings for one network: digits (64-32-10 tanh, 2,410 parameters, 1,437 × 360 pairs), float64, one core.

Every prediction with its certificate, by the band that the Hessian is reduced to once; beside it by a Cholesky factor for each
damping, and by the eigenvectors. The Hessian, gradients and the rows' changes of gradient are computed beforehand: all three
share them. Seconds of processor time, for others may share it.
"""

import time
from collections.abc import Callable
from functools import partial
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks import pairs
from benchmarks.report import report
from study.compute.bands import Band
from study.compute.estimators import dense
from study.compute.problems import Fitted
from study.specs import Exact

GRID = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)
LENGTHS = (1, 3, 6, len(GRID))


def fresh(case: Fitted, many: bool) -> Fitted:
    """With what all ways share, and nothing else; many: as of a spec that asks for a grid."""
    own = Fitted(case.problem, case.theta, case.target, many)
    own.__dict__.update({name: getattr(case, name) for name in ("hessian", "pull", "test_gradients")})
    return own


def along(case: Fitted, length: int) -> tuple[float, list[Tensor]]:
    """Seconds, and predictions with the first dampings of the grid."""
    started = time.process_time()
    found = [dense.predict(case, Exact(damping=damping), gauss_newton=False).delta for damping in GRID[:length]]
    return time.process_time() - started, found


def parts(case: Fitted) -> dict[str, float]:
    """Seconds of each step once."""
    spent = {}

    def timed(name: str, work: Callable[[], object]) -> object:
        started = time.process_time()
        found = work()
        spent[name] = time.process_time() - started
        return found

    timed("Cholesky factor, seconds", partial(torch.linalg.cholesky_ex, case.hessian))
    band = timed("reduction to a band, seconds", partial(Band.of, case.hessian))
    assert isinstance(band, Band)
    timed("factor of the damped band, seconds", partial(band.factor, 0.1))
    return spent


def main() -> None:
    torch.set_num_threads(1)
    case = pairs.fitted()
    fresh(case, False)  # computes what is shared
    figures: dict[str, float | str] = {**parts(case)}
    worst = 0.0
    for length in LENGTHS:
        band, found = along(fresh(case, True), length)
        factors, expected = along(fresh(case, False), length)
        with patch.object(dense, "FACTORED", len(case.theta)), patch.object(dense, "_distance", lambda *_: float("nan")):
            vectors, also = along(fresh(case, False), length)
        name = f"{length} dampings" if length > 1 else "1 damping"
        figures |= {f"{name}: by the band, seconds": band, f"{name}: by a factor each, seconds": factors,
                    f"{name}: by eigenvectors, seconds": vectors}  # fmt: skip
        for one, *others in zip(found, expected, also, strict=True):
            worst = max(worst, *(((one - other).abs().max() / other.abs().max()).item() for other in others))
    report("damping", {**figures, "largest relative difference": worst})


if __name__ == "__main__":
    main()
