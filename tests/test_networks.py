"""Networks: the initialisation a user of torch would get, positions by name, and users' own modules."""

import numpy as np
import pytest
import torch
from torch import nn

from study.compute.mlp import Mlp
from study.compute.problems import problem
from study.compute.trial import run_unit
from tests import cases

FACTORY = """
from torch import nn

def perceptron(inputs, outputs, width):
    return nn.Sequential(nn.Linear(inputs, width), nn.{activation}(), nn.Linear(width, outputs))

def sizes(one, other):
    return nn.Linear(one, other)

def nothing(inputs, outputs):
    return 3
"""


def factory(folder, name, activation="Tanh"):
    (folder / f"{name}.py").write_text(FACTORY.replace("{activation}", activation))
    return {"model.kind": f"{name}:perceptron"}


@pytest.mark.parametrize("depth", [0, 3])
def test_initial_parameters_are_those_of_a_seeded_module(depth):
    network, before = Mlp(4, 3, depth, 5, "tanh"), torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        expected = torch.cat([p.detach().flatten() for p in cases.plain_module(network).parameters()])
    torch.set_default_dtype(before)
    assert torch.equal(network.initial(7), expected)
    assert not torch.equal(network.initial(8), expected)


def test_initialisation_leaves_the_global_generator_and_dtype_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    Mlp(4, 3, 2, 5, "tanh").initial(0)
    assert torch.equal(torch.rand(4), expected)
    assert torch.get_default_dtype() == torch.float32


def test_positions_are_found_by_name():
    network = Mlp(2, 3, 1, 4, "tanh")
    sizes = [(name, p.numel()) for name, p in network._seeded(0).named_parameters()]
    assert sizes == [("layer1.weight", 8), ("layer1.bias", 4), ("output.weight", 12), ("output.bias", 3)]
    assert network.positions("all").tolist() == list(range(27))
    assert network.positions("last_layer").tolist() == list(range(12, 27))
    assert network.positions(["output.weight"]).tolist() == list(range(12, 24))
    assert network.positions(["output.bias", "layer1.bias"]).tolist() == [*range(8, 12), *range(24, 27)]
    assert network.biases().nonzero()[:, 0].tolist() == [*range(8, 12), *range(24, 27)]
    with pytest.raises(ValueError, match=r"output\.wieght.*output\.weight"):
        network.positions(["output.wieght"])


@pytest.mark.parametrize(
    "changes",
    [
        {"points.removal": "renormalise", "training.polish": True},
        {"data.name": "diabetes"},
        {
            "training.optimizer": "adam",
            "training.batch_size": 32,
            "training.steps": 60,
            "protocols": [{"kind": "warm", "steps": 30}],
        },
    ],
    ids=["polished", "regression", "batches"],
)
def test_a_users_module_gives_the_numbers_of_the_fast_path(tmp_path, changes):
    shared = {
        **changes,
        "model.width": 2,
        "points.train": "random",
        "points.train_count": 4,
        "estimators": [{"kind": "exact", "damping": 0.01}, {"kind": "ggn"}, {"kind": "identity"}],
    }
    fast, generic = (
        cases.record(tmp_path, {**shared, **model}).arrays for model in ({}, factory(tmp_path, "case_perceptron"))
    )
    assert fast.keys() == generic.keys()
    for name in (
        "base_parameters",
        "predicted/exact",
        "predicted/ggn",
        "predicted/identity",
        "plugin/exact",
        "train_losses",
    ):
        np.testing.assert_allclose(generic[name], fast[name], rtol=1e-7, atol=1e-9, err_msg=name)
    for name in (name for name in fast if name.startswith("actual")):
        np.testing.assert_allclose(generic[name], fast[name], rtol=1e-7, atol=1e-9, err_msg=name)


def test_a_users_module_with_rows_of_its_own_and_generic_derivatives(tmp_path):
    [trial] = cases.trials(tmp_path, {**factory(tmp_path, "case_own_rows"), "model.width": 3})
    network, case = problem(trial).network, cases.stack(width=3, own_rows=True)
    [small] = cases.trials(tmp_path, {"model.width": 3})
    mlp = problem(small).network
    x = torch.randn(3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    theta = torch.randn(3, mlp.parameters, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    pull, curvature = torch.randn(3, 5, 3, dtype=torch.float64), torch.eye(3).double().expand(3, 5, 3, 3)
    assert case.objective.x.dim() == x.dim()
    torch.testing.assert_close(network.outputs(theta, x), mlp.outputs(theta, x))
    torch.testing.assert_close(network.row_gradients(theta, x, pull), mlp.row_gradients(theta, x, pull))
    matrix = mlp.hessian(theta, x, pull, curvature)
    torch.testing.assert_close(network.hessian(theta, x, pull, curvature), matrix)
    directions = torch.randn(3, 2, mlp.parameters, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(network.products(theta, x, pull, curvature)(directions), directions @ matrix)
    one = network.products(theta, x[0], pull, curvature)(directions)
    torch.testing.assert_close(one, mlp.products(theta, x[0], pull, curvature)(directions))


def test_factories_of_one_name_in_two_folders_are_two_factories(tmp_path):
    activations = []
    for name, activation in (("one", "Tanh"), ("two", "ReLU")):
        folder = tmp_path / name
        folder.mkdir()
        [trial] = cases.trials(folder, factory(folder, "case_same_name", activation))
        activations.append(type(problem(trial).network._module[1]))
    assert activations == [nn.Tanh, nn.ReLU]


def test_a_factory_may_take_the_two_sizes_under_any_name(tmp_path):
    factory(tmp_path, "case_sizes")
    [trial] = cases.trials(tmp_path, {"model.kind": "case_sizes:sizes"})
    assert problem(trial).network.shapes == [(3, 4), (3,)]


def test_a_frozen_parameter_is_refused(tmp_path):
    text = "import torch\ndef frozen(inputs, outputs):\n    made = torch.nn.Linear(inputs, outputs)\n"
    (tmp_path / "case_frozen.py").write_text(text + "    made.bias.requires_grad_(False)\n    return made\n")
    [outcome] = run_unit(cases.trials(tmp_path, {"model.kind": "case_frozen:frozen"}))
    assert "parameter bias has requires_grad = False" in outcome.error
    assert "register_buffer" in outcome.error


def test_a_factory_that_returns_no_module_is_a_failure_that_says_so(tmp_path):
    factory(tmp_path, "case_nothing")
    [outcome] = run_unit(cases.trials(tmp_path, {"model.kind": "case_nothing:nothing"}))
    assert "returned int, not an nn.Module" in outcome.error
    assert outcome.traceback == ""


BUFFERED = """
from torch import nn

def normalised(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, outputs))
"""


def test_a_module_with_buffers_trains_in_float32(tmp_path):
    (tmp_path / "case_buffered.py").write_text(BUFFERED)
    changes = {
        "model.kind": "case_buffered:normalised",
        "training.optimizer": "adam",
        "training.steps": 5,
        "points.train": "random",
        "points.train_count": 2,
        "protocols": [{"kind": "warm", "steps": 3}],
    }
    double, single = (
        cases.record(tmp_path, {**changes, "training.dtype": dtype}).arrays for dtype in ("float64", "float32")
    )
    np.testing.assert_allclose(single["base_parameters"], double["base_parameters"], rtol=1e-3, atol=1e-4)
