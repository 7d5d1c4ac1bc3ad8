"""Whole trials, from a spec to a record: signs, flags, failures."""

from collections import Counter

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from study.compute import certificates, fitting, protocols
from study.compute import trial as computing
from study.compute.curvature import Spectrum
from study.compute.problems import problem
from study.compute.trial import run_unit
from study.records import Failure, Record, from_bytes, to_bytes
from tests import cases

FEW = {"points.train": "random", "points.train_count": 4}


@pytest.mark.parametrize("model", ["linear", "mlp"])
def test_a_mislabelled_row_is_predicted_and_measured_as_harmful(tmp_path, model):
    generator = np.random.default_rng(1)
    y = np.arange(40) % 2
    x = np.column_stack([2.0 * (2 * y - 1), np.zeros(40)]) + 0.7 * generator.normal(size=(40, 2))
    x[5], y[5] = [-2.0, 0.1], 1  # in the middle of class 0
    x[0], y[0] = [-2.1, 0.0], 0  # the clean test point beside it
    changes = {
        **cases.write_csv(tmp_path, x, y),
        "data.test_rows": [0],
        "model.kind": model,
        "training.weight_decay": 0.02,
    }
    arrays = cases.record(tmp_path, changes).arrays
    row = arrays["train_rows"].tolist().index(5)
    for kind in ("predicted/exact", "actual/stationary"):
        assert arrays[kind][row, 0] < 0
        assert arrays[kind][:, 0].argmin() == row
    # the record's sign is that of a refit: without the row the test point fits better
    [without] = cases.trials(
        tmp_path, {**changes, **cases.write_csv(tmp_path, np.delete(x, 5, axis=0), np.delete(y, 5))}
    )
    [other] = run_unit([without])
    assert other.arrays["test_losses"][0] < arrays["test_losses"][0]


def test_shuffled_rows_do_not_correlate(tmp_path):
    arrays = cases.record(tmp_path, {"model.kind": "linear", "data.test_rows": [83]}).arrays
    predicted, actual = arrays["predicted/exact"][:, 0], arrays["actual/stationary"][:, 0]
    assert spearmanr(predicted, actual).statistic > 0.999
    generator = np.random.default_rng(0)
    shuffled = [spearmanr(generator.permutation(predicted), actual).statistic for _ in range(200)]
    assert abs(np.mean(shuffled)) < 0.02
    assert np.max(np.abs(shuffled)) < 0.4


def test_rows_are_numbered_as_loaded(tmp_path):
    arrays = cases.record(tmp_path, {**FEW, "data.test_rows": [120, 3]}).arrays
    assert arrays["test_rows"].tolist() == [120, 3]
    assert arrays["train_rows"].tolist() == [row for row in range(150) if row not in (3, 120)]
    assert set(arrays["removed_rows"]) <= set(arrays["train_rows"])
    assert len(arrays["train_losses"]) == 148


def test_collapse_is_flagged(tmp_path):
    changes = {**FEW, "model.depth": 6, "training.weight_decay": 1.0, "training.polish": True}
    record = cases.record(tmp_path, changes)
    assert "collapsed" in record.header["flags"]
    assert record.header["base"]["parameter_norm"] < 0.1
    assert all("collapsed" in reasons for reasons in record.arrays["flag/stationary"])
    assert cases.record(tmp_path, {**changes, "model.depth": 1, "training.weight_decay": 0.01}).header["flags"] == []


DIVERGING = {
    **FEW,
    "data.name": "diabetes",
    "model.activation": "relu",
    "training.optimizer": "sgd",
    "training.batch_size": 64,
    "protocols": [{"kind": "warm", "steps": 5}, {"kind": "cold"}, {"kind": "stationary"}],
}


def test_divergence_is_flagged_and_kept_as_nan_and_touches_no_other(tmp_path):
    changes = {**DIVERGING, "training.steps": 300}
    wild, calm = run_unit(cases.trials(tmp_path, changes, {"training.learning_rate": [1e6, 1e-3]}))
    assert isinstance(wild, Record), wild
    assert wild.header["flags"] == ["diverged"]
    assert wild.header["base"]["train_loss"] is None or np.isnan(wild.header["base"]["train_loss"])
    for protocol in ("warm", "cold", "stationary"):
        assert all(reasons.startswith("diverged") for reasons in wild.arrays[f"flag/{protocol}"])
        assert np.isnan(wild.arrays[f"actual/{protocol}"]).all()
        assert not wild.arrays[f"certificate/{protocol}/certified"].any()
    assert np.isnan(wild.arrays["predicted/exact"]).all()
    [alone] = run_unit(cases.trials(tmp_path, {**changes, "training.learning_rate": 1e-3}))
    assert all(np.array_equal(values, calm.arrays[name]) for name, values in alone.arrays.items())
    assert calm.header["flags"] == []
    read = from_bytes(to_bytes(wild))
    assert all(
        np.array_equal(values, wild.arrays[name], equal_nan=values.dtype.kind == "f")
        for name, values in read.arrays.items()
    )


@pytest.mark.parametrize("steps", [4, 6, 8, 12, 16, 24, 32])
def test_caught_on_its_way_out_a_network_is_no_exception_either(tmp_path, steps):
    """Parameters of 1e10 to 1e300 are finite, their losses and curvatures need not be."""
    for name, model in (("diabetes", "relu"), ("diabetes", "linear"), ("iris", "relu")):
        shape = {"model.kind": "linear"} if model == "linear" else {"model.activation": model}
        changes = {**DIVERGING, "data.name": name, **shape, "training.steps": steps, "training.learning_rate": 1e6}
        [outcome] = run_unit(cases.trials(tmp_path, changes))
        assert isinstance(outcome, Record), outcome.traceback


FACTORY = """
from torch import nn

def fragile(inputs, outputs, width):
    if width == 3:
        raise RuntimeError("no network of width 3")
    return nn.Linear(inputs, outputs)
"""


def test_an_exception_is_the_failure_of_its_trial_alone(tmp_path):
    (tmp_path / "case_fragile.py").write_text(FACTORY)
    trials = cases.trials(tmp_path, {**FEW, "model.kind": "case_fragile:fragile"}, {"model.width": [2, 3, 4]})
    outcomes = run_unit(trials)
    assert [type(outcome) for outcome in outcomes] == [Record, Failure, Record]
    assert [outcome.key for outcome in outcomes] == [trial.key for trial in trials]
    assert outcomes[1].error == "RuntimeError: no network of width 3"
    assert "fragile" in outcomes[1].traceback
    assert outcomes[1].settings["model"]["width"] == 3
    assert Failure.from_text(outcomes[1].to_text()) == outcomes[1]


def test_regression_end_to_end(tmp_path):
    record = cases.record(
        tmp_path,
        {
            "data.name": "diabetes",
            "training.weight_decay": 0.05,
            "training.polish": True,
            "points.train": "highest_loss",
            "points.train_count": 20,
        },
    )
    arrays = record.arrays
    assert record.header["flags"] == []
    assert record.header["base"]["train_accuracy"] is None
    certified = arrays["certificate/stationary/certified"][1:]
    assert certified.mean() > 0.9
    predicted = arrays["predicted/exact"][np.searchsorted(arrays["train_rows"], arrays["removed_rows"])]
    assert all(
        spearmanr(predicted[certified, t], arrays["actual/stationary"][certified, t]).statistic > 0.8 for t in range(3)
    )
    losses = np.sort(arrays["train_losses"])[::-1]
    np.testing.assert_array_equal(
        np.sort(arrays["train_losses"][np.searchsorted(arrays["train_rows"], arrays["removed_rows"])])[::-1],
        losses[:20],
    )


def test_margin_end_to_end(tmp_path):
    changes = {
        "target": "margin",
        "training.weight_decay": 0.05,
        "training.polish": True,
        **FEW,
        "points.train_count": 20,
    }
    record = cases.record(tmp_path, changes)
    p = problem(cases.trials(tmp_path, changes)[0])
    outputs = cases.plain_outputs(p.network, p.target.x)(torch.from_numpy(record.arrays["base_parameters"].copy()))
    chosen = (torch.softmax(outputs, dim=1) * p.target.y).sum(dim=1)
    np.testing.assert_allclose(record.arrays["base_test"], torch.log(chosen / (1 - chosen)), rtol=1e-9)
    np.testing.assert_allclose(record.arrays["test_losses"], -torch.log(chosen), rtol=1e-9)
    predicted = record.arrays["predicted/exact"][
        np.searchsorted(record.arrays["train_rows"], record.arrays["removed_rows"])
    ]
    assert all(spearmanr(predicted[:, t], record.arrays["actual/stationary"][:, t]).statistic > 0.9 for t in range(3))
    # a helpful row lowers the loss and raises the margin: the two targets have opposite signs
    loss = cases.record(tmp_path, {**changes, "target": "loss"}).arrays["predicted/exact"]
    assert all(spearmanr(loss[:, t], record.arrays["predicted/exact"][:, t]).statistic < -0.9 for t in range(3))


def test_a_record_says_what_it_is(tmp_path):
    [trial] = cases.trials(tmp_path, {**FEW, "estimators": [{"kind": "exact", "damping": 0.1}, {"kind": "ggn"}]})
    [record] = run_unit([trial])
    header, arrays = record.header, record.arrays
    assert header["key"] == trial.key
    assert header["spec"] == trial.settings.model_dump(mode="json")
    assert header["estimators"]["exact"]["damping"] == 0.1
    assert set(header["provenance"]) >= {"versions", "commit", "machine", "dtype", "device", "compiled", "seconds"}
    correct = header["base"]["train_accuracy"] * 147
    assert correct == pytest.approx(round(correct))
    p = problem(trial)
    theta = torch.from_numpy(arrays["base_parameters"].copy())
    outputs = cases.plain_outputs(p.network, p.objective.x)(theta)
    assert correct == pytest.approx((outputs.argmax(dim=1).numpy() == p.split.y_train).sum())
    losses = cases.plain_losses(outputs, p.objective.y, "classification")
    np.testing.assert_allclose(arrays["train_losses"], losses, rtol=1e-9, atol=1e-12)
    assert header["base"]["train_loss"] == pytest.approx(losses.mean().item())
    assert header["base"]["objective"] == pytest.approx(losses.mean().item() + 0.005 * theta.square().sum().item())
    values = np.linalg.eigvalsh(torch.func.hessian(cases.plain_value(p.objective, p.weights))(theta).numpy())
    assert header["base"]["smallest_eigenvalue"] == pytest.approx(values[0], abs=1e-10)
    assert header["base"]["largest_eigenvalue"] == pytest.approx(values[-1])


def _smallest() -> float:
    return (torch.full((2,), 1e-300, dtype=torch.float64) * 1e-15).sum().item()


@pytest.mark.parametrize("raises", [False, True])
def test_subnormal_numbers_are_zero_while_a_trial_is_computed_and_only_then(tmp_path, monkeypatch, raises):
    seen = []

    def spying(problems):
        seen.append(_smallest())
        if raises:
            raise RuntimeError("no")
        return bases(problems)

    bases = computing._bases
    monkeypatch.setattr(computing, "_bases", spying)
    outcome = run_unit(cases.trials(tmp_path, FEW))
    assert isinstance(outcome[0], Failure) == raises
    assert seen[0] == 0 < _smallest()


def test_a_path_of_dampings_trains_factors_and_retrains_once_and_each_trial_is_as_if_alone(tmp_path, monkeypatch):
    sweep = {"estimators.exact.damping": [0.0, 1e-3, 1e-1], "seed": [0, 1]}
    trials = cases.trials(tmp_path, {"training.polish": True, "protocols": [{"kind": "stationary"}]}, sweep)
    asked = Counter()

    def counted(owner, name):
        function = getattr(owner, name)

        def counting(*arguments, **named):
            asked[name] += len(arguments[0]) if name in ("retrain", "scratch") else 1
            return function(*arguments, **named)

        monkeypatch.setattr(owner, name, counting)

    counted(protocols, "retrain")
    counted(certificates, "certify")
    counted(fitting, "scratch")
    counted(Spectrum, "of")
    together = run_unit(trials)
    # each base is certified once more, for its own record; `stationary` decomposes each null's Hessian as well
    assert asked == {"scratch": 2, "of": 2 + 2, "retrain": 2, "certify": 6 + 2}
    alone = run_unit(trials[3:4])[0]
    assert sorted(alone.arrays) == sorted(together[3].arrays)
    for name, values in alone.arrays.items():
        np.testing.assert_array_equal(values, together[3].arrays[name], err_msg=name)
    residuals = {record.header["estimators"]["exact"]["damping"] for record in together}
    assert residuals == {0.0, 1e-3, 1e-1}


@pytest.mark.parametrize(
    "changes",
    [
        {"points.removal": ["zero_weight", "renormalise"]}, {"points.test": ["all", "highest_loss"]},
        {"target": ["loss", "margin"]}, {"protocols.stationary.tolerance": [1e-9, 1e-3]},
        {"points.train": ["highest_loss", "lowest_influence"]},
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_trials_that_ask_something_else_share_nothing_that_this_changes(tmp_path, changes):
    own = {"training.polish": True, "points.train": "random", "points.train_count": 5,
           "protocols": [{"kind": "stationary"}]}  # fmt: skip
    trials = cases.trials(tmp_path, own, changes)
    together = run_unit(trials)
    alone = [run_unit([trial])[0] for trial in trials]
    assert len(trials) == 2
    for one, other in zip(alone, together, strict=True):
        for name, values in one.arrays.items():
            np.testing.assert_array_equal(values, other.arrays[name], err_msg=name)
    assert any(
        not np.array_equal(together[0].arrays[name], together[1].arrays[name]) for name in together[0].arrays
    )  # the question matters
