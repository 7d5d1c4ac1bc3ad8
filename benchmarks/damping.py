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

GRID = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)
LENGTHS = (1, 2, 4, len(GRID))


def fresh(case: Fitted) -> Fitted:
    """With what all ways share, and nothing else."""
    own = Fitted(case.problem, case.theta, case.target)
    own.__dict__.update({name: getattr(case, name) for name in ("hessian", "pull", "test_gradients")})
    return own


def by_band(case: Fitted, grid: tuple[float, ...]) -> list[Tensor]:
    return [dense.predict(case, Exact(damping=damping), gauss_newton=False).delta for damping in grid]


def by_factors(case: Fitted, grid: tuple[float, ...]) -> list[Tensor]:
    """As before there were bands: M + δI factored anew for each."""

    def factored(matrix: Tensor, _: Callable[[], Band], damping: float) -> dense._Definite | None:
        damped = matrix.clone()
        damped.diagonal().add_(damping)
        return dense._factored(damped, dense._cholesky(damped))

    with patch.object(dense, "_reduced", factored):
        return by_band(case, grid)


def by_eigenvectors(case: Fitted, grid: tuple[float, ...]) -> list[Tensor]:
    with patch.object(dense, "FACTORED", len(case.theta)), patch.object(dense, "_distance", lambda *_: float("nan")):
        return by_band(case, grid)


def clocked(way: Callable[[Fitted, tuple[float, ...]], list[Tensor]], case: Fitted, length: int) -> tuple[float, list[Tensor]]:
    started = time.process_time()
    found = way(case, GRID[:length])
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
    fresh(case)  # computes what is shared
    figures: dict[str, float | str] = {**parts(case)}
    worst = 0.0
    for length in LENGTHS:
        band, found = clocked(by_band, fresh(case), length)
        factors, expected = clocked(by_factors, fresh(case), length)
        vectors, also = clocked(by_eigenvectors, fresh(case), length)
        name = f"{length} dampings" if length > 1 else "1 damping"
        figures |= {f"{name}: by the band, seconds": band, f"{name}: by a factor each, seconds": factors,
                    f"{name}: by eigenvectors, seconds": vectors}  # fmt: skip
        for one, *others in zip(found, expected, also, strict=True):
            worst = max(worst, *(((one - other).abs().max() / other.abs().max()).item() for other in others))
    report("damping", {**figures, "largest relative difference": worst})


if __name__ == "__main__":
    main()
