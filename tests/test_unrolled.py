"""Estimators that follow the training run: its derivative against runs with a weight changed a little, and tracin."""

import numpy as np
import pytest
import torch

from study.compute import estimators, fitting, sensitivities
from study.compute.fitting import Job
from study.errors import StudyError
from study.specs import Tracin, Unrolled
from tests import cases

ADAM = {"training.optimizer": "adam", "training.steps": 120, "training.learning_rate": 0.01}
SGD = {"training.optimizer": "sgd", "training.steps": 120, "training.learning_rate": 0.05}
RUNS = [
    ADAM,
    SGD,
    {**ADAM, "training.batch_size": 20},
    {**SGD, "training.batch_size": 17, "training.schedule": "cosine", "points.removal": "renormalise"},
    {**ADAM, "training.schedule": "step", "training.step_every": 50, "data.name": "diabetes", "model.width": 2},
]
ROWS = [3, 40, 77, 110]


def runs(fitted, settings, weights):
    """The target [S, T] at the end of runs with weights [S, n], by the very trainer of `warm` and `cold`."""
    start, steps, stage = fitted.theta, settings.steps, fitting.ONWARDS
    if settings.origin == "init":
        trial = fitted.problem.settings
        start, steps, stage = fitted.problem.network.initial(trial.seed), trial.training.steps, fitting.FROM_SCRATCH
    [ends] = fitting.first_order([Job(fitted.problem, start.expand(len(weights), -1), weights)], steps, stage)
    return fitted.target.values(ends)


@pytest.mark.parametrize("origin", ["base", "init"])
@pytest.mark.parametrize("changes", RUNS, ids=lambda changes: "-".join(map(str, changes.values())))
def test_it_is_the_central_difference_of_two_runs(tmp_path, changes, origin):
    fitted = cases.fitted(tmp_path, changes)
    settings = Unrolled.model_validate({"from": origin, "steps": 60})
    found = estimators.predict(fitted, settings)
    base = fitted.problem.weights
    towards = fitted.problem.removal_weights(torch.tensor(ROWS)) - base
    expected = (runs(fitted, settings, base + 1e-4 * towards) - runs(fitted, settings, base - 1e-4 * towards)) / 2e-4
    torch.testing.assert_close(found.delta[ROWS], expected, rtol=2e-5, atol=2e-8)
    assert expected.abs().max() > 1e-4
    assert found.evidence["difference_error"] < 1e-4
    assert found.evidence["steps"] == (60 if origin == "base" else 120)


@pytest.mark.parametrize("origin", ["base", "init"])
@pytest.mark.parametrize("changes", RUNS, ids=lambda changes: "-".join(map(str, changes.values())))
def test_adjoints_that_go_back_say_what_tangents_say(tmp_path, monkeypatch, changes, origin):
    fitted = cases.fitted(tmp_path, changes)
    settings = Unrolled.model_validate({"from": origin, "steps": 61})
    forward = estimators.predict(fitted, settings)
    monkeypatch.setattr("study.compute.estimators.unrolled.TANGENTS", 0)
    found = estimators.predict(fitted, settings)
    assert (forward.evidence["reverse"], found.evidence["reverse"]) == (0, 1)
    assert found.change is None
    torch.testing.assert_close(found.delta, forward.delta, rtol=1e-8, atol=1e-13)
    assert found.evidence["difference_error"] == pytest.approx(forward.evidence["difference_error"], rel=1e-3)
    monkeypatch.setattr("study.compute.estimators.unrolled.ADJOINTS", 2 * len(fitted.theta))
    monkeypatch.setattr("study.compute.adjoints.TOGETHER", 1)
    torch.testing.assert_close(estimators.predict(fitted, settings).delta, found.delta, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 9, 10])
def test_no_step_is_lost_between_checkpoints(tmp_path, monkeypatch, steps):
    fitted = cases.fitted(tmp_path, {**ADAM, "training.batch_size": 20})
    forward = estimators.predict(fitted, Unrolled(steps=steps)).delta
    monkeypatch.setattr("study.compute.estimators.unrolled.TANGENTS", 0)
    torch.testing.assert_close(estimators.predict(fitted, Unrolled(steps=steps)).delta, forward, rtol=1e-9, atol=1e-15)


def test_a_module_of_ones_own_is_followed_back_as_well(tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(
        "import torch\ndef build(inputs, outputs):\n"
        "    return torch.nn.Sequential(torch.nn.Linear(inputs, 3), torch.nn.Tanh(), torch.nn.Linear(3, outputs))\n"
    )
    fitted = cases.fitted(tmp_path, {**SGD, "model.kind": "own:build", "training.steps": 10})
    forward = estimators.predict(fitted, Unrolled(steps=7)).delta
    monkeypatch.setattr("study.compute.estimators.unrolled.TANGENTS", 0)
    torch.testing.assert_close(estimators.predict(fitted, Unrolled(steps=7)).delta, forward, rtol=1e-9, atol=1e-15)


def test_a_run_too_rough_for_a_derivative_is_said(tmp_path):
    """A learning rate far above 2 over the largest eigenvalue: neighbouring runs part at once."""
    rough = {**SGD, "training.learning_rate": 3.0, "training.steps": 200}
    found = estimators.predict(cases.fitted(tmp_path, rough), Unrolled.model_validate({"from": "init"}))
    assert found.evidence["difference_error"] > 0.01
    assert found.flags == ["rough_run"]
    smooth = cases.fitted(tmp_path, SGD)
    assert estimators.predict(smooth, Unrolled.model_validate({"from": "init"})).flags == []


@pytest.mark.parametrize("origin", ["base", "init"])
def test_small_weights_follow_it_with_slope_one_although_nothing_has_converged(tmp_path, origin):
    fitted = cases.fitted(tmp_path, {**ADAM, "training.steps": 60})
    settings = Unrolled.model_validate({"from": origin, "steps": 40})
    predicted = estimators.predict(fitted, settings).delta[:, 0].numpy()
    base = fitted.problem.weights
    towards = fitted.problem.removal_weights(torch.arange(base.shape[1])) - base
    ends = runs(fitted, settings, torch.cat([base, base + 0.02 * towards]))
    actual = (ends[1:, 0] - ends[0, 0]).numpy() / 0.02
    assert np.polyfit(predicted, actual, 1)[0] == pytest.approx(1, abs=0.01)
    assert np.corrcoef(predicted, actual)[0, 1] > 0.999


def test_whole_removals_of_a_short_run_follow_it_better_than_influence(tmp_path):
    kinds = [{"kind": "unrolled", "steps": 40}, {"kind": "exact"}]
    own = {**ADAM, "training.steps": 40, "protocols": [{"kind": "warm", "steps": 40}], "estimators": kinds}
    record = cases.record(tmp_path, own)
    actual = record.arrays["actual/warm"].ravel()
    unrolled, exact = (
        np.corrcoef(record.arrays[f"predicted/{k}"].ravel(), actual)[0, 1] for k in ("unrolled", "exact")
    )
    assert unrolled > 0.9
    assert unrolled > exact + 0.1


def test_products_and_matrix_carry_the_same_tangents(tmp_path):
    fitted = cases.fitted(tmp_path, ADAM)
    p = fitted.problem
    directions = p.removal_weights(torch.arange(60)) - p.weights
    many = sensitivities.forward(p, fitted.theta, directions, 20, fitting.ONWARDS).change
    few = sensitivities.forward(p, fitted.theta, directions[:5], 20, fitting.ONWARDS).change
    assert len(directions) >= len(fitted.theta) > 5
    torch.testing.assert_close(many[:5], few, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training.optimizer": "lbfgs"}, 'estimators.unrolled: optimizer = "lbfgs"'),
        ({"training.polish": True}, 'estimators.unrolled: from = "init"'),
    ],
)
def test_runs_that_cannot_be_unrolled_are_refused(tmp_path, changes, message):
    with pytest.raises(StudyError, match=message):
        cases.trials(tmp_path, {**ADAM, "estimators": [{"kind": "unrolled", "from": "init"}], **changes})


def test_the_spec_says_from(tmp_path):
    [trial] = cases.trials(tmp_path, {**ADAM, "estimators": [{"kind": "unrolled", "from": "init"}]})
    assert trial.settings.estimators[0].origin == "init"
    assert trial.settings.model_dump(mode="json")["estimators"][0]["from"] == "init"
    with pytest.raises(StudyError, match=r"estimators.unrolled.from = \"end\""):
        cases.trials(tmp_path, {**ADAM, "estimators": [{"kind": "unrolled", "from": "end"}]})
    with pytest.raises(StudyError, match="origin"):
        cases.trials(tmp_path, {**ADAM, "estimators": [{"kind": "unrolled", "origin": "init"}]})


def test_a_key_that_python_calls_otherwise_is_swept_by_its_own_name(tmp_path):
    adam = {"training.optimizer": "adam", "estimators": [{"kind": "unrolled"}]}
    found = cases.trials(tmp_path, adam, {"estimators.unrolled.from": ["base", "init"]})
    assert [trial.swept["estimators.unrolled.from"] for trial in found] == ["base", "init"]
    assert [trial.settings.estimators[0].origin for trial in found] == ["base", "init"]


class TestTracin:
    def test_one_plain_step_is_its_first_order_change(self, tmp_path):
        changes = {**SGD, "training.momentum": 0.0, "training.steps": 1, "training.learning_rate": 1e-3}
        fitted = cases.fitted(tmp_path, changes)
        found = estimators.predict(fitted, Tracin(checkpoints=1))
        start = fitted.problem.network.initial(fitted.problem.settings.seed)
        rows = fitted.problem.objective.row_gradients(start[None])[0]
        expected = 1e-3 * rows @ fitted.target.gradients(start).T / len(rows)
        torch.testing.assert_close(found.delta, expected, rtol=1e-10, atol=1e-16)
        unrolled = estimators.predict(fitted, Unrolled.model_validate({"from": "init"})).delta
        torch.testing.assert_close(found.delta, unrolled, rtol=5e-2, atol=1e-3 * unrolled.abs().max().item())
        assert found.evidence["end_distance"] < 1e-12

    def test_it_is_the_sum_over_checkpoints_of_a_plain_loop(self, tmp_path):
        changes = {**SGD, "training.steps": 30, "training.schedule": "cosine", "points.removal": "renormalise"}
        fitted = cases.fitted(tmp_path, changes)
        problem = fitted.problem
        theta = problem.network.initial(problem.settings.seed).clone()
        change = problem.removal_weights(torch.arange(problem.weights.shape[1])) - problem.weights
        velocity, expected = torch.zeros_like(theta), 0.0
        for step in range(30):
            if step % 10 == 0:
                rows = problem.objective.row_gradients(theta[None])[0]
                products = change @ rows @ fitted.target.gradients(theta).T
            rate = 0.05 * 0.5 * (1 + np.cos(np.pi * step / 30))
            velocity = 0.9 * velocity + problem.objective.gradient(theta[None], problem.weights)[1][0]
            theta = theta - rate * velocity
            expected = expected - rate / (1 - 0.9) * products
        found = estimators.predict(fitted, Tracin(checkpoints=3))
        torch.testing.assert_close(found.delta, expected, rtol=1e-9, atol=1e-14)
        assert found.evidence["checkpoints"] == 3

    def test_a_network_that_is_not_the_end_of_its_run_is_said(self, tmp_path):
        ends = [
            estimators.predict(cases.fitted(tmp_path, {**SGD, "training.polish": polish}), Tracin()).evidence
            for polish in (False, True)
        ]
        assert ends[0]["end_distance"] < 1e-9
        assert ends[1]["end_distance"] > 0.1

    def test_more_checkpoints_come_nearer_to_the_derivative_of_a_short_run(self, tmp_path):
        fitted = cases.fitted(
            tmp_path, {**SGD, "training.momentum": 0.0, "training.steps": 60, "training.learning_rate": 0.02}
        )
        unrolled = estimators.predict(fitted, Unrolled.model_validate({"from": "init"})).delta
        errors = [(estimators.predict(fitted, Tracin(checkpoints=k)).delta - unrolled).norm() for k in (1, 60)]
        assert errors[1] < errors[0]

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (ADAM, 'estimators.tracin: optimizer = "adam"'),
            ({**SGD, "training.steps": 5}, "checkpoints = 10: the run has only 5"),
        ],
    )
    def test_other_runs_are_refused(self, tmp_path, changes, message):
        with pytest.raises(StudyError, match=message):
            cases.trials(tmp_path, {**changes, "estimators": [{"kind": "tracin"}]})
