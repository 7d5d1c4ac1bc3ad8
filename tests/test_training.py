"""The stacked loop against torch.optim on a plain module, network by network, and its independence of stacking."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau, StepLR

from study.compute import batches, descent, fitting, fused, quasi_newton, training
from study.compute.mlp import Mlp
from study.compute.problems import problem
from study.specs import Training
from study.trials import family
from tests import cases

STEPS = 40
needs_kernel = pytest.mark.skipif(
    not fused.available(Mlp(3, 3, 1, 4, "tanh"), "classification", torch.float64, "cpu"), reason="no C++ compiler"
)


def stack_of(case, seeds=None, rates=None):
    networks = len(case.theta)
    rates = torch.logspace(-2.5, -1, networks, dtype=torch.float64)[:, None] if rates is None else rates
    return training.Stack(case.objective, case.weights, rates.to(case.theta.dtype), seeds or list(range(networks)))


def by_hand(case, stack, b, settings, stage=0):
    """Network b by a loop over torch.optim on an nn.Module."""
    objective, weights = case.objective, case.weights[b]
    x, y = (t[b] if t.dim() == 3 else t for t in (objective.x, objective.y))
    module = cases.plain_module(objective.network)
    nn.utils.vector_to_parameters(case.theta[b], module.parameters())
    decay, rate = objective.decay[b, 0].item(), stack.rates[b, 0].item()
    if settings.optimizer == "adam":
        optimizer = torch.optim.Adam(module.parameters(), lr=rate, weight_decay=decay)
    else:
        optimizer = torch.optim.SGD(module.parameters(), lr=rate, momentum=settings.momentum, weight_decay=decay)
    schedule = {
        "constant": lambda: None,
        "step": lambda: StepLR(optimizer, settings.step_every, settings.factor),
        "cosine": lambda: CosineAnnealingLR(optimizer, STEPS),
        "plateau": lambda: ReduceLROnPlateau(optimizer, factor=settings.factor, patience=settings.patience),
    }[settings.schedule]()
    n = x.shape[0]
    order = None if settings.batch_size == "full" else batches.rows(stack.seeds[b], n, settings.batch_size, stage)
    for _ in range(STEPS):
        rows = np.arange(n) if order is None else next(order)
        scale = 1.0 if order is None else n / settings.batch_size
        loss = scale * (weights[rows] * cases.plain_losses(module(x[rows]), y[rows], objective.task)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if schedule is not None:
            schedule.step(*([loss.detach()] if settings.schedule == "plateau" else []))
    return nn.utils.parameters_to_vector(module.parameters()).detach(), optimizer.param_groups[0]["lr"]


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("batch_size", ["full", 4])
@pytest.mark.parametrize("schedule", ["constant", "step", "cosine", "plateau"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_stack_is_torch_optim_network_by_network(optimizer, schedule, batch_size, compiled, monkeypatch):
    if not compiled:
        cases.eager(monkeypatch)
    settings = Training(
        optimizer=optimizer,
        momentum=0.8,
        schedule=schedule,
        patience=1,
        factor=0.5,
        step_every=7,
        batch_size=batch_size,
    )
    case = cases.stack()
    stack = stack_of(case, rates=torch.tensor([[0.01], [0.1], [1.5]]))
    found = training.train(stack, case.theta, settings, STEPS, stage=0)
    for b in range(len(case.theta)):
        expected, rate = by_hand(case, stack, b, settings)
        torch.testing.assert_close(found[b], expected, rtol=1e-10, atol=1e-10)
        assert schedule in ("constant", "plateau") or rate < stack.rates[b, 0]
    if schedule == "plateau":  # the last network's large steps make it wait in vain
        assert rate < stack.rates[b, 0]


@needs_kernel
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("own_rows", [False, True])
@pytest.mark.parametrize("schedule", ["constant", "step", "cosine", "plateau"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_steps_compiled_together_have_the_bits_of_the_loop(optimizer, schedule, own_rows, dtype, monkeypatch):
    settings = Training(optimizer=optimizer, momentum=0.8, schedule=schedule, patience=1, factor=0.5, step_every=7)
    case = cases.stack(depth=2, networks=21, own_rows=own_rows).to(dtype)  # blocks of 8 or 16, the last not whole
    centre = torch.linspace(-0.1, 0.1, case.theta.shape[1], dtype=dtype)
    for objective, fixed in ((case.objective, None), (replace(case.objective, centre=centre), torch.tensor([0, 3, 4]))):
        rates = stack_of(case).rates
        rates[2] = 3.0  # its large steps make a plateau wait in vain
        stack = training.Stack(objective, case.weights, rates, list(range(21)), fixed)
        monkeypatch.setattr(descent, "TOGETHER", 7)
        found = training.course(stack, case.theta, settings, [1, 12, STEPS], stage=0)
        with monkeypatch.context() as patch:
            patch.setattr(descent, "compiled", lambda objective, theta: None)
            expected = training.course(stack, case.theta, settings, [1, 12, STEPS], stage=0)
        assert torch.equal(found, expected)
        assert not torch.equal(found[0], found[2])
        assert fixed is None or torch.equal(found[2][:, fixed], case.theta[:, fixed])


def test_regression_with_rows_of_their_own_is_torch_optim():
    case, settings = cases.stack("regression", depth=3, activation="selu", own_rows=True), Training()
    stack = stack_of(case)
    found = training.train(stack, case.theta, settings, STEPS, stage=0)
    for b in range(len(case.theta)):
        torch.testing.assert_close(found[b], by_hand(case, stack, b, settings)[0], rtol=1e-10, atol=1e-10)


def test_the_specs_learning_rate_and_decay_reach_the_optimiser_in_float64(tmp_path):
    changes = {
        "training.optimizer": "adam",
        "training.steps": STEPS,
        "training.learning_rate": 0.1,
        "training.weight_decay": 0.7,
    }
    [trial] = cases.trials(tmp_path, changes)
    p = problem(trial)
    [found] = fitting.scratch([fitting.initial(p)])
    start = p.network.initial(0)[None]
    decay = torch.full_like(start, 0.7)
    case = cases.Stack(cases.replace(p.objective, decay=decay), start, p.weights, p.target)
    expected, _ = by_hand(case, stack_of(case, rates=torch.tensor([[0.1]], dtype=torch.float64)), 0, Training())
    torch.testing.assert_close(found[0], expected, rtol=1e-12, atol=1e-12)


def test_the_initial_scale_multiplies_where_a_network_starts(tmp_path):
    trials = cases.trials(tmp_path, {"training.optimizer": "adam"}, {"training.initial_scale": [1.0, 0.25], "seed": [0, 4]})
    for trial in trials:
        p = problem(trial)
        expected = p.settings.training.initial_scale * p.network.initial(p.settings.seed)
        job = fitting.initial(p)
        assert torch.equal(job.theta[0], expected)
        again = fitting.restarted(fitting.Job(p, torch.zeros_like(job.theta), p.weights))
        assert torch.equal(again.theta[0], expected)
        [other] = fitting.restarted(job, [9]).theta
        assert torch.equal(other, p.settings.training.initial_scale * p.network.initial(9))
    assert len({family(trial) for trial in trials}) == 1  # one stack
    together = fitting.scratch([fitting.initial(problem(trial)) for trial in trials])
    for trial, theta in zip(trials, together, strict=True):
        assert torch.equal(fitting.scratch([fitting.initial(problem(trial))])[0], theta)


def test_a_run_passes_where_shorter_ones_end():
    case = cases.stack(networks=5)
    settings = Training(optimizer="adam", batch_size=4, schedule="plateau", patience=2)
    stack = stack_of(case)
    found = training.course(stack, case.theta, settings, [0, 1, 9, 20], stage=1)
    for steps, passed in zip([0, 1, 9, 20], found, strict=True):
        assert torch.equal(passed, training.train(stack, case.theta, settings, steps, stage=1))
    assert torch.equal(found[0], case.theta)


def test_a_removed_row_keeps_its_place_in_a_batch():
    case, settings = cases.stack(networks=2), Training(optimizer="sgd", momentum=0.0, batch_size=4)
    case.weights[:] = 1 / 11
    case.weights[1, 6] = 0.0
    case.theta[1], case.objective.decay[:] = case.theta[0], 0.0
    stack = stack_of(case, seeds=[5, 5], rates=torch.ones(2, 1))
    steps = next(k for k, drawn in enumerate(batches.rows(5, 11, 4, stage=0), start=1) if 6 in drawn)
    before = training.train(stack, case.theta, settings, steps - 1, stage=0)
    after = training.train(stack, case.theta, settings, steps, stage=0)
    assert torch.equal(before[0], before[1])
    # both divide by 4: the steps differ by exactly a quarter of the removed row's gradient
    gradient = case.objective.row_gradients(before)[0, 6]
    torch.testing.assert_close(after[1] - after[0], gradient / 4)


def test_batches_are_permutations_cut_and_drawn_from_the_seed_alone():
    drawn = batches.rows(3, 10, 4, stage=0)
    flat = np.concatenate([next(drawn) for _ in range(5)])
    assert sorted(flat[:10]) == sorted(flat[10:]) == list(range(10))
    again = batches.rows(3, 10, 4, stage=0)
    assert (np.concatenate([next(again) for _ in range(5)]) == flat).all()
    for other in (batches.rows(4, 10, 4, stage=0), batches.rows(3, 10, 4, stage=1)):
        assert (np.concatenate([next(other) for _ in range(5)]) != flat).any()
    stacked = next(batches.stacked([3, 4, 3], 10, 4, 0, torch.device("cpu")))
    assert stacked[0].tolist() == stacked[2].tolist() == flat[:4].tolist()
    assert next(batches.rows(0, 3, 7, stage=0)).shape == (7,)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("own_rows", [True, False])
@pytest.mark.parametrize(
    "settings",
    [
        Training(schedule="plateau", patience=2),
        Training(optimizer="sgd", batch_size=3, learning_rate=0.1),
        Training(optimizer="adam", batch_size=5, schedule="cosine"),
        Training(optimizer="lbfgs"),
    ],
    ids=["adam", "sgd-batches", "adam-batches", "lbfgs"],
)
def test_bits_depend_on_neither_chunk_nor_order_nor_companions(settings, own_rows, compiled, monkeypatch):
    if not compiled:
        cases.eager(monkeypatch)
    case = cases.stack(depth=2, networks=37, own_rows=own_rows)
    stack = stack_of(case, seeds=[b % 5 for b in range(37)])
    whole = training.train(stack, case.theta, settings, 15, stage=0)
    assert torch.isfinite(whole).all()
    monkeypatch.setattr(training, "CHUNK_BYTES", 1)  # chunks of 16
    assert torch.equal(training.train(stack, case.theta, settings, 15, stage=0), whole)
    order = torch.randperm(37, generator=torch.Generator().manual_seed(0))
    for chosen in (order, order[:20], order[:1], order[5:7]):
        part = training.Stack(
            stack.objective.networks(chosen), stack.weights[chosen], stack.rates[chosen], [int(b) % 5 for b in chosen]
        )
        assert torch.equal(training.train(part, case.theta[chosen], settings, 15, stage=0), whole[chosen])


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_one_diverging_network_touches_no_other(optimizer, compiled, monkeypatch):
    if not compiled:
        cases.eager(monkeypatch)
    case = cases.stack("regression", activation="relu", networks=9)
    stack, settings = stack_of(case, rates=torch.full((9, 1), 0.01, dtype=torch.float64)), Training(optimizer=optimizer)
    calm = training.train(stack, case.theta, settings, 200, stage=0)
    stack.rates[4] = 1e6
    found = training.train(stack, case.theta, settings, 200, stage=0)
    others = torch.arange(9) != 4
    assert torch.isfinite(calm).all()
    assert torch.equal(found[others], calm[others])
    assert not (found[4].abs() < 1e5).all()


def test_lbfgs_reaches_the_minimum_of_ridge():
    case = cases.stack("regression", depth=0)
    found = training.train(stack_of(case), case.theta, Training(optimizer="lbfgs"), 200, stage=0)
    x = torch.cat([case.objective.x, torch.ones(11, 1, dtype=torch.float64)], dim=1)
    for b in range(len(found)):
        weighted = x.T * case.weights[b]
        expected = torch.linalg.solve(weighted @ x + torch.diag(case.objective.decay[b]), weighted @ case.objective.y)
        torch.testing.assert_close(found[b], expected[:, 0], rtol=1e-9, atol=1e-9)


def test_lbfgs_in_float32_stops_where_the_loss_falls_no_more(monkeypatch):
    case = cases.stack(depth=1, networks=9).to(torch.float32)
    steps, evaluated = 5000, []
    original = quasi_newton.line_search
    monkeypatch.setattr(quasi_newton, "line_search", lambda *given: evaluated.append(1) or original(*given))
    end = training.train(stack_of(case), case.theta, Training(optimizer="lbfgs"), steps, stage=0)
    assert 20 < len(evaluated) < steps // 2
    exact = case.objective.to(torch.float64, "cpu")
    _, gradient = exact.gradient(end.double(), case.weights.double())
    assert (gradient.norm(dim=1) < 1e-3).all()


def test_twins_of_two_dtypes_start_from_the_same_network_and_stay_near(tmp_path):
    changes = {"training.optimizer": "adam", "training.steps": 20}
    double, single = (
        cases.fitted(tmp_path, {**changes, "training.dtype": dtype}).theta for dtype in ("float64", "float32")
    )
    assert double.dtype == single.dtype == torch.float64
    assert torch.equal(single, single.float().double())
    assert not torch.equal(double, double.float().double())
    torch.testing.assert_close(single, double, rtol=1e-4, atol=1e-4)


def test_different_splits_and_penalties_train_together_as_they_do_alone(tmp_path):
    sweep = {"data.test_rows": [[0], [7], [149]], "training.weight_decay": [0.01, 0.2], "seed": [0, 1]}
    changes = {"training.optimizer": "adam", "training.steps": 30, "training.batch_size": 16}
    found = [problem(trial) for trial in cases.trials(tmp_path, changes, sweep)]
    together = fitting.scratch([fitting.initial(p) for p in found])
    assert len({tuple(theta[0].tolist()) for theta in together}) == 12
    for p, theta in zip(found, together, strict=True):
        assert torch.equal(fitting.scratch([fitting.initial(p)])[0], theta)


def test_networks_that_trials_share_are_trained_once(tmp_path, monkeypatch):
    """Two trials of one base network with one removed row in common, and a third of another seed."""
    changes = {"training.optimizer": "adam", "training.steps": 20, "training.batch_size": 16}
    one, other = (problem(trial) for trial in cases.trials(tmp_path, changes, {"seed": [0, 1]}))
    rows = ((one, [3, 8]), (one, [8, 11]), (other, [8]))
    jobs = []
    for p, removed in rows:
        weights = torch.cat([p.weights, p.removal_weights(torch.tensor(removed))])
        start = p.network.initial(p.settings.seed)
        jobs.append(fitting.Job(p, start.expand(len(weights), -1), weights))
    alone = [fitting.first_order([job], 20, fitting.ONWARDS)[0] for job in jobs]
    sizes, course = [], training.course

    def counted(stack, *arguments):
        sizes.append(len(stack.seeds))
        return course(stack, *arguments)

    monkeypatch.setattr(training, "course", counted)
    together = fitting.first_order(jobs, 20, fitting.ONWARDS)
    assert sizes == [6]  # null, 3, 8 and 11 of the first seed, null and 8 of the second
    for own, shared in zip(alone, together, strict=True):
        assert torch.equal(own, shared)
