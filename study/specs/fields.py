"""The kinds of value that a spec holds: bounded numbers, names, lists without repetition, a word or something else.

A rule between several keys raises an error of type `RULE`, so that it can be told from a wrong value.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from study.errors import show, suggestion

TABLES = ("iris", "digits", "wine", "breast_cancer", "diabetes")  # scikit-learn brings them along
IMAGES = ("mnist", "fashion_mnist", "cifar10", "cifar10_standin")  # with training and test parts of their own
KNOWN_DATA = (*TABLES, *IMAGES)
FILE_ENDINGS = (".csv", ".npz")
CONVOLUTIONAL = ("koh_cnn", "lenet", "resnet")
KNOWN_MODELS = ("linear", "mlp", *CONVOLUTIONAL)
RULE = "rule"
FACTORY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


def broken_rule(message: str) -> PydanticCustomError:
    """The error of a rule between keys; the message starts with the key it concerns, relative to the table."""
    return PydanticCustomError(RULE, "{message}", {"message": message})


def distinct(values: list[Any]) -> list[Any]:
    """The list itself, refused where a value comes twice."""
    if len(set(values)) < len(values):
        repeated = next(value for position, value in enumerate(values) if value in values[:position])
        raise PydanticCustomError("distinct", "{message}", {"message": f"{show(repeated)} is given twice"})
    return values


def _data_name(name: str) -> str:
    if name in KNOWN_DATA or name.lower().endswith(FILE_ENDINGS):
        return name
    message = f"neither a known data set nor a path ending in .csv or .npz; {suggestion(name, KNOWN_DATA, 'known')}"
    raise PydanticCustomError("data_name", "{message}", {"message": message})


def _model_kind(kind: str) -> str:
    if kind in KNOWN_MODELS or FACTORY.fullmatch(kind):
        return kind
    factory = ":".join(kind.removesuffix(".py").replace(".py:", ":").rsplit(".", 1))
    hint = suggestion(kind, KNOWN_MODELS, "known")
    if FACTORY.fullmatch(factory):
        hint = f"did you mean {show(factory)}?"
    message = f'neither a known model nor a factory written "package.module:factory"; {hint}'
    raise PydanticCustomError("model_kind", "{message}", {"message": message})


def _word_or_other(value: object) -> str:
    return "<word>" if isinstance(value, str) else "<other>"


def chosen_points(value: object) -> str:
    """Which alternative of `points.test` is meant: the tag of a word, of `{ rows }` or of `{ quantiles }`."""
    keys = value if isinstance(value, dict) else type(value).model_fields if isinstance(value, BaseModel) else ()
    return "<quantiles>" if "quantiles" in keys else "<rows>" if isinstance(value, dict | BaseModel) else "<word>"


DataName = Annotated[str, AfterValidator(_data_name)]
ModelKind = Annotated[str, AfterValidator(_model_kind)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
Class = Annotated[int, Field(ge=0, le=2**31 - 1)]
Classes = Annotated[list[Class], Field(min_length=2), AfterValidator(distinct)]
Share = Annotated[float, Field(ge=0, lt=1)]
SplitSeed = Annotated[int, Field(ge=0, le=2**32 - 1)]  # what scikit-learn's splitter takes
Row = Annotated[int, Field(ge=0, le=2**63 - 1)]
Rows = Annotated[list[Row], Field(min_length=1), AfterValidator(distinct)]
Quantile = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=100)]
Layers = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1), AfterValidator(distinct)]
ParameterNames = Annotated[list[str], Field(min_length=1), AfterValidator(distinct)]
Nodes = Annotated[list[Name], Field(min_length=2), AfterValidator(distinct)]
Matrix = Literal["hessian", "gauss_newton"]
Parameters = Annotated[
    Annotated[Literal["all", "last_layer"], Tag("<word>")] | Annotated[ParameterNames, Tag("<other>")],
    Discriminator(_word_or_other),
]
BatchSize = Annotated[
    Annotated[Literal["full"], Tag("<word>")] | Annotated[Count, Tag("<other>")], Discriminator(_word_or_other)
]
