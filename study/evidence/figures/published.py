"""Correlations that others published, to be marked beside ours where the setting is the same.

Only numbers stated in the paper's text, as the project's notes give them. Their penalty may be written λ‖θ‖², twice ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Published:
    """One published correlation of predicted with actual change, and the settings that it was measured under.

    `settings`: dotted paths of a spec with their values; what the paper does not state is left out and matches anything.
    """

    metric: str
    value: float
    source: str
    settings: Mapping[str, Any]
    kinds: tuple[str, ...] = ("warm",)  # of protocols: how the actual change was obtained


BASU = "Basu et al. 2021"
_IRIS = {
    "data.name": "iris", "model.kind": "mlp", "model.depth": 1, "training.steps": 60000, "training.batch_size": "full",
    "training.polish": False,
}  # fmt: skip

# Basu, Pope and Feizi 2021, "Influence functions in deep learning are fragile", ICLR: Iris, one hidden layer. The penalty of
# the two widths is not stated in our notes.
VALUES = (
    Published("spearman", 0.97, BASU, {**_IRIS, "model.width": 5, "training.weight_decay": 0.005}),
    Published("spearman", 0.51, BASU, {**_IRIS, "model.width": 5, "training.weight_decay": 0.0}),
    Published("spearman", 0.82, BASU, {**_IRIS, "model.width": 8}),
    Published("spearman", 0.56, BASU, {**_IRIS, "model.width": 50}),
)


def matching(metric: str, kind: str, specs: list[Mapping[str, Any]]) -> list[Published]:
    """The published values of a metric whose protocol and every stated setting are those of one of the specs."""
    return [
        published
        for published in VALUES
        if published.metric == metric
        and kind in published.kinds
        and any(all(setting(spec, path) == value for path, value in published.settings.items()) for spec in specs)
    ]


def setting(spec: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path of a spec, None where it has none."""
    found: Any = spec
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
