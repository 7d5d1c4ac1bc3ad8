"""How often the 95% interval of a cell covers the mean correlation it is about, by simulation; beside other constructions.

One experiment is a set of seeds, each with the predicted and actual changes of the removed rows. An actual change is the
row's own effect plus a part that differs between seeds, a predicted one the actual plus noise whose size differs between
seeds. `jumps` adds what certified Iris shows: a few rows change several times more than predicted, mostly the same rows in
all seeds. Rows are a new sample in each experiment or, as `fixed`, the same in all. With `minima`, seeds reach one of that
many with chances 1, 1/2, 1/3, …, and those that reach one minimum are one observation.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, stdtrit

from benchmarks.report import report
from study.evidence.statistics import intervals
from study.evidence.statistics.bootstrap import Sampled, crossed_bootstrap
from study.evidence.statistics.metrics import compared, measured

METRICS = ("pearson", "spearman")
DRAWS = 400
POPULATION = 3000  # simulated experiments behind the true mean

Ends = tuple[float, float]


@dataclass(frozen=True)
class Scenario:
    """seeds × rows; `noise` of the predictions; `effects` of rows: Student's t with 4 degrees of freedom, normal, jumps."""

    seeds: int
    rows: int
    noise: float
    effects: str = "t"
    fixed: bool = False
    minima: int = 0

    def __str__(self) -> str:
        notes = [
            self.effects,
            *(["fixed rows"] if self.fixed else []),
            *([f"{self.minima} minima"] * bool(self.minima)),
        ]
        return f"{self.seeds} seeds x {self.rows} rows, noise {self.noise:g}, {', '.join(notes)}"


SCENARIOS = (
    Scenario(20, 30, 0.9),
    Scenario(20, 30, 0.1),
    Scenario(10, 30, 0.3, "normal"),
    Scenario(10, 149, 0.3),
    Scenario(20, 149, 1.0),
    Scenario(50, 30, 0.03),
    Scenario(50, 149, 0.3),
    Scenario(20, 30, 0.9, fixed=True),
    Scenario(10, 30, 0.1, fixed=True),
    Scenario(5, 30, 0.3, fixed=True),
    Scenario(10, 149, 0.05, "jumps"),
    Scenario(50, 149, 0.05, "jumps"),
    Scenario(10, 149, 0.05, "jumps", minima=3),
    Scenario(10, 149, 0.3, minima=4),
    Scenario(50, 149, 0.3, minima=8),
)


def experiment(scenario: Scenario, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predicted and actual changes [seeds, rows], and the minimum of each seed."""
    networks = scenario.minima or scenario.seeds
    rows = np.random.default_rng(5) if scenario.fixed else generator
    effect = rows.normal(size=scenario.rows) if scenario.effects == "normal" else rows.standard_t(4, scenario.rows)
    actual = effect + 0.3 * generator.normal(size=(networks, scenario.rows))
    noise = scenario.noise * np.exp(0.4 * generator.normal(size=(networks, 1)))
    predicted = actual + noise * generator.normal(size=actual.shape)
    if scenario.effects == "jumps":
        chance = 0.5 * (generator.random(scenario.rows) < 0.06) + 0.005
        size = np.exp(1 + generator.normal(size=actual.shape))
        actual = actual + 2 * np.sign(actual) * size * (generator.random(actual.shape) < chance)
    label = np.arange(networks)
    if scenario.minima:
        chances = 1 / np.arange(1, networks + 1)
        label = generator.choice(networks, scenario.seeds, p=chances / chances.sum())
    return predicted[label], actual[label], label


def z_and_t(metric: str, estimate: float, draws: np.ndarray, axes: Sequence[intervals.Axis]) -> Ends:
    """Student's interval on Fisher's scale with the standard deviation of the draws: both sides alike."""
    values = np.arctanh(draws)
    alone = np.array([np.arctanh(axis.draws)[np.isfinite(np.arctanh(axis.draws))].var() for axis in axes])
    freedom = np.array([len(axis.shares) - 1 for axis in axes])
    spread = np.sqrt(values[np.isfinite(values)].var() + (alone / freedom).sum())
    reach = stdtrit(alone.sum() ** 2 / (alone**2 / freedom).sum(), 0.975) * spread
    return float(np.tanh(np.arctanh(estimate) - reach)), float(np.tanh(np.arctanh(estimate) + reach))


def percentile(metric: str, estimate: float, draws: np.ndarray, axes: Sequence[intervals.Axis]) -> Ends:
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return float(low), float(high)


def expanded(metric: str, estimate: float, draws: np.ndarray, axes: Sequence[intervals.Axis]) -> Ends:
    """Percentiles moved outwards as Student's t is from the normal. Reference: Hesterberg 2015."""
    alone = np.array([np.nanvar(axis.draws) for axis in axes])
    freedom = np.array([len(axis.shares) - 1 for axis in axes])
    degrees = alone.sum() ** 2 / (alone**2 / freedom).sum()
    tail = ndtr(-stdtrit(degrees, 0.975) * np.sqrt(1 + (alone / freedom).sum() / np.nanvar(draws)))
    low, high = np.nanquantile(draws, [tail, 1 - tail])
    return float(low), float(high)


CONSTRUCTIONS: dict[str, intervals.Construction] = {
    "study": intervals.interval, "z and t": z_and_t, "percentile": percentile, "expanded percentile": expanded
}  # fmt: skip


def constructed(scenario: Scenario, generator: np.random.Generator) -> dict[str, dict[str, Ends]] | None:
    """By metric and construction, from the same draws. None where all seeds reach one minimum and rows are fixed."""
    predicted, actual, label = experiment(scenario, generator)
    found: dict[str, dict[str, Ends]] = {}

    def every(metric: str, estimate: float, draws: np.ndarray, axes: Sequence[intervals.Axis]) -> Ends:
        if metric in METRICS:
            found[metric] = {name: ends(metric, estimate, draws, axes) for name, ends in CONSTRUCTIONS.items()}
        return np.nan, np.nan

    sampled = Sampled(seeds=True, tests=False, rows=not scenario.fixed)
    crossed_bootstrap(compared(predicted, actual), label, np.zeros(len(label)), sampled, generator, DRAWS, every)
    return found or None


def truth(scenario: Scenario, generator: np.random.Generator) -> dict[str, float]:
    means = [measured(compared(*experiment(scenario, generator)[:2])) for _ in range(POPULATION)]
    return {metric: float(np.mean([found[metric].mean() for found in means])) for metric in METRICS}


def covered(scenario: Scenario, experiments: int) -> dict[str, float]:
    """The true means; for each metric and construction the share of intervals that cover it, in %, and their mean width."""
    generator = np.random.default_rng([scenario.seeds, scenario.rows, int(100 * scenario.noise)])
    true = truth(scenario, generator)
    every = [found for _ in range(experiments) if (found := constructed(scenario, generator)) is not None]
    figures = {f"{scenario}: mean {metric}": true[metric] for metric in METRICS}
    for metric in METRICS:
        for name in CONSTRUCTIONS:
            ends = np.array([found[metric][name] for found in every])
            hits = (ends[:, 0] <= true[metric]) & (true[metric] <= ends[:, 1])
            figures[f"{scenario}: {metric}, {name}, % covered"] = 100 * float(hits.mean())
            figures[f"{scenario}: {metric}, {name}, width"] = float((ends[:, 1] - ends[:, 0]).mean())
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiments", type=int, default=1000)
    experiments = parser.parse_args().experiments
    figures: dict[str, float] = {"simulated experiments of each kind": experiments}
    for scenario in SCENARIOS:
        figures |= covered(scenario, experiments)
    report("coverage", figures)


if __name__ == "__main__":
    main()
