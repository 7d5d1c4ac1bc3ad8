"""The command line, typed as a user would."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.experiments import study, tiny

WITHOUT_TORCH = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ImportError("torch is blocked")
sys.meta_path.insert(0, Block())
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ran")
    tiny(folder)
    done = study(folder, "run", "tiny.toml", "--workers", "2")
    assert done.returncode == 0, done.stderr
    (folder / "stdout").write_text(done.stdout)
    (folder / "stderr").write_text(done.stderr)
    return folder


def test_run_prints_agreement_and_the_figures(ran: Path) -> None:
    printed = (ran / "stdout").read_text()
    assert "spearman" in printed
    assert "certified" in printed
    assert "2/2" not in printed  # two seeds × two test rows: four correlations a cell
    assert "4/4" in printed
    figures = [Path(line.removeprefix("figure: ")) for line in printed.splitlines() if line.startswith("figure: ")]
    assert figures
    assert all((ran / figure).is_file() for figure in figures)


def test_progress_is_plain_lines_on_standard_error(ran: Path) -> None:
    progress = (ran / "stderr").read_text()
    assert "4/4 trials done" in progress
    assert "left" in progress
    assert "\r" not in progress


def test_a_second_run_trains_nothing(ran: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (ran / "results/tiny/records").iterdir()}
    done = study(ran, "run", "tiny.toml")
    assert done.returncode == 0
    assert "4 done, 0 failed, 0 to run" in done.stdout
    assert before == {path: path.stat().st_mtime_ns for path in (ran / "results/tiny/records").iterdir()}


def test_dry_run_predicts_and_writes_nothing(tmp_path: Path) -> None:
    tiny(tmp_path)
    done = study(tmp_path, "run", "tiny.toml", "--dry-run", "--set", "seed=5")
    assert done.returncode == 0
    assert "2 trials" in done.stdout
    assert "26 networks" in done.stdout  # two trials × (base + 2 protocols × (null + 5 removals))
    assert "MB of records" in done.stdout
    assert "on 1 worker," in study(tmp_path, "run", "tiny.toml", "--dry-run", "--workers", "1").stdout
    assert study(tmp_path, "status", "tiny.toml", "--workers", "1").stdout.endswith("on 1 worker\n")
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_export_has_the_columns_of_the_contract(ran: Path, ending: str) -> None:
    assert study(ran, "export", "tiny.toml", "--out", f"pairs.{ending}").returncode == 0
    pairs = getattr(pd, f"read_{ending}")(ran / f"pairs.{ending}")
    assert list(pairs.columns) == [
        *("experiment", "trial", "seed", "model.depth", "estimator", "protocol", "train_row", "test_row"),
        *("predicted", "actual", "actual_raw", "flag"),
    ]
    assert len(pairs) == 4 * 2 * 5 * 2  # trials × protocols × removed rows × test rows
    assert set(pairs["test_row"]) == {83, 10}
    assert pairs[["predicted", "actual", "actual_raw"]].notna().all().all()


def test_what_is_left_out_is_said(ran: Path, tmp_path: Path) -> None:
    shutil.copytree(ran / "results", tmp_path / "results")
    shutil.copy(ran / "tiny.toml", tmp_path)
    assert study(tmp_path, "export", "tiny.toml", "--out", "whole.csv").stderr == ""
    first, second, *_ = sorted((tmp_path / "results/tiny/records").iterdir())
    first.unlink()
    second.write_bytes(second.read_bytes()[:-9])
    for command in (("export", "tiny.toml", "--out", "part.csv"), ("tables", "tiny.toml")):
        done = study(tmp_path, *command)
        assert done.returncode == 0
        assert done.stderr == "left out: 1 without a record and 1 damaged, of 4 trials; `study run` computes them\n"
    assert len(pd.read_csv(tmp_path / "part.csv")) == len(pd.read_csv(tmp_path / "whole.csv")) / 2


def test_the_name_is_no_value_to_set(ran: Path) -> None:
    done = study(ran, "run", "tiny.toml", "--set", "name=other")
    assert done.returncode == 2
    assert "copy the spec" in done.stderr
    assert not (ran / "results/other").exists()


def test_an_experiment_goes_by_the_name_of_its_results(ran: Path, tmp_path: Path) -> None:
    """The spec lies neither in experiments/ nor under the name that is typed."""
    shutil.copytree(ran / "results", tmp_path / "results")
    assert "4 done, 0 pending" in study(tmp_path, "status", "tiny").stdout
    assert study(tmp_path, "export", "tiny", "--out", "pairs.csv").returncode == 0
    assert "tiny: 4/4 trials done" in study(tmp_path, "list").stdout


def test_list_says_where_it_found_no_spec(tmp_path: Path) -> None:
    assert "no TOML file in the folder experiments" in study(tmp_path, "list").stdout


def test_export_of_trials(ran: Path) -> None:
    assert study(ran, "export", "tiny.toml", "--out", "t.csv", "--table", "trials").returncode == 0
    assert len(pd.read_csv(ran / "t.csv")) == 4 * 2


def test_status_and_list_and_check(ran: Path) -> None:
    assert "4 done, 0 pending, 0 failed" in study(ran, "status", "tiny.toml").stdout
    assert study(ran, "check").returncode == 0
    (ran / "experiments").mkdir(exist_ok=True)
    (ran / "experiments/tiny.toml").write_text((ran / "tiny.toml").read_text())
    assert "tiny: 4/4 trials done" in study(ran, "list").stdout


def test_tables_and_figures_are_rebuilt_without_torch(ran: Path) -> None:
    site = ran / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(WITHOUT_TORCH)
    (ran / "results/tiny/tables/cells.csv").unlink()
    root = str(Path(__file__).parent.parent)
    for command in ("tables", "figures"):
        done = study(ran, command, "tiny.toml", PYTHONPATH=f"{site}:{root}")
        assert done.returncode == 0, done.stderr
    assert (ran / "results/tiny/tables/cells.csv").is_file()
    blocked = study(ran, "run", "tiny.toml", "--set", "seed=99", "--results", "none", PYTHONPATH=f"{site}:{root}")
    assert blocked.returncode == 1  # the block works: computing does need torch


def test_report_cite_and_show_are_derived_from_records(ran: Path) -> None:
    assert study(ran, "report", "tiny.toml").returncode == 0
    assert "<table" in (ran / "results/tiny/report.html").read_text()
    assert "report.html" in (ran / "results/index.html").read_text()
    cited = study(ran, "cite", "tiny.toml")
    assert cited.returncode == 0, cited.stderr
    assert "@" in cited.stdout
    assert "newcommand" in (ran / "results/tiny/citation/numbers.tex").read_text()
    key = sorted((ran / "results/tiny/records").iterdir())[0].stem
    shown = study(ran, "show", key[:10])
    assert key in shown.stdout
    assert study(ran, "show", "0" * 64).returncode == 2


def test_a_damaged_record_is_found_and_computed_again(ran: Path) -> None:
    target = sorted((ran / "results/tiny/records").iterdir())[0]
    whole = target.read_bytes()
    for damage in (whole[:-1], whole[:300], b"", whole[:400] + bytes([whole[400] ^ 1]) + whole[401:]):
        target.write_bytes(damage)
        checked = study(ran, "check", "tiny.toml")
        assert checked.returncode == 1
        assert target.name in checked.stdout
    done = study(ran, "run", "tiny.toml")
    assert "3 done" in done.stdout
    assert study(ran, "check", "tiny.toml").returncode == 0


def own_files(folder: Path) -> None:
    """The tiny spec about the user's own data and network, one trial."""
    rows = "\n".join(f"{n % 7},{(3 * n) % 11},{'yes' if n % 7 > 3 else 'no'}" for n in range(24))
    (folder / "mine.csv").write_text(f"a,b,label\n{rows}\n")
    (folder / "mine.py").write_text(
        "from torch import nn\ndef network(inputs, outputs): return nn.Linear(inputs, outputs)\n"
    )
    spec = tiny(folder, steps=20, seeds=1)
    text = spec.read_text().replace('"model.depth" = [1, 2]', "").replace('kind = "mlp"', 'kind = "mine:network"')
    own = 'name = "mine.csv"\ntarget = "label"\ntask = "classification"'
    spec.write_text(text.replace('name = "iris"', own).replace("[83, 10]", "[3, 4]"))


def test_records_are_read_without_the_data_and_the_factory(tmp_path: Path) -> None:
    own_files(tmp_path)
    done = study(tmp_path, "run", "tiny.toml", "--workers", "1")
    assert done.returncode == 0, done.stderr
    (tmp_path / "mine.csv").unlink()
    (tmp_path / "mine.py").write_text("def network(inputs): ...  # has changed since")
    stored = "results/tiny/spec.toml"
    assert "1 done, 0 pending" in study(tmp_path, "status", stored).stdout
    for command in (["tables"], ["figures"], ["cite"], ["export", "--out", "pairs.csv"]):
        done = study(tmp_path, command[0], stored, *command[1:])
        assert done.returncode == 0, done.stderr
    done = study(tmp_path, "report")
    assert (done.stderr, done.stdout) == ("", "results/tiny/report.html\nresults/index.html\n")
    assert study(tmp_path, "run", stored).returncode == 2  # what is computed is computed from the files themselves
    (tmp_path / "experiments").mkdir()
    (tmp_path / "tiny.toml").rename(tmp_path / "experiments/tiny.toml")
    done = study(tmp_path, "report")
    assert done.stderr.count("\n") == 1
    assert f"{stored} is read in its place" in done.stderr
    assert "results/tiny/report.html" in done.stdout


def test_an_experiment_that_cannot_be_read_is_named_once(ran: Path, tmp_path: Path) -> None:
    shutil.copytree(ran / "results", tmp_path / "results")
    (tmp_path / "results/tiny/spec.toml").write_text("damaged")
    done = study(tmp_path, "report")
    assert done.stderr.count("tiny is left out") == 1


def test_tables_of_an_overridden_sweep_say_so(ran: Path, tmp_path: Path) -> None:
    shutil.copytree(ran, tmp_path, dirs_exist_ok=True)
    done = study(tmp_path, "run", "tiny.toml", "--set", "seed=1")
    assert done.returncode == 0, done.stderr
    assert "tiny: Is it quick? (--set seed=1)" in done.stdout
    assert "cover only the sweep of --set seed=1; `study figures tiny.toml` brings back" in done.stdout
    notes = [tmp_path / "results/tiny" / part / "overrides.txt" for part in ("tables", "figures")]
    assert [note.read_text() for note in notes] == ["--set seed=1\n"] * 2
    assert len(pd.read_csv(tmp_path / "results/tiny/tables/trials.csv")) == 2 * 2
    assert study(tmp_path, "tables", "tiny.toml").returncode == 0
    assert [note.exists() for note in notes] == [False, True]
    assert len(pd.read_csv(tmp_path / "results/tiny/tables/trials.csv")) == 4 * 2
    assert study(tmp_path, "figures", "tiny.toml").returncode == 0
    assert [note.exists() for note in notes] == [False, False]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "nowhere.toml"], "nowhere.toml"),
        (["run", "tiny.toml", "--set", "model.dept=3"], "model.depth"),
        (["run", "tiny.toml", "--set", "training.optimizer=adma"], "adam"),
        (["run", "tiny.toml", "--set", "points.train_count=1000"], "148"),
        (["run", "tiny.toml", "--workers", "0"], "0"),
        (["run", "tiny.toml", "--workers", "1", "--scheduler", "tcp://x:1"], "one of them"),
        (["tables", "tiny.toml"], "study run tiny"),
        (["nonsense"], "nonsense"),
    ],
)
def test_wrong_use_is_one_message_and_exit_code_2(tmp_path: Path, arguments: list[str], said: str) -> None:
    tiny(tmp_path)
    done = study(tmp_path, *arguments)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("device", ["abacus"])
def test_a_device_that_is_not_there_fails_no_trial(tmp_path: Path, device: str) -> None:
    tiny(tmp_path)
    done = study(tmp_path, "run", "tiny.toml", "--workers", "1", "--device", device)
    assert done.returncode == 2, done.stderr
    assert f"--device {device}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "results/tiny/failures").exists()


def test_an_unreachable_scheduler_is_said(tmp_path: Path) -> None:
    tiny(tmp_path)
    done = study(tmp_path, "run", "tiny.toml", "--scheduler", "tcp://127.0.0.1:1")
    assert done.returncode == 2
    assert "tcp://127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr
