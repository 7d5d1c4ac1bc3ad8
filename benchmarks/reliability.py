"""How often the 95% interval of the reliability covers the true one, by simulation; beside Feldt's exact one for normal data.

One experiment is K replicas of the changes of R rows: a row's own effect, of variance one over rows, plus noise of the size that
gives the mean over replicas its true reliability. Effects are normal or (`heavy`) Student's t with 4 degrees of freedom. Noise is
independent and normal; with `unequal replicas` its size differs between replicas by a factor exp(0.4 z), with `very unequal
replicas` by exp(z); with `unequal rows` it is as large as the row's effect; `spikes` are in one of 20 rows of each replica;
half of `common` noise is one pattern over rows of which each replica adds some amount. Rows are a new sample in each experiment
or, as `fixed rows`, the same in all.
"""

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import fdtri

from benchmarks.report import report
from study.evidence.statistics import jackknife, reliability
from study.evidence.statistics.bootstrap import SEED, Sampled

Ends = tuple[float, float]
COMMON = 0.5  # of the noise's variance
UNEQUAL = {"unequal replicas": 0.4, "very unequal replicas": 1.0}
SPIKES = 0.05


@dataclass(frozen=True)
class Scenario:
    replicas: int
    rows: int
    true: float
    kind: str = "normal"
    fixed: bool = False

    def __str__(self) -> str:
        fixed = ", fixed rows" if self.fixed else ""
        return f"{self.replicas} replicas x {self.rows} rows, reliability {self.true:g}, {self.kind}{fixed}"


def scenarios() -> Iterator[Scenario]:
    sizes = ((5, 25), (10, 25), (20, 25), (50, 25), (5, 149), (10, 149), (20, 149), (50, 149))
    for fixed in (False, True):
        yield from (Scenario(*size, true, "normal", fixed) for size in sizes for true in (0.3, 0.7, 0.95, 0.999))
    kinds = ("heavy", "unequal replicas", "very unequal replicas", "unequal rows", "spikes", "common")
    for kind, fixed, size, true in itertools.product(kinds, (False, True), sizes[::2], (0.3, 0.95)):
        yield Scenario(*size, true, kind, fixed)


def experiment(scenario: Scenario, generator: np.random.Generator) -> np.ndarray:
    """[1, replicas, rows]."""
    replicas, rows = scenario.replicas, scenario.rows
    of_rows = np.random.default_rng(5) if scenario.fixed else generator
    effect = of_rows.standard_t(4, rows) / np.sqrt(2) if scenario.kind == "heavy" else of_rows.normal(size=rows)
    pattern = of_rows.normal(size=rows)
    if scenario.fixed:
        effect, pattern = ((values - values.mean()) / values.std(ddof=1) for values in (effect, pattern))
    noise = generator.normal(size=(replicas, rows))
    if scenario.kind in UNEQUAL:
        spread = UNEQUAL[scenario.kind]
        noise *= np.exp(spread * generator.normal(size=(replicas, 1)) - spread**2)
    if scenario.kind == "spikes":
        noise *= (generator.random(noise.shape) < SPIKES) / np.sqrt(SPIKES)
    if scenario.kind == "unequal rows":
        noise *= np.abs(effect)
    if scenario.kind == "common":
        noise = np.sqrt(COMMON) * generator.normal(size=(replicas, 1)) * pattern + np.sqrt(1 - COMMON) * noise
    size = np.sqrt(replicas * (1 - scenario.true) / scenario.true)
    return (effect + size * noise)[None]


def estimated(values: np.ndarray, fixed: bool) -> tuple[float, Ends, Ends]:
    """The reliability, the study's interval, and Feldt's: of the F of normal rows × replicas."""
    _, replicas, rows = values.shape
    where = np.ones((1, rows), dtype=bool)
    split = reliability.halves(replicas, np.random.default_rng(SEED))
    half = reliability.half_reliability(values, where, split)
    whole = float(reliability.lengthened(half, replicas / split.size)[0])
    left, one = jackknife.left_out(values, where), np.zeros(1)
    group = jackknife.Group(left, np.arange(replicas), np.arange(rows), where[0], one, one)
    found = jackknife.interval(whole, [group], Sampled(seeds=False, tests=False, rows=not fixed))
    ratio = 1 + left.times * left.whole[0] / (1 - left.whole[0])  # F
    degrees = rows - 1, (rows - 1) * (replicas - 1)
    low, high = (1 - float(fdtri(*degrees, tail)) / ratio for tail in (0.975, 0.025))
    return whole, found, (low, high)


def covered(scenario: Scenario, experiments: int) -> dict[str, float]:
    generator = np.random.default_rng([scenario.replicas, scenario.rows, int(1000 * scenario.true)])
    found = [estimated(experiment(scenario, generator), scenario.fixed) for _ in range(experiments)]
    figures = {f"{scenario}: median estimate": float(np.median([whole for whole, _, _ in found]))}
    for place, name in ((1, "study"), (2, "Feldt")):
        ends = np.array([parts[place] for parts in found])
        hits = (ends[:, 0] <= scenario.true) & (scenario.true <= ends[:, 1])
        figures[f"{scenario}: {name}, % covered"] = round(100 * float(hits.mean()), 1)
        figures[f"{scenario}: {name}, median width"] = float(np.median(ends[:, 1] - ends[:, 0]))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiments", type=int, default=1000)
    experiments = parser.parse_args().experiments
    figures: dict[str, float | str] = {"simulated experiments of each kind": experiments}
    for scenario in scenarios():
        figures |= covered(scenario, experiments)
    report("reliability", figures)


if __name__ == "__main__":
    main()
