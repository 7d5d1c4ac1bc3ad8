"""The compiled kernels against autograd and the layers' formulas, and the independence of their lanes."""

import itertools

import pytest
import torch

from study.compute import fused, training
from study.compute.mlp import Mlp
from tests import cases

needs_kernel = pytest.mark.skipif(
    not fused.available(Mlp(3, 3, 1, 4, "tanh"), "classification", torch.float64, "cpu"), reason="no C++ compiler"
)
TOLERANCE = {torch.float64: {"rtol": 1e-12, "atol": 1e-14}, torch.float32: {"rtol": 1e-4, "atol": 1e-5}}
SHAPES = [
    *itertools.product(["classification", "regression"], [1], cases.ACTIVATIONS),
    *itertools.product(["classification"], [0, 2, 8], ["tanh"]),
    ("regression", 3, "selu"),
]


def both(case, monkeypatch):
    """Loss and gradient of the kernel and of autograd."""
    compiled = case.objective.gradient(case.theta, case.weights)
    with monkeypatch.context() as patch:
        cases.eager(patch)
        return compiled, case.objective.gradient(case.theta, case.weights)


@needs_kernel
@pytest.mark.parametrize(("task", "depth", "activation"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("own_rows", [False, True])
def test_kernel_is_autograd(task, depth, activation, dtype, own_rows, monkeypatch):
    # 19 networks on 11 rows: no multiple of the lanes (8 or 16) or of the tile (4)
    case = cases.stack(task, depth, activation=activation, networks=19, own_rows=own_rows).to(dtype)
    assert fused.available(case.objective.network, task, dtype, "cpu")
    for found, expected in zip(*both(case, monkeypatch), strict=True):
        assert found.dtype == dtype
        torch.testing.assert_close(found, expected, **TOLERANCE[dtype])


@needs_kernel
@pytest.mark.parametrize("networks", [1, 7, 8, 9, 16, 17])
@pytest.mark.parametrize("rows", [1, 3, 4, 5])
def test_kernel_is_autograd_at_every_remainder(networks, rows, monkeypatch):
    case = cases.stack(networks=networks, rows=rows)
    for found, expected in zip(*both(case, monkeypatch), strict=True):
        torch.testing.assert_close(found, expected, **TOLERANCE[torch.float64])


@needs_kernel
@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("activation", cases.ACTIVATIONS)
def test_kernel_is_autograd_far_out(task, activation, monkeypatch):
    case = cases.stack(task, activation=activation, networks=9)
    case.theta.mul_(torch.logspace(-3, 2, 9, dtype=torch.float64)[:, None])
    for found, expected in zip(*both(case, monkeypatch), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@needs_kernel
@pytest.mark.parametrize("activation", cases.ACTIVATIONS)
def test_a_nan_network_leaves_its_neighbours_bits_alone(activation):
    case = cases.stack(activation=activation, networks=19)
    loss, gradient = case.objective.gradient(case.theta, case.weights)
    others = torch.arange(19) != 5
    case.theta[5] = torch.nan
    broken_loss, broken = case.objective.gradient(case.theta, case.weights)
    assert torch.isnan(broken_loss[5])
    assert torch.isnan(broken[5]).any()
    assert torch.equal(loss[others], broken_loss[others])
    assert torch.equal(gradient[others], broken[others])


@needs_kernel
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_bits_depend_on_neither_neighbours_nor_position(dtype):
    case = cases.stack(depth=2, networks=19).to(dtype)
    loss, gradient = case.objective.gradient(case.theta, case.weights)
    order = torch.randperm(19, generator=torch.Generator().manual_seed(0))
    for chosen in (order, order[:11], torch.tensor([18])):
        part_loss, part = case.objective.networks(chosen).gradient(case.theta[chosen], case.weights[chosen])
        assert torch.equal(part_loss, loss[chosen])
        assert torch.equal(part, gradient[chosen])


def both_hessians(case, monkeypatch, gauss_newton=False):
    """Of the kernel and of the formulas that need none, which test_objective holds against autograd."""
    assert fused.hessian(case.objective.network, case.objective.task, case.theta) is not None
    compiled = case.objective.hessian(case.theta, case.weights, gauss_newton)
    with monkeypatch.context() as patch:
        cases.eager(patch)
        return compiled, case.objective.hessian(case.theta, case.weights, gauss_newton)


@needs_kernel
@pytest.mark.parametrize(("task", "depth", "activation"), SHAPES)
@pytest.mark.parametrize("own_rows", [False, True])
@pytest.mark.parametrize("gauss_newton", [False, True])
def test_the_hessian_kernel_is_the_layers_formula(task, depth, activation, own_rows, gauss_newton, monkeypatch):
    case = cases.stack(task, depth, activation=activation, networks=11, own_rows=own_rows)
    found, expected = both_hessians(case, monkeypatch, gauss_newton)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13)
    assert torch.equal(found, found.mT)


@needs_kernel
@pytest.mark.parametrize(("networks", "rows"), [(1, 1), (7, 31), (8, 32), (9, 33), (17, 70)])
def test_the_hessian_kernel_at_every_remainder(networks, rows, monkeypatch):
    for width in (5, 8, 11):  # inputs of a layer: fewer than, as many as, and more than are summed at once
        case = cases.stack(depth=2, width=width, networks=networks, rows=rows)
        found, expected = both_hessians(case, monkeypatch)
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13)


@needs_kernel
@pytest.mark.parametrize("activation", cases.ACTIVATIONS)
def test_bits_of_a_hessian_depend_on_no_neighbour(activation):
    case = cases.stack(depth=2, activation=activation, networks=19)
    whole = case.objective.hessian(case.theta, case.weights)
    order = torch.randperm(19, generator=torch.Generator().manual_seed(0))
    for chosen in (order, order[:11], torch.tensor([18])):
        part = case.objective.networks(chosen).hessian(case.theta[chosen], case.weights[chosen])
        assert torch.equal(part, whole[chosen])
    case.theta[5] = torch.nan
    broken, others = case.objective.hessian(case.theta, case.weights), torch.arange(19) != 5
    assert torch.isnan(broken[5]).any()
    assert torch.equal(broken[others], whole[others])


@needs_kernel
def test_rows_of_ones_own_give_the_bits_of_shared_rows():
    case = cases.stack(networks=9)
    _, shared = case.objective.gradient(case.theta, case.weights)
    copies = training.Stack(case.objective, case.weights, case.weights, [0] * 9).objective
    own = type(copies)(
        copies.network, copies.task, *(t.expand(9, *t.shape).clone() for t in (copies.x, copies.y)), copies.decay
    )
    assert torch.equal(own.gradient(case.theta, case.weights)[1], shared)


@pytest.fixture
def fresh():
    """The memory of loaded kernels is emptied around the test."""
    fused._library.cache_clear()
    yield
    fused._library.cache_clear()


def not_available_but_right():
    case = cases.stack(networks=2)
    assert not fused.available(case.objective.network, "classification", torch.float64, "cpu")
    found = case.objective.gradient(case.theta, case.weights)[1][1]
    torch.testing.assert_close(
        found, torch.func.grad(cases.plain_value(case.objective, case.weights, 1))(case.theta[1])
    )


@pytest.mark.usefixtures("fresh")
def test_without_a_compiler_autograd_takes_over(monkeypatch):
    monkeypatch.setattr(fused.shutil, "which", lambda name: None)
    not_available_but_right()


@pytest.mark.usefixtures("fresh")
def test_asked_to_be_eager_autograd_takes_over(monkeypatch):
    monkeypatch.setenv("STUDY_EAGER", "1")
    not_available_but_right()


@pytest.mark.usefixtures("fresh")
def test_with_a_broken_compiler_autograd_takes_over(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", "false")
    monkeypatch.setenv("STUDY_CACHE", str(tmp_path))
    not_available_but_right()
    assert list(tmp_path.iterdir()) == []


@needs_kernel
@pytest.mark.usefixtures("fresh")
def test_a_damaged_kernel_in_the_cache_is_no_error(monkeypatch, tmp_path):
    monkeypatch.setenv("STUDY_CACHE", str(tmp_path))
    case = cases.stack(networks=2)
    case.objective.gradient(case.theta, case.weights)
    [path] = tmp_path.iterdir()
    fused._library.cache_clear()
    path.unlink()
    path.write_bytes(b"not a library")
    found = case.objective.gradient(case.theta, case.weights)[1][1]
    torch.testing.assert_close(
        found, torch.func.grad(cases.plain_value(case.objective, case.weights, 1))(case.theta[1])
    )


@needs_kernel
@pytest.mark.usefixtures("fresh")
def test_a_cache_that_cannot_be_written_is_replaced(monkeypatch):
    monkeypatch.setenv("STUDY_CACHE", "/proc")
    case = cases.stack(networks=2)
    assert fused.available(case.objective.network, "classification", torch.float64, "cpu")


def test_only_small_perceptrons_on_the_processor_are_compiled():
    assert fused.kernel(Mlp(200, 10, 1, 100, "tanh"), "classification", torch.zeros(1, 21_110)) is None
    assert fused.kernel(cases.plain_module(Mlp(3, 3, 1, 4, "tanh")), "classification", torch.zeros(1, 31)) is None
    assert fused.kernel(Mlp(3, 3, 1, 4, "tanh"), "classification", torch.zeros(1, 31, device="meta")) is None
