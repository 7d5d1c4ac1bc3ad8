"""Retraining over several seeds, and unpaired, against a plain loop; what is recorded of replicas."""

from collections import Counter

import numpy as np
import pytest
import torch

from study import costs
from study.compute import batches, certificates, flags, protocols
from study.compute.protocols import cold_seeds
from study.compute.seeds import COLD, COLD_SEEDS, derived
from study.compute.trial import run_unit
from study.errors import StudyError
from study.records import to_bytes
from study.specs import Cold, ColdSeeds
from study.sweep import sizes
from tests import cases
from tests.test_protocols import job_of

STEPS = 40
ADAM = {
    "training.optimizer": "adam",
    "training.steps": STEPS,
    "training.learning_rate": 0.02,
    "training.batch_size": 30,
    "points.train": "random",
    "points.train_count": 4,
    "seed": 3,
}


def by_hand(p, weights, seed):
    """One network from its seed by torch.optim, with its seed's batch order."""
    module, objective = cases.plain_module(p.network), p.objective
    torch.nn.utils.vector_to_parameters(p.network.initial(seed), module.parameters())
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02, weight_decay=0.01)
    n = objective.rows
    for rows, _ in zip(batches.rows(seed, n, 30, stage=0), range(STEPS), strict=False):
        optimizer.zero_grad()
        losses = cases.plain_losses(module(objective.x[rows]), objective.y[rows], objective.task)
        (weights[rows] * n / 30 * losses).sum().backward()
        optimizer.step()
    return torch.nn.utils.parameters_to_vector(module.parameters()).detach()


def losses(p, theta):
    return cases.plain_losses(cases.plain_outputs(p.network, p.target.x)(theta), p.target.y, p.target.task).numpy()


@pytest.mark.parametrize("paired", [True, False])
def test_replicas_are_a_plain_loop_over_seeds(tmp_path, paired):
    protocol = {"kind": "cold_seeds", "count": 3, "paired": paired}
    record = cases.record(tmp_path, {**ADAM, "protocols": [protocol]})
    p = cases.fitted(tmp_path, ADAM).problem
    rows = np.searchsorted(record.arrays["train_rows"], record.arrays["removed_rows"])
    weights = torch.cat([p.weights, p.removal_weights(torch.tensor(rows))])
    seeds = [[derived(3, COLD_SEEDS, k, *([] if paired else [b])) for b in range(5)] for k in range(3)]
    theta = [torch.stack([by_hand(p, weights[b], seeds[k][b]) for b in range(5)]) for k in range(3)]
    values = np.array([[losses(p, one) for one in replica] for replica in theta])
    base = losses(p, torch.from_numpy(record.arrays["base_parameters"].copy()))
    effects = values[:, 1:] - values[:, :1]
    expected = {
        "effects": effects,
        "actual": effects.mean(axis=0),
        "actual_raw": values[:, 1:].mean(axis=0) - base,
        "standard_error": effects.std(axis=0, ddof=1) / np.sqrt(3),
        "null": values[:, 0].mean(axis=0) - base,
        "actual_norm": np.mean([(one[1:] - one[:1]).norm(dim=1).numpy() for one in theta], axis=0),
        "null_norm": np.mean([(one[0] - torch.from_numpy(record.arrays["base_parameters"])).norm() for one in theta]),
    }
    for name, numbers in expected.items():
        np.testing.assert_allclose(record.arrays[f"{name}/cold_seeds"], numbers, rtol=1e-7, atol=1e-10, err_msg=name)
    own = record.header["protocols"]["cold_seeds"]
    assert (own["count"], own["paired"], own["flags"]) == (3, paired, [])
    p_objective = [certificates.certify(p.objective, one, weights, p.target, 1e-9) for one in theta]
    worst = np.max([found.gradient_norm for found in p_objective], axis=0)
    np.testing.assert_allclose(record.arrays["certificate/cold_seeds/gradient_norm"], worst, rtol=1e-6)
    assert record.arrays["certificate/cold_seeds/delta_error"].shape == (5, 3)


def test_unpaired_cold_networks_have_each_a_seed_of_its_own(tmp_path):
    fitted = cases.fitted(tmp_path, ADAM)
    job = job_of(fitted, [3, 7])
    [paired], [free] = (protocols.retrain([job], Cold(paired=paired)) for paired in (True, False))
    assert torch.equal(paired.theta[0], fitted.theta)
    for place in range(3):
        expected = by_hand(fitted.problem, job.weights[place], derived(3, COLD, place))
        torch.testing.assert_close(free.theta[place], expected, rtol=1e-9, atol=1e-9)
    assert (free.theta - paired.theta).norm(dim=1).min() > 0.1


def test_no_two_networks_share_a_seed():
    trials = [*range(200), 2**40 + 200, 2**63 - 1]
    places = [(COLD, 0), (COLD, 5), *((COLD_SEEDS, k) for k in range(12)), *((COLD_SEEDS, k, b) for k in (0, 1) for b in (0, 9))]
    seeds = Counter(derived(seed, *path) for seed in trials for path in places)
    seeds.update(trials)
    assert set(seeds.values()) == {1}
    assert max(seeds) < 2**63
    assert len({seed & 0xFFFFFFFF for seed in seeds}) == len(seeds)  # what torch initialises from
    # a change here changes what every record of these protocols holds
    assert derived(0, COLD_SEEDS, 0) == 5769891174451087230


def test_more_replicas_keep_those_there_are(tmp_path):
    few, many = (
        cases.record(tmp_path, {**ADAM, "protocols": [{"kind": "cold_seeds", "count": count}]}).arrays["effects/cold_seeds"]
        for count in (2, 4)
    )
    assert np.array_equal(few, many[:2])


@pytest.mark.parametrize("held", [cold_seeds.HELD_NUMBERS, 1])
def test_stacked_with_others_or_in_rounds_the_bits_are_the_same(tmp_path, monkeypatch, held):
    changes = {**ADAM, "protocols": [{"kind": "cold_seeds", "count": 2}, {"kind": "cold", "paired": False}]}
    trials = cases.trials(tmp_path, changes, {"training.weight_decay": [0.01, 0.1], "seed": [0, 1]})
    alone = run_unit(trials[1:2])[0]
    monkeypatch.setattr(cold_seeds, "HELD_NUMBERS", held)
    together = run_unit(trials)[1]
    assert alone.key == together.key
    for name, values in alone.arrays.items():
        np.testing.assert_array_equal(values, together.arrays[name], err_msg=name)


def test_where_there_is_one_minimum_seeds_do_not_matter(tmp_path):
    changes = {"model.kind": "linear", "training.polish": True, "points.train": "random", "points.train_count": 6}
    kinds = [{"kind": "stationary"}, {"kind": "cold_seeds", "count": 3}]
    for paired in (True, False):
        arrays = cases.record(tmp_path, {**changes, "protocols": [kinds[0], {**kinds[1], "paired": paired}]}).arrays
        assert arrays["standard_error/cold_seeds"].max() < 1e-9
        np.testing.assert_allclose(arrays["actual/cold_seeds"], arrays["actual/stationary"], rtol=0, atol=1e-9)
        assert np.abs(arrays["actual/stationary"]).max() > 1e-4
        assert arrays["certificate/cold_seeds/certified"].all()


def test_pairing_the_randomness_takes_noise_away(tmp_path):
    changes = {**ADAM, "training.steps": 400, "points.train_count": 12}
    found = [
        cases.record(tmp_path, {**changes, "protocols": [{"kind": "cold_seeds", "count": 8, "paired": paired}]}).arrays
        for paired in (True, False)
    ]
    paired, free = (np.median(arrays["standard_error/cold_seeds"]) for arrays in found)
    assert free > 3 * paired > 0
    # unpaired, the spread of an effect is that of the difference of two independent networks: the nulls' own, twice
    assert not np.array_equal(found[0]["actual/cold_seeds"], found[1]["actual/cold_seeds"])


def test_the_worst_of_replicas_is_certified_only_where_all_are():
    parts = {
        "gradient_norm": [[1.0, np.nan], [2.0, 3.0]], "positive_definite": [[True, True], [True, False]],
        "curvature_shift": [[0.1, 0.3], [0.2, 0.1]], "delta_error": [[[1.0, 5.0], [2.0, 0.0]], [[3.0, 4.0], [0.0, 1.0]]],
        "certified": [[True, True], [True, False]], "segment_excess": [[-1.0, 2.0], [0.0, 1.0]],
        "another_basin": [[False, True], [False, False]],
    }  # fmt: skip
    several = [certificates.Certificate(**{name: np.array(both[k]) for name, both in parts.items()}) for k in (0, 1)]
    found = certificates.worst(several)
    np.testing.assert_array_equal(found.gradient_norm, [2.0, np.nan])
    assert found.positive_definite.tolist() == found.certified.tolist() == [True, False]
    assert found.curvature_shift.tolist() == [0.2, 0.3]
    assert found.delta_error.tolist() == [[3.0, 5.0], [2.0, 1.0]]
    assert found.segment_excess.tolist() == [0.0, 2.0]
    assert found.another_basin.tolist() == [False, True]
    assert certificates.worst(several[:1]) is several[0]


def test_a_removal_is_flagged_where_any_replica_is(tmp_path):
    fitted = cases.fitted(tmp_path, {**ADAM, "training.steps": 300})
    job = job_of(fitted, [3, 7, 9])
    [outcome] = protocols.retrain([job], ColdSeeds(count=3))
    theta = outcome.theta.clone()
    theta[4 + 1], theta[8 + 2] = torch.nan, 1e-4  # removal 0 of the second replica, removal 1 of the third
    outcome = cases.replace(outcome, theta=theta)
    certificate = certificates.worst(
        [certificates.certify(fitted.problem.objective, some, job.weights, fitted.target, 1e-9) for some in outcome.stacks]
    )
    reasons = flags.of_removals("cold_seeds", job, outcome, certificate)
    assert reasons[0] == "diverged"
    assert reasons[1].startswith("collapsed")
    assert "diverged" not in reasons[2]


def test_costs_count_every_replica(tmp_path):
    [one], [ten] = (
        cases.trials(tmp_path, {**ADAM, "protocols": [protocol]})
        for protocol in ({"kind": "cold"}, {"kind": "cold_seeds", "count": 10})
    )
    networks = [costs.networks(trial.settings, sizes(trial)) for trial in (one, ten)]
    assert networks == [6, 51]
    seconds = [costs.seconds(trial.settings, sizes(trial)) for trial in (one, ten)]
    fixed = costs.base_seconds(one.settings, sizes(one)) + 0.05
    assert seconds[1] - fixed == pytest.approx(10 * (seconds[0] - fixed))


def test_the_size_of_a_record_is_foreseen(tmp_path):
    changes = {
        **ADAM,
        "data.test_rows": list(range(0, 150, 5)),
        "points.train_count": 40,
        "protocols": [{"kind": "cold_seeds", "count": 10}],
    }
    [trial] = cases.trials(tmp_path, changes)
    foreseen = costs.record_bytes(trial.settings, sizes(trial))
    assert len(to_bytes(cases.record(tmp_path, changes))) == pytest.approx(foreseen, rel=0.1)


@pytest.mark.parametrize("count", [1, 0, 2.5])
def test_fewer_than_two_replicas_are_refused(tmp_path, count):
    with pytest.raises(StudyError, match="count"):
        cases.trials(tmp_path, {**ADAM, "protocols": [{"kind": "cold_seeds", "count": count}]})
