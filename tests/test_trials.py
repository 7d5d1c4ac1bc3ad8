"""Trials: the sweep's expansion, overrides, keys and families."""

import time
from pathlib import Path

import pytest

from study import keys, trials
from study.errors import StudyError
from study.specs import Settings
from tests.test_specs import load, refused

DESIGN = """
name = "iris_depth"
question = "Does influence track leave-one-out retraining as the network gets deeper?"
primary = "spearman"
target = "loss"
[data]
name = "iris"
standardize = true
test_rows = [83]
[model]
kind = "mlp"
depth = 1
width = 5
activation = "tanh"
[training]
optimizer = "adam"
learning_rate = 1e-3
schedule = "constant"
steps = 60000
batch_size = "full"
weight_decay = 0.005
polish = false
dtype = "float64"
[points]
train = "highest_loss"
train_count = 25
test = "all"
removal = "zero_weight"
[[estimators]]
name = "exact"
kind = "exact"
damping = 0.0
[[protocols]]
name = "warm"
kind = "warm"
steps = 7500
[[protocols]]
name = "certified"
kind = "stationary"
tolerance = 1e-9
[[sweep]]
"model.depth" = [1, 2, 3, 4, 5, 6, 7, 8]
"training.dtype" = ["float32"]
protocols = [["warm"]]
seed = { first = 0, count = 50 }
[[sweep]]
"model.depth" = [1, 2, 3, 4, 5, 6, 7, 8]
"training.polish" = [true]
"points.train" = ["all"]
protocols = [["certified"]]
seed = { first = 0, count = 50 }
"""
FIRST_KEY = "64f9af0db1cb1408d8daff9f444b04d64ef95e87efe5c6ad7c5285d3f44eaf58"


@pytest.fixture
def design(tmp_path) -> Path:
    path = tmp_path / "iris_depth.toml"
    path.write_text(DESIGN)
    return path


def test_the_example_of_the_design(design):
    experiment = trials.load(design)
    assert (experiment.name, experiment.primary, len(experiment.trials)) == ("iris_depth", "spearman", 800)
    assert experiment.swept_paths == ["model.depth", "training.dtype", "training.polish", "points.train"]
    first, last = experiment.trials[0], experiment.trials[-1]
    assert [protocol.name for protocol in first.settings.protocols] == ["warm"]
    assert [protocol.name for protocol in last.settings.protocols] == ["certified"]
    assert first.swept == {
        "model.depth": 1,
        "training.dtype": "float32",
        "training.polish": False,
        "points.train": "highest_loss",
    }
    assert last.settings.seed == 49
    assert experiment.text == DESIGN
    trials.check(experiment)


def test_one_network_of_each_axis(tmp_path):
    experiment = load(
        tmp_path, end='[sweep]\n"model.depth" = [1, 2]\n"data.test_rows" = [[0], [1], [2]]\nseed = [4, 5]'
    )
    seen = {(t.settings.model.depth, t.settings.data.test_rows[0], t.settings.seed) for t in experiment.trials}
    assert seen == {(depth, row, seed) for depth in (1, 2) for row in (0, 1, 2) for seed in (4, 5)}
    assert len(experiment.trials) == len({trial.key for trial in experiment.trials}) == 12


def test_overlapping_blocks_are_one_trial(tmp_path):
    assert len(load(tmp_path, end="[[sweep]]\nseed = [0, 1, 1]\n[[sweep]]\nseed = [1, 2]").trials) == 3


def test_an_unquoted_path_means_the_same(tmp_path):
    assert load(tmp_path, end="[[sweep]]\nmodel.depth = [1, 2]").swept_paths == ["model.depth"]


def test_a_path_that_a_trial_has_not_is_none(tmp_path):
    second = '[[estimators]]\nkind = "ggn"\n'
    blocks = '[[sweep]]\nestimators = [["exact"], ["ggn"]]\n"estimators.ggn.damping" = [0.1, 1]'
    experiment = load(tmp_path, end=second + blocks)
    found = {(t.settings.estimators[0].name, t.swept["estimators.ggn.damping"]) for t in experiment.trials}
    assert found == {("exact", None), ("ggn", 0.1), ("ggn", 1.0)}


def test_what_the_sweep_completes_may_be_left_out(tmp_path):
    end = '[[sweep]]\n"points.train" = ["random"]\n"points.train_count" = [3, 4]'
    assert len(load(tmp_path, end=end).trials) == 2


@pytest.mark.parametrize(
    ("sweep", "expected"),
    [
        ('"model.detph" = [1]', ['sweep[1] "model.detph" = 1', "unknown key", '"model.depth"']),
        ('"modle.depth" = [1]', ['sweep[1] "modle.depth"', '"model.depth"']),
        ('"estimator.exact.damping" = [1]', ['"estimators.exact.damping"']),
        ('"exact.damping" = [1]', ['"estimators.exact.damping"']),
        ('"nothing.alike" = [1]', ['tables: "data", "model"']),
        ("depth = [1]", ['sweep[1] "depth"', '"model.depth"']),
        ('"model.depth" = [1, "two"]', ['sweep[1] "model.depth" = "two"', "a whole number"]),
        ('"model.depth" = [1, true]', ['sweep[1] "model.depth" = true', "a whole number"]),
        ('"model.depth" = []', ['sweep[1] "model.depth" = []', "at least one"]),
        ('"model.depth" = 3', ['sweep[1] "model.depth" = 3', "a list of values"]),
        ('"model.depth.x" = [3]', ['sweep[1] "model.depth.x"', "not a table"]),
        ('"model..depth" = [3]', ['sweep[1] "model..depth"', "dotted path"]),
        ('"training.optimizer" = ["adam", "agd"]', ['sweep[1] "training.optimizer" = "agd"', '"sgd"']),
        ('"training.learning_rate" = [inf]', ['sweep[1] "training.learning_rate"', "finite"]),
        ('name = ["a", "b"]', ['sweep[1] "name"', "cannot be swept"]),
        ('model = [{ kind = "mlp" }]', ['sweep[1] "model"', "whole table"]),
        ('"estimators.exact.kind" = ["ggn"]', ["cannot be swept", "[[estimators]]"]),
        ('"estimators.exat.damping" = [1]', ['sweep[1] "estimators.exat.damping"', 'did you mean "exact"?']),
        ('"estimators.exact.damping" = ["x"]', ['sweep[1] "estimators.exact.damping" = "x"', "a number"]),
        ('protocols = ["warm"]', ['sweep[1] "protocols"', '[["name"]]']),
        ('protocols = [["wram"]]', ['sweep[1] "protocols"', 'did you mean "warm"?']),
        ('protocols = [["warm", "warm"]]', ["selected twice"]),
        ("protocols = [[]]", ["no list of names"]),
        ('"points.by" = ["exat"]', ['sweep[1] "points.by" = "exat"', '"exact"']),
        ('"points.test" = ["all"]\n"points.test.rows" = [[83]]', ["lies within"]),
        ('"data.test_fraction" = [0.5]', ["data: test_rows and", "(in sweep[1], with data.test_fraction = 0.5)"]),
        ("seed = [-1]", ['sweep[1] "seed" = -1']),
        (f"seed = [{2**63}]", ['sweep[1] "seed"', "2^63"]),
        ("seed = [true]", ['sweep[1] "seed" = true']),
        ("seed = { first = 0 }", ['sweep[1] "seed"', "count"]),
        ("seed = { first = 0, count = 0 }", ['sweep[1] "seed"', "count = 0"]),
        ("seed = { first = -1, count = 2 }", ['sweep[1] "seed"', "first = -1"]),
        ("seed = { first = 1.5, count = 2 }", ["first = 1.5"]),
        ("seed = { first = 0, count = true }", ["count = true"]),
        ("seed = { first = 0, count = 5, step = 2 }", ['unknown key "step"']),
        (f"seed = {{ first = {2**63 - 1}, count = 2 }}", ['sweep[1] "seed"']),
        ("seed = { first = 0, count = 1000001 }", ["count = 1000001"]),
        ('seed = { first = 0, count = 1000000 }\n"model.depth" = [1, 2]', ["2000000 trials"]),
    ],
)
def test_a_swept_value_is_checked_like_a_plain_one(tmp_path, sweep, expected):
    message = refused(tmp_path, end=f"[[sweep]]\n{sweep}")
    assert all(words in message for words in expected), message


def test_a_plain_value_that_an_axis_hides_is_checked_too(tmp_path):
    assert 'model.depth = "x"' in refused(tmp_path, model='depth = "x"', end='[[sweep]]\n"model.depth" = [1]')


def test_a_sweep_that_is_no_table(tmp_path):
    assert "sweep = 3" in refused(tmp_path, top="sweep = 3")


@pytest.mark.parametrize(
    ("override", "count", "swept"),
    [
        ("seed=7", 16, ["model.depth", "training.dtype", "training.polish", "points.train"]),
        ("seed=[1, 2]", 32, ["model.depth", "training.dtype", "training.polish", "points.train"]),
        ("seed={first=0, count=3}", 48, ["model.depth", "training.dtype", "training.polish", "points.train"]),
        ("model.depth=3", 100, ["training.dtype", "training.polish", "points.train"]),
        ("training.dtype=float64", 800, ["model.depth", "training.polish", "points.train"]),
        ("training.steps=100", 800, ["model.depth", "training.dtype", "training.polish", "points.train"]),
        ('protocols=["certified"]', 800, ["model.depth", "training.dtype", "training.polish", "points.train"]),
        ("estimators.exact.damping=0.1", 800, ["model.depth", "training.dtype", "training.polish", "points.train"]),
    ],
)
def test_an_override_replaces_a_value_or_an_axis(design, override, count, swept):
    experiment = trials.load(design, [override])
    assert (len(experiment.trials), experiment.swept_paths) == (count, swept)


def test_an_override_reaches_the_settings(design):
    overrides = [
        "seed=7",
        "training.steps=10",
        "training.dtype=float64",
        "estimators.exact.damping=0.5",
        "model.depth=2",
    ]
    for trial in trials.load(design, overrides).trials:
        settings = trial.settings
        assert (settings.seed, settings.training.steps, settings.model.depth) == (7, 10, 2)
        assert (settings.training.dtype, settings.estimators[0].damping) == ("float64", 0.5)


def test_a_list_valued_axis_takes_a_plain_list(tmp_path):
    end = '[sweep]\n"data.test_rows" = [[0], [1]]'
    assert load(tmp_path, ("data.test_rows=[5, 6]",), end=end).trials[0].settings.data.test_rows == [5, 6]
    assert len(load(tmp_path, ("data.test_rows=[[5], [6], [7]]",), end=end).trials) == 3


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model.detph=3", ["--set model.detph = 3", '"model.depth"']),
        ("modle.width=3", ["--set modle.width = 3", 'did you mean "model.width"?']),
        ("trainig.stepz=3", ["--set trainig.stepz = 3", 'did you mean "training.steps"?']),
        ("protocol.warm.steps=3", ["--set protocol.warm.steps = 3", 'did you mean "protocols.warm.steps"?']),
        ("protocols=warm", ['--set protocols = "warm"', 'set protocols=["NAME"]']),
        ("model.kind=mine.network", ['did you mean "mine:network"?']),
        ("model.depth=x", ['--set model.depth = "x"']),
        ("estimators.exat.damping=1", ["--set", 'did you mean "exact"?']),
        ("model.depth", ["--set", "PATH=VALUE"]),
        ("=3", ["--set", "dotted path"]),
        ("sweep=[]", ["--set", "swept path itself"]),
        ("model.depth=[1, 2]", ["--set model.depth = [1, 2]", "[[sweep]]"]),
        (f"model.depth={'[' * 9000}", ["nested too deeply"]),
        ("model.depth=1\nmodel.width = 2", ["--set model.depth"]),
        ("model.depth.x=1", ["--set", "not a table"]),
    ],
)
def test_an_override_is_checked(tmp_path, override, expected):
    message = refused(tmp_path, (override,))
    assert all(words in message for words in expected), message


def settings_with(changes: dict[str, object]) -> Settings:
    tables: dict = {
        "data": {"name": "iris", "test_rows": [83]},
        "model": {"kind": "mlp"},
        "estimators": [{"kind": "exact"}, {"kind": "ggn"}],
        "protocols": [{"kind": "warm"}, {"kind": "stationary"}],
    }
    for path, value in changes.items():
        *where, last = path.split(".")
        table = tables
        for part in where:
            table = table[int(part)] if isinstance(table, list) else table.setdefault(part, {})
        table[last] = value
    return Settings.model_validate(tables)


def test_the_key_is_pinned():
    """A change of this digest makes every stored record unreachable: see LATER_KEYS and NUMBERS_VERSION first."""
    assert trials.key(settings_with({}), {}) == FIRST_KEY


@pytest.mark.parametrize(
    ("path", "default"),
    [
        ("target", "loss"),
        ("seed", 0),
        ("data.standardize", True),
        ("data.split_seed", 0),
        ("model.depth", 1),
        ("training.learning_rate", 0.001),
        ("training.batch_size", "full"),
        ("training.dtype", "float64"),
        ("points.train", "all"),
        ("points.band", [0.25, 0.35]),
        ("points.by", "exact"),
        ("points.features", "input"),
        ("points.group_size", 1),
        ("points.group", "random"),
        ("points.scrambled", False),
        ("training.initial_scale", 1),
        ("neighbours", None),
        ("paths", None),
        ("paths", {"none": ["cold", "exact"]}),  # a trial without the first node has no such path
        ("data.n_train", None),
        ("data.classes", None),
        ("data.label_noise", 0.0),
        ("data.validation_rows", 0),
        ("model.intercept", True),
        ("model.normalization", "group"),
        ("estimators.0.name", "exact"),
        ("estimators.0.damping", 0),
        ("estimators.1.parameters", "all"),
        ("protocols.0.steps", 7500),
        ("protocols.0.parameters", "all"),
        ("protocols.1.tolerance", 1e-9),
    ],
)
def test_writing_a_default_out_keeps_the_key(path, default):
    assert trials.key(settings_with({path: default}), {}) == FIRST_KEY


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("target", "margin"),
        ("seed", 1),
        ("data.name", "wine"),
        ("data.test_rows", [84]),
        ("data.standardize", False),
        ("data.split_seed", 1),
        ("data.label_noise", 0.1),
        ("model.kind", "linear"),
        ("model.depth", 2),
        ("model.width", 6),
        ("model.activation", "relu"),
        ("training.optimizer", "sgd"),
        ("training.learning_rate", 0.002),
        ("training.momentum", 0.8),
        ("training.schedule", "step"),
        ("training.patience", 99),
        ("training.factor", 0.5),
        ("training.step_every", 10),
        ("points.features", "output"),
        ("neighbours", {"features": ["input"]}),
        ("paths", {"one": ["warm", "exact"]}),
        ("training.steps", 10),
        ("training.batch_size", 10),
        ("training.weight_decay", 0.1),
        ("training.decay_biases", False),
        ("training.polish", True),
        ("training.dtype", "float32"),
        ("points.train_count", 3),
        ("points.by", "ggn"),
        ("points.order", "signed"),
        ("points.band", [0.1, 0.2]),
        ("points.select_seed", 1),
        ("points.test", "highest_loss"),
        ("points.test", {"rows": [83]}),
        ("points.test", {"quantiles": [0.5]}),
        ("points.removal", "renormalise"),
        ("points.fraction", 0.5),
        ("points.perturbation", 0.2),
        ("points.direction", "random"),
        ("points.group_size", 2),
        ("points.group", "nearest"),
        ("points.scrambled", True),
        ("training.initial_scale", 2),
        ("protocols.0.parameters", "last_layer"),
        ("estimators.0.name", "other"),
        ("estimators.0.damping", 1.0),
        ("estimators.1.parameters", "last_layer"),
        ("protocols.0.steps", 1),
        ("protocols.1.tolerance", 1e-8),
    ],
)
def test_what_changes_a_number_changes_the_key(path, value):
    assert trials.key(settings_with({path: value}), {}) != FIRST_KEY


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("data.n_train", 100),
        ("data.n_test", 100),
        ("data.validation_rows", 100),
        ("data.classes", [0, 1]),
        ("model.intercept", False),
        ("model.normalization", "frozen"),
    ],
)
def test_what_changes_a_number_of_images_changes_the_key(path, value):
    section, key = path.split(".")
    tables = {"data": {"name": "mnist"}, "model": {"kind": "resnet" if key == "normalization" else "linear"}}
    changed = {**tables, section: {**tables[section], key: value}}
    assert trials.key(settings_with(tables), {}) != trials.key(settings_with(changed), {})


def test_every_key_of_the_schema_is_in_the_tests_above():
    cases = test_what_changes_a_number_changes_the_key.pytestmark[0].args[1]
    cases = cases + test_what_changes_a_number_of_images_changes_the_key.pytestmark[0].args[1]
    covered = {path.split(".")[-1] for path, _ in cases}
    tables = settings_with({}).model_dump()
    for section in ("data", "model", "training", "points"):
        missing = set(tables[section]) - covered - {"test_fraction", "target", "task", "train"}
        assert not missing, f"{section}: {missing}"


def test_the_version_changes_every_key(monkeypatch):
    monkeypatch.setattr(keys, "NUMBERS_VERSION", keys.NUMBERS_VERSION + 1)
    assert trials.key(settings_with({}), {}) != FIRST_KEY


def test_name_question_and_primary_do_not_enter(tmp_path):
    first = load(tmp_path).trials[0]
    other = load(tmp_path, ("name=other", "primary=pearson", "question=why"))
    assert (other.name, other.primary, other.question) == ("other", "pearson", "why")
    assert other.trials[0].key == first.key


def test_a_later_key_is_left_out_at_its_neutral_value(monkeypatch):
    plain = trials.key(settings_with({}), {})
    monkeypatch.setitem(keys.LATER_KEYS, "training.momentum", 0.9)
    monkeypatch.setitem(keys.LATER_KEYS, "estimators.ggn.damping", 0.0)
    neutral = keys.canonical(settings_with({}), {})
    assert "momentum" not in neutral["training"]
    assert "damping" in neutral["estimators"][0]
    assert "damping" not in neutral["estimators"][1]
    assert trials.key(settings_with({}), {}) != plain
    assert "momentum" in keys.canonical(settings_with({"training.momentum": 0.5}), {})["training"]
    assert "damping" in keys.canonical(settings_with({"estimators.1.damping": 0.5}), {})["estimators"][1]


def own_data(folder: Path, name: str, rows: int = 12) -> None:
    lines = ["a,b,target", *(f"{row},{row * row % 7},{row % 2}" for row in range(rows))]
    (folder / name).write_text("\n".join(lines) + "\n")


def test_the_content_of_the_data_enters_the_key_and_not_its_path(tmp_path):
    overrides = ("data.task=classification", "data.test_rows=[1]")
    own_data(tmp_path, "one.csv")
    own_data(tmp_path, "two.csv")
    one = load(tmp_path, ("data.name=one.csv", *overrides)).trials[0]
    assert load(tmp_path, ("data.name=two.csv", *overrides)).trials[0].key == one.key
    own_data(tmp_path, "one.csv", rows=13)
    assert load(tmp_path, ("data.name=one.csv", *overrides)).trials[0].key != one.key
    assert 'data.name: "' in refused(tmp_path, ("data.name=three.csv", *overrides))
    assert 'did you mean "two.csv"?' in refused(tmp_path, ("data.name=tow.csv", *overrides))
    (tmp_path / "folder.csv").mkdir()
    assert "is not a file" in refused(tmp_path, ("data.name=folder.csv", *overrides))


def test_the_source_of_a_factory_enters_the_key(tmp_path):
    package = tmp_path / "ownnets_for_test"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('not to be run')")
    (package / "nets.py").write_text("def make(inputs, outputs): ...")
    (tmp_path / "own_nets.py").touch()
    assert 'did you mean "own_nets:make"?' in refused(tmp_path, ("model.kind=onw_nets:make",))
    override = ("model.kind=ownnets_for_test.nets:make",)
    first = load(tmp_path, override).trials[0]
    assert load(tmp_path, override).trials[0].key == first.key
    (package / "nets.py").write_text("def make(inputs, outputs): pass")
    assert load(tmp_path, override).trials[0].key != first.key
    assert "no module" in refused(tmp_path, ("model.kind=ownnets_for_test.other:make",))


def test_a_family_shares_rows_model_and_training(design):
    base = trials.load(design, ["seed=0", "model.depth=1"])
    family = trials.family(base.trials[0])
    same = [
        "seed=5",
        "data.test_rows=[3]",
        "training.learning_rate=0.1",
        "training.weight_decay=0",
        "training.polish=true",
    ]
    same += ["points.test=highest_loss", "points.train_count=3", "estimators.exact.damping=1", "protocols.warm.steps=1"]
    same += ["data.split_seed=4"]
    for override in same:
        trial = trials.load(design, ["seed=0", "model.depth=1", override]).trials[0]
        assert trials.family(trial) == family, override
    for override in ["data.test_rows=[1, 2]", "model.depth=2", "target=margin", "training.steps=3", "data.name=wine"]:
        trial = trials.load(design, ["seed=0", "model.depth=1", override]).trials[0]
        assert trials.family(trial) != family, override


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("data.test_rows=[150]",), ["data.test_rows", "150", "0 to 149"]),
        (("points.train=random", "points.train_count=150"), ["points.train_count = 150", "149"]),
        (("points.train=influence_band", "points.train_count=60"), ["points.train_count = 60", "points.band"]),
        (("points.test={rows=[5]}",), ["points.test.rows", "row 5", "83"]),
        (("training.batch_size=150",), ["training.batch_size = 150", "149"]),
        (("data.name=diabetes", "target=margin"), ['target = "margin"', "regression"]),
        (("estimators.exact.parameters=['layer2.weight']",), ["estimators.exact.parameters", '"layer1.weight"']),
        (("model.kind=linear", "estimators.exact.parameters=['layer1.weight']"), ["layer1.weight", '"output.weight"']),
    ],
)
def test_check_refuses_what_the_data_cannot_serve(tmp_path, overrides, expected):
    experiment = load(tmp_path, overrides)
    with pytest.raises(StudyError) as caught:
        trials.check(experiment)
    message = str(caught.value)
    assert message.startswith(str(experiment.path))
    assert all(words in message for words in expected), message


def test_check_accepts_named_parameters_and_chosen_rows(tmp_path):
    overrides = ("estimators.exact.parameters=['layer1.bias', 'output.weight']", "points.test={rows=[83]}")
    trials.check(load(tmp_path, overrides))


def test_a_large_sweep_expands_at_the_pace_of_a_small_one(tmp_path):
    """Per trial, so that nothing is compared with all others: a quadratic step would make it twenty times slower."""

    def pace(widths):
        end = f'[sweep]\n"model.depth" = {{ first = 1, count = 50 }}\n"model.width" = {{ first = 1, count = {widths} }}'
        start = time.process_time()
        assert len(load(tmp_path, end=end).trials) == 50 * widths
        return (time.process_time() - start) / (50 * widths)

    assert pace(200) < 4 * min(pace(10), pace(10))


def test_seeds_are_python_integers(tmp_path):
    seeds = [trial.settings.seed for trial in load(tmp_path, end="[sweep]\nseed = { first = 3, count = 4 }").trials]
    assert seeds == [3, 4, 5, 6]
    assert all(type(seed) is int for seed in seeds)
