"""Sweeps on processes: interrupted, killed, doubled, distributed; what is stored is always the same."""

import asyncio
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from study import costs, interrupts, trials, workers
from study.errors import StudyError
from study.evidence.store import Store
from study.progress import Progress, duration
from study.records import Failure, Record
from study.sweep import check_worker, plan, run_unit
from tests.experiments import environment, listen_to_interrupts, start, study, tiny

KILLS = 20


def pairs(folder: Path) -> pd.DataFrame:
    done = study(folder, "export", "tiny.toml", "--out", "pairs.parquet")
    assert done.returncode == 0, done.stderr
    return pd.read_parquet(folder / "pairs.parquet")


def undisturbed(folder: Path, **sizes: int) -> pd.DataFrame:
    tiny(folder, **sizes)
    assert study(folder, "run", "tiny.toml", "--workers", "1").returncode == 0
    return pairs(folder)


def many_units(folder: Path) -> Path:
    """The tiny spec with 12 architectures × 3 seeds: 12 units of about a second each."""
    spec = tiny(folder, steps=3000, seeds=3)
    widths = ", ".join(map(str, range(2, 14)))
    spec.write_text(spec.read_text().replace('"model.depth" = [1, 2]', f'"model.width" = [{widths}]'))
    return spec


def wait_for_more(process: subprocess.Popen[str], records: Path, before: int) -> None:
    while process.poll() is None and len(list(records.glob("*.npz"))) <= before:
        time.sleep(0.05)


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed(tmp_path: Path) -> None:
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    whole.mkdir(), torn.mkdir()
    many_units(torn)
    generator, records = random.Random(0), torn / "results/tiny/records"
    seen: dict[str, int] = {}
    inside = 0
    for kill_number in range(KILLS):
        if len(seen) == 36:  # nothing is left to be killed in: begin again
            shutil.rmtree(torn / "results")
            seen = {}
        process = start(torn, "run", "tiny.toml", "--workers", "2")
        if kill_number % 5:  # every fifth falls where it falls, mostly while workers start
            wait_for_more(process, records, len(seen))
        time.sleep(generator.uniform(0, 1))
        if kill_number % 2:
            os.killpg(process.pid, signal.SIGKILL)  # the whole machine goes down
        else:
            process.kill()  # only the command: its workers must notice
        process.communicate()
        now = {path.name: path.stat().st_mtime_ns for path in records.glob("*.npz")}
        assert seen.items() <= now.items()  # a finished record was not computed again
        inside += 0 < len(now) < 36
        seen = now
    assert inside > KILLS // 2
    assert study(torn, "run", "tiny.toml").returncode == 0
    now = {path.name: path.stat().st_mtime_ns for path in records.glob("*.npz")}
    assert seen.items() <= now.items()
    assert len(now) == 36
    many_units(whole)
    assert study(whole, "run", "tiny.toml", "--workers", "1").returncode == 0
    pd.testing.assert_frame_equal(pairs(torn), pairs(whole), check_exact=True)


def ctrl_c(folder: Path, said: str, seconds: float, *arguments: str) -> list[str]:
    """What `study …` writes to standard error after Ctrl-C, so long after it said something; it must end with 130."""
    process = start(folder, *arguments)
    assert process.stderr is not None
    while said not in process.stderr.readline():
        assert process.poll() is None
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the command and all its workers
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    return [line for line in errors.splitlines() if line and "trials done" not in line]


@pytest.mark.parametrize(
    ("said", "seconds", "workers"),
    [("starting", 0.7, "2"), ("starting", 1.5, "1"), ("training", 0, "2"), ("training", 1, "1")],
)
def test_ctrl_c_is_answered_in_two_lines(tmp_path: Path, said: str, seconds: float, workers: str) -> None:
    tiny(tmp_path, steps=200_000, seeds=3)
    lines = ctrl_c(tmp_path, said, seconds, "run", "tiny.toml", "--workers", workers)
    assert lines == [
        "stopping: units in flight are discarded, the rest is kept",
        "interrupted: 0 records were written; units in flight are done again: run the same command to continue",
    ]
    assert "6 pending" in study(tmp_path, "status", "tiny.toml").stdout


def test_ctrl_c_after_the_last_unit(tmp_path: Path) -> None:
    tiny(tmp_path, steps=20)
    lines = ctrl_c(tmp_path, "4/4 trials", 0, "run", "tiny.toml", "--workers", "1")
    assert lines[1:] == ["interrupted: 4 records were written: run the same command to continue"]


def test_ctrl_c_while_figures_are_drawn(tmp_path: Path) -> None:
    tiny(tmp_path, steps=20)
    assert study(tmp_path, "run", "tiny.toml", "--results", "kept").returncode == 0
    command = ["--results", "kept"]
    for arguments in (["run", "tiny.toml", "--workers", "1"], ["figures", "tiny.toml"], ["report", "tiny.toml"]):
        shutil.rmtree(tmp_path / "kept/tiny/tables")
        process = start(tmp_path, *arguments, *command)
        while not (tmp_path / "kept/tiny/tables/cells.csv").exists():
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130
        again = "type `study figures tiny.toml --results kept`" if arguments[0] == "run" else "run the same command"
        [line] = filter(None, errors.splitlines())
        assert line.startswith("interrupted: ")
        assert again in line


def test_ctrl_c_in_an_import_ends_the_process(tmp_path: Path) -> None:
    (tmp_path / "pressed.py").write_text("import signal; signal.raise_signal(signal.SIGINT)")
    code = "import signal; from study import interrupts; interrupts.advise()\n"
    for last, status in (("import pressed", 130), ("signal.raise_signal(signal.SIGINT)", -signal.SIGINT)):
        command = [sys.executable, "-c", code + last]
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True, preexec_fn=listen_to_interrupts
        )
        _, errors = process.communicate(timeout=60)
        assert process.returncode == status
        assert ("Traceback" in errors) == (status != 130)


def test_a_worker_that_is_slow_to_die_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(*_: object, **__: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(workers.Nanny, "close", slow)
    assert asyncio.run(workers.DeafNanny.close(object.__new__(workers.DeafNanny))) == "OK"


def test_a_process_that_ignores_interrupts_goes_on_doing_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts.noticed() as interrupt:
            signal.raise_signal(signal.SIGINT)
        assert not interrupt.asked
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_two_runs_on_one_directory_agree_with_one(tmp_path: Path) -> None:
    both, alone = tmp_path / "both", tmp_path / "alone"
    both.mkdir(), alone.mkdir()
    tiny(both)
    processes = [start(both, "run", "tiny.toml", "--workers", "1") for _ in range(2)]
    assert [process.wait(timeout=240) for process in processes] == [0, 0]
    assert study(both, "check", "tiny.toml").returncode == 0
    pd.testing.assert_frame_equal(pairs(both), undisturbed(alone), check_exact=True)


def test_numbers_do_not_depend_on_workers_units_or_order(tmp_path: Path) -> None:
    parts, alone = tmp_path / "parts", tmp_path / "alone"
    parts.mkdir(), alone.mkdir()
    tiny(parts)
    for seed in (1, 0):  # other units, in another order, by two workers
        assert study(parts, "run", "tiny.toml", "--workers", "2", "--set", f"seed={seed}").returncode == 0
    pd.testing.assert_frame_equal(pairs(parts), undisturbed(alone), check_exact=True)


def test_a_scheduler_that_exists_is_used(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    modules = [["distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"],
               ["distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"]]  # fmt: skip
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment(), "cwd": tmp_path}
    processes = [subprocess.Popen([sys.executable, "-m", *module], **quiet) for module in modules]  # type: ignore[call-overload]
    try:
        tiny(tmp_path)
        time.sleep(3)
        done = study(tmp_path, "run", "tiny.toml", "--scheduler", address)
        assert done.returncode == 0, done.stderr
        assert len(list((tmp_path / "results/tiny/records").glob("*.npz"))) == 4
    finally:
        for process in processes:
            process.terminate()
            process.wait(timeout=30)


def test_a_trial_that_raises_is_a_failure_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "def network(inputs, outputs, width):\n"
        "    if width == 4: raise RuntimeError('no width of four')\n"
        "    return nn.Sequential(nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, outputs))\n"
    )
    spec = tiny(tmp_path, steps=20, seeds=1)
    text = (
        spec.read_text()
        .replace('kind = "mlp"', 'kind = "mine:network"')
        .replace('"model.depth" = [1, 2]', '"model.width" = [3, 4]')
    )
    spec.write_text(text)
    done = study(tmp_path, "run", "tiny.toml")
    assert done.returncode == 1
    assert "no width of four" in done.stderr
    assert "1 done, 0 pending, 1 failed" in study(tmp_path, "status", "tiny.toml").stdout
    again = study(tmp_path, "run", "tiny.toml")  # a failure is kept, not retried unasked
    assert "1 failed, 0 to run" in again.stdout
    assert again.returncode == 1
    (tmp_path / "mine.py").write_text((tmp_path / "mine.py").read_text().replace("width == 4", "False"))
    assert study(tmp_path, "run", "tiny.toml").returncode == 0  # the factory is part of the key: all is new


def test_failed_trials_run_again_when_asked(tmp_path: Path) -> None:
    spec = tiny(tmp_path, steps=20, seeds=1)
    experiment = trials.load(spec)
    store = Store(tmp_path / "results", "tiny")
    store.write_failure(Failure(experiment.trials[0].key, {}, "it failed", ""))
    assert (plan(experiment, store).pending, plan(experiment, store).failed) == (1, 1)
    assert plan(experiment, store, retry_failed=True).pending == 2
    assert study(tmp_path, "run", "tiny.toml", "--retry-failed").returncode == 0
    assert store.failed() == set()


def test_stale_failures_and_misplaced_records(tmp_path: Path) -> None:
    experiment = trials.load(tiny(tmp_path, steps=20, seeds=1))
    assert study(tmp_path, "run", "tiny.toml", "--workers", "1").returncode == 0
    store = Store(tmp_path / "results", "tiny")
    first, second = experiment.trials
    store.write_failure(Failure(first.key, {}, "it failed", ""))
    store.failure_path(second.key).write_text("garbage")
    assert (plan(experiment, store).failed, plan(experiment, store).pending) == (0, 0)  # both have succeeded since
    assert "2 done, 0 pending, 0 failed" in study(tmp_path, "status", "tiny.toml").stdout
    store.record_path(second.key).write_bytes(store.record_path(first.key).read_bytes())
    assert study(tmp_path, "check").returncode == 1
    store.clear_failure(second.key)
    assert (plan(experiment, store).damaged, plan(experiment, store).pending) == (1, 1)


def test_workers_with_several_threads_give_the_same_numbers(tmp_path: Path) -> None:
    experiment = trials.load(tiny(tmp_path, steps=20, seeds=8))
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda trial: run_unit([trial], "cpu")[0], experiment.trials))
    for trial, record in zip(experiment.trials, together, strict=True):
        assert isinstance(record, Record)
        [alone] = run_unit([trial], "cpu")
        assert isinstance(alone, Record)
        assert all(np.array_equal(alone.arrays[name], record.arrays[name]) for name in alone.arrays)


FACTORY = """
from torch import nn
def network(inputs, outputs): return nn.Linear(inputs, outputs)
def wide(inputs, outputs): return nn.Linear(inputs, outputs + 1)
def odd(inputs, classes): return nn.Linear(inputs, classes)
def none(inputs, outputs): return None
"""


def with_factory(folder: Path, kind: str, parameters: str = "") -> Path:
    (folder / "mine.py").write_text(FACTORY)
    spec = tiny(folder, steps=20, seeds=1)
    text = spec.read_text().replace('kind = "mlp"', f'kind = "{kind}"').replace('"model.depth" = [1, 2]', "")
    spec.write_text(text.replace('kind = "exact"', f'kind = "exact"\n{parameters}'))
    return spec


@pytest.mark.parametrize(
    ("kind", "parameters", "said"),
    [
        ("mine:wide", "", "one output per class"),
        ("mine:odd", "", "inputs, outputs"),
        ("mine:none", "", "not an nn.Module"),
        ("mine:network", 'parameters = ["foo"]', "weight, bias"),
    ],
)
def test_a_worker_refuses_a_network_that_does_not_fit(tmp_path: Path, kind: str, parameters: str, said: str) -> None:
    experiment = trials.load(with_factory(tmp_path, kind, parameters))
    with pytest.raises(StudyError, match=said):
        check_worker(experiment.trials, "cpu")


def test_what_a_worker_refuses_writes_nothing(tmp_path: Path) -> None:
    with_factory(tmp_path, "mine:wide")
    done = study(tmp_path, "run", "tiny.toml", "--workers", "1")
    assert done.returncode == 2, done.stderr
    assert "one output per class" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "results").exists()


def test_a_factory_that_its_module_does_not_define_is_refused(tmp_path: Path) -> None:
    with_factory(tmp_path, "mine:netwrok")
    done = study(tmp_path, "run", "tiny.toml", "--dry-run")
    assert done.returncode == 2
    assert 'did you mean "network"' in done.stderr


@pytest.mark.parametrize(("factory", "said"), [("odd", '"classes"'), ("FACTORY", "is not a function")])
def test_a_factory_that_cannot_be_called_is_refused_unrun(tmp_path: Path, factory: str, said: str) -> None:
    with_factory(tmp_path, f"mine:{factory}")
    text = FACTORY.replace("from torch import nn", "raise SystemExit('this file must not be run')")
    (tmp_path / "mine.py").write_text(text + "FACTORY = 3\n")
    done = study(tmp_path, "run", "tiny.toml", "--dry-run")
    assert done.returncode == 2, done.stderr
    assert f"{tmp_path / 'mine.py'}: {factory} " in done.stderr
    assert said in done.stderr
    assert "must not be run" not in done.stderr


def test_results_that_cannot_be_written_are_said(tmp_path: Path) -> None:
    tiny(tmp_path, steps=20, seeds=1)
    (tmp_path / "results").write_text("a file where a folder is needed")
    done = study(tmp_path, "run", "tiny.toml")
    assert done.returncode == 2
    assert "results" in done.stderr
    assert "Traceback" not in done.stderr


def test_units_hold_one_family_and_a_bounded_time(tmp_path: Path) -> None:
    experiment = trials.load(tiny(tmp_path, steps=60_000, seeds=200))
    work = plan(experiment, Store(tmp_path / "results", "tiny"))
    assert sum(map(len, work.units)) == 400
    for unit in work.units:
        assert len({trial.settings.model.depth for trial in unit}) == 1
        assert len(unit) <= 64


@pytest.mark.parametrize(("costly", "lanes_filled"), [("networks", True), ("removals", False)])
def test_units_fill_the_vector_lanes_where_networks_cost_more_than_removals(
    tmp_path: Path, costly: str, lanes_filled: bool
) -> None:
    text = (Path(__file__).parent.parent / "experiments" / "digits_depth.toml").read_text()
    if costly == "networks":
        text = text.replace("steps = 5000", "steps = 50000").replace("train_count = 50", "train_count = 1")
    (tmp_path / "digits.toml").write_text(text)
    work = plan(trials.load(tmp_path / "digits.toml"), Store(tmp_path / "results", "digits_depth"))
    assert sum(map(len, work.units)) == 320
    full = []
    for unit in work.units:
        bases = {(t.settings.seed, t.settings.training.weight_decay) for t in unit}
        full.append(len(bases) >= costs.lanes(unit[0].settings))
        assert len(unit) <= 2 * len(bases)  # two rules share a network: no unit is longer than it must be
    # the last unit of each of the four depths and two protocols holds what is left
    assert full.count(False) == 8 if lanes_filled else not any(full)


def test_progress_weighs_units_by_their_cost(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(total=10, done=2, cost=100.0)
    progress.started -= 30  # half a minute ago
    progress.advance(3, 1, 25.0)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "5/10 trials done, 1 failed, about 2 min left"  # a quarter took 30 s
    progress.advance(5, 1, 75.0)
    assert capsys.readouterr().err == "10/10 trials done, 1 failed\n"
    assert [duration(s) for s in (0.1, 5, 89, 600, 7500)] == ["1 s", "5 s", "89 s", "10 min", "2 h 05 min"]
