"""Estimators predict the change that a removal makes. A new one is a file here, its class in study.specs and a line below."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from study.compute.estimators import (
    cg,
    exact,
    ggn,
    identity,
    kronecker,
    lissa,
    low_rank,
    newton_step,
    perturb_input,
    tracin,
    unrolled,
)
from study.compute.estimators.prediction import Prediction, largest_ratio
from study.compute.estimators.through_tests import DENSE
from study.compute.problems import Fitted

KINDS: dict[str, Callable[[Fitted, Any], Prediction]] = {
    "exact": exact.predict,
    "ggn": ggn.predict,
    "identity": identity.predict,
    "cg": cg.predict,
    "lissa": lissa.predict,
    "arnoldi": low_rank.arnoldi,
    "nystrom": low_rank.nystrom,
    "kfac": kronecker.kfac,
    "ekfac": kronecker.ekfac,
    "newton_step": newton_step.predict,
    "unrolled": unrolled.predict,
    "tracin": tracin.predict,
    "perturb_input": perturb_input.predict,
}


def predict(fitted: Fitted, settings: Any) -> Prediction:
    """The prediction of the estimator that `settings.kind` names.

    Where it moves some of the parameters only, its evidence says what that leaves out: mismatch, the largest distance over
    test points of its changes from those of undamped exact influence on all parameters, relative to them (if small enough
    to know).
    """
    found = KINDS[settings.kind](fitted, settings)
    if settings.parameters == "all" or len(fitted.theta) > DENSE or not fitted.forms:
        return found
    started = time.perf_counter()
    every = torch.arange(len(fitted.theta))
    whole = -fitted.pull_along(fitted.spectrum(every).solve(fitted.test_gradients))
    mismatch = largest_ratio((found.delta - whole).T, whole.T)
    diagnostics = found.diagnostics + time.perf_counter() - started
    return replace(found, evidence={**found.evidence, "mismatch": mismatch}, diagnostics=diagnostics)
