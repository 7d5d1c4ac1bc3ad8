"""Specs: the schema of an experiment, its sweeps and overrides, and one clear message for whatever is wrong with it."""

from study.specs.schema import (
    ChosenRows,
    Cold,
    Data,
    Exact,
    Ggn,
    Identity,
    Model,
    Points,
    Settings,
    Spec,
    Stationary,
    Training,
    Warm,
)

__all__ = [
    "ChosenRows",
    "Cold",
    "Data",
    "Exact",
    "Ggn",
    "Identity",
    "Model",
    "Points",
    "Settings",
    "Spec",
    "Stationary",
    "Training",
    "Warm",
]
