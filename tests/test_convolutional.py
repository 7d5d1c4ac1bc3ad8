"""Convolutional networks: stacks against one module at a time, and the specs that ask for them."""

import numpy as np
import pytest
import torch
from torch.func import functional_call
from torch.nn.functional import cross_entropy, one_hot

from study import sweep, trials
from study.compute import convolutional, fused
from study.compute.convolutional import Convolutional
from study.compute.objective import Objective, Target, output_derivatives
from study.compute.trial import run_unit
from study.errors import StudyError
from study.records import Record
from study.specs import Model
from tests import cases, image_files

RESNET = {"kind": "resnet", "depth": 1, "width": 2, "activation": "softplus"}
RESNET20 = 269_722 + 16 * 32 + 32 * 64  # that of He et al. 2016 (0.27M), and 1 x 1 convolutions where the shape changes
CASES = [
    ({"kind": "koh_cnn"}, (1, 21, 21)),
    ({"kind": "lenet", "activation": "relu"}, (2, 12, 12)),
    (RESNET, (3, 6, 6)),
    ({**RESNET, "depth": 2, "normalization": "frozen"}, (1, 8, 8)),
]


def network(keys, shape, outputs=3):
    return Convolutional(Model.model_validate(keys), shape, outputs)


def problem(keys, shape, networks=3, rows=5, own=False, classes=3):
    """A stack with random parameters near torch's own initial ones, on random images."""
    generator = torch.Generator().manual_seed(0)
    net = network(keys, shape, classes)
    start = torch.stack([net.initial(seed) for seed in range(networks)])
    theta = start + 0.1 * torch.randn(start.shape, generator=generator, dtype=torch.float64)
    lead = (networks, rows) if own else (rows,)
    x = torch.rand(*lead, int(np.prod(shape)), generator=generator, dtype=torch.float64)
    y = one_hot(torch.randint(classes, lead, generator=generator), classes).double()
    weights = torch.rand(networks, rows, generator=generator, dtype=torch.float64)
    decay = torch.full((1, net.parameters), 0.01, dtype=torch.float64)
    return Objective(net, "classification", x, y, decay), theta, weights


def one_by_one(objective, theta):
    """Outputs of each network as the module itself computes them."""
    net, found = objective.network, []
    for b, own in enumerate(theta):
        pieces = zip(net.names, own.split(net.sizes), net.shapes, strict=True)
        x = objective.x if objective.x.dim() == 2 else objective.x[b]
        found.append(functional_call(net._module, {name: piece.view(shape) for name, piece, shape in pieces}, (x,)))
    return torch.stack(found)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize(("keys", "shape"), CASES)
def test_a_stack_is_its_networks(keys, shape, own):
    objective, theta, _ = problem(keys, shape, own=own)
    torch.testing.assert_close(objective.network.outputs(theta, objective.x), one_by_one(objective, theta))
    torch.testing.assert_close(objective.network.outputs(theta[:1], objective.networks(slice(0, 1)).x),
                               one_by_one(objective, theta)[:1])  # fmt: skip


@pytest.mark.parametrize(("keys", "shape"), CASES)
def test_a_network_has_the_same_bits_in_every_stack(keys, shape):
    objective, theta, weights = problem(keys, shape, networks=11, rows=9)
    objective = objective.to(torch.float32, "cpu")
    theta, weights = theta.float(), weights[:1].float().expand(11, -1)
    whole = objective.gradient(theta, weights)[1]
    order = torch.randperm(11, generator=torch.Generator().manual_seed(1))
    assert torch.equal(objective.gradient(theta[order], weights)[1], whole[order])
    for some in ([4], [9, 2], [10]):
        assert torch.equal(objective.gradient(theta[some], weights[some])[1], whole[some])


@pytest.mark.parametrize("together", [1, 10**9, None])
@pytest.mark.parametrize(("keys", "shape"), CASES)
def test_gradients_are_those_of_plain_torch(monkeypatch, keys, shape, together):
    """By autograd in pieces of rows and networks or of all, and as they are computed by default: a kernel where there is one."""
    if together is not None:
        cases.eager(monkeypatch)
        monkeypatch.setattr(convolutional, "NUMBERS", together)
        monkeypatch.setattr(Convolutional, "networks_together", min(together, 8))
    objective, theta, weights = problem(keys, shape)
    leaf = theta.clone().requires_grad_()
    outputs = one_by_one(objective, leaf)
    target = objective.y.argmax(dim=1)
    losses = torch.stack([cross_entropy(own, target, reduction="none") for own in outputs])
    total = (weights * losses).sum() + 0.005 * leaf.square().sum()
    (expected,) = torch.autograd.grad(total, leaf)
    loss, gradient = objective.gradient(theta, weights)
    torch.testing.assert_close(loss, (weights * losses).sum(dim=1).detach())
    torch.testing.assert_close(gradient, expected)
    torch.testing.assert_close(objective.row_losses(theta), losses.detach())


COMPILED = CASES[:2]  # the plain chains


@pytest.mark.skipif(not fused.compiler(), reason="no C++ compiler")
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize(("keys", "shape"), COMPILED)
def test_the_kernel_is_the_network(monkeypatch, keys, shape, own):
    objective, theta, weights = problem(keys, shape, rows=6, own=own)
    net, x = objective.network, objective.x
    assert fused.kernel(net, "classification", theta) is not None
    torch.testing.assert_close(fused.outputs(net, theta, x), net.outputs(theta, x), rtol=1e-11, atol=1e-13)
    loss, gradient = objective.gradient(theta, weights)
    torch.testing.assert_close(objective.data_loss(theta, weights), loss, rtol=1e-12, atol=1e-14)
    pull = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    rows = x[0] if own else x
    found = fused.row_gradients(net, theta[0], rows, pull)
    torch.testing.assert_close(found, net.row_gradients(theta[:1], rows, pull[None])[0], rtol=1e-9, atol=1e-12)
    cases.eager(monkeypatch)
    for one, expected in zip((loss, gradient), objective.gradient(theta, weights), strict=True):
        torch.testing.assert_close(one, expected, rtol=1e-10, atol=1e-13)


@pytest.mark.slow
@pytest.mark.skipif(not fused.compiler(), reason="no C++ compiler")
def test_the_hessian_by_differences_is_that_of_products():
    objective, theta, weights = problem({"kind": "koh_cnn"}, (1, 21, 21), networks=1, rows=5)
    matrix = fused.difference_hessian(objective.network, "classification", objective.x, objective.y, weights[0], theta[0])
    assert torch.equal(matrix, matrix.mT)
    directions = torch.randn(1, 4, theta.shape[1], dtype=theta.dtype, generator=torch.Generator().manual_seed(2))
    expected = objective.hessian_products(theta, weights)(directions)[0] - objective.decay * directions[0]
    torch.testing.assert_close(directions[0] @ matrix, expected, rtol=1e-4, atol=1e-4)


def test_only_plain_chains_are_compiled():
    assert network(RESNET, (1, 8, 8)).chain is None
    assert network({"kind": "lenet"}, (1, 20, 28)).chain is None  # not square
    other = network({"kind": "koh_cnn"}, (1, 21, 21))
    assert fused.kernel(other, "classification", torch.zeros(1, other.parameters, device="meta")) is None
    assert network({"kind": "lenet", "activation": "gelu"}, (1, 12, 12)).chain is None


def test_streamed_gauss_newton_is_that_of_products(monkeypatch):
    objective, theta, weights = problem({"kind": "koh_cnn"}, (1, 21, 21), networks=1, rows=3)
    monkeypatch.setattr("study.compute.objective.ROW_NUMBERS", 2 * theta.shape[1])
    matrix = objective.gauss_newton(theta[0], weights[0])
    directions = torch.randn(1, 3, theta.shape[1], dtype=theta.dtype, generator=torch.Generator().manual_seed(2))
    expected = objective.hessian_products(theta, weights, gauss_newton=True)(directions)
    torch.testing.assert_close(directions[0] @ matrix, expected[0], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("together", [1, 10**9])
def test_curvature_is_that_of_plain_torch(monkeypatch, together):
    monkeypatch.setattr(convolutional, "NUMBERS", together)
    objective, theta, weights = problem({**RESNET, "width": 1}, (1, 6, 6), networks=1, rows=2)

    def value(own):
        outputs = one_by_one(objective, own[None])[0]
        losses = cross_entropy(outputs, objective.y.argmax(dim=1), reduction="none")
        return (weights[0] * losses).sum() + 0.005 * own.square().sum()

    expected = torch.func.hessian(value)(theta[0])
    torch.testing.assert_close(objective.hessian(theta, weights)[0], expected, rtol=1e-7, atol=1e-9)
    directions = torch.randn(1, 3, theta.shape[1], dtype=theta.dtype, generator=torch.Generator().manual_seed(2))
    products = objective.hessian_products(theta, weights)(directions)
    torch.testing.assert_close(products[0], directions[0] @ expected, rtol=1e-7, atol=1e-9)
    target = Target(objective.network, "classification", objective.x, objective.y)
    pull, _ = output_derivatives(objective.network.outputs(theta, objective.x), objective.y, "classification")
    torch.testing.assert_close(target.gradients(theta[0]), objective.network.row_gradients(theta, objective.x, pull)[0])


@pytest.mark.parametrize(
    ("keys", "shape", "parameters"),
    [
        ({"kind": "koh_cnn"}, (1, 28, 28), 2_616),  # as in the code of Koh & Liang: 80 + 4 x 584 + 90 + 110
        ({"kind": "lenet"}, (1, 28, 28), 61_706),
        ({"kind": "resnet", "depth": 3, "width": 16, "normalization": "frozen"}, (3, 32, 32), RESNET20),
    ],
)
def test_sizes_are_the_published_ones(keys, shape, parameters):
    assert network(keys, shape, 10).parameters == parameters


def test_normalisation_by_groups_is_blind_to_scale_and_other_rows():
    objective, theta, _ = problem(RESNET, (1, 6, 6))
    net = objective.network
    whole = net.outputs(theta, objective.x)
    torch.testing.assert_close(net.outputs(theta, objective.x[:2]), whole[:, :2])
    torch.testing.assert_close(net.outputs(theta, 7 * objective.x), whole, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("keys", "shape"), CASES)
def test_features_are_found_by_name(keys, shape):
    objective, theta, _ = problem(keys, shape)
    net = objective.network
    assert net.layers[0] == "input"
    assert net.layers[-1] == "output"
    for layer in net.layers:
        assert len(net.features(theta[0], objective.x, layer)) == len(objective.x)
    assert net.chosen("last_layer") == {"output.weight", "output.bias"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.kind": "koh_cnn"}, "the rows of iris are no images"),
        ({"model.kind": "koh_cnn", "data.name": "digits"}, "images of 8 x 8 pixels are too small"),
    ],
)
def test_rows_that_do_not_fit_are_refused(tmp_path, changes, said):
    [trial] = cases.trials(tmp_path, changes)
    experiment = trials.load(tmp_path / "case.toml")

    def check():
        trials.check(experiment)
        sweep.check_worker([trial], "cpu")

    with pytest.raises(StudyError, match=said):
        check()


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"kind": "lenet", "normalization": "frozen"}, 'only kind = "resnet" has any'),
        ({"kind": "resnett"}, 'did you mean "resnet"'),
        ({"kind": "koh_cnn", "intercept": False}, 'only kind = "linear" can do without'),
    ],
)
def test_keys_that_do_not_fit_the_model_are_refused(keys, said):
    with pytest.raises(ValueError, match=said):
        Model.model_validate(keys)


def test_a_trial_from_spec_to_record(tmp_path, monkeypatch):
    image_files.write_mnist(tmp_path, monkeypatch, rows=(40, 12), classes=3, side=21)
    monkeypatch.delitem(cases.IRIS, "data.test_rows")
    changes = {
        "data.name": "mnist", "data.standardize": False, "model.kind": "koh_cnn", "points.train": "random",
        "points.train_count": 3, "points.test": "median_loss", "training.optimizer": "adam", "training.steps": 20,
        "training.batch_size": 16, "training.dtype": "float32", "training.learning_rate": 0.01,
        "estimators": [{"kind": "identity"}, {"kind": "cg", "damping": 1.0, "max_iterations": 3}],
        "protocols": [{"kind": "warm", "steps": 10}, {"kind": "cold"}],
    }  # fmt: skip
    monkeypatch.setattr(convolutional, "MOST_FORMED", 0)
    monkeypatch.setattr("study.compute.trial.extreme_eigenvalues", lambda *_: (0.0, 1.0))  # of minutes of products
    [trial] = cases.trials(tmp_path, changes)
    [record] = run_unit([trial])
    assert isinstance(record, Record), record
    assert record.arrays["actual/warm"].shape == (3, 1)
    assert np.isfinite(record.arrays["actual/warm"]).all()
    assert (record.arrays["null/cold"] == 0).all()
    assert np.abs(record.arrays["actual/cold"]).max() > 0
    assert not record.arrays["certificate/warm/certified"].any()
    [dense] = cases.trials(tmp_path, {**changes, "estimators": [{"kind": "ggn"}]})
    with pytest.raises(StudyError, match=r"estimators\.ggn: it forms the Hessian, and 2,539 parameters and 40 training rows"):
        sweep.check_worker([dense], "cpu")


@pytest.mark.slow
def test_a_certified_trial_without_any_hessian(tmp_path, monkeypatch):
    image_files.write_mnist(tmp_path, monkeypatch, rows=(40, 12), classes=3, side=21)
    monkeypatch.delitem(cases.IRIS, "data.test_rows")
    monkeypatch.setattr(convolutional, "MOST_FORMED", 0)
    changes = {
        "data.name": "mnist", "data.standardize": False, "model.kind": "koh_cnn", "points.train": "random",
        "points.train_count": 3, "points.test": "median_loss", "training.optimizer": "lbfgs", "training.steps": 100,
        "training.weight_decay": 0.5, "training.polish": True,
    }  # fmt: skip
    [record] = run_unit(cases.trials(tmp_path, changes))
    assert isinstance(record, Record), record
    assert record.arrays["certificate/stationary/certified"].all()
    assert (record.arrays["certificate/stationary/gradient_norm"] <= 1e-9).all()
    assert record.header["base"]["smallest_eigenvalue"] > 0
    assert record.header["estimators"]["exact"]["residual"] <= 1e-7
    places = np.searchsorted(record.arrays["train_rows"], record.arrays["removed_rows"])
    predicted, actual = record.arrays["predicted/exact"][places], record.arrays["actual/stationary"]
    assert np.abs(predicted - actual).max() < 0.3 * np.abs(actual).max()
