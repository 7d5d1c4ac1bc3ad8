"""FastIF (Guo et al. 2021) on Dask workers: estimates of s_test side by side, one average, influences of the nearest rows."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from study.compute import neighbours
from study.compute.estimators import lissa
from study.compute.estimators.through_tests import System
from study.compute.problems import ROW_NUMBERS, Fitted, problem
from study.compute.trial import ONE_AT_A_TIME, subnormals_as_zero
from study.specs import Lissa
from study.trials import Trial


@dataclass(frozen=True, eq=False)
class Question:
    """Which of the nearest training rows explain the losses at chosen test points of one trained network.

    theta: its parameters [P]; tests: positions of the test points among the held-out rows [T]; steps: of the recursion, at
    most its depth; layer, count: the `count` nearest rows in its features are asked about. Each worker prepares it once.
    """

    trial: Trial
    theta: np.ndarray
    tests: np.ndarray
    estimator: Lissa
    steps: int
    layer: str
    count: int

    @cached_property
    def system(self) -> System:
        with ONE_AT_A_TIME:
            torch.set_num_threads(1)
            p = problem(self.trial)
        theta = torch.tensor(self.theta, dtype=torch.float64)
        fitted = Fitted(p, theta, p.target.rows(torch.as_tensor(self.tests)))
        return System.of(fitted, self.estimator.matrix, self.estimator.parameters)


@dataclass(frozen=True)
class Piece:
    """Estimates that are walked together: of some repeats for some test points, in the order of the question."""

    repeats: range
    tests: range


def explain(client: Any, question: Question, workers: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the nearest training rows [T, k] of each test point, nearest first, and the predicted changes [T, k].

    Repeats × test points are dealt out to the workers of the Dask `client`; the average of the repeats is the only point at
    which they wait for each other, and the rows' influences are dealt out again. The numbers are those of `lissa`.
    """
    [shared] = client.scatter([question], broadcast=True)
    nearest = client.submit(preselected, shared, pure=False)
    walked = [client.submit(estimates, shared, piece, pure=False)
              for piece in pieces(question.estimator.repeats, len(question.tests), workers)]  # fmt: skip
    mean = client.submit(average, shared, walked, pure=False)
    pairs = len(question.tests) * question.count
    parts = [range(part[0], part[-1] + 1) for part in np.array_split(np.arange(pairs), min(workers, pairs))]
    changes = [client.submit(influences, shared, mean, nearest, part, pure=False) for part in parts]
    return client.gather(nearest), np.concatenate(client.gather(changes)).reshape(-1, question.count)


def pieces(repeats: int, tests: int, workers: int) -> Iterator[Piece]:
    """About one per worker. Repeats are parted first: test points of one repeat share its random matrices."""
    groups = min(repeats, workers)
    each = min(tests, math.ceil(workers / groups))
    for some in np.array_split(np.arange(repeats), groups):
        for points in np.array_split(np.arange(tests), each):
            yield Piece(range(some[0], some[-1] + 1), range(points[0], points[-1] + 1))


@subnormals_as_zero()
def estimates(question: Question, piece: Piece) -> tuple[Piece, np.ndarray]:
    """s_t of each repeat and test point of the piece, [repeats, tests, p]."""
    system = question.system
    system = replace(system, right=system.right[list(piece.tests)])
    return piece, lissa.estimates(system, question.estimator, piece.repeats, question.steps).numpy()


def average(question: Question, walked: Sequence[tuple[Piece, np.ndarray]]) -> np.ndarray:
    """The mean over all repeats, [T, p]."""
    whole = np.empty((question.estimator.repeats, len(question.tests), walked[0][1].shape[2]))
    for piece, found in walked:
        whole[np.ix_(piece.repeats, piece.tests)] = found
    return torch.from_numpy(whole).mean(dim=0).numpy()  # in the order of the serial run


def preselected(question: Question) -> np.ndarray:
    """[T, k]; StudyError on a layer the network lacks or more rows than there are."""
    fitted = question.system.fitted
    found = neighbours.features(fitted.problem, fitted.theta, question.tests, question.layer)
    return neighbours.nearest(*found, question.count)


@subnormals_as_zero()
def influences(question: Question, mean: np.ndarray, nearest: np.ndarray, part: range) -> np.ndarray:
    """Δ_it = −s_tᵀ Σ_j Δw_j ∇L(z_j) of some of the pairs (t, i), numbered through `nearest` row by row."""
    system = question.system
    tests, columns = (torch.as_tensor(index) for index in np.divmod(np.arange(part.start, part.stop), question.count))
    places, solutions = torch.as_tensor(nearest), torch.as_tensor(mean)
    found = []
    for some in torch.arange(len(tests)).split(
        max(1, ROW_NUMBERS // len(question.theta))
    ):  # so that memory stays bounded
        rows = places[tests[some], columns[some]]
        found.append(-system.fitted.pull_between(rows, system.embedded(solutions[tests[some]])))
    return torch.cat(found).numpy()
