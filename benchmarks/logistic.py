"""Softmax regression on MNIST as Koh & Liang have it: 55,000 rows, no intercept, 7,840 parameters, λ = 0.01.

500 certified leave-one-outs of random rows against warm-started scikit-learn L-BFGS refits to the same gradient norm (ten are
timed and compared, the time scaled); exact influence of all rows on 1,000 test images. One core for both, in one process. Needs
the images: STUDY_DATA names their folder.
"""

import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from benchmarks.report import report
from study import trials
from study.compute import certificates, estimators, fitting
from study.compute.fitting import Job
from study.compute.problems import Fitted, Problem, problem
from study.compute.protocols import stationary
from study.specs import Exact, Stationary

REMOVALS, REFITS, TESTS, TOLERANCE, PENALTY = 500, 10, 1000, 1e-10, 0.01
SPEC = """
name = "benchmark"
[data]
name = "mnist"
standardize = false
validation_rows = 5000
[model]
kind = "linear"
intercept = false
[training]
optimizer = "lbfgs"
steps = 60
weight_decay = 0.01
polish = true
[[estimators]]
kind = "exact"
[[protocols]]
kind = "stationary"
"""


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns, and the processor seconds it took: others may share the machine."""
    started = time.process_time()
    return work(), time.process_time() - started


def loaded() -> Problem:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "benchmark.toml"
        path.write_text(SPEC)
        return problem(trials.load(path).trials[0])


class Refits:
    """scikit-learn on the rows without one, started where it stood on all of them; the others keep 1/n each."""

    def __init__(self, p: Problem):
        self.x, self.y = p.split.x_train, p.split.y_train
        self.model = LogisticRegression(
            C=1 / (len(self.x) * PENALTY), fit_intercept=False, tol=1e-12, max_iter=10_000, warm_start=True
        )
        self.model.fit(self.x, self.y)
        self.start = self.model.coef_.copy()

    def without(self, row: int) -> np.ndarray:
        """Its parameters [P]."""
        keep = np.arange(len(self.x)) != row
        x, y = self.x[keep], self.y[keep]
        self.model.coef_ = self.start.copy()
        self.model.fit(x, y)
        return self.model.coef_.ravel().copy()


def main() -> None:
    torch.set_num_threads(1)
    p = loaded()
    theta, trained = timed(lambda: fitting.scratch([fitting.initial(p)])[0][0])
    tests = torch.randperm(len(p.target.x), generator=torch.Generator().manual_seed(0))[:TESTS]
    fitted = Fitted(p, theta, p.target.rows(tests))
    _, formed = timed(lambda: fitted.hessian)
    _, factored = timed(lambda: fitted.factor)
    influence, predicted = timed(lambda: estimators.predict(fitted, Exact()).delta)
    rows = torch.as_tensor(np.random.default_rng(0).choice(p.objective.rows, REMOVALS, replace=False))
    weights = torch.cat([p.weights, p.removal_weights(rows)])
    job = Job(p, theta.expand(len(weights), -1), weights, None, lambda: fitted.factor)

    def certified() -> tuple[torch.Tensor, certificates.Certificate]:
        [found] = stationary.retrain([job], Stationary(tolerance=TOLERANCE))
        return found.theta, certificates.certify(p.objective, found.theta, weights, fitted.target, TOLERANCE)

    (ends, certificate), ours = timed(certified)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    values = torch.cat([fitted.target.values(some) for some in ends.split(64)])
    actual, expected = (values[1:] - values[0]).numpy(), influence[rows].numpy()
    correlations = [np.corrcoef(actual[:, t], expected[:, t])[0, 1] for t in range(TESTS)]
    refits, started = timed(lambda: Refits(p))
    found = [timed(lambda row=row: refits.without(row)) for row in rows[:REFITS].tolist()]
    theirs = np.stack([parameters for parameters, _ in found])
    each = float(np.median([seconds for _, seconds in found]))
    reached = p.objective.gradient(torch.as_tensor(theirs), weights[1 : REFITS + 1])[1].norm(dim=1).max().item()
    changes = fitted.target.values(torch.as_tensor(theirs)) - values[0]
    difference = np.abs(changes.numpy() - actual[:REFITS]).max() / np.abs(actual[:REFITS]).max()
    report(
        "logistic",
        {
            "base network to a certified minimum, s": trained,
            "Hessian, s": formed,
            "its Cholesky factor, s": factored,
            f"exact influence of 55,000 rows on {TESTS:,} test images after that, s": predicted,
            f"{REMOVALS} certified leave-one-outs after that, s": ours,
            "of them certified": f"{int(certificate.certified[1:].sum())}",
            "largest gradient norm": float(certificate.gradient_norm.max()),
            "scikit-learn, first fit, s": started,
            f"scikit-learn, one warm refit, s (median of {REFITS})": each,
            "largest gradient norm of the refits": reached,
            f"{REMOVALS} refits / {REMOVALS} certified leave-one-outs": REMOVALS * each / ours,
            "the same, Hessian and factor counted": REMOVALS * each / (ours + formed + factored),
            f"largest difference of a change from the refits', relative to the largest ({REFITS} rows)": difference,
            "Pearson with certified changes, lowest and median over test images": f"{min(correlations):.6f}, "
            f"{np.median(correlations):.6f}",
            "peak memory until then, GB": peak,
        },
    )


if __name__ == "__main__":
    main()
