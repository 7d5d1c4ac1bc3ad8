"""Whatever a spec or an override holds, it is a valid experiment or one StudyError, never another exception."""

import copy
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from study import trials
from study.errors import StudyError
from tests.test_trials import DESIGN

QUICK = settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck), database=None)
MANY = settings(max_examples=4000, deadline=None, suppress_health_check=list(HealthCheck), database=None)
SMALL = DESIGN.replace("count = 50", "count = 2").replace("[1, 2, 3, 4, 5, 6, 7, 8]", "[1, 8]")
BASE = tomllib.loads(SMALL)
HUGE = 16**3000  # written with more digits than Python turns into decimals

WORDS = st.sampled_from([
    "all", "exact", "ggn", "identity", "warm", "cold", "stationary", "certified", "iris", "wine", "mlp", "linear",
    "loss", "margin", "adam", "sgd", "lbfgs", "random", "full", "highest_influence", "renormalise", "float32",
    "last_layer", "own.csv", "own.npz", "os.path:join", "no.such:thing", "a\0b.csv", "",
])  # fmt: skip
KEYS = st.sampled_from([
    "name", "kind", "depth", "seed", "sweep", "rows", "quantiles", "first", "count", "steps", "model", "data",
    "points", "estimators", "protocols", "training", "target", "test", "train_count", "parameters", "model.depth",
    "data.test_rows", "points.test", "points.by", "training.steps", "a..b", "é\u2028", "estimators.exact.damping",
    "protocols.warm.steps", "estimators.exact", "protocols.warm.", "",
])  # fmt: skip
NUMBERS = st.one_of(
    st.integers(-3, 200),
    st.integers(),
    st.sampled_from([2**63, 2**63 - 1, -(2**70), HUGE]),
    st.floats(),
)
LEAVES = st.one_of(NUMBERS, st.booleans(), WORDS, st.text(max_size=8), st.dates(), st.times(), st.datetimes())
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(KEYS, st.text(max_size=5)), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) of a document."""
    for key in list(node) if isinstance(node, dict) else range(len(node)):
        yield node, key
        if isinstance(node[key], dict | list):
            yield from places(node[key])


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    document = copy.deepcopy(BASE)
    for _ in range(draw(st.integers(1, 4))):
        found = list(places(document))
        if not found:
            break
        holder, key = found[draw(st.integers(0, len(found) - 1))]
        action = draw(st.sampled_from(["delete", "rename", "replace", "replace", "insert", "swap"]))
        if action == "delete":
            del holder[key]
        elif action == "rename" and isinstance(holder, dict):
            holder[draw(st.one_of(KEYS, st.text(max_size=6)))] = holder.pop(key)
        elif action == "insert" and isinstance(holder, dict):
            holder[draw(KEYS)] = draw(VALUES)
        elif action == "swap":
            other, other_key = found[draw(st.integers(0, len(found) - 1))]
            holder[key] = copy.deepcopy(other[other_key])
        else:
            holder[key] = draw(VALUES)
    return document


def quoted(text: str) -> str:
    escaped = "".join(
        character if character.isprintable() and character not in '"\\' else f"\\U{ord(character):08x}"
        for character in text
    )
    return f'"{escaped}"'


def toml(value: Any) -> str:
    """The value as TOML writes it inline."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, int):
        return (
            f"0x{'f' * 5000}"
            if value == HUGE
            else hex(value)
            if value > 10**30
            else "0"
            if value < -(10**30)
            else str(value)
        )
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quoted(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return value.isoformat()


def document_text(document: dict[str, Any]) -> str:
    return "\n".join(f"{quoted(key)} = {toml(value)}" for key, value in document.items())


def accepted_or_refused(path: Path, content: bytes, overrides: tuple[str, ...] = ()) -> None:
    path.write_bytes(content)
    message = None
    try:
        experiment = trials.load(path, overrides)
        assert all(len(trial.key) == 64 for trial in experiment.trials)
        assert experiment.trials
        trials.check(experiment)
    except StudyError as error:
        message = str(error)
    assert message is None or message.startswith(str(path))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "own.csv").write_text("a,b,target\n1,2,0\n2,1,1\n3,5,0\n4,4,1\n")
    return folder / "fuzzed.toml"


def mutation(path: Path, document: dict[str, Any]) -> None:
    accepted_or_refused(path, document_text(document).encode("utf-8", "surrogatepass"))


def byte_noise(path: Path, position: int, noise: bytes, cut: int) -> None:
    content = SMALL.encode()
    start = position % len(content)
    accepted_or_refused(path, content[:start] + noise + content[start + cut :])


def override(path: Path, key: str, value: Any, written: bool) -> None:
    content = document_text(BASE).encode()
    accepted_or_refused(path, content, (f"{key}={toml(value) if written else value}",))


SECTIONS = [section for section in BASE if isinstance(BASE[section], dict)]
WRITTEN = sorted(f"{section}.{key}" for section in SECTIONS for key in BASE[section])
PATHS = st.one_of(KEYS, st.sampled_from(WRITTEN), st.text(max_size=12))
NOISE = {"position": st.integers(0, 10_000), "noise": st.binary(max_size=12), "cut": st.integers(0, 40)}
OVERRIDES = {"key": PATHS, "value": VALUES, "written": st.booleans()}


def test_the_writer_of_this_test_is_right():
    assert tomllib.loads(document_text(BASE)) == BASE


def test_the_unmutated_spec_is_valid(path):
    path.write_text(document_text(BASE))
    assert len(trials.load(path).trials) == 8


@QUICK
@given(document=mutated())
def test_mutated_specs(path, document):
    mutation(path, document)


@QUICK
@given(**NOISE)
def test_noisy_bytes(path, position, noise, cut):
    byte_noise(path, position, noise, cut)


@QUICK
@given(content=st.binary(max_size=200))
def test_random_bytes(path, content):
    accepted_or_refused(path, content)


@QUICK
@given(**OVERRIDES)
def test_random_overrides(path, key, value, written):
    override(path, key, value, written)


@QUICK
@given(text=st.text(max_size=30))
def test_random_override_text(path, text):
    accepted_or_refused(path, document_text(BASE).encode(), (text,))


@pytest.mark.slow
@MANY
@given(document=mutated())
def test_many_mutated_specs(path, document):
    mutation(path, document)


@pytest.mark.slow
@MANY
@given(**NOISE)
def test_many_noisy_bytes(path, position, noise, cut):
    byte_noise(path, position, noise, cut)


@pytest.mark.slow
@MANY
@given(**OVERRIDES)
def test_many_random_overrides(path, key, value, written):
    override(path, key, value, written)
