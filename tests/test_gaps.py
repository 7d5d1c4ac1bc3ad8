"""Gaps between the nodes of a path: where they must vanish, against plain torch, and as a trial records them."""

import numpy as np
import pytest
import torch

from study.compute import gaps, protocols
from study.compute.estimators.prediction import Prediction
from study.compute.fitting import Job
from study.compute.protocols.retrained import Retrained
from study.compute.trial import run_unit
from study.specs import Pbrf, Stationary, Warm
from tests import cases

LINEAR = {"model.kind": "linear", "training.polish": True, "training.weight_decay": 0.02}
FEW = {"points.train": "random", "points.train_count": 12}
UNCONVERGED = {
    "training.optimizer": "adam", "training.steps": 40, "training.learning_rate": 0.05, "training.weight_decay": 0.02,
}  # fmt: skip
QUANTITIES = ("parameters", "outputs", "loss")


def path(*nodes):
    return {"paths": {"one": list(nodes)}}


def steps(record, name="one"):
    """Largest size of each gap in each quantity, [G] by quantity."""
    return {q: np.abs(record.arrays[f"gap/{name}/{q}"]).reshape(len(record.header["paths"][name]) - 1, -1).max(axis=1)
            for q in QUANTITIES}  # fmt: skip


def test_on_softmax_regression_only_linearisation_is_left(tmp_path):
    """Cold and warm, both run to stationarity, certified, proximal without damping and the Bregman response are one."""
    kinds = [{"kind": "cold"}, {"kind": "warm", "steps": 1000}, {"kind": "stationary"}, {"kind": "proximal", "damping": 0.0},
             {"kind": "pbrf"}, {"kind": "linearised_pbrf"}]  # fmt: skip
    nodes = path("cold", "warm", "stationary", "proximal", "pbrf", "linearised_pbrf", "ggn")
    asked = {"protocols": kinds, "estimators": [{"kind": "ggn"}], **nodes, "training.optimizer": "sgd",
             "training.momentum": 0.9, "training.learning_rate": 0.5, "training.steps": 1000}  # fmt: skip
    record = cases.record(tmp_path, {**LINEAR, **FEW, **asked})
    for quantity, sizes in steps(record).items():
        effect = record.arrays[f"effect/one/{quantity}"]
        *same, linearisation, solver = sizes
        assert max(same) < 1e-8, quantity
        assert linearisation > 1e-3 * effect.max(), quantity
        assert solver < 1e-12, quantity


def test_on_ridge_a_newton_step_has_no_gap_and_influence_lacks_the_leverage(tmp_path):
    changes = {**LINEAR, **FEW, "data.name": "diabetes", "data.test_rows": [0, 5]}
    asked = {"estimators": [{"kind": "exact"}, {"kind": "newton_step"}], "paths": {
        "step": ["stationary", "newton_step"], "influence": ["stationary", "exact"]}}  # fmt: skip
    record, fitted = cases.record(tmp_path, {**changes, **asked}), cases.fitted(tmp_path, changes)
    assert steps(record, "step")["parameters"] < 1e-10
    rows = np.searchsorted(record.arrays["train_rows"], record.arrays["removed_rows"])
    x, _ = cases.rows_of(fitted.problem)
    leverage = np.einsum("ij,jk,ik->i", x, np.linalg.inv(fitted.hessian.numpy()), x)[rows] / len(x)
    expected = leverage * record.arrays["effect/influence/parameters"]
    np.testing.assert_allclose(record.arrays["gap/influence/parameters"][0], expected, rtol=1e-6, atol=1e-10)
    # a smaller step along the same line: signed against the way that influence goes
    signed = record.arrays["gap/influence/parameters_signed"][0]
    np.testing.assert_allclose(signed, -expected, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"model.depth": 2}, "loss"),
        ({"model.depth": 2}, "margin"),
        ({"data.name": "diabetes", "data.test_rows": [0, 5, 200]}, "loss"),  # a regression has no margin
    ],
)
def test_gaps_are_their_definition_in_plain_torch(tmp_path, changes, kind):
    asked = {"estimators": [{"kind": "ggn", "damping": 0.1}, {"kind": "exact"}], "target": kind,
             "protocols": [{"kind": "warm", "steps": 15}, {"kind": "pbrf", "damping": 0.1}],
             **path("warm", "pbrf", "ggn", "exact")}  # fmt: skip
    changes = {**UNCONVERGED, **FEW, "points.train_count": 4, **changes}
    record, fitted = cases.record(tmp_path, {**changes, **asked}), cases.fitted(tmp_path, {**changes, "target": kind})
    rows = np.searchsorted(record.arrays["train_rows"], record.arrays["removed_rows"])
    weights = torch.cat([fitted.problem.weights, fitted.problem.removal_weights(torch.tensor(rows))])
    job = Job(fitted.problem, fitted.theta.expand(len(weights), -1), weights)
    [warm], [response] = (protocols.retrain([job], one) for one in (Warm(steps=15), Pbrf(damping=0.1)))
    outputs = cases.plain_outputs(fitted.problem.network, fitted.target.x)
    jacobian = torch.func.jacrev(outputs)(fitted.theta)
    slope = torch.func.jacrev(lambda f: fitted.target.of_outputs(f[None]).sum())(outputs(fitted.theta))
    for r, row in enumerate(rows):
        moved = [end.theta[r + 1] - end.theta[0] for end in (warm, response)]
        finite = [outputs(end.theta[r + 1]) - outputs(end.theta[0]) for end in (warm, response)]
        for matrix, d in ((fitted.gauss_newton, 0.1), (fitted.hessian, 0.0)):
            damped = matrix + d * torch.eye(len(matrix))
            moved.append(-torch.linalg.solve(damped, fitted.pull[row]))
            finite.append(jacobian @ moved[-1])
        along = moved[-1] / moved[-1].norm()
        for g in range(3):
            change, shift = moved[g + 1] - moved[g], finite[g + 1] - finite[g]
            own = {
                "parameters": change.norm(), "parameters_signed": change @ along,
                "outputs": shift.square().mean(dim=1).sqrt(),
                "outputs_signed": (shift * slope).sum(dim=1) / slope.norm(dim=1) / slope.shape[1] ** 0.5,
            }  # fmt: skip
            for name, expected in own.items():
                found = record.arrays[f"gap/one/{name}"][g, r]
                np.testing.assert_allclose(found, expected.numpy(), rtol=1e-6, atol=1e-10, err_msg=name)
        np.testing.assert_allclose(record.arrays["effect/one/parameters"][r], moved[0].norm(), rtol=1e-8)
        np.testing.assert_allclose(record.arrays["effect/one/outputs"][r], finite[0].square().mean(dim=1).sqrt(), rtol=1e-8)
    arrays = record.arrays
    assert (np.abs(arrays["gap/one/outputs_signed"]) <= arrays["gap/one/outputs"] * (1 + 1e-12)).all()
    expected = [arrays["actual/pbrf"] - arrays["actual/warm"], arrays["predicted/ggn"][rows] - arrays["actual/pbrf"],
                arrays["predicted/exact"][rows] - arrays["predicted/ggn"][rows]]  # fmt: skip
    np.testing.assert_allclose(arrays["gap/one/loss"], expected, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(arrays["effect/one/loss"], np.abs(arrays["actual/warm"]))


@pytest.mark.parametrize("damping", [0.0, 0.1])
def test_the_linearised_response_differs_from_gauss_newton_influence_by_nothing(tmp_path, damping):
    """Neither in parameters nor, its outputs being the linearised ones, in outputs and loss; the response itself does."""
    asked = {"estimators": [{"kind": "ggn", "damping": damping}],
             "protocols": [{"kind": "pbrf", "damping": damping}, {"kind": "linearised_pbrf", "damping": damping}],
             **path("pbrf", "linearised_pbrf", "ggn")}  # fmt: skip
    record = cases.record(tmp_path, {**UNCONVERGED, **FEW, **asked})
    for quantity, (linearisation, solver) in steps(record).items():
        assert solver < 1e-9 * record.arrays[f"effect/one/{quantity}"].max(), quantity
        assert linearisation > 1e-3 * record.arrays[f"effect/one/{quantity}"].max(), quantity


def test_a_solver_through_test_points_has_gaps_in_the_loss_alone(tmp_path):
    asked = {"estimators": [{"kind": "exact"}, {"kind": "cg", "damping": 0.05}], **path("stationary", "exact", "cg")}
    record = cases.record(tmp_path, {**FEW, **asked})
    arrays = record.arrays
    rows = np.searchsorted(arrays["train_rows"], arrays["removed_rows"])
    for name in ("parameters", "outputs"):
        assert np.isfinite(arrays[f"gap/one/{name}"][0]).all()
        assert np.isnan(arrays[f"gap/one/{name}"][1]).all()
        assert np.isfinite(arrays[f"gap/one/{name}_signed"][0]).all()  # along the last that knows Δθ
    expected = arrays["predicted/cg"][rows] - arrays["predicted/exact"][rows]
    np.testing.assert_allclose(arrays["gap/one/loss"][1], expected, rtol=1e-12)
    whole = arrays["predicted/cg"][rows] - arrays["actual/stationary"]
    np.testing.assert_allclose(arrays["gap/one/loss"].sum(axis=0), whole, rtol=1e-9, atol=1e-15)


def test_an_origin_that_is_not_the_trained_network_counts(tmp_path):
    fitted = cases.fitted(tmp_path)
    generator = torch.Generator().manual_seed(0)
    origin, changes = (torch.randn(size, generator=generator, dtype=torch.float64)
                       for size in ((len(fitted.theta),), (7, len(fitted.theta))))  # fmt: skip
    delta = changes[:, : len(fitted.target.x)]
    node = gaps.predicted(fitted.target, Prediction(changes, delta, origin=origin), fitted.theta)
    outputs = cases.plain_outputs(fitted.problem.network, fitted.target.x)
    expected = [torch.func.jacrev(outputs)(origin) @ change for change in changes]
    torch.testing.assert_close(node.outputs, torch.stack(expected))
    torch.testing.assert_close(node.target, delta)


def test_replicas_over_seeds_are_averaged(tmp_path):
    fitted = cases.fitted(tmp_path)
    size, tests = len(fitted.theta), len(fitted.target.x)
    generator = torch.Generator().manual_seed(0)
    theta = fitted.theta + 0.1 * torch.randn(6, size, generator=generator, dtype=torch.float64)
    actual = torch.zeros(2, tests, dtype=torch.float64)  # two removals, three networks a replica
    both = gaps.measured(fitted.target, Retrained(theta, torch.zeros(6)), "cold_seeds", actual)
    apart = [gaps.measured(fitted.target, Retrained(part, torch.zeros(3)), "cold", actual) for part in theta.split(3)]
    torch.testing.assert_close(both.change, (apart[0].change + apart[1].change) / 2)
    torch.testing.assert_close(both.outputs, (apart[0].outputs + apart[1].outputs) / 2)


def test_what_is_not_finite_stays_with_its_removal(tmp_path):
    fitted = cases.fitted(tmp_path)
    theta = fitted.theta.expand(4, -1).clone()
    theta[1:, 0] += torch.tensor([0.1, torch.nan, 0.3], dtype=torch.float64)
    actual = torch.zeros(3, len(fitted.target.x), dtype=torch.float64)
    first = gaps.measured(fitted.target, Retrained(theta, torch.zeros(4)), "warm", actual)
    second = gaps.predicted(fitted.target, Prediction(theta[1:].nan_to_num() * 0.1, actual), fitted.theta)
    found = gaps.arrays({"p": ["a", "b"]}, {"a": first, "b": second}, torch.ones(len(fitted.target.x), 3))
    for name in ("parameters", "outputs"):
        known = np.isfinite(found[f"gap/p/{name}"][0]).reshape(3, -1).all(axis=1)
        assert known.tolist() == [True, False, True]


@pytest.mark.parametrize("removal", ["zero_weight", "renormalise"])
def test_a_group_is_compared_with_what_is_predicted_for_all_of_it(tmp_path, removal):
    asked = {"points.group_size": 3, "points.removal": removal, "points.train_count": 4, **path("stationary", "exact")}
    record, fitted = cases.record(tmp_path, {**LINEAR, **FEW, **asked}), cases.fitted(tmp_path, LINEAR)
    members = np.searchsorted(record.arrays["train_rows"], record.arrays["members"])
    weights = fitted.problem.weights[0]
    gradients = fitted.problem.objective.row_gradients(fitted.theta[None])[0]
    for r, group in enumerate(members):
        lost = torch.full_like(weights, 1 / len(weights) if removal == "zero_weight" else 1 / (len(weights) - 3))
        lost[group] = 0
        change = -torch.linalg.solve(fitted.hessian, (lost - weights) @ gradients)
        expected = fitted.test_gradients @ change - torch.from_numpy(record.arrays["actual/stationary"][r])
        np.testing.assert_allclose(record.arrays["gap/one/loss"][0, r], expected, rtol=1e-7, atol=1e-11)
        along = record.arrays["gap/one/parameters_signed"][0, r]
        assert abs(along) <= record.arrays["gap/one/parameters"][0, r] * (1 + 1e-12)


def test_a_trial_follows_the_nodes_it_has(tmp_path):
    """Of a path that keeps one node in a block there is nothing; a node passed over leaves a longer gap."""
    nodes = {"all": ["warm", "certified", "exact"], "other": ["warm", "exact"]}
    asked = {
        "protocols": [{"kind": "warm", "steps": 5}, {"kind": "stationary", "name": "certified"}],
        "paths": nodes, **FEW,
    }  # fmt: skip
    some, whole = cases.trials(tmp_path, asked, {"protocols": [["certified"], ["warm", "certified"]]})
    assert some.settings.gap_paths == {"all": ["certified", "exact"]}
    assert whole.settings.gap_paths == nodes
    records = run_unit([some, whole])
    assert [record.header["paths"] for record in records] == [{"all": ["certified", "exact"]}, nodes]
    assert records[0].arrays["gap/all/loss"].shape == (1, 12, 3)
    assert not [name for name in records[0].arrays if "/other/" in name]
    np.testing.assert_allclose(
        records[1].arrays["gap/other/loss"][0], records[1].arrays["gap/all/loss"].sum(axis=0), atol=1e-15
    )
    np.testing.assert_array_equal(records[0].arrays["gap/all/loss"][0], records[1].arrays["gap/all/loss"][1])


def test_paths_change_no_other_number(tmp_path):
    plain = cases.record(tmp_path, FEW)
    record = cases.record(tmp_path, {**FEW, **path("stationary", "exact")})
    assert "paths" not in plain.header
    for name, array in plain.arrays.items():
        np.testing.assert_array_equal(record.arrays[name], array)
    assert {name.split("/")[0] for name in set(record.arrays) - set(plain.arrays)} == {"gap", "effect"}


def test_a_certified_node_is_the_one_that_the_protocol_returns(tmp_path):
    fitted = cases.fitted(tmp_path, FEW)
    weights = torch.cat([fitted.problem.weights, fitted.problem.removal_weights(torch.tensor([3]))])
    job = Job(fitted.problem, fitted.theta.expand(2, -1), weights)
    [outcome] = protocols.retrain([job], Stationary())
    node = gaps.measured(fitted.target, outcome, "stationary", torch.zeros(1, 3))
    torch.testing.assert_close(node.change, outcome.theta[1:] - outcome.theta[:1])
