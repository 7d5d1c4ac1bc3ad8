"""FastIF on Dask workers gives the numbers of the serial run, for the rows near each test point only."""

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from distributed import Client, LocalCluster

from study import explain as explaining
from study import trials
from study.cli import main
from study.compute import estimators, fastif, neighbours
from study.compute.problems import Fitted, problem
from study.compute.trial import run_unit
from study.errors import StudyError
from study.evidence.store import Store
from tests import cases

LISSA = {"kind": "lissa", "name": "walk", "depth": 150, "repeats": 3, "batch_size": 4, "scale": 30.0}
TESTS = {"data.test_rows": [83, 20, 120, 7, 60], "points.test": {"rows": [120, 20, 7]}}
FEW = {"points.train": "random", "points.train_count": 2, **TESTS}


@pytest.fixture(scope="module")
def client():
    """A cluster within this process, of two threads."""
    options = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "dashboard_address": None}
    with LocalCluster(silence_logs="CRITICAL", **options) as cluster, Client(cluster) as connection:
        yield connection


def filled(folder, changes):
    """The experiment of one trial, its store, and its record."""
    [trial] = cases.trials(folder, {**FEW, **changes})
    experiment, [record] = trials.load(folder / "case.toml"), run_unit([trial])
    store = Store(folder / "results", experiment.name)
    store.write(record)
    return experiment, store, record


def serial(experiment, record, layer, count):
    """Neighbours [T, k] and predicted changes [T, k], from the record and from lissa itself, all rows at once."""
    [trial] = experiment.trials
    p = problem(trial)
    chosen = [p.split.test_rows.tolist().index(row) for row in record.arrays["test_rows"]]
    theta = torch.from_numpy(record.arrays["base_parameters"].copy())
    fitted = Fitted(p, theta, p.target.rows(torch.tensor(chosen)))
    [settings] = [e for e in trial.settings.estimators if e.kind == "lissa"]
    near = neighbours.nearest(*neighbours.features(p, theta, np.array(chosen), layer), count)
    whole = estimators.predict(fitted, settings).delta.numpy()
    np.testing.assert_array_equal(whole, record.arrays[f"predicted/{settings.name}"])
    return near, np.stack([whole[rows, t] for t, rows in enumerate(near)])


@pytest.mark.parametrize(
    ("changes", "workers"),
    [
        ({}, 1),
        ({}, 2),
        ({}, 7),
        ({"points.removal": "renormalise", "points.fraction": 0.5}, 2),
        ({"estimators": [{**LISSA, "batch_size": "full", "parameters": "last_layer", "matrix": "gauss_newton"}]}, 4),
        ({"estimators": [{**LISSA, "repeats": 2, "depth": 2000, "scale": 60.0, "until": 0.05}]}, 2),
        ({"target": "margin", "training.weight_decay": 0.05, "estimators": [{**LISSA, "damping": 0.01}]}, 3),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else ", ".join(value) or "plain",
)
def test_the_pipeline_gives_the_numbers_of_the_serial_run(tmp_path, client, monkeypatch, changes, workers):
    experiment, store, record = filled(tmp_path, {"estimators": [LISSA], **changes})
    near, predicted = serial(experiment, record, "layer1", 12)
    asked = explaining.ask(experiment, store, None, None, "layer1", 12)
    if asked.estimator.until:
        assert 100 <= record.header["estimators"]["walk"]["depth_used"] < 2000
    monkeypatch.setattr(client, "nthreads", lambda: {f"worker {number}": 1 for number in range(workers)})
    rows = explaining.explain(asked, client)
    assert [(row[0], row[2]) for row in rows] == [(test, place) for test in (120, 20, 7) for place in range(12)]
    assert [row[1] for row in rows] == record.arrays["train_rows"][near].ravel().tolist()
    changes = [row[3] for row in rows]
    np.testing.assert_allclose(changes, predicted.ravel(), rtol=0, atol=1e-12 * np.abs(predicted).max())


def test_repeats_and_test_points_are_dealt_out_once_each():
    for repeats, tests, workers in ((1, 1, 4), (8, 3, 4), (3, 5, 8), (5, 2, 2), (2, 7, 64)):
        dealt = list(fastif.pieces(repeats, tests, workers))
        pairs = [(r, t) for piece in dealt for r in piece.repeats for t in piece.tests]
        assert sorted(pairs) == [(r, t) for r in range(repeats) for t in range(tests)]
        assert min(workers, repeats * tests) / 2 <= len(dealt) <= 2 * workers


def test_a_part_of_the_repeats_draws_the_rows_that_it_has_in_all(tmp_path):
    """The estimates of single repeats differ, and their mean is the whole estimate's."""
    experiment, _, record = filled(tmp_path, {"estimators": [LISSA]})
    [trial] = experiment.trials
    question = fastif.Question(
        trial, record.arrays["base_parameters"].copy(), np.arange(2), trial.settings.estimators[0], 150, "input", 3
    )
    alone = [fastif.estimates(question, fastif.Piece(range(r, r + 1), range(2)))[1] for r in range(3)]
    together = fastif.estimates(question, fastif.Piece(range(3), range(2)))[1]
    np.testing.assert_allclose(np.concatenate(alone), together, rtol=0, atol=1e-12 * np.abs(together).max())
    assert np.abs(together[0] - together[1]).max() > 1e-3 * np.abs(together).max()


@pytest.mark.slow
def test_the_command_with_two_processes(tmp_path):
    experiment, _, record = filled(tmp_path, {"estimators": [{"kind": "exact"}, LISSA]})
    near, predicted = serial(experiment, record, "layer1", 9)
    out = tmp_path / "why.csv"
    done = CliRunner().invoke(main, ["explain", str(experiment.path), "--results", str(tmp_path / "results"), "--out",
                                     str(out), "--neighbours", "9", "--features", "layer1", "--workers", "2",
                                     "--trial", record.key[:8], "--estimator", "walk"])  # fmt: skip
    assert done.exit_code == 0, done.output
    table = pd.read_csv(out)
    assert list(table.columns) == ["test_row", "train_row", "neighbour", "predicted"]
    assert table["test_row"].tolist() == np.repeat([120, 20, 7], 9).tolist()
    assert table["neighbour"].tolist() == [*range(9)] * 3
    np.testing.assert_array_equal(table["train_row"], record.arrays["train_rows"][near].ravel())
    np.testing.assert_allclose(table["predicted"], predicted.ravel(), rtol=0, atol=1e-12 * np.abs(predicted).max())
    for flag in record.header["estimators"]["walk"]["flags"]:
        assert f"walk is flagged {flag} on this network" in done.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--neighbours", "146"], "--neighbours 146: there are only 145 training rows"),
        (["--features", "layer2"], 'no such layer; it has: "input", "layer1", "output"'),
        (["--estimator", "exact"], 'no such estimator of kind lissa; it has: "walk"'),
        (["--trial", "ffffff0"], "has no trial whose key starts so"),
        (["--out", "why.txt"], "end the name in .parquet or .csv"),
        (["--workers", "2", "--scheduler", "tcp://localhost:1"], "give one of them"),
        (["--neighbours", "0"], "0 is not in the range x>=1"),
        (["--results", "elsewhere"], "has no record of such a trial"),
    ],
    ids=lambda given: given[0] if isinstance(given, list) else "",
)
def test_what_cannot_be_answered_is_refused(tmp_path, options, message):
    experiment, _, _ = filled(tmp_path, {"estimators": [{"kind": "exact"}, LISSA]})
    given = [
        "explain",
        str(experiment.path),
        "--results",
        str(tmp_path / "results"),
        "--out",
        str(tmp_path / "why.csv"),
    ]
    done = CliRunner().invoke(main, [*given, *options])
    assert done.exit_code == 2
    assert message in done.output
    assert not (tmp_path / "why.csv").exists()


def test_a_trial_without_lissa_is_refused(tmp_path):
    experiment, store, _ = filled(tmp_path, {})
    with pytest.raises(StudyError, match="no such estimator of kind lissa; it has none"):
        explaining.ask(experiment, store, None, None, "input", 3)


def test_digits_that_several_keys_share_are_too_few(tmp_path):
    changes = {**FEW, "estimators": [LISSA]}
    several = cases.trials(tmp_path, changes, {"seed": list(range(17))})
    experiment, store = trials.load(tmp_path / "case.toml"), Store(tmp_path / "results", "case")
    for record in run_unit(several):
        store.write(record)
    firsts = [trial.key[0] for trial in several]
    shared = next(digit for digit in firsts if firsts.count(digit) > 1)
    with pytest.raises(StudyError, match="give more digits of the key"):
        explaining.ask(experiment, store, shared, None, "input", 3)
    assert explaining.ask(experiment, store, None, None, "input", 3).trial.key == several[0].key
    assert explaining.ask(experiment, store, several[3].key, None, "input", 3).trial.key == several[3].key
