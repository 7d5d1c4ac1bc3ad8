"""Specs: what the schema takes, and that each mistake is one message with file, path, value and the nearest name."""

import os
from pathlib import Path

import pytest

from study import trials
from study.errors import StudyError
from study.specs import Exact, Settings, Stationary

SMALL = """
name = "small"
{top}
[data]
name = "iris"
test_rows = [83]
{data}
[model]
kind = "mlp"
{model}
[training]
steps = 10
{training}
[points]
test = "all"
{points}
[[estimators]]
kind = "exact"
{estimator}
[[protocols]]
kind = "warm"
{protocol}
{end}
"""
PARTS = ("top", "data", "model", "training", "points", "estimator", "protocol", "end")


def text(**parts: str) -> str:
    return SMALL.format(**{part: parts.get(part, "") for part in PARTS})


def load(folder: Path, overrides: tuple[str, ...] = (), **parts: str) -> trials.Experiment:
    path = folder / "small.toml"
    path.write_text(text(**parts), encoding="utf-8")
    return trials.load(path, overrides)


def refused(folder: Path, overrides: tuple[str, ...] = (), **parts: str) -> str:
    with pytest.raises(StudyError) as caught:
        load(folder, overrides, **parts)
    message = str(caught.value)
    assert message.startswith(str(folder / "small.toml"))
    assert "\n" not in message
    return message.removeprefix(f"{folder / 'small.toml'}: ")


def test_defaults_are_those_of_the_design(tmp_path):
    path = tmp_path / "least.toml"
    path.write_text(
        'name = "least"\ndata.name = "iris"\nmodel.kind = "mlp"\n'
        '[[estimators]]\nkind = "exact"\n[[protocols]]\nkind = "stationary"\n'
    )
    experiment = trials.load(path)
    settings = experiment.trials[0].settings
    assert (experiment.question, experiment.primary, len(experiment.trials)) == ("", "spearman", 1)
    assert (settings.data.test_fraction, settings.data.test_rows, settings.data.split_seed) == (0.2, None, 0)
    assert (settings.model.depth, settings.model.width, settings.model.activation) == (1, 5, "tanh")
    assert (settings.training.optimizer, settings.training.steps, settings.training.weight_decay) == (
        "adam",
        60000,
        0.005,
    )
    assert (settings.points.train, settings.points.test, settings.points.removal) == ("all", "all", "zero_weight")
    assert settings.estimators == [Exact(name="exact", damping=0.0, parameters="all")]
    assert settings.protocols == [Stationary(name="stationary", tolerance=1e-9)]
    assert (settings.target, settings.seed) == ("loss", 0)


def test_settings_survive_the_record(tmp_path):
    settings = load(tmp_path, points='train = "random"\ntrain_count = 3').trials[0].settings
    assert Settings.model_validate(settings.model_dump()) == settings
    assert Settings.model_validate_json(settings.model_dump_json()) == settings


def test_an_integer_stands_for_a_float(tmp_path):
    settings = load(tmp_path, training="learning_rate = 1\nweight_decay = 0").trials[0].settings
    assert type(settings.training.learning_rate) is float
    assert settings.training.weight_decay == 0.0


MISTAKES = [
    ({"model": "detph = 3"}, ["model.detph = 3", "unknown key", '"model.depth"']),
    ({"top": "depth = 3"}, ["depth = 3", "unknown key", '"model.depth"']),
    ({"model": "steps = 3"}, ["model.steps = 3", '"training.steps"']),
    ({"model": 'depth = "three"'}, ['model.depth = "three"', "a whole number"]),
    ({"model": "depth = true"}, ["model.depth = true", "a whole number"]),
    ({"model": "depth = 2.0"}, ["model.depth = 2.0", "a whole number"]),
    ({"model": "depth = 0"}, ["model.depth = 0", "at least 1"]),
    ({"model": "depth = 1979-05-27"}, ["model.depth", "1979-05-27", "a whole number"]),
    ({"model": 'activation = "rleu"'}, ['model.activation = "rleu"', 'did you mean "relu"?']),
    ({"training": "learning_rate = true"}, ["training.learning_rate = true", "a number"]),
    ({"training": "learning_rate = inf"}, ["training.learning_rate", "finite"]),
    ({"training": "weight_decay = nan"}, ["training.weight_decay", "finite"]),
    ({"training": "learning_rate = 0"}, ["training.learning_rate = 0", "more than 0"]),
    ({"training": "momentum = 1.0"}, ["training.momentum = 1.0", "less than 1"]),
    ({"training": 'optimizer = "adm"'}, ['training.optimizer = "adm"', 'did you mean "adam"?']),
    ({"training": 'batch_size = "whole"'}, ["training.batch_size", '"full" or a whole number']),
    ({"training": "batch_size = 1.5"}, ["training.batch_size = 1.5", '"full" or a whole number']),
    ({"training": "polish = 1"}, ["training.polish = 1", "true or false"]),
    ({"training": 'optimizer = "lbfgs"\nbatch_size = 5'}, ["training: batch_size = 5", "lbfgs"]),
    ({"training": 'optimizer = "lbfgs"\nschedule = "step"'}, ['schedule = "step"', "lbfgs"]),
    ({"top": "seed = -1"}, ["seed = -1", "at least 0"]),
    ({"top": f"seed = {2**63}"}, ["seed", "at most 9223372036854775807"]),
    ({"top": f"seed = 0x{'f' * 5000}"}, ["seed", "64 bits"]),
    ({"top": f"seed = {'9' * 5000}"}, ["not valid TOML"]),
    ({"top": 'primary = "pearso"'}, ['primary = "pearso"', '"pearson"']),
    ({"top": 'target = "margn"'}, ['target = "margn"', '"margin"']),
    ({"top": "question = 3"}, ["question = 3", "text"]),
    ({"data": "test_fraction = 0.2"}, ["data:", "test_rows and test_fraction"]),
    ({"data": 'task = "regression"'}, ["data: task", "iris"]),
    ({"data": "split_seed = -1"}, ["data.split_seed = -1"]),
    ({"data": "standardise = true"}, ["data.standardise", '"data.standardize"']),
    ({"points": 'train = "random"'}, ["points: train_count is needed"]),
    ({"points": "band = [0.5, 0.2]"}, ["band = [0.5, 0.2]", "below"]),
    ({"points": "band = [0.5]"}, ["points.band = [0.5]", "at least 2"]),
    ({"points": "band = [0.5, 1.5]"}, ["points.band = 1.5", "at most 1"]),
    ({"points": 'by = "exat"'}, ['points.by = "exat"', 'did you mean "exact"?']),
    ({"points": "train_count = 0"}, ["points.train_count = 0"]),
    ({"estimator": "dampng = 1"}, ["estimators.exact.dampng = 1", '"damping"']),
    ({"estimator": "damping = -1"}, ["estimators.exact.damping = -1", "at least 0"]),
    ({"estimator": 'name = "a b"'}, ["estimators.a b.name", "letters"]),
    ({"estimator": "parameters = []"}, ["estimators.exact.parameters = []"]),
    ({"estimator": 'parameters = "last"'}, ["estimators.exact.parameters", '"last_layer"']),
    ({"estimator": "parameters = 3"}, ["estimators.exact.parameters = 3", "a list of names"]),
    ({"protocol": "tolerance = 1e-9"}, ["protocols.warm.tolerance", "unknown key"]),
    ({"end": '[[estimators]]\nkind = "exat"'}, ['kind = "exat"', 'did you mean "exact"?']),
    ({"end": "[[estimators]]\ndamping = 1"}, ["estimators[2]", "kind is missing"]),
    ({"end": '[[estimators]]\nkind = "exact"'}, ['two are called "exact"']),
    ({"end": '[[protocols]]\nkind = "cold"\nname = "warm"'}, ['two are called "warm"']),
    ({"end": '[paths]\none = ["warm"]'}, ["paths.one", "at least 2"]),
    ({"end": '[paths]\none = "warm"'}, ['paths.one = "warm"', "a list"]),
    ({"top": "paths = 3"}, ["paths = 3", "a table is needed"]),
    ({"end": '[paths]\n"a b" = ["warm", "exact"]'}, ['paths.a b = "a b"', "only letters"]),
    ({"end": '[paths]\none = ["warm", "warm"]'}, ["paths.one", '"warm" is given twice']),
    ({"end": '[paths]\none = ["warm", "exat"]'}, ["paths.one", '"exat"', 'did you mean "exact"?']),
    ({"end": '[paths]\none = ["exact", "warm"]'}, ["paths.one", '"warm" comes after an estimator']),
    ({"end": '[paths]\none = ["cold", "exact"]'}, ["paths.one", 'is called "cold"', 'defined: "warm", "exact"']),
    (
        {"end": '[[estimators]]\nkind = "ggn"\nname = "warm"\n[paths]\none = ["warm", "exact"]'},
        ["paths.one", '"warm" is a protocol and an estimator'],
    ),
    ({"end": '[sweep]\n"paths.one" = [["warm", "exact"]]'}, ["sweep[1]", "cannot be swept"]),
    ({"end": "a = [1"}, ["not valid TOML", "Unclosed array"]),
    ({"end": f"deep = {'[' * 50}{']' * 50}"}, ["nested too deeply"]),
    ({"end": f"deep = {'[' * 9000}{']' * 9000}"}, ["nested too deeply"]),
    ({"end": f"[{'.'.join('a' * 2000)}]\nb = 1"}, ["nested too deeply"]),
]


@pytest.mark.parametrize(("parts", "expected"), MISTAKES)
def test_a_mistake_is_named(tmp_path, parts, expected):
    message = refused(tmp_path, **parts)
    assert all(words in message for words in expected), message


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('name = "small"', "", ["name: missing"]),
        ('name = "small"', 'name = "a/b"', ['name = "a/b"', "letters"]),
        ('name = "iris"', "", ["data.name: missing"]),
        ('name = "iris"', 'name = "irs"', ['data.name = "irs"', 'did you mean "iris"?']),
        ('name = "iris"', 'name = "own.csv"', ["data: task is needed"]),
        ("test_rows = [83]", "test_rows = []", ["data.test_rows = []"]),
        ("test_rows = [83]", "test_rows = [83, 83]", ["data.test_rows", "83 is given twice"]),
        ("test_rows = [83]", "test_rows = [true]", ["data.test_rows = true"]),
        ("test_rows = [83]", "test_rows = 83", ["data.test_rows = 83", "a list"]),
        ("test_rows = [83]", "test_fraction = 1.0", ["data.test_fraction = 1.0", "less than 1"]),
        ('kind = "mlp"', "", ["model.kind: missing"]),
        ('kind = "mlp"', 'knd = "mlp"', ["model.knd", '"model.kind"']),
        ('kind = "mlp"', 'kind = "mpl"', ['model.kind = "mpl"', 'did you mean "mlp"?']),
        ('kind = "mlp"', 'kind = "a-b:c"', ['model.kind = "a-b:c"', "package.module:factory"]),
        ('kind = "mlp"', 'kind = "no_such_package_x.nets:make"', ["model.kind", "no module no_such_package_x.nets"]),
        ('test = "all"', 'test = "al"', ["points.test", 'did you mean "all"?']),
        ('test = "all"', "test = { row = [1] }", ["points.test.row", '"rows"']),
        ('test = "all"', "test = { rows = [1], quantiles = [0.5] }", ["points.test"]),
        ('test = "all"', "test = { quantiles = [2] }", ["points.test.quantiles = 2", "at most 1"]),
        ('test = "all"', "test = 3", ["points.test = 3"]),
        ("[[estimators]]", "[estimators]", ["estimators", "[[estimators]]"]),
        ("[[protocols]]", "[[protocol]]", ["protocol", '"protocols"']),
        ("[model]", "[modle]", ["modle", '"model"']),
    ],
)
def test_a_replaced_line_is_named(tmp_path, old, new, expected):
    path = tmp_path / "small.toml"
    path.write_text(text().replace(old, new, 1))
    with pytest.raises(StudyError) as caught:
        trials.load(path)
    assert all(words in str(caught.value) for words in expected), str(caught.value)


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"name = '\x80'", b"\x00", b"", b"[", b"\xef\xbb\xbfname = 1"])
def test_whatever_the_bytes_it_is_one_message(tmp_path, data):
    path = tmp_path / "bytes.toml"
    path.write_bytes(data)
    with pytest.raises(StudyError, match=r"bytes\.toml"):
        trials.load(path)


@pytest.mark.parametrize("spec", ["", ".", "nowhere.toml", "no/such/spec", "a\0b", "x" * 5000, "/dev/null"])
def test_a_spec_that_is_no_file_is_refused(tmp_path, spec, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StudyError):
        trials.load(spec)
    with pytest.raises(StudyError, match="folder"):
        trials.load(tmp_path)


def test_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(StudyError, match="not a regular file"):
        trials.load(tmp_path / "pipe.toml")


def test_a_spec_is_found_by_name(tmp_path):
    (tmp_path / "small.toml").write_text(text())
    assert trials.load("small", experiments=tmp_path).name == "small"
    with pytest.raises(StudyError, match='did you mean "small"'):
        trials.load("smal", experiments=tmp_path)


def test_a_spec_that_is_not_there_is_hinted_at(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("experiments/iris_width.toml", "beside.toml", "results/kept/spec.toml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text())
    hints = {
        "iris_with": ["the path of a TOML file is needed, or a name in experiments/", 'did you mean "iris_width"?'],
        "beside": ['did you mean "beside.toml"?'],
        "experiments/iris_widht.toml": ['did you mean "experiments/iris_width.toml"?'],
        "something_else": ['there are: "beside.toml", "iris_width"'],
        "results/kept": ["is a folder", 'did you mean "results/kept/spec.toml"?'],
    }
    for spec, expected in hints.items():
        with pytest.raises(StudyError) as caught:
            trials.load(spec)
        assert all(words in str(caught.value) for words in expected), str(caught.value)
