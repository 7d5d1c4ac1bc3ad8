"""What identifies a trial: its key, the content that stands for files, and the family whose networks share a stack."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from study import data, factories
from study.specs import Settings

NUMBERS_VERSION = 2

# Keys added to the schema later, each with the value that reproduces earlier numbers: {"training.clip": None}. While a
# trial holds that value the key is left out, so that records made before it existed stay valid. Estimators and
# protocols are entered by kind: "estimators.exact.rank".
LATER_KEYS: dict[str, object] = {
    "paths": None,
    "points.fraction": 1.0, "points.perturbation": 0.1, "points.direction": "influence", "points.features": "input",
    "neighbours": None, "estimators.exact.penalty": True, "estimators.ggn.penalty": True,
    "points.group_size": 1, "points.group": "random", "points.scrambled": False, "training.initial_scale": 1.0,
    "protocols.warm.parameters": "all", "protocols.cold.paired": True,
    "protocols.proximal.subtract_gradient": False,
    "estimators.newton_step.indefinite": "stop",
    "data.n_train": None, "data.n_test": None, "data.validation_rows": 0, "data.classes": None,
    "data.label_noise": 0.0, "model.intercept": True, "model.normalization": "group",
}  # fmt: skip

PER_NETWORK = ("learning_rate", "weight_decay", "polish", "initial_scale")  # may differ along a stack


def content(settings: Settings, folder: str, known: dict[str, str]) -> dict[str, str]:
    """SHA-256 of the files that the settings name: `data` for a user's data, `factory` for a factory's source.

    `known` holds digests by the name that the spec gives the file; one that is missing there is computed and added.
    """
    name, kind = settings.data.name, settings.model.kind
    digests = {}
    if settings.data.is_file:
        known[name] = known.get(name) or data.digest(data.file_path(name, folder))
        digests["data"] = known[name]
    if settings.model.is_factory:
        known[kind] = known.get(kind) or factories.source_digest(kind, folder)
        digests["factory"] = known[kind]
    return digests


def canonical(settings: Settings, content: Mapping[str, str]) -> dict[str, Any]:
    """All that can change a number of the trial, defaults written out, as JSON-able tables."""
    tables = settings.model_dump()
    tables["points"]["by"] = settings.ranked_by
    tables["paths"] = settings.gap_paths or None
    if "data" in content:
        tables["data"]["name"] = f"sha256:{content['data']}"
    if "factory" in content:
        tables["model"]["source"] = f"sha256:{content['factory']}"
    for path, neutral in LATER_KEYS.items():
        _leave_out(tables, path, neutral)
    return {"numbers_version": NUMBERS_VERSION, **tables}


def _leave_out(tables: dict[str, Any], path: str, neutral: object) -> None:
    *where, key = path.split(".")
    if len(where) == 2:
        holders = [entry for entry in tables[where[0]] if entry["kind"] == where[1]]
    else:
        holders = [tables[where[0]] if where else tables]
    for holder in holders:
        if key in holder and holder[key] == neutral and type(holder[key]) is type(neutral):
            del holder[key]


def digest_of(tables: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of the tables: sorted keys, no spaces, ASCII."""
    text = json.dumps(tables, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def key(settings: Settings, content: Mapping[str, str]) -> str:
    """The key of a trial, 64 hexadecimal digits; `content` holds the digests of the files it names."""
    return digest_of(canonical(settings, content))


def family_of(settings: Settings, folder: str) -> str:
    """A text that is equal for trials whose networks can share one stack: data, rows, model, target, training.

    Free to differ are the seed, which rows are held out, the points, estimators and protocols, and of the training
    what a stack holds per network: learning rate, weight decay, polish, where it starts.
    """
    tables = canonical(settings, content(settings, folder, {}))
    dataset = data.load(settings.data, folder)
    shared = {
        "data": {part: tables["data"][part] for part in ("name", "target", "task", "standardize")},
        "rows": data.training_count(dataset, settings.data),
        "classes": settings.data.classes,
        "model": tables["model"],
        "target": tables["target"],
        "training": {part: value for part, value in tables["training"].items() if part not in PER_NETWORK},
    }
    return json.dumps(shared, sort_keys=True, separators=(",", ":"))
