"""Estimators predict the change that a removal makes. A new one is a file here, its class in study.specs and a line below."""

from collections.abc import Callable
from typing import Any

from study.compute.estimators import cg, exact, ggn, identity, lissa, low_rank, newton_step, tracin, unrolled
from study.compute.estimators.prediction import Prediction
from study.compute.problems import Fitted

KINDS: dict[str, Callable[[Fitted, Any], Prediction]] = {
    "exact": exact.predict,
    "ggn": ggn.predict,
    "identity": identity.predict,
    "cg": cg.predict,
    "lissa": lissa.predict,
    "arnoldi": low_rank.arnoldi,
    "nystrom": low_rank.nystrom,
    "newton_step": newton_step.predict,
    "unrolled": unrolled.predict,
    "tracin": tracin.predict,
}


def predict(fitted: Fitted, settings: Any) -> Prediction:
    """The prediction of the estimator that `settings.kind` names."""
    return KINDS[settings.kind](fitted, settings)
