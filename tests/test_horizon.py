"""Further training looked at after several numbers of steps, and of some parameters only."""

import numpy as np
import pytest
import torch

from study.compute import batches, protocols, training
from study.compute.trial import run_unit
from study.errors import StudyError
from study.specs import Horizon, Warm
from study.trials import check, load
from tests import cases
from tests.test_protocols import job_of

ADAM = {
    "training.optimizer": "adam",
    "training.steps": 30,
    "training.learning_rate": 0.02,
    "points.train": "random",
    "points.train_count": 4,
}
RUNS = [
    {},
    {"training.batch_size": 20, "training.dtype": "float32"},
    {"training.schedule": "plateau", "training.patience": 2, "training.factor": 0.5},
    {"training.schedule": "step", "training.step_every": 4},
    {"training.optimizer": "sgd", "training.batch_size": 20},
]
IDS = ["adam", "batches", "plateau", "step", "sgd"]


def counted(monkeypatch):
    """How many steps each run of a stack takes."""
    lengths, course = [], training.course

    def counting(stack, theta, spec, marks, stage):
        lengths.append(marks[-1])
        return course(stack, theta, spec, marks, stage)

    monkeypatch.setattr(training, "course", counting)
    return lengths


@pytest.mark.parametrize("changes", RUNS, ids=IDS)
def test_trials_that_differ_in_the_horizon_share_one_run_and_each_is_as_if_alone(tmp_path, monkeypatch, changes):
    own = {**ADAM, **changes, "protocols": [{"kind": "horizon", "name": "further"}]}
    trials = cases.trials(tmp_path, own, {"protocols.further.steps": [10, 1, 25, 7], "seed": [0, 1]})
    lengths = counted(monkeypatch)
    together = run_unit(trials)
    assert lengths == [30, 25]  # the bases of both seeds, and one run from them
    ends = set()
    for trial, record in zip(trials, together, strict=True):
        steps, [alone] = trial.settings.protocols[0].steps, run_unit([trial])
        single = {"kind": "warm", "name": "further", "steps": steps}
        warm = cases.record(tmp_path, {**ADAM, **changes, "seed": trial.settings.seed, "protocols": [single]})
        for name, values in record.arrays.items():
            np.testing.assert_array_equal(values, alone.arrays[name], err_msg=name)
            np.testing.assert_array_equal(values, warm.arrays[name], err_msg=name)
        assert set(record.arrays["certificate/further/iterations"]) == {steps}
        ends.add(record.arrays["actual_raw/further"].tobytes())
    assert len(ends) == len(trials) == 8


def test_a_network_is_not_trained_further_than_its_own_trials_ask(tmp_path, monkeypatch):
    own = {**ADAM, "protocols": [{"kind": "horizon"}, {"kind": "horizon", "name": "far", "steps": 40}]}
    near = cases.trials(tmp_path, own, {"protocols": [["horizon"]], "protocols.horizon.steps": [3, 5], "seed": [0]})
    far = cases.trials(tmp_path, own, {"protocols": [["far"]], "seed": [1]})
    lengths = counted(monkeypatch)
    run_unit([*near, *far])
    assert lengths == [30, 5, 40]


def test_two_horizons_of_one_trial_share_its_run(tmp_path, monkeypatch):
    own = {**ADAM, "protocols": [{"kind": "horizon", "name": f"after{steps}", "steps": steps} for steps in (4, 9)]}
    lengths = counted(monkeypatch)
    arrays = cases.record(tmp_path, own).arrays
    assert lengths == [30, 9]
    assert not np.array_equal(arrays["actual/after4"], arrays["actual/after9"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training.schedule": "cosine"}, 'protocols.horizon: schedule = "cosine"'),
        ({"training.optimizer": "lbfgs"}, 'protocols.horizon: optimizer = "lbfgs"'),
        ({"protocols": [{"kind": "horizon", "steps": 0}]}, "at least 1"),
        ({"protocols": [{"kind": "cold", "parameters": "last_layer"}]}, "unknown key"),
    ],
)
def test_a_run_without_first_steps_is_refused(tmp_path, changes, message):
    with pytest.raises(StudyError, match=message):
        cases.trials(tmp_path, {**ADAM, "protocols": [{"kind": "horizon"}], **changes})


@pytest.mark.parametrize("kind", [Warm, Horizon])
@pytest.mark.parametrize("parameters", ["last_layer", ["layer1.bias", "output.weight"]])
@pytest.mark.parametrize("changes", RUNS, ids=IDS)
def test_what_is_not_retrained_stays_to_the_last_bit(tmp_path, changes, parameters, kind):
    fitted = cases.fitted(tmp_path, {**ADAM, **changes})
    [end] = protocols.retrain([job_of(fitted, [3, 50])], kind(steps=12, parameters=parameters))
    free = np.zeros(len(fitted.theta), dtype=bool)
    free[fitted.problem.network.positions(parameters)] = True
    assert torch.equal(end.theta[:, ~free], fitted.theta[~free].expand(3, -1))
    assert (end.theta[:, free] != fitted.theta[free]).all()


@pytest.mark.parametrize("batch_size", ["full", 20])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_only_the_last_layer_is_retrained_as_torch_optim_does(tmp_path, optimizer, batch_size):
    changes = {**ADAM, "training.optimizer": optimizer, "training.batch_size": batch_size, "training.weight_decay": 0.3}
    fitted = cases.fitted(tmp_path, changes)
    [end] = protocols.retrain([job_of(fitted, [3])], Warm(steps=12, parameters="last_layer"))
    module, objective = cases.plain_module(fitted.problem.network), fitted.problem.objective
    torch.nn.utils.vector_to_parameters(fitted.theta, module.parameters())
    last, kept = list(module[-1].parameters()), torch.ones(147).double()
    own = {"lr": 0.02, "weight_decay": 0.3}
    stepper = torch.optim.Adam(last, **own) if optimizer == "adam" else torch.optim.SGD(last, momentum=0.9, **own)
    order, kept[3] = batches.rows(0, 147, 20, stage=1), 0
    for _ in range(12):
        rows = np.arange(147) if batch_size == "full" else next(order)
        stepper.zero_grad()
        losses = cases.plain_losses(module(objective.x[rows]), objective.y[rows], objective.task)
        (kept[rows] * losses).sum().div(len(rows)).backward()
        stepper.step()
    expected = torch.nn.utils.parameters_to_vector(module.parameters()).detach()
    torch.testing.assert_close(end.theta[1], expected, rtol=1e-10, atol=1e-10)


def test_parameters_are_checked_as_those_of_estimators_are(tmp_path):
    warm = {"kind": "warm", "steps": 5}
    refused = {**ADAM, "protocols": [{**warm, "parameters": ["layer2.weight"]}]}
    cases.trials(tmp_path, refused)
    with pytest.raises(StudyError, match=r'protocols\.warm\.parameters: the model has no parameter "layer2\.weight"'):
        check(load(tmp_path / "case.toml"))
    with pytest.raises(StudyError, match='optimizer = "lbfgs" moves all'):
        cases.trials(tmp_path, {**ADAM, "training.optimizer": "lbfgs", "protocols": [{**warm, "parameters": "last_layer"}]})
