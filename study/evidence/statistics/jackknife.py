"""The interval of a reliability: how far it moves when a replica, a row, a test row or a trial is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import stdtrit

from study.evidence.statistics.bootstrap import Sampled
from study.evidence.statistics.intervals import TAIL
from study.evidence.statistics.reliability import centred, lengthened

EXACT = 1e-15  # part of a sum of squares that is rounding: replicas then agree in all digits


@dataclass(frozen=True, eq=False)
class LeftOut:
    """ρ_h by analysis of variance of T test rows that share K replicas and R rows: of all, and without one of either.

    whole [T]; replica [T, K]; row [T, R]; both [T, R, K]: without row i and replica k. times: K/h, by how much all replicas
    are more than the half that ρ_h is of.
    """

    whole: np.ndarray
    replica: np.ndarray
    row: np.ndarray
    both: np.ndarray
    times: float


def left_out(values: np.ndarray, where: np.ndarray) -> LeftOut:
    """ρ_h = (F − 1)/(F − 1 + K/h), F = MS_rows/MS_residual of the layout rows × replicas.

    The mean over all splits of what `half_reliability` correlates, but for the variances of the halves, which are pooled. For
    even K it is tanh(½ log F): Fisher's z of ρ_h is half the logarithm of F. Leaving out takes terms from sums of squares.
    Without a row that does not count all is as it was. values: [T, K, R]. where: [T, R].
    """
    x, rows = centred(values, where), where.sum(axis=-1)
    replicas = x.shape[1]
    times = replicas / (replicas // 2)
    products, sums = x @ x.swapaxes(1, 2), x.sum(axis=1)
    own, shared = np.einsum("tkk->tk", products), products.sum(axis=-1)
    total, square = own.sum(axis=-1), shared.sum(axis=-1)  # Σ x², and Σ over rows of (Σ over replicas)²
    anew = np.where(where, (rows / np.maximum(rows - 1, 1))[:, None], 0.0)  # centred without the row
    row_total, row_square = total[:, None] - anew * (x**2).sum(axis=1), square[:, None] - anew * sums**2
    row_own = own[:, None] - anew[..., None] * x.swapaxes(1, 2) ** 2
    row_shared = shared[:, None] - (anew * sums)[..., None] * x.swapaxes(1, 2)
    return LeftOut(
        _half(total, square, replicas, times),
        _half(total[:, None] - own, square[:, None] - 2 * shared + own, replicas - 1, times),
        _half(row_total, row_square, replicas, times),
        _half(row_total[..., None] - row_own, row_square[..., None] - 2 * row_shared + row_own, replicas - 1, times),
        times,
    )


def _half(total: np.ndarray, square: np.ndarray, replicas: int, times: float) -> np.ndarray:
    """The F of one replica fewer is taken for that of all: this moves all of those alike, and leaves their spread."""
    between = square / replicas
    within = (total - between) / (replicas - 1)  # MS but for 1/(rows − 1), in both
    least = np.maximum(EXACT * np.maximum(between, within), np.finfo(np.float64).tiny)
    ratio = np.maximum(between, least) / np.maximum(within, least)
    return np.asarray((ratio - 1) / (ratio - 1 + times))


@dataclass(frozen=True, eq=False)
class Group:
    """T test rows of one set of replicas, with labels: replicas [K], rows [R], tests [T], and of the trial [T].

    The same label is the same unit in all groups. used: [R], whether the row counts for any of the test rows.
    """

    found: LeftOut
    replicas: np.ndarray
    rows: np.ndarray
    used: np.ndarray
    tests: np.ndarray
    trials: np.ndarray


def interval(reliability: float, groups: Sequence[Group], sampled: Sampled) -> tuple[float, float]:
    """The 95% interval of the reliability that the mean ρ_h over all test rows stands for: f⁻¹(z ∓ t·s).

    f = −log(1 − reliability), which is log F, in units of which it spreads alike whatever its value (Feldt 1965); z is that of
    the ρ_h by analysis of variance, z_a without unit a of an axis of m units, z_ai without row i as well. Replicas are a
    sample, rows and test rows where `sampled` says so, and in place of replicas the trials where it names the seeds.

        s² = Σ v,    v = (m − 1)/m Σ (z_a − z̄)²,    but of any axis beside rows less (m − 1)(R − 1)/(mR) Σ d²

    and at least 0: d are the z_ai less the means over rows and over units. The noise of a single row in a single replica is
    in the v of both, and counts once so. t has (Σ v)²/Σ (v²/(m − 1)) degrees of freedom.

    Around z and not around `reliability`, the mean over splits: correlations of halves forgive that one half's effects are
    larger throughout, and so find a part of about 1/R less noise; where that is more than t·s, the interval ends at it. Being a
    share it does not begin below 0 either, unless the reliability itself is.
    One replica that holds most of the noise makes the interval very wide: with or without it F differs by orders of magnitude.
    Other scales of f hide that and cover less. Coverage by simulation: `benchmarks/reliability.py`.
    References: Tukey 1958; Feldt 1965; Efron and Stein 1981 (two axes); Satterthwaite 1946.
    """
    deleted = _Deleted(groups)
    parts = deleted.variances(sampled)
    spread, freedom = (np.array(values) for values in zip(*parts, strict=True))
    whole = spread.sum()
    degrees = whole**2 / (spread**2 / freedom).sum() if whole > 0 else freedom.min()
    reach = stdtrit(degrees, TAIL) * np.sqrt(whole)
    ends = -np.expm1(np.array([reach, -reach]) - deleted.none)
    return min(max(float(ends[0]), 0.0), reliability), max(float(ends[1]), reliability)


class _Deleted:
    """f of the mean ρ_h over all test rows when one unit of an axis is left out, and one row beside it."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self._groups = groups
        self._count = sum(len(group.tests) for group in groups)
        self._sum = float(sum(group.found.whole.sum() for group in groups))
        self._times = sum(group.found.times * len(group.tests) for group in groups) / self._count
        self._names = np.unique(np.concatenate([group.rows[group.used] for group in groups]))

    @property
    def none(self) -> float:
        """f of all."""
        return float(self._scaled(np.asarray(self._sum)))

    def variances(self, sampled: Sampled) -> list[tuple[float, float]]:
        """(v, degrees of freedom) of every axis."""
        axes = []
        if sampled.seeds:
            axes.append(self._units([group.trials for group in self._groups]))
        else:
            axes.append(self._replicas())
        if sampled.tests:
            axes.append(self._units([group.tests for group in self._groups]))
        found = []
        for alone, beside in axes:
            interaction = _interaction(beside) if sampled.rows else 0.0
            found.append((max(_variance(alone) - interaction, 0.0), len(alone) - 1.0))
        if sampled.rows:
            found.append((_variance(self._scaled(self._sum + self._rows)), len(self._names) - 1.0))
        return found

    def _scaled(self, sums: np.ndarray, count: np.ndarray | int | None = None) -> np.ndarray:
        mean = sums / (self._count if count is None else count)
        return np.asarray(-np.log1p(-lengthened(mean, self._times)))

    @cached_property
    def _changes(self) -> list[np.ndarray]:
        """Per group [T, rows]: of ρ_h without each row of the cell."""
        found = []
        for group in self._groups:
            change = np.zeros((len(group.tests), len(self._names)))
            change[:, self._places(group)] = (group.found.row - group.found.whole[:, None])[:, group.used]
            found.append(change)
        return found

    @cached_property
    def _rows(self) -> np.ndarray:
        return np.sum([change.sum(axis=0) for change in self._changes], axis=0)

    def _places(self, group: Group) -> np.ndarray:
        return np.searchsorted(self._names, group.rows[group.used])

    def _replicas(self) -> tuple[np.ndarray, np.ndarray]:
        """f without each replica [m], and without each row and replica [rows, m]."""
        names = np.unique(np.concatenate([group.replicas for group in self._groups]))
        alone, together = np.zeros(len(names)), np.zeros((len(self._names), len(names)))
        for group in self._groups:
            places, found = np.searchsorted(names, group.replicas), group.found
            alone[places] += (found.replica - found.whole[:, None]).sum(axis=0)
            second = found.both - found.row[..., None] - (found.replica - found.whole[:, None])[:, None]
            together[np.ix_(self._places(group), places)] += second.sum(axis=0)[group.used]
        return self._scaled(self._sum + alone), self._scaled(self._sum + alone + self._rows[:, None] + together)

    def _units(self, labels: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Likewise without the test rows that share a label."""
        names, unit = np.unique(np.concatenate(labels), return_inverse=True)
        whole = np.concatenate([group.found.whole for group in self._groups])
        sums, counts = np.bincount(unit, whole), np.bincount(unit)
        changes = np.zeros((len(names), len(self._names)))
        np.add.at(changes, unit, np.concatenate(self._changes))
        left = self._count - counts
        return (
            self._scaled(self._sum - sums, left),
            self._scaled(self._sum - sums + self._rows[:, None] - changes.T, left),
        )


def _variance(values: np.ndarray) -> float:
    return float((len(values) - 1) / len(values) * ((values - values.mean()) ** 2).sum())


def _interaction(values: np.ndarray) -> float:
    rows, units = values.shape
    apart = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
    return float((rows - 1) / rows * (units - 1) / units * (apart**2).sum())
