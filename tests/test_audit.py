"""The audit without any audited package, on invented networks and answers; one slow test asks a real package."""

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from study import trials
from study.audit import PEERS, answers, auditing, environments, exchange, figure, tables
from study.audit.exchange import Question
from study.cli import main
from study.errors import StudyError
from study.evidence.store import Store
from study.records import Record
from study.trials import Experiment

ROOT = Path(__file__).parent.parent
COMMITTED = ROOT / "results" / "audit" / "audit"
SPEC = """
name = "small"
[data]
name = "iris"
test_rows = [83, 10, 50]
[model]
kind = "mlp"
width = 3
[training]
weight_decay = 0.01
{training}
[points]
train = "random"
train_count = 5
[[estimators]]
kind = "{estimator}"
[[protocols]]
kind = "stationary"
"""
GOOD = """
import json, sys
import numpy as np
folder, *problems = sys.argv[1:]
for path in problems:
    with np.load(path) as held:
        shape = (len(held["x"]), len(held["x_test"]))
    rows = [{"method": "ones", "setting": "", "seconds": 0.5, "warning": "", "error": ""},
            {"method": "none", "setting": "", "seconds": 0.1, "warning": "W: loud", "error": "ValueError: no"}]
    report = np.array(json.dumps({"version": "9.9.1", "methods": rows}))
    np.savez(folder + "/" + path.rpartition("/")[2], report=report, **{"predicted/0": np.ones(shape)})
with open(folder + "/cases.json", "w") as file:
    json.dump([{"package": "x", "version": "9.9.1", "claim": "c", "measured": "m", "verdict": "refuted"}], file)
"""


def experiment(folder: Path, estimator: str = "exact", training: str = "") -> Experiment:
    path = folder / "small.toml"
    path.write_text(SPEC.format(estimator=estimator, training=training))
    return trials.load(path)


def record(one: Experiment, estimator: str = "exact", flags: tuple[str, ...] = ()) -> Record:
    """Of a network that nobody trained: 4·3 + 3 + 3·3 + 3 parameters."""
    generator = np.random.default_rng(0)
    header = {
        "schema": 1, "key": one.trials[0].key, "base": {"largest_eigenvalue": 2.0},
        "estimators": {estimator: {"flags": list(flags)}},
    }  # fmt: skip
    arrays = {
        "base_parameters": generator.normal(size=27).astype(np.float32), "test_rows": np.array([83, 10]),
        f"predicted/{estimator}": generator.normal(size=(147, 2)),
    }  # fmt: skip
    return Record(header, arrays)


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Experiment, Store]:
    one = experiment(tmp_path)
    store = Store(tmp_path / "results", one.name)
    store.write(record(one))
    return one, store


def scripted(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """Every package is this script, run by the interpreter of the tests."""
    scripts = folder / "scripts"
    scripts.mkdir()
    for package in PEERS:
        (scripts / f"{package}_peer.py").write_text(script)
    monkeypatch.setattr(answers, "SCRIPTS", scripts)
    monkeypatch.setattr(environments, "exists", lambda package: True)
    monkeypatch.setattr(environments, "python", lambda package: Path(sys.executable))
    monkeypatch.setattr(environments, "frozen", lambda package: f"{package}==9.9\n")
    monkeypatch.setenv("STUDY_CACHE", str(folder / "cache"))


def test_a_problem_is_what_the_script_reads(stored: tuple[Experiment, Store], tmp_path: Path) -> None:
    one, store = stored
    asked = exchange.question(one.trials[0], store.read(one.trials[0].key))
    [path] = exchange.write([asked], tmp_path)
    with np.load(path) as held:
        assert held["dimensions"].tolist() == [4, 3, 3]
        assert str(held["activation"]) == "tanh"
        assert held["theta"].dtype == np.float64
        assert (held["x"].shape, held["x_test"].shape, held["y_test"].tolist()) == ((147, 4), (2, 4), [1, 0])
        assert (float(held["damping"]), float(held["top"])) == (0.01, 2.0)
        np.testing.assert_allclose(held["x"].std(axis=0), 1)
    assert asked.cell == "iris, 27 parameters"


@pytest.mark.parametrize(
    ("training", "estimator", "said"),
    [("decay_biases = false", "exact", "decay_biases"), ("", "ggn", "no estimator of kind exact")],
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, training: str, estimator: str, said: str) -> None:
    one = experiment(tmp_path, estimator, training)
    with pytest.raises(StudyError, match=said):
        exchange.question(one.trials[0], record(one, estimator))


def test_an_indefinite_hessian_is_a_cell_of_its_own(tmp_path: Path) -> None:
    one = experiment(tmp_path)
    assert exchange.question(one.trials[0], record(one, flags=("indefinite",))).cell.endswith(", indefinite")


def test_a_right_answer_measures_as_right_and_a_wrong_one_does_not() -> None:
    exact = np.random.default_rng(1).normal(size=(40, 6))
    right = tables.measured(exact.copy(), exact)
    assert (right["pearson"], right["slope"], right["spearman"]) == (pytest.approx(1), pytest.approx(1), 1)
    assert right["largest_difference"] == 0
    assert tables.measured(3 * exact, exact)["slope"] == pytest.approx(3)
    assert tables.measured(-exact, exact)["pearson"] == pytest.approx(-1)


def test_zeros_and_nans_are_counted_and_left_out_of_the_means() -> None:
    exact = np.random.default_rng(1).normal(size=(40, 6))
    found = exact.copy()
    found[:, 4] = 0
    found[7, 5] = np.nan
    measured = tables.measured(found, exact)
    assert (measured["zero_tests"], measured["nan_tests"], measured["tests"]) == (1, 1, 6)
    assert measured["defined"] == 5  # all but the zeros: a NaN leaves the other rows of its test point
    assert measured["pearson"] == pytest.approx(1)
    nothing = tables.measured(np.full((40, 6), np.nan), exact)
    assert nothing["defined"] == 0
    assert np.isnan([nothing["pearson"], nothing["slope"], nothing["largest_difference"]]).all()


def test_an_audit_writes_tables_predictions_and_a_figure(
    stored: tuple[Experiment, Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, store = stored
    scripted(monkeypatch, tmp_path, GOOD)
    written = auditing.run(one, store, ["captum", "pydvl"], 2, lambda line: None)
    assert {path.suffix for path in written} == {".csv", ".npz", ".txt", ".pdf", ".png", ".svg"}
    assert all(path.stat().st_size for path in written)
    table = pd.read_csv(store.folder / "audit" / "audit.csv", keep_default_na=False)
    assert table["package"].tolist() == ["captum", "captum", "pydvl", "pydvl"]
    assert table["error"].tolist() == ["", "ValueError: no"] * 2
    assert set(table["version"]) == {"9.9.1"}
    assert table["defined"].tolist() == ["0", "", "0", ""]  # ones do not vary: no correlation
    with np.load(store.folder / "audit" / "predictions.npz") as held:
        key = one.trials[0].key
        assert sorted(held.files) == [f"{key}/captum/0", f"{key}/exact", f"{key}/pydvl/0"]
    cases = pd.read_csv(store.folder / "audit" / "defects.csv")
    assert cases["verdict"].tolist() == ["refuted", "refuted"]
    assert (store.folder / "audit" / "environments" / "pydvl.txt").read_text() == "pydvl==9.9\n"


def test_a_package_is_asked_once_until_network_or_script_change(
    stored: tuple[Experiment, Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, store = stored
    counting = GOOD + "open(folder + '/asked.txt', 'a').write('x' * len(problems) + '.')\n"
    scripted(monkeypatch, tmp_path, counting)
    for _ in range(2):
        auditing.run(one, store, ["captum"], 1, lambda line: None)
    log = answers.kept("captum") / "asked.txt"
    assert log.read_text() == "x."
    auditing.forget(["dattri"])
    assert log.is_file()
    changed = record(one)
    changed.arrays["base_parameters"] += 1
    (store.folder / "records" / f"{one.trials[0].key}.npz").unlink()
    store.write(changed)
    auditing.run(one, store, ["captum"], 1, lambda line: None)
    assert log.read_text() == "x.x."
    (tmp_path / "scripts" / "captum_peer.py").write_text(counting + "# other\n")
    auditing.run(one, store, ["captum"], 1, lambda line: None)
    assert (answers.kept("captum") / "asked.txt").read_text() == "x."
    assert log.read_text() == "x.x."
    auditing.forget(["captum"])
    auditing.run(one, store, ["captum"], 1, lambda line: None)
    assert (answers.kept("captum") / "asked.txt").read_text() == "x."


def test_a_script_that_ended_early_goes_on_where_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problems = [tmp_path / f"{name}.npz" for name in "ab"]
    for path in problems:
        np.savez(path, x=np.ones(3), x_test=np.ones(2))
    folder = tmp_path / "out"
    scripted(monkeypatch, tmp_path, GOOD.replace("for path in problems:", "for path in problems[:1]:") + "sys.exit(3)\n")
    assert "exit code 3" in answers.ask("captum", Path(sys.executable), problems, folder)
    first = (folder / "a.npz").stat().st_mtime_ns
    assert not (folder / "b.npz").exists()
    (tmp_path / "scripts" / "captum_peer.py").write_text(GOOD)
    assert answers.ask("captum", Path(sys.executable), problems, folder) == ""
    assert (folder / "b.npz").is_file()
    assert (folder / "a.npz").stat().st_mtime_ns == first


def test_a_script_that_crashes_is_told_and_recorded(
    stored: tuple[Experiment, Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, store = stored
    scripted(monkeypatch, tmp_path, "raise SystemExit('out of cheese')")
    said: list[str] = []
    auditing.run(one, store, ["dattri"], 1, said.append)
    [row] = pd.read_csv(store.folder / "audit" / "audit.csv").to_dict("records")
    assert "exit code 1: out of cheese" in row["error"]
    assert np.isnan(row["pearson"])
    assert any("out of cheese" in line for line in said)
    [case] = pd.read_csv(store.folder / "audit" / "defects.csv").to_dict("records")
    assert case["verdict"] == "undecided"


def test_a_script_that_never_ends_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, tmp_path, "import time; time.sleep(60)")
    monkeypatch.setattr(answers, "LONGEST", 0.2)
    assert "stopped after 0.2 seconds" in answers.ask("captum", Path(sys.executable), [], tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--peers", "captun"], 'did you mean "captum"?'), ([], "has no records"), (["--peers", ","], "has no records")],
)
def test_mistakes_are_told_in_a_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    experiment(tmp_path)
    command = ["audit", str(tmp_path / "small.toml"), "--results", str(tmp_path / "results"), *arguments]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 2
    assert said in done.output
    assert not (tmp_path / "results").exists()


def test_an_environment_that_cannot_be_made_leaves_nothing_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "captum.txt").write_text("no-such-package @ file:///nowhere/at-all.whl\n")
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    monkeypatch.setenv("STUDY_CACHE", str(tmp_path / "cache"))
    with pytest.raises(StudyError, match=r"environment of captum cannot be made.*--peers"):
        environments.python("captum")
    assert list((tmp_path / "cache" / "audit").iterdir()) == []


def test_an_environment_is_kept_until_its_requirements_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "captum.txt").write_text("")
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    monkeypatch.setenv("STUDY_CACHE", str(tmp_path / "cache"))
    assert not environments.exists("captum")
    first = environments.python("captum")
    assert environments.exists("captum")
    assert environments.python("captum") == first
    assert environments.frozen("captum") == ""
    (tmp_path / "captum.txt").write_text("# other\n")
    assert not environments.exists("captum")


@pytest.mark.parametrize("package", PEERS)
def test_requirements_are_exact_and_name_no_place(package: str) -> None:
    lines = (environments.REQUIREMENTS / f"{package}.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in lines)
    [pinned] = [line for line in lines if line.startswith("torch==")]
    assert pinned in (ROOT / "constraints.txt").read_text().splitlines()


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What the scripts share, imported as they do."""
    path = answers.SCRIPTS / "peer.py"
    spec = importlib.util.spec_from_file_location("peer", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "peer", module)
    spec.loader.exec_module(module)
    return module


def kept_question(parameters: int) -> Question:
    """Of a committed network."""
    one = trials.load(ROOT / "experiments" / "audit.toml")
    store = Store(ROOT / "results", one.name)
    found = [exchange.question(trial, store.read(trial.key)) for trial in one.trials]
    return next(asked for asked in found if len(asked.problem["theta"]) == parameters)


def by_torch(problem: object) -> np.ndarray:
    """The exact answer by automatic differentiation of the script's own network, n·(H + dampingI) as one dense matrix."""
    import torch
    from torch.func import functional_call, hessian, jacrev

    network = problem.network()  # type: ignore[attr-defined]
    names = [name for name, _ in network.named_parameters()]
    shapes = [parameter.shape for parameter in network.parameters()]

    def losses(theta: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        pieces = theta.split([shape.numel() for shape in shapes])
        named = {name: piece.view(shape) for name, piece, shape in zip(names, pieces, shapes, strict=True)}
        return torch.nn.functional.cross_entropy(functional_call(network, named, (x,)), y, reduction="none")

    rows, tests = (problem.x, problem.y), (problem.x_test, problem.y_test)  # type: ignore[attr-defined]
    theta, damping = problem.theta, problem.damping  # type: ignore[attr-defined]
    matrix = hessian(lambda t: losses(t, *rows).mean())(theta) + damping * torch.eye(len(theta), dtype=theta.dtype)
    solved = torch.linalg.solve(matrix, jacrev(losses)(theta, *tests).T)
    return (jacrev(losses)(theta, *rows) @ solved / len(rows[0])).numpy()


@pytest.mark.parametrize("parameters", [43, 103])
def test_the_network_a_script_rebuilds_is_the_network_of_the_record(
    script: ModuleType, tmp_path: Path, parameters: int
) -> None:
    asked = kept_question(parameters)
    [path] = exchange.write([asked], tmp_path)
    found = by_torch(script.read(path))
    assert np.abs(found - asked.exact).max() < 1e-9 * np.abs(asked.exact).max()


def test_the_closed_form_of_the_minimal_cases_is_right(script: ModuleType) -> None:
    problem = script.softmax_regression(classes=3)
    np.testing.assert_allclose(script.dense(problem), by_torch(problem), rtol=1e-9, atol=1e-14)


def test_a_method_that_raises_or_warns_is_recorded(script: ModuleType, tmp_path: Path) -> None:
    def loud(problem: object) -> object:
        import warnings

        warnings.warn("not converged\nat all", stacklevel=1)
        raise ArithmeticError("no positive eigenvalue")

    methods = [script.Method("loud", "", loud), script.Method("odd", "", lambda problem: problem.theta)]
    script._answer(tmp_path / "a.npz", "torch", methods, script.softmax_regression())
    loudly, odd = answers.answers("torch", tmp_path, Path("a.npz"), "")
    assert (loudly.warning, loudly.error) == ("UserWarning: not converged", "ArithmeticError: no positive eigenvalue")
    assert "shape (10,)" in odd.error
    assert loudly.predicted is None


def committed() -> pd.DataFrame:
    return pd.read_csv(
        COMMITTED / "audit.csv", keep_default_na=False, na_values={name: [""] for name in tables.MEASURES}
    )


def test_every_committed_number_follows_from_the_committed_predictions() -> None:
    table = committed()
    with np.load(COMMITTED / "predictions.npz") as held:
        for (key, package), rows in table.groupby(["trial", "package"]):
            for place, row in enumerate(rows.to_dict("records")):
                name = f"{key}/{package}/{place}"
                assert (name in held) == (row["error"] == "")
                if name in held:
                    found = tables.measured(held[name], held[f"{key}/exact"])
                    for measure in tables.MEASURES:
                        assert row[measure] == pytest.approx(found[measure], rel=1e-9, abs=1e-15, nan_ok=True), row


def test_the_committed_exact_answers_are_those_of_the_records() -> None:
    one = trials.load(ROOT / "experiments" / "audit.toml")
    store = Store(ROOT / "results", one.name)
    with np.load(COMMITTED / "predictions.npz") as held:
        for trial in one.trials:
            np.testing.assert_array_equal(held[f"{trial.key}/exact"], store.read(trial.key).arrays["predicted/exact"])


def test_the_figure_has_a_row_per_method_and_marks_what_lies_beyond() -> None:
    table = committed()
    drawn = figure.drawn(table)
    methods = table.drop_duplicates(["package", "method", "setting"])
    assert len(drawn.axes) == len(figure.MEASURES)
    assert len(drawn.axes[0].get_yticklabels()) == len(methods)


@pytest.mark.slow
def test_a_real_package_gives_our_exact_answer(tmp_path: Path) -> None:
    try:
        python = environments.python("captum")
    except StudyError as error:
        pytest.skip(f"its environment cannot be made here: {error}")
    asked = kept_question(43)
    problems = exchange.write([asked], tmp_path / "problems")
    assert answers.ask("captum", python, problems, tmp_path / "out") == ""
    found = answers.answers("captum", tmp_path / "out", problems[0], "")
    naive = next(answer for answer in found if answer.setting == "hessian_reg nλ")
    assert naive.predicted is not None
    assert tables.measured(naive.predicted, asked.exact)["largest_difference"] < 1e-8
    assert json.loads((tmp_path / "out" / "cases.json").read_text()) == []
