"""Swept paths and their values in words, for answers, legends, axes, titles and file names; never imports pandas."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

WEIGHT_DECAY, REMOVED = "training.weight_decay", "points.train"
NAMES = {
    WEIGHT_DECAY: "λ",
    "model.kind": "network",
    REMOVED: "removed rows",
    "points.test": "test rows",
    "data.n_train": "training rows",
    "data.n_test": "test rows drawn",
    "data.label_noise": "mislabelled",
}
AXES = {
    "model.depth": "Depth (hidden layers)",
    "model.width": "Width (units per hidden layer)",
    WEIGHT_DECAY: "Weight decay λ",
    "data.label_noise": "Share of training rows mislabelled",
    "points.perturbation": "Move η of each feature (standard deviations)",
}
SPEAK_FOR_THEMSELVES = ("training.dtype", "training.optimizer", "model.activation", "model.kind", "data.name")
RULES = {"all": "all rows", "random": "random rows", "nearest": "nearest rows"}
PROTOCOLS = {
    "warm": "Warm restart", "cold": "Cold restart", "stationary": "Certified", "proximal": "Proximal", "pbrf": "PBRF",
    "linearised_pbrf": "Linearised PBRF", "cold_seeds": "Cold restarts, mean", "horizon": "Further training",
}  # fmt: skip
METRICS = {"spearman": "Spearman", "pearson": "Pearson"}
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
WIDEST = 22  # characters of a swept text before it is cut
LOG_RATIO = 50.0  # of largest to smallest swept value, from where a logarithmic axis is read more easily


def value(given: Any) -> Any:
    """A table's cell as a plain Python value, None for whatever stands for nothing. Equal values hash alike."""
    if given is None or str(given) == "<NA>" or (isinstance(given, float | np.floating) and np.isnan(given)):
        return None
    return given.item() if isinstance(given, np.generic) else given


def in_powers(values: Sequence[Any]) -> bool:
    """Whether values below one are written as powers of ten: all of them, where one is small or their axis logarithmic."""
    if not all_numbers(values):
        return False
    small = [abs(given) for given in values if 0 < abs(given) < 1]
    return bool(small) and (min(small) < 1e-3 or wide(values))


def wide(values: Sequence[Any]) -> bool:
    """None negative, and the positive ones so far apart that a logarithmic axis is read more easily."""
    positive = [given for given in values if given > 0]
    return len(positive) > 1 and min(values) >= 0 and max(positive) >= LOG_RATIO * min(positive)


def all_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(given, int | float) and not isinstance(given, bool) for given in values)


def number(given: float, powers: bool = False) -> str:
    """0.005, 12, 5·10⁻⁴, 10⁻⁵: short, and without the small type of a raised exponent.

    powers: 5·10⁻³ for 0.005, so that it may stand beside 5·10⁻⁴.
    """
    if given == 0 or (1 if powers else 1e-3) <= abs(given) < 1e4:
        return f"{given:.4g}".replace("-", "−")
    digits, exponent = f"{given:.3e}".split("e")
    digits = digits.rstrip("0").rstrip(".").replace("-", "−")
    power = "10" + str(int(exponent)).translate(SUPERSCRIPTS)
    return power if digits == "1" else f"{digits}·{power}"


def short(given: Any, powers: bool = False) -> str:
    """One swept value as text."""
    given = value(given)
    if given is None:
        return "none"
    if isinstance(given, int | float) and not isinstance(given, bool):
        return number(given, powers)
    text = str(given).replace("_", " ")
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"


def name(path: str, brief: bool = False) -> str:
    """A swept path in a word or two: `estimators.lissa.depth` is "lissa depth", and in brief "depth"."""
    named = path.startswith(("estimators.", "protocols.")) and not brief
    words = path.split(".")[1:] if named else path.split(".")[-1:]
    words = [word for word in words if word != "*"]  # of every entry
    return NAMES.get(path, " ".join(words).replace("_", " "))


def phrase(path: str, given: Any, powers: bool = False, brief: bool = False) -> str:
    """A swept path with its value: "depth 3", "λ = 0.005", "highest loss", "float32", "unpolished"; brief: see `name`."""
    given = value(given)
    if path == WEIGHT_DECAY and given is not None:
        return f"λ = {short(given, powers)}"
    if path == "training.polish" and given is not None:
        return "polished" if given else "unpolished"
    if path == REMOVED:
        return RULES.get(str(given), short(given))
    if path in SPEAK_FOR_THEMSELVES and given is not None:
        return short(given)
    return f"{name(path, brief)} {short(given, powers)}"


def axis_label(path: str, brief: bool = False) -> str:
    text = name(path, brief)
    return AXES.get(path, text[:1].upper() + text[1:])


def protocol_title(name: str, kind: str, constants: dict[str, Any]) -> str:
    """What a panel of this protocol is called, from the settings that all its trials share.

    Unpolished float32 networks trained further are the validation as it was published.
    """
    title = PROTOCOLS.get(kind, name)
    if kind == "warm" and constants.get("training.dtype") == "float32" and constants.get("training.polish") is False:
        title = "As published: warm restart"
    return title if name in (kind, "certified") else f"{title} ({name})"


def stem(*parts: str) -> str:
    """A file name's stem of letters, digits, dots and underscores."""
    return "_".join(re.sub(r"[^0-9A-Za-z.+-]+", "_", part).strip("_") for part in parts if part)


def slug(path: str, given: Any) -> str:
    """A swept value in a file name: `weight_decay_0.005`, `highest_loss`."""
    given = value(given)
    text = "none" if given is None else f"{given:g}" if isinstance(given, float) else str(given)
    return text if isinstance(given, str) else f"{path.rsplit('.', 1)[-1]}_{text}"
