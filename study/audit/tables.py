"""The tables of an audit: every answer measured against ours, and the minimal cases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from study.audit.answers import Answer
from study.audit.exchange import Question
from study.evidence.statistics import metrics

MEASURES = ("pearson", "spearman", "slope", "largest_difference", "defined", "tests", "zero_tests", "nan_tests")
CASES = ("package", "version", "claim", "verdict", "measured")


def measured(found: np.ndarray, exact: np.ndarray) -> dict[str, float]:
    """A package's answer [n, T] against the exact one [n, T].

    pearson, spearman: mean over the test rows whose correlation over training rows is `defined`, of `tests`; slope: median over
    them of the least-squares slope of the package's on the exact answer, 1 if it is right; largest_difference: over pairs of
    finite answers, relative to the largest exact one; zero_tests, nan_tests: test rows with zeros only, and with any NaN.
    """
    agreement = metrics.measured(metrics.compared(exact.T, np.where(np.isfinite(found), found, np.nan).T))
    defined = np.isfinite(agreement["pearson"])
    difference = np.abs(found - exact)[np.isfinite(found)]
    return {
        "pearson": _of(np.mean, agreement["pearson"][defined]), "spearman": _of(np.mean, agreement["spearman"][defined]),
        "slope": _of(np.median, agreement["slope"][defined]),
        "largest_difference": _of(np.max, difference) / np.abs(exact).max(),
        "defined": int(defined.sum()), "tests": exact.shape[1],
        "zero_tests": int((found == 0).all(axis=0).sum()), "nan_tests": int(np.isnan(found).any(axis=0).sum()),
    }  # fmt: skip


def _of(statistic: Any, values: np.ndarray) -> float:
    return float(statistic(values)) if len(values) else np.nan


def audit(asked: Sequence[tuple[Question, Answer]], experiment: str) -> pd.DataFrame:
    """One row per trial, package, method and setting: MEASURES, seconds of processor time, its warnings, its error."""
    rows = []
    for question, answer in asked:
        found = measured(answer.predicted, question.exact) if answer.predicted is not None else {}
        rows.append({
            "experiment": experiment, "trial": question.trial.key, "seed": question.trial.settings.seed, "cell": question.cell,
            "package": answer.package, "version": answer.version, "method": answer.method, "setting": answer.setting,
            **{name: found.get(name, np.nan) for name in MEASURES}, "seconds": round(answer.seconds, 3),
            "warning": answer.warning, "error": answer.error,
        })  # fmt: skip
    whole = dict.fromkeys(("defined", "tests", "zero_tests", "nan_tests"), "Int64")
    return pd.DataFrame(rows).astype(whole)


def defects(found: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row per minimal case: the claim, whether the installed version confirms it, and the figures behind."""
    return pd.DataFrame(found, columns=list(CASES))
