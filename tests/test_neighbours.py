"""Neighbours in the features of a layer against plain NumPy, and what of them a spec may ask for."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from study import trials as spec_trials
from study.compute import neighbours
from study.compute.problems import problem
from study.compute.trial import run_unit
from study.errors import StudyError
from study.records import Record
from study.sweep import check_worker
from tests import cases

FEW = {"points.train": "random", "points.train_count": 3}
FACTORY = """
from torch import nn

class Twice(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(inputs, 4), nn.Tanh())
        self.square = nn.Linear(4, 4)
        self.head = nn.Linear(4, outputs)
        self.unused = nn.Identity()

    def forward(self, x):
        return self.head(self.square(self.square(self.body(x)).tanh()))

def network(inputs, outputs):
    return Twice(inputs, outputs)
"""


def brute_force(train, test):
    """Rank of each training row by distance from each test point, ties by row number: [n, T]."""
    distances = ((train[:, None] - test[None]) ** 2).sum(axis=2)
    return np.array([np.argsort(np.argsort(column, kind="stable")) for column in distances.T]).T


def hidden(record, p, layer):
    """Features of training and test rows by torch's own modules, up to and with the activation after `layer`."""
    module = cases.plain_module(p.network)
    torch.nn.utils.vector_to_parameters(torch.from_numpy(record.arrays["base_parameters"].copy()), module.parameters())
    ends = {"input": 0, "layer1": 2, "layer2": 4, "output": len(module)}
    with torch.no_grad():
        return [module[: ends[layer]](x).numpy() for x in (p.objective.x, p.target.x)]


def test_rows_are_ranked_by_their_distance_at_every_layer(tmp_path):
    layers = ["input", "layer1", "layer2", "output"]
    changes = {**FEW, "model.depth": 2, "neighbours.features": layers}
    [trial] = cases.trials(tmp_path, changes)
    record, p = cases.record(tmp_path, changes), problem(trial)
    for layer in layers:
        found = record.arrays[f"neighbours/{layer}"]
        np.testing.assert_array_equal(found, brute_force(*hidden(record, p, layer)), err_msg=layer)
        assert found.dtype == np.uint16
    assert len({record.arrays[f"neighbours/{layer}"].tobytes() for layer in layers}) == 4


def test_any_submodule_of_a_network_of_ones_own(tmp_path):
    (tmp_path / "case_twice.py").write_text(FACTORY)
    layers = ["input", "body", "body.0", "square", "output"]
    changes = {**FEW, "model.kind": "case_twice:network", "neighbours.features": layers}
    record, p = cases.record(tmp_path, changes), problem(cases.trials(tmp_path, changes)[0])
    module = p.network._seeded(0)
    torch.nn.utils.vector_to_parameters(torch.from_numpy(record.arrays["base_parameters"].copy()), module.parameters())
    with torch.no_grad():
        inside = {
            "input": lambda x: x, "body": module.body, "body.0": module.body[0], "output": module,
            "square": lambda x: module.square(module.square(module.body(x)).tanh()),  # its last call
        }  # fmt: skip
        for layer, function in inside.items():
            expected = brute_force(*(function(x).numpy() for x in (p.objective.x, p.target.x)))
            np.testing.assert_array_equal(record.arrays[f"neighbours/{layer}"], expected, err_msg=layer)


def test_rows_equally_far_are_ranked_by_row_number(tmp_path):
    x = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0], [3.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
    changes = {
        **cases.write_csv(tmp_path, x, np.arange(6) % 2), "data.test_rows": [1], "data.standardize": False,
        "points.train": "nearest", "points.train_count": 3, "model.kind": "linear",
    }  # fmt: skip
    arrays = cases.record(tmp_path, changes).arrays
    assert arrays["train_rows"].tolist() == [0, 2, 3, 4, 5]
    assert arrays["neighbours/input"][:, 0].tolist() == [1, 2, 4, 3, 0]
    assert arrays["removed_rows"].tolist() == [0, 2, 5]


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_few_neighbours_are_the_first_of_all(offset):
    """Also among many equal rows, and where float32 cannot tell rows apart."""
    generator = np.random.default_rng(0)
    train = offset + np.repeat(generator.normal(size=(20, 5)), 10, axis=0) + 1e-7 * generator.integers(3, size=(200, 5))
    test = offset + generator.normal(size=(4, 5))
    everything = neighbours.nearest(train, test, 200)
    np.testing.assert_array_equal(np.argsort(everything, axis=1).T, brute_force(train, test))
    for count in (1, 7, 55, 199):
        np.testing.assert_array_equal(neighbours.nearest(train, test, count), everything[:, :count])


def test_the_nearest_rows_of_each_test_point_are_removed(tmp_path):
    changes = {"points.train": "nearest", "points.train_count": 4, "points.features": "layer1"}
    record, p = cases.record(tmp_path, changes), problem(cases.trials(tmp_path, changes)[0])
    sets = [set(np.flatnonzero(column < 4)) for column in brute_force(*hidden(record, p, "layer1")).T]
    positions = np.searchsorted(record.arrays["train_rows"], record.arrays["removed_rows"])
    assert set(positions) == set.union(*sets)
    assert [set(positions[hits]) for hits in record.arrays["selected"].T] == sets
    assert [name for name in record.arrays if name.startswith("neighbours/")] == ["neighbours/layer1"]


@pytest.mark.filterwarnings("error")
def test_a_network_that_diverged_has_rows_in_their_order(tmp_path):
    changes = {
        **FEW, "data.name": "diabetes", "model.activation": "relu", "training.optimizer": "sgd", "training.steps": 300,
        "training.learning_rate": 1e6, "neighbours.features": ["layer1"],
    }  # fmt: skip
    [record] = run_unit(cases.trials(tmp_path, changes))
    assert isinstance(record, Record)
    assert "diverged" in record.header["flags"]
    assert (record.arrays["neighbours/layer1"] == np.arange(len(record.arrays["train_rows"]))[:, None]).all()


def _refused(tmp_path, changes):
    try:
        cases.trials(tmp_path, changes)
        spec_trials.check(spec_trials.load(tmp_path / "case.toml"))
    except StudyError as refused:
        return str(refused)
    return "accepted"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points.train": "nearest", "points.train_count": 148}, "train_count = 148: there are only 147 training rows"),
        ({"points.train": "nearest"}, 'train_count is needed with train = "nearest"'),
        ({"neighbours.features": ["layer2"]}, 'no layer "layer2"; it has: "input", "layer1", "output"'),
        (
            {"points.train": "nearest", "points.train_count": 3, "points.features": "hidden"},
            "points.features: the network has no layer",
        ),
        ({"neighbours.features": ["input", "input"]}, '"input" is given twice'),
        ({"neighbours.features": []}, "at least 1 value"),
        ({"neighbours.features": "input"}, "a list in [ ] is needed"),
        ({"neighbours.count": 5}, "neighbours.count"),
        ({"neighbors.features": ["input"]}, 'did you mean "neighbours'),
    ],
)  # fmt: skip
def test_bad_settings_are_refused_before_any_work(tmp_path, changes, message):
    assert message in _refused(tmp_path, changes)


def test_without_faiss_a_spec_that_needs_it_is_refused_and_others_run(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert "influence-fragility-study[knn]" in _refused(tmp_path, {"neighbours.features": ["input"]})
    with pytest.raises(StudyError, match="needs faiss; install it with"):  # a worker elsewhere
        check_worker(cases.trials(tmp_path, {"neighbours.features": ["input"]}), "cpu")
    assert "neighbours/input" not in cases.record(tmp_path, FEW).arrays


def test_a_layer_that_a_network_of_ones_own_lacks_is_refused_by_the_worker(tmp_path):
    (tmp_path / "case_twice.py").write_text(FACTORY)
    changes = {"model.kind": "case_twice:network", "neighbours.features": ["hidden"]}
    with pytest.raises(StudyError, match=r"neighbours\.features: the network has no layer"):
        check_worker(cases.trials(tmp_path, changes), "cpu")


def test_a_layer_without_a_row_for_each_row_is_told(tmp_path):
    (tmp_path / "case_twice.py").write_text(FACTORY)
    [trial] = cases.trials(tmp_path, {"model.kind": "case_twice:network", "neighbours.features": ["unused"], **FEW})
    [failure] = run_unit([trial])
    assert "'unused' gives no tensor with a row" in failure.error


def test_a_count_beyond_the_rows_is_refused():
    for count in (0, 4):
        with pytest.raises(StudyError, match=f"{count} nearest neighbours: there are 3 training rows"):
            neighbours.nearest(np.zeros((3, 2)), np.zeros((1, 2)), count)


@pytest.mark.slow
def test_a_trial_without_neighbours_does_not_load_faiss(tmp_path):
    code = f"""
import sys, pathlib
from tests import cases
cases.record(pathlib.Path({str(tmp_path)!r}), {FEW!r})
assert "faiss" not in sys.modules
cases.record(pathlib.Path({str(tmp_path)!r}), {{**{FEW!r}, "neighbours.features": ["input"]}})
assert "faiss" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
