"""The objective against its definition written in plain torch, finite differences and dense autograd."""

import pytest
import torch
from torch.func import hessian, jacrev

from study.compute import problems
from tests import cases

TASKS = ["classification", "regression"]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("depth", [0, 3])
def test_value_is_its_definition(task, depth):
    case = cases.stack(task, depth)
    values = case.objective.value(case.theta, case.weights)
    for b, theta in enumerate(case.theta):
        torch.testing.assert_close(values[b], cases.plain_value(case.objective, case.weights, b)(theta))


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_gradient_is_a_finite_difference(task, depth, compiled, monkeypatch):
    if not compiled:
        cases.eager(monkeypatch)
    case = cases.stack(task, depth)
    loss, gradient = case.objective.gradient(case.theta, case.weights)
    torch.testing.assert_close(loss, case.objective.data_loss(case.theta, case.weights))
    for b, theta in enumerate(case.theta):
        expected = cases.differences(cases.plain_value(case.objective, case.weights, b), theta)
        torch.testing.assert_close(gradient[b], expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("activation", cases.ACTIVATIONS)
@pytest.mark.parametrize("compiled", [True, False])
def test_hessian_is_dense_autograd(task, depth, activation, compiled, monkeypatch):
    if not compiled:
        cases.eager(monkeypatch)
    case = cases.stack(task, depth, width=3, activation=activation, networks=2)
    found = case.objective.hessian(case.theta, case.weights)
    for b, theta in enumerate(case.theta):
        expected = hessian(cases.plain_value(case.objective, case.weights, b))(theta)
        torch.testing.assert_close(found[b], expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("compiled", [True, False])
def test_gauss_newton_is_jacobian_curvature_jacobian(task, compiled, monkeypatch):
    if not compiled:
        cases.eager(monkeypatch)
    case = cases.stack(task, depth=2, activation="gelu")
    found = case.objective.hessian(case.theta, case.weights, gauss_newton=True)
    for b, theta in enumerate(case.theta):
        outputs = cases.plain_outputs(case.objective.network, case.objective.x)
        jacobian = jacrev(outputs)(theta)
        expected = torch.diag(case.objective.decay[b])
        for w, j, f, y in zip(case.weights[b], jacobian, outputs(theta), case.objective.y, strict=True):
            curvature = hessian(lambda f, y=y: cases.plain_losses(f[None], y[None], task)[0])(f)
            expected = expected + w * j.T @ curvature @ j
        torch.testing.assert_close(found[b], expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("gauss_newton", [False, True])
@pytest.mark.parametrize("own_rows", [False, True])
def test_products_are_those_with_the_matrix_in_pieces_of_any_size(task, depth, gauss_newton, own_rows, monkeypatch):
    case = cases.stack(task, depth, width=4, activation="selu", own_rows=own_rows)
    generator = torch.Generator().manual_seed(3)
    directions = torch.randn(len(case.theta), 7, case.theta.shape[1], dtype=torch.float64, generator=generator)
    expected = directions @ case.objective.hessian(case.theta, case.weights, gauss_newton)
    for piece in (1, 3 * len(case.theta) * case.objective.rows, 10**6):
        monkeypatch.setattr("study.compute.objective.PIECE", piece)
        product = case.objective.hessian_products(case.theta, case.weights, gauss_newton)
        torch.testing.assert_close(product(directions), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("depth", [0, 2])
def test_row_gradients_are_those_of_the_rows_and_sum_to_the_gradient(task, depth):
    case = cases.stack(task, depth, activation="softplus")
    rows = case.objective.row_gradients(case.theta)
    outputs = cases.plain_outputs(case.objective.network, case.objective.x)
    expected = jacrev(lambda theta: cases.plain_losses(outputs(theta), case.objective.y, task))(case.theta[1])
    torch.testing.assert_close(rows[1], expected)
    total = torch.einsum("bn,bnp->bp", case.weights, rows) + case.objective.decay * case.theta
    torch.testing.assert_close(case.objective.gradient(case.theta, case.weights)[1], total)


@pytest.mark.parametrize("compiled", [True, False])
def test_networks_with_rows_of_their_own_equal_networks_one_by_one(compiled, monkeypatch):
    if not compiled:
        cases.eager(monkeypatch)
    case = cases.stack(depth=2, own_rows=True)
    objective = case.objective
    for b in range(len(case.theta)):
        one = slice(b, b + 1)
        alone = problems.Objective(
            objective.network, objective.task, objective.x[b], objective.y[b], objective.decay[one]
        )
        arguments = (case.theta[one], case.weights[one])
        torch.testing.assert_close(objective.value(case.theta, case.weights)[one], alone.value(*arguments))
        torch.testing.assert_close(objective.gradient(case.theta, case.weights)[1][one], alone.gradient(*arguments)[1])
        torch.testing.assert_close(objective.hessian(case.theta, case.weights)[one], alone.hessian(*arguments))
        torch.testing.assert_close(objective.row_gradients(case.theta)[one], alone.row_gradients(case.theta[one]))


@pytest.mark.parametrize("own_rows", [False, True])
def test_a_batch_is_the_chosen_rows_of_each_network(own_rows):
    case = cases.stack(own_rows=own_rows)
    rows = torch.tensor([[0, 5], [7, 1], [3, 3]])
    losses = case.objective.row_losses(case.theta)
    torch.testing.assert_close(case.objective.batch(rows).row_losses(case.theta), losses.gather(1, rows))


@pytest.mark.parametrize(
    ("task", "kind"), [("classification", "loss"), ("classification", "margin"), ("regression", "loss")]
)
def test_target_values_and_derivatives(task, kind):
    case = cases.stack(task, depth=2, activation="selu", kind=kind)
    target, theta = case.target, case.theta[1]
    outputs = cases.plain_outputs(target.network, target.x)

    def quantity(theta):
        if kind == "loss":
            return cases.plain_losses(outputs(theta), target.y, task)
        chosen = (torch.softmax(outputs(theta), dim=1) * target.y).sum(dim=1)
        return torch.log(chosen) - torch.log(1 - chosen)

    torch.testing.assert_close(target.values(case.theta)[1], quantity(theta))
    torch.testing.assert_close(target.loss_values(case.theta)[1], cases.plain_losses(outputs(theta), target.y, task))
    expected = cases.differences(quantity, theta)
    torch.testing.assert_close(target.gradients(theta), expected, rtol=1e-6, atol=1e-8)
    direction = case.theta.flip(0)
    torch.testing.assert_close(target.along(case.theta, direction)[1], expected @ direction[1], rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(target.rows(torch.tensor([3])).values(case.theta), target.values(case.theta)[:, 3:4])


def test_the_penalty_of_a_problem_is_the_specs_weight_decay_to_the_last_bit(tmp_path):
    [trial] = cases.trials(tmp_path, {"training.weight_decay": 0.1})
    assert (problems.problem(trial).objective.decay == torch.tensor(0.1, dtype=torch.float64)).all()


def test_biases_may_be_left_free(tmp_path):
    [trial] = cases.trials(tmp_path, {"training.decay_biases": False, "training.weight_decay": 0.3})
    objective = problems.problem(trial).objective
    module = cases.plain_module(objective.network)
    theta = torch.cat([p.detach().flatten() for p in module.parameters()])
    weights = sum(float(p.detach().square().sum()) for name, p in module.named_parameters() if name.endswith("weight"))
    assert objective.penalty(theta[None]).item() == pytest.approx(0.15 * weights)
