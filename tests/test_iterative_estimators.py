"""cg, lissa, arnoldi, nystrom and newton_step against the dense answer, and their certificates where they must fail."""

import re
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from study import trials
from study.compute import estimators
from study.compute.estimators.through_tests import cheaper_formed
from study.compute.objective import Objective
from study.compute.problems import Fitted
from study.compute.trial import run_unit
from study.errors import StudyError
from study.evidence.store import Store
from study.evidence.tables import Tables
from study.records import Record
from study.specs import Arnoldi, Cg, Ekfac, Exact, Ggn, Identity, Kfac, Lissa, NewtonStep, Nystrom, Tracin, Unrolled
from tests import cases

POLISHED = {"training.polish": True, "training.weight_decay": 0.05}
SETTINGS = (Cg(), Lissa(depth=50, batch_size=4), Arnoldi(rank=5), Nystrom(rank=5), NewtonStep())


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    return cases.fitted(tmp_path_factory.mktemp("case"), POLISHED)


@pytest.fixture(scope="module")
def indefinite(tmp_path_factory):
    trained = cases.fitted(tmp_path_factory.mktemp("case"), {"training.steps": 1, "training.weight_decay": 1e-4})
    return Fitted(trained.problem, 2 * trained.problem.network.initial(1), trained.target)


def checked(folder, changes):
    """What `study run` does before any work."""
    cases.trials(folder, changes)
    trials.check(trials.load(folder / "case.toml"))


def solved(fitted, damping=0.0, gauss_newton=False):
    """H⁻¹∇L_t [T, P] by NumPy."""
    matrix = (fitted.gauss_newton if gauss_newton else fitted.hessian).numpy()
    return np.linalg.solve(matrix + damping * np.eye(len(matrix)), fitted.test_gradients.numpy().T).T


def distance(fitted, delta, damping=0.0):
    """Of predicted changes from those with the dense solutions, relative to the largest."""
    expected = -fitted.pull.numpy() @ solved(fitted, damping).T
    return np.abs(delta.numpy() - expected).max() / np.abs(expected).max()


class TestCg:
    @pytest.mark.parametrize("damping", [0.0, 0.1])
    @pytest.mark.parametrize("parameters", ["all", "last_layer"])
    def test_it_is_the_dense_answer_at_its_tolerance(self, fitted, damping, parameters):
        found = estimators.predict(fitted, Cg(damping=damping, tolerance=1e-11, parameters=parameters))
        exact = estimators.predict(fitted, Exact(damping=damping, parameters=parameters))
        torch.testing.assert_close(found.delta, exact.delta, rtol=1e-8, atol=1e-12)
        assert found.flags == []
        assert found.evidence["residual"] < 1e-10
        assert (found.evidence["distance_from_exact"] < 1e-8) == (damping == 0)

    def test_the_gauss_newton_matrix_gives_ggn(self, fitted):
        found = estimators.predict(fitted, Cg(matrix="gauss_newton", tolerance=1e-11))
        torch.testing.assert_close(found.delta, estimators.predict(fitted, Ggn()).delta, rtol=1e-8, atol=1e-12)
        assert found.evidence["distance_from_exact"] > 1e-3

    def test_a_test_point_has_the_same_answer_in_any_company(self, fitted):
        whole = estimators.predict(fitted, Cg()).delta
        for chosen in ([2], [2, 0]):
            some = replace(fitted, target=fitted.target.rows(torch.tensor(chosen)))
            torch.testing.assert_close(estimators.predict(some, Cg()).delta, whole[:, chosen], rtol=1e-7, atol=1e-12)

    def test_all_test_points_share_one_block_and_what_it_cannot_finish_is_left_to_each_alone(self, fitted, indefinite):
        together = estimators.predict(fitted, Cg(tolerance=1e-11))
        alone = estimators.predict(replace(fitted, target=fitted.target.rows(torch.tensor([1]))), Cg(tolerance=1e-11))
        assert (together.evidence["block"], alone.evidence["block"]) == (3, 1)
        assert together.evidence["iterations"] < alone.evidence["iterations"]
        assert estimators.predict(indefinite, Cg()).evidence["block"] == 1
        few = estimators.predict(fitted, Cg(max_iterations=4))
        assert (few.evidence["block"], few.evidence["iterations"], few.flags) == (1, 4, ["unconverged"])
        for chosen in range(3):  # a truncated solve says the same in any company
            one = replace(fitted, target=fitted.target.rows(torch.tensor([chosen])))
            own = estimators.predict(one, Cg(max_iterations=4)).delta
            torch.testing.assert_close(own, few.delta[:, [chosen]], rtol=1e-10, atol=1e-14)

    def test_a_piece_of_the_test_points_at_a_time_is_the_same(self, fitted, monkeypatch):
        whole = estimators.predict(fitted, Cg(tolerance=1e-11))
        monkeypatch.setattr("study.compute.estimators.cg.BLOCK_NUMBERS", 2 * len(fitted.theta))
        pieces = estimators.predict(fitted, Cg(tolerance=1e-11))
        torch.testing.assert_close(pieces.delta, whole.delta, rtol=1e-8, atol=1e-13)
        assert (whole.evidence["block"], pieces.evidence["block"]) == (3, 1)

    def test_negative_curvature_is_met_until_damped(self, indefinite):
        found = estimators.predict(indefinite, Cg())
        assert found.flags == ["negative_curvature"]
        assert found.evidence["negative_curvature_met"] > 0
        # minimal residuals go on where conjugate gradients must stop: the answer is that of the dense solve, for every test point
        exact = estimators.predict(indefinite, Exact()).delta
        torch.testing.assert_close(found.delta, exact, rtol=1e-6, atol=1e-6 * exact.abs().max().item())
        few = estimators.predict(indefinite, Cg(max_iterations=2))
        assert few.flags == ["negative_curvature", "unconverged"]
        smallest = np.linalg.eigvalsh(indefinite.hessian.numpy())[0]
        assert estimators.predict(indefinite, Cg(damping=1.5 * abs(smallest))).flags == []

    def test_too_few_iterations_are_said(self, fitted):
        found = estimators.predict(fitted, Cg(max_iterations=2))
        assert found.flags == ["unconverged"]
        assert found.evidence["residual"] > 1e-3
        assert found.evidence["distance_from_exact"] > 1e-3


class TestLissa:
    def test_its_fixed_point_is_the_solve_with_the_effective_damping(self, fitted):
        settings = Lissa(batch_size="full", damping=0.01, scale=8.0, depth=3000)
        found = estimators.predict(fitted, settings)
        assert found.evidence["damping"] == pytest.approx(0.08)
        assert distance(fitted, found.delta, 0.08) < 1e-8
        assert distance(fitted, found.delta) > 1e-2
        assert found.evidence["residual"] < 1e-8
        assert found.evidence["truncation_damping"] == pytest.approx(8 / 3000)
        assert found.flags == []

    def test_stopping_early_is_like_a_damping_of_scale_over_depth(self, fitted):
        errors = [
            distance(fitted, estimators.predict(fitted, Lissa(batch_size="full", scale=8.0, depth=depth)).delta)
            for depth in (10, 100, 2000)
        ]
        early = estimators.predict(fitted, Lissa(batch_size="full", scale=8.0, depth=10))
        assert early.flags == ["unconverged"]
        assert early.evidence["residual"] > 0.1
        assert errors[0] > 0.05
        assert errors[0] > errors[1] > errors[2]
        assert errors[2] < 1e-3

    @pytest.mark.parametrize("parameters", ["all", "last_layer"])
    def test_without_a_compiled_kernel_it_is_the_same(self, fitted, monkeypatch, parameters):
        settings = Lissa(batch_size=3, depth=40, repeats=2, parameters=parameters)
        compiled = estimators.predict(fitted, settings)
        cases.eager(monkeypatch)
        eager = estimators.predict(fitted, settings)
        torch.testing.assert_close(eager.delta, compiled.delta, rtol=1e-9, atol=1e-14)

    def test_it_is_the_recursion_on_the_very_rows_drawn(self, fitted):
        settings = Lissa(batch_size=3, damping=0.02, scale=20.0, depth=6, repeats=2, seed=5)
        objective, ends = fitted.problem.objective, []
        for number in range(2):
            rows = np.random.default_rng([5, number, 0]).integers(objective.rows, size=(6, 3))
            h = fitted.test_gradients
            for chosen in torch.as_tensor(rows):
                weights = torch.full((1, 3), 1 / 3, dtype=torch.float64)
                hessian = objective.batch(chosen[None]).hessian(fitted.theta[None], weights)[0]
                h = fitted.test_gradients + 0.98 * h - h @ hessian / 20.0
            ends.append(h / 20.0)
        expected = -(fitted.pull @ torch.stack(ends).mean(dim=0).T)
        found = estimators.predict(fitted, settings)
        torch.testing.assert_close(found.delta, expected, rtol=1e-9, atol=1e-14)
        spread = (torch.stack(ends) - torch.stack(ends).mean(dim=0)).square().sum(dim=2).mean(dim=0).sqrt()
        relative = spread / torch.stack(ends).mean(dim=0).norm(dim=1)
        assert found.evidence["spread"] == pytest.approx(relative.max().item())

    def test_single_rows_and_many_repeats_come_near(self, fitted):
        found = estimators.predict(fitted, Lissa(depth=3000, repeats=20, scale=60.0))
        assert distance(fitted, found.delta) < 0.3
        assert 0 < found.evidence["spread"] < 1
        one = estimators.predict(fitted, Lissa(depth=3000, repeats=1, scale=60.0))
        assert np.isnan(one.evidence["spread"])

    def test_it_may_run_until_its_norms_settle(self, fitted):
        settled = estimators.predict(fitted, Lissa(batch_size="full", scale=8.0, depth=5000, until=1e-3))
        used = settled.evidence["depth_used"]
        assert 100 < used < 5000
        assert settled.flags == []
        assert settled.evidence["norm_depths"][-1] == used
        same = estimators.predict(fitted, Lissa(batch_size="full", scale=8.0, depth=used))
        torch.testing.assert_close(same.delta, settled.delta, rtol=1e-12, atol=1e-16)
        finer = estimators.predict(fitted, Lissa(batch_size="full", scale=8.0, depth=5000, until=1e-5))
        assert finer.evidence["depth_used"] > used
        assert finer.evidence["distance_from_exact"] < settled.evidence["distance_from_exact"]
        never = estimators.predict(fitted, Lissa(batch_size="full", scale=8.0, depth=120, until=1e-9))
        assert never.flags == ["unconverged"]
        assert never.evidence["depth_used"] == 120

    def test_divergence_is_proved_by_its_norms(self, fitted):
        top = np.linalg.eigvalsh(fitted.hessian.numpy())[-1]
        found = estimators.predict(fitted, Lissa(batch_size="full", scale=0.4 * top, depth=60))
        assert found.flags == ["diverged_recursion"]
        assert found.evidence["growth"] > 1
        assert found.evidence["norms"][-1] > found.evidence["norms"][0]
        assert len(found.evidence["norms"]) == len(found.evidence["norm_depths"])
        never = estimators.predict(fitted, Lissa(batch_size="full", scale=0.4 * top, depth=4000))
        assert never.flags == ["diverged_recursion"]  # nothing finite is left

    def test_rows_are_drawn_alike_for_any_test_points(self, fitted):
        whole = estimators.predict(fitted, Lissa(depth=20, batch_size=4, repeats=2)).delta
        some = replace(fitted, target=fitted.target.rows(torch.tensor([2])))
        alone = estimators.predict(some, Lissa(depth=20, batch_size=4, repeats=2)).delta
        torch.testing.assert_close(alone, whole[:, [2]], rtol=1e-10, atol=1e-16)


SIZES = (  # parameters, rows, directions at once, products: whether the matrix is formed
    (2410, 1437, 360, 7, True),
    (2410, 1437, 12, 200, True),
    (2410, 1437, 1, 20, False),  # too few products to pay for it
    (2900, 100, 1, 1000, False),  # few rows: products are cheaper than reading the matrix
    (253, 149, 1, 253, True),
    (3001, 60000, 100, 1000, False),  # too large
)


@pytest.mark.parametrize(("parameters", "rows", "together", "times", "expected"), SIZES)
def test_a_matrix_is_formed_where_that_saves_time_and_it_is_small(parameters, rows, together, times, expected):
    assert cheaper_formed(parameters, rows, together, times) == expected


@pytest.mark.parametrize("parameters", ["all", "last_layer"])
@pytest.mark.parametrize("matrix", ["hessian", "gauss_newton"])
@pytest.mark.parametrize(
    "settings", [Cg(damping=0.03, tolerance=1e-12), Lissa(batch_size="full", depth=150, damping=0.01, repeats=2)],
    ids=["cg", "lissa"],
)  # fmt: skip
def test_the_formed_matrix_gives_what_its_products_give(fitted, monkeypatch, settings, matrix, parameters):
    settings = settings.model_copy(update={"matrix": matrix, "parameters": parameters})
    formed = estimators.predict(fitted, settings)
    monkeypatch.setattr("study.compute.estimators.through_tests.cheaper_formed", lambda *_: False)
    products = estimators.predict(fitted, settings)
    assert (formed.evidence["formed"], products.evidence["formed"]) == (1, 0)
    torch.testing.assert_close(formed.delta, products.delta, rtol=1e-8, atol=1e-13)
    assert formed.flags == products.flags == []


class TestLowRank:
    def test_all_but_one_eigenvector_lack_only_the_last(self, fitted):
        size = len(fitted.theta)
        found = estimators.predict(fitted, Arnoldi(rank=size - 1))
        values, vectors = np.linalg.eigh(fitted.hessian.numpy())
        inside = fitted.test_gradients.numpy() @ vectors[:, 1:]
        expected = -fitted.pull.numpy() @ ((inside / values[1:]) @ vectors[:, 1:].T).T
        np.testing.assert_allclose(found.delta, expected, rtol=1e-7, atol=1e-11)
        assert found.evidence["captured_spectrum"] == pytest.approx(1 - values[0] / values.sum())
        shares = (inside**2).sum(axis=1) / fitted.test_gradients.square().sum(dim=1).numpy()
        assert found.evidence["captured_gradient"] == pytest.approx(shares.min())

    def test_a_higher_rank_leaves_less(self, fitted):
        residuals = [estimators.predict(fitted, Arnoldi(rank=r)).evidence["residual"] for r in (2, 8, 20)]
        assert residuals[0] > residuals[1] > residuals[2] > 0

    def test_nystrom_with_nearly_all_directions_is_the_damped_solve(self, fitted):
        size = len(fitted.theta)
        errors = [
            distance(fitted, estimators.predict(fitted, Nystrom(rank=r, damping=0.3)).delta, 0.3)
            for r in (3, size // 2, size)
        ]
        assert errors[0] > errors[1] > errors[2]
        assert errors[2] < 1e-9

    def test_nystrom_says_what_part_of_the_spectrum_it_holds(self, fitted):
        size, total = len(fitted.theta), np.linalg.eigvalsh(fitted.hessian.numpy()).sum()
        for rank in (3, size // 2, size):
            drawn = np.random.default_rng([0, 0]).normal(size=(size, rank))  # the estimator's seed and the trial's
            images = fitted.hessian.numpy() @ (basis := np.linalg.qr(drawn)[0])
            kept = np.trace(images @ np.linalg.solve(basis.T @ images, images.T))
            found = estimators.predict(fitted, Nystrom(rank=rank, damping=0.3)).evidence["captured_spectrum"]
            assert found == pytest.approx(kept / total, rel=1e-6)
            assert (found > 1 - 1e-9) == (rank == size)

    def test_negative_eigenvalues_are_flagged(self, indefinite):
        size = len(indefinite.theta)
        assert estimators.predict(indefinite, Arnoldi(rank=size - 1)).flags == ["indefinite"]
        assert estimators.predict(indefinite, Nystrom(rank=size - 1)).flags == ["indefinite"]
        assert estimators.predict(indefinite, Arnoldi(rank=size - 1, matrix="gauss_newton")).flags == []

    def test_numerically_zero_eigenvalues_are_dropped_and_said(self, tmp_path):
        unpenalised = {
            "model.kind": "linear", "training.weight_decay": 0.0, "training.optimizer": "adam", "training.steps": 5,
        }  # fmt: skip
        fitted = cases.fitted(tmp_path, unpenalised)  # adding a constant to all outputs changes nothing: five zeros
        values = np.linalg.eigvalsh(fitted.hessian.numpy())
        assert (np.abs(values) < 1e-12 * values.max()).sum() == 5
        rank = len(values) - 1
        found = estimators.predict(fitted, Arnoldi(rank=rank))
        assert found.flags == ["singular"]
        assert found.evidence["dropped_directions"] == 4
        exact = estimators.predict(fitted, Exact())
        assert exact.flags == ["singular"]
        torch.testing.assert_close(found.delta, exact.delta, rtol=1e-5, atol=1e-7 * exact.delta.abs().max().item())
        assert "singular" not in estimators.predict(fitted, Arnoldi(rank=rank, damping=1e-3)).flags

    @pytest.mark.parametrize("kind", ["arnoldi", "nystrom"])
    def test_more_directions_than_parameters_are_refused(self, tmp_path, kind):
        with pytest.raises(StudyError, match=rf"estimators.{kind}.rank = 27: .* 27 parameters .*at most 26"):
            checked(tmp_path, {"estimators": [{"kind": kind, "rank": 27}]})
        with pytest.raises(StudyError, match=rf"estimators.{kind}.rank = 12: .* 12 parameters .*at most 11"):
            checked(tmp_path, {"estimators": [{"kind": kind, "rank": 12, "parameters": "last_layer"}]})
        checked(tmp_path, {"estimators": [{"kind": kind, "rank": 26}]})


class TestNewtonStep:
    @pytest.mark.parametrize("fraction", [1.0, 0.3])
    @pytest.mark.parametrize("removal", ["zero_weight", "renormalise"])
    def test_it_is_the_dense_step_without_the_row(self, tmp_path, removal, fraction):
        fitted = cases.fitted(tmp_path, {**POLISHED, "training.steps": 4, "training.polish": False, "training.weight_decay": 0.2,
                                         "points.removal": removal, "points.fraction": fraction})  # fmt: skip
        objective = fitted.problem.objective
        rows = torch.tensor([0, 3, 77, 110])
        weights = torch.cat([fitted.problem.weights, fitted.problem.removal_weights(rows)])
        theta = fitted.theta.expand(len(weights), -1)
        steps = torch.linalg.solve(objective.hessian(theta, weights), objective.gradient(theta, weights)[1])
        found = estimators.predict(fitted, NewtonStep(tolerance=1e-12))
        torch.testing.assert_close(found.change[rows], steps[0] - steps[1:], rtol=1e-7, atol=1e-11)
        assert found.flags == []
        assert found.evidence["residual"] < 1e-11

    def test_for_ridge_it_is_the_prediction_over_one_minus_the_leverage(self, tmp_path):
        fitted = cases.fitted(tmp_path, {"data.name": "diabetes", "data.test_rows": [0, 5], "model.kind": "linear",
                                         "training.polish": True, "training.weight_decay": 0.03})  # fmt: skip
        x, _ = cases.rows_of(fitted.problem)
        leverage = np.einsum("ip,ip->i", x, np.linalg.solve(fitted.hessian.numpy(), x.T).T) / len(x)
        exact = estimators.predict(fitted, Exact()).change.numpy()
        found = estimators.predict(fitted, NewtonStep(tolerance=1e-13)).change.numpy()
        np.testing.assert_allclose(found, exact / (1 - leverage)[:, None], rtol=0, atol=1e-11)

    def test_an_indefinite_hessian_is_said(self, indefinite):
        assert "indefinite" in estimators.predict(indefinite, NewtonStep()).flags

    def test_it_stops_before_negative_curvature_or_goes_on_by_minimal_residuals(self, indefinite):
        objective, rows = indefinite.problem.objective, torch.arange(147)
        stopped = estimators.predict(indefinite, NewtonStep())
        assert {"negative_curvature", "unconverged"} < set(stopped.flags)
        assert stopped.evidence["residual"] > 1e-3
        found = estimators.predict(indefinite, NewtonStep(indefinite="minres"))
        assert "negative_curvature" in found.flags
        assert "unconverged" not in found.flags
        weights = torch.cat([indefinite.problem.weights, indefinite.problem.removal_weights(rows)])
        theta = indefinite.theta.expand(len(weights), -1)
        steps = torch.linalg.solve(objective.hessian(theta, weights), objective.gradient(theta, weights)[1])
        expected = steps[0] - steps[1:]
        torch.testing.assert_close(found.change, expected, rtol=1e-5, atol=1e-6 * expected.abs().max().item())

    def test_the_next_step_knows_how_far_the_stationary_changes_are(self, tmp_path):
        for fraction in (1.0, 0.1):
            case = {**POLISHED, "points.fraction": fraction, "estimators": [{"kind": "newton_step"}, {"kind": "exact"}]}
            record = cases.record(tmp_path, case)
            assert record.arrays["certificate/stationary/certified"].all()
            own = record.header["estimators"]["newton_step"]
            predicted, actual = record.arrays["predicted/newton_step"], record.arrays["actual/stationary"]
            distance = (np.linalg.norm(predicted - actual, axis=0) / np.linalg.norm(actual, axis=0)).max()
            assert own["actual_distance_to_stationary"] == pytest.approx(distance)
            assert own["distance_to_stationary"] == pytest.approx(distance, rel=0.1)
            assert distance > 1e-4
            assert "actual_distance_to_stationary" not in record.header["estimators"]["exact"]

    def test_without_certified_changes_there_is_no_actual_distance(self, tmp_path):
        case = {**POLISHED, "training.optimizer": "adam", "points.train": "random", "points.train_count": 2,
                "estimators": [{"kind": "newton_step"}], "protocols": [{"kind": "warm", "steps": 2}]}  # fmt: skip
        own = cases.record(tmp_path, case).header["estimators"]["newton_step"]
        assert own["distance_to_stationary"] > 0
        assert "actual_distance_to_stationary" not in own

    def test_far_from_a_minimum_the_distance_says_so(self, indefinite):
        assert estimators.predict(indefinite, NewtonStep(indefinite="minres")).evidence["distance_to_stationary"] > 0.5

    def test_of_ridge_only_the_curvature_of_the_test_loss_is_left(self, tmp_path):
        ridge = {"data.name": "diabetes", "data.test_rows": [0, 5], "model.kind": "linear", "training.polish": True,
                 "training.weight_decay": 0.03, "points.fraction": 1e-4}  # fmt: skip
        found = estimators.predict(cases.fitted(tmp_path, ridge), NewtonStep(tolerance=1e-13))
        assert found.evidence["distance_to_stationary"] < 1e-5


def test_a_network_of_nan_predicts_nan_without_an_exception(fitted):
    broken = Fitted(fitted.problem, torch.full_like(fitted.theta, torch.nan), fitted.target)
    for settings in (*SETTINGS, Unrolled(steps=3), Exact(), Ggn()):
        found = estimators.predict(broken, settings)
        assert torch.isnan(found.delta).all()
        assert np.isnan(found.evidence.get("residual", found.evidence.get("difference_error")))


def test_each_leaves_a_record_that_tables_can_read(tmp_path):
    kinds = [{"kind": "exact"}, {"kind": "cg"}, {"kind": "lissa", "depth": 200, "batch_size": 8, "repeats": 2},
             {"kind": "arnoldi", "rank": 10}, {"kind": "nystrom", "rank": 10}, {"kind": "newton_step"}]  # fmt: skip
    experiment_trials = cases.trials(tmp_path, {**POLISHED, "estimators": kinds})
    [record] = run_unit(experiment_trials)
    assert isinstance(record, Record), record
    store = Store(tmp_path / "results", "case")
    store.write(record)
    table = Tables(trials.load(tmp_path / "case.toml"), store).agreement.set_index("estimator")
    assert table["spearman"].notna().all()
    assert table.loc["cg", ["norm_spearman", "plugin_spearman"]].isna().all().all()
    assert (table.loc["cg", "spearman"] > 0.9).all()
    for kind in ("cg", "lissa", "arnoldi", "nystrom"):
        assert np.isnan(record.arrays[f"predicted_norm/{kind}"]).all()
        assert np.isnan(record.arrays[f"plugin/{kind}"]).all()
        assert record.header["estimators"][kind]["residual"] >= 0
    np.testing.assert_allclose(record.arrays["predicted/cg"], record.arrays["predicted/exact"], rtol=1e-6, atol=1e-11)
    assert np.isfinite(record.arrays["plugin/newton_step"]).all()


BIG = {"model.width": 1200, "training.optimizer": "adam", "training.steps": 3, "protocols": [{"kind": "warm", "steps": 2}],
       "points.train": "random", "points.train_count": 2, "estimators": [{"kind": "cg", "max_iterations": 5}]}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"estimators": [{"kind": "exact"}]}, "estimators.exact"),
        ({"estimators": [{"kind": "newton_step"}]}, "estimators.newton_step"),
        (
            {
                "estimators": [{"kind": "perturb_input"}],
                "points.removal": "perturb_input",
                "points.direction": "random",
            },
            "estimators.perturb_input",
        ),
        ({"points.removal": "perturb_input", "data.test_rows": [83]}, "points.direction"),
        ({"training.polish": True}, "training.polish = true"),
        ({"protocols": [{"kind": "stationary"}]}, "protocols.stationary"),
    ],
)
def test_what_forms_a_hessian_too_large_is_refused_beforehand(tmp_path, changes, place):
    with pytest.raises(StudyError, match=f"{place}: .* 9,603 parameters are too many"):
        checked(tmp_path, {**BIG, **changes})


def test_a_network_too_large_for_a_hessian_is_described_and_estimated_without_one(tmp_path, monkeypatch):
    expected = cases.record(tmp_path, {**BIG, "model.width": 5})
    monkeypatch.setattr("study.compute.curvature.LARGEST_HESSIAN", 20)
    monkeypatch.setattr(Objective, "hessian", _never)
    found = cases.record(tmp_path, {**BIG, "model.width": 5})
    for name in ("smallest_eigenvalue", "largest_eigenvalue"):
        scale = expected.header["base"]["largest_eigenvalue"]
        assert found.header["base"][name] == pytest.approx(expected.header["base"][name], abs=1e-3 * scale)
    assert found.header["base"]["negative_eigenvalues"] is None
    np.testing.assert_allclose(found.arrays["predicted/cg"], expected.arrays["predicted/cg"], rtol=1e-9, atol=1e-15)
    np.testing.assert_array_equal(found.arrays["actual/warm"], expected.arrays["actual/warm"])
    assert not found.arrays["certificate/warm/certified"].any()
    assert np.isnan(found.arrays["certificate/warm/delta_error"]).all()
    assert np.isfinite(found.arrays["certificate/warm/gradient_norm"]).all()


def _never(*_, **__):
    raise AssertionError("a Hessian was formed")


@pytest.mark.parametrize("parameters", ["all", "last_layer"])
def test_no_kind_that_goes_by_products_forms_a_hessian_too_large(tmp_path, monkeypatch, parameters):
    kinds = [
        {"kind": "cg", "max_iterations": 3}, {"kind": "lissa", "depth": 3, "batch_size": "full"},
        {"kind": "arnoldi", "rank": 2}, {"kind": "nystrom", "rank": 2}, {"kind": "kfac"}, {"kind": "ekfac"},
    ]  # fmt: skip
    monkeypatch.setattr("study.compute.curvature.LARGEST_HESSIAN", 20)
    monkeypatch.setattr(Objective, "hessian", _never)
    estimators = [{**kind, "parameters": parameters} for kind in kinds]
    found = cases.record(tmp_path, {**BIG, "model.width": 5, "estimators": estimators})
    for kind in ("cg", "lissa", "arnoldi", "nystrom", "kfac", "ekfac"):
        assert np.isnan(found.header["estimators"][kind]["distance_from_exact"])
        assert np.isfinite(found.arrays[f"predicted/{kind}"]).all()


@pytest.mark.slow
def test_a_large_network_runs(tmp_path):
    record = cases.record(tmp_path, BIG)
    assert record.header["base"]["parameters"] == 9603
    assert np.isfinite(record.arrays["predicted/cg"]).all()


def test_a_star_reaches_every_estimator_at_once(tmp_path):
    kinds = [{"kind": "exact"}, {"kind": "ggn", "name": "gauss"}, {"kind": "identity"}]
    sweep = {"estimators.*.damping": [0.0, 0.5], "estimators": [["exact", "gauss"]]}
    found = cases.trials(tmp_path, {"estimators": kinds}, sweep)
    assert [[e.damping for e in trial.settings.estimators] for trial in found] == [[0.0, 0.0], [0.5, 0.5]]
    assert [trial.swept for trial in found] == [{"estimators.*.damping": 0.0}, {"estimators.*.damping": 0.5}]
    named = cases.trials(tmp_path, {"estimators": kinds[:1]}, {"estimators.exact.damping": [0.5]})
    assert cases.trials(tmp_path, {"estimators": kinds[:1]}, {"estimators.*.damping": [0.5]})[0].key == named[0].key
    with pytest.raises(StudyError, match=r"estimators.identity.damping|identity.*damping"):
        cases.trials(tmp_path, {"estimators": kinds}, {"estimators.*.damping": [0.5]})


def test_a_star_and_a_name_for_one_key_are_refused_wherever_they_meet(tmp_path):
    kinds = {"estimators": [{"kind": "exact"}, {"kind": "ggn"}]}
    both = {"estimators.*.damping": [0.0, 0.5], "estimators.exact.damping": [0.1]}
    with pytest.raises(StudyError, match="reaches the same key; keep one"):
        cases.trials(tmp_path, kinds, both)
    for swept, given in (
        ("estimators.*.damping", "estimators.exact.damping"),
        ("estimators.exact.damping", "estimators.*.damping"),
    ):
        cases.trials(tmp_path, kinds, {swept: [0.0, 0.5]})
        with pytest.raises(StudyError, match=f"--set {re.escape(given)}: the spec sweeps .*set that instead"):
            trials.load(tmp_path / "case.toml", [f"{given}=0.1"])
    cases.trials(tmp_path, kinds, {"estimators.*.damping": [0.0, 0.5]})
    [one] = trials.load(tmp_path / "case.toml", ["estimators.*.damping=0.1"]).trials
    assert [e.damping for e in one.settings.estimators] == [0.1, 0.1]
    lissa = {"estimators": [{"kind": "exact"}, {"kind": "lissa"}]}
    with pytest.raises(StudyError, match="damping of lissa is multiplied by its scale"):
        cases.trials(tmp_path, lissa, {"estimators.*.damping": [0.5]})


def test_more_rows_in_a_batch_than_there_are_are_refused(tmp_path):
    with pytest.raises(StudyError, match=r"estimators.lissa.batch_size = 148: there are only 147 training rows"):
        checked(tmp_path, {"estimators": [{"kind": "lissa", "batch_size": 148}]})


BAD = [
    ("cg", "damping", -0.1, "at least 0"), ("cg", "tolerance", 0.0, "more than 0"), ("cg", "max_iterations", 0, "at least 1"),
    ("lissa", "repeats", 0, "at least 1"), ("lissa", "depth", 0, "at least 1"), ("lissa", "damping", -0.1, "at least 0"),
    ("lissa", "damping", 1.0, "less than 1"), ("lissa", "scale", 0.0, "more than 0"), ("lissa", "batch_size", 0, "at least 1"),
    ("lissa", "until", -0.1, "at least 0"), ("arnoldi", "rank", 0, "at least 1"), ("arnoldi", "damping", -0.1, "at least 0"),
    ("nystrom", "rank", 0, "at least 1"), ("nystrom", "damping", 0.0, "more than 0"), ("exact", "damping", -0.1, "at least 0"),
    ("ggn", "damping", -0.1, "at least 0"), ("kfac", "damping", -0.1, "at least 0"), ("ekfac", "damping", -0.1, "at least 0"),
    ("perturb_input", "damping", -0.1, "at least 0"), ("newton_step", "max_iterations", 0, "at least 1"),
    ("newton_step", "tolerance", 0.0, "more than 0"), ("newton_step", "indefinite", "minre", 'did you mean "minres"'),
    ("unrolled", "steps", 0, "at least 1"), ("tracin", "checkpoints", 0, "at least 1"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "key", "value", "bound"), BAD, ids=lambda value: str(value))
def test_settings_without_a_meaning_are_refused_by_name_and_bound(tmp_path, kind, key, value, bound):
    with pytest.raises(StudyError, match=rf"estimators.{kind}.{key} = .*{bound}"):
        cases.trials(tmp_path, {"training.optimizer": "sgd", "estimators": [{"kind": kind, key: value}]})


def test_other_seeds_draw_other_rows_and_directions(tmp_path):
    for settings in (Lissa(depth=5), Nystrom(rank=3)):
        first, again, other = (
            estimators.predict(cases.fitted(tmp_path, {**POLISHED, "seed": seed}), settings).evidence["residual"]
            for seed in (0, 0, 1)
        )
        assert first == again
        assert first != other


def test_seconds_are_those_of_the_estimate_and_not_of_the_exact_answer_beside_it(tmp_path, monkeypatch):
    """By a clock that ticks when it is looked at, and stands still but for the exact answer: others may share the processor."""
    now, slow = [0.0], Fitted.spectrum

    def clock():
        now[0] += 1e-3
        return now[0]

    def spectrum(self, *arguments):
        now[0] += 10.0
        return slow(self, *arguments)

    monkeypatch.setattr(Fitted, "spectrum", spectrum)
    monkeypatch.setattr(time, "perf_counter", clock)
    kinds = [{"kind": "cg", "parameters": "last_layer"}, {"kind": "arnoldi", "rank": 3}]
    found = cases.record(tmp_path, {**POLISHED, "points.train": "random", "points.train_count": 3, "estimators": kinds})
    for kind in ("cg", "arnoldi"):
        evidence = found.header["estimators"][kind]
        assert 0 < evidence["seconds"] < 0.25
        assert not any(name.endswith("_seconds") for name in evidence)
    assert now[0] > 30.0


@pytest.mark.parametrize("kind", [Arnoldi, Nystrom, Kfac, Ekfac])
def test_what_no_damping_changes_is_computed_once_for_a_grid(fitted, monkeypatch, kind):
    grid = (0.01, 0.1, 1.0)
    settings = [kind(damping=damping) for damping in grid]
    alone = [estimators.predict(replace(fitted), one).delta for one in settings]
    shared, computed, once = replace(fitted), [], Fitted.once

    def counted(self, key, compute):
        return once(self, key, lambda: (computed.append(key), compute())[1])

    monkeypatch.setattr(Fitted, "once", counted)
    path = [estimators.predict(shared, one).delta for one in settings]
    own = [key for key in computed if key[0] != "spectrum"]  # beside the eigenvalues that diagnostics look at
    assert len(own) == 1
    for found, expected in zip(path, alone, strict=True):
        assert torch.equal(found, expected)
    assert not torch.equal(path[0], path[1])
    if kind in (Arnoldi, Nystrom):
        estimators.predict(shared, kind(damping=0.1, rank=7))
        estimators.predict(shared, kind(damping=0.1, seed=1))
        assert len([key for key in computed if key[0] != "spectrum"]) == 3


KINDS_BY_ROW = (
    Exact(), Exact(damping=0.1), Exact(parameters="last_layer"), Ggn(), Cg(tolerance=1e-12), Arnoldi(rank=12), Nystrom(rank=12),
    Kfac(), Ekfac(), NewtonStep(), Identity(), Lissa(batch_size="full", depth=200, scale=8.0),
    Lissa(batch_size="full", depth=5000, scale=8.0, until=1e-3), Unrolled(steps=20),
    Unrolled.model_validate({"from": "init"}), Tracin(checkpoints=3),
)  # fmt: skip
ON_THE_RUN = {"training.optimizer": "sgd", "training.learning_rate": 0.05, "training.steps": 40}


@pytest.mark.parametrize("settings", KINDS_BY_ROW, ids=lambda settings: settings.kind)
def test_neither_the_order_of_the_rows_nor_the_pieces_they_come_in_matter(tmp_path, monkeypatch, settings):
    followed = settings.kind in ("unrolled", "tracin")  # of a run on all rows: batches are drawn by their places
    trained = cases.fitted(tmp_path, ON_THE_RUN if followed else POLISHED)
    expected = estimators.predict(trained, settings).delta
    order = torch.randperm(trained.problem.objective.rows, generator=torch.Generator().manual_seed(4))
    objective = trained.problem.objective
    shuffled = replace(trained.problem, objective=replace(objective, x=objective.x[order], y=objective.y[order]))
    again = estimators.predict(Fitted(shuffled, trained.theta, trained.target), settings).delta
    close = {"rtol": 1e-6, "atol": 1e-9 * expected.abs().max().item()}
    torch.testing.assert_close(again, expected[order], **close)
    monkeypatch.setattr("study.compute.problems.ROW_NUMBERS", 5 * len(trained.theta))
    monkeypatch.setattr("study.compute.objective.PIECE", 2 * objective.rows)
    pieces = estimators.predict(Fitted(trained.problem, trained.theta, trained.target), settings).delta
    torch.testing.assert_close(pieces, expected, **close)
