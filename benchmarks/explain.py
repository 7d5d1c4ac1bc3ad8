"""FastIF end to end against the serial run: digits, 1,510 parameters, four test points, 32 repeats of 1,000 steps, B = 1.

The pipeline spreads the estimates of s_test over two worker processes and asks about the 50 nearest of 1,437 rows; the serial
run is the `lissa` estimator for all rows, without its diagnostics. Seconds of either one after the other on the same machine,
workers started and prepared before; how long that takes stands beside.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.report import report
from study import trials
from study.compute import estimators, fastif, fitting
from study.compute.problems import Fitted, problem
from study.workers import client

NEAREST, WORKERS = 50, 2
SPEC = """
name = "benchmark"
[data]
name = "digits"
[model]
kind = "mlp"
width = 20
[training]
steps = 500
learning_rate = 1e-2
[[estimators]]
kind = "lissa"
depth = 1000
repeats = 32
batch_size = 1
scale = 100.0
[[protocols]]
kind = "warm"
"""


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "benchmark.toml"
        path.write_text(SPEC)
        [trial] = trials.load(path).trials
    p = problem(trial)
    theta, tests = fitting.scratch([fitting.initial(p)])[0][0], np.arange(4)
    [settings] = trial.settings.estimators
    fitted = Fitted(p, theta, p.target.rows(torch.as_tensor(tests)))
    started = time.perf_counter()
    whole = estimators.predict(fitted, settings)
    serial = time.perf_counter() - started - whole.diagnostics
    question = fastif.Question(trial, theta.numpy(), tests, settings, settings.depth, "layer1", NEAREST)
    started = time.perf_counter()
    with client(WORKERS, None, WORKERS) as connection:
        fastif.explain(connection, fastif.Question(trial, theta.numpy(), tests, settings, 1, "layer1", 1), WORKERS)
        ready = time.perf_counter() - started
        near, predicted = fastif.explain(connection, question, WORKERS)
        pipeline = time.perf_counter() - started - ready
    expected = np.stack([whole.delta.numpy()[rows, t] for t, rows in enumerate(near)])
    report(
        "explain",
        {
            "serial, all 1,437 rows, s": serial,
            f"pipeline, {NEAREST} nearest rows, {WORKERS} workers, s": pipeline,
            "serial / pipeline": serial / pipeline,
            "start of the workers and their first question, s": ready,
            "largest difference, relative to the largest change": np.abs(predicted - expected).max()
            / np.abs(expected).max(),
        },
    )


if __name__ == "__main__":
    main()
