"""The Iris problems that the benchmarks share, written as specs."""

import tempfile
from pathlib import Path

from study import trials
from study.trials import Trial

SPEC = """
name = "benchmark"
[data]
name = "iris"
test_rows = [83]
[model]
kind = "mlp"
depth = {depth}
[training]
learning_rate = {rate}
steps = {steps}
dtype = "{dtype}"
polish = {polish}
[[estimators]]
kind = "exact"
[[protocols]]
kind = "stationary"
[sweep]
seed = {{ first = 0, count = {seeds} }}
"""


def iris(
    depth: int, seeds: int, dtype: str = "float64", steps: int = 1, rate: float = 1e-3, polish: bool = False
) -> list[Trial]:
    """Trials of a tanh network of width 5 on the 149 training rows of Iris, λ = 0.005."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "benchmark.toml"
        path.write_text(
            SPEC.format(depth=depth, seeds=seeds, dtype=dtype, steps=steps, rate=rate, polish=str(polish).lower())
        )
        return trials.load(path).trials
