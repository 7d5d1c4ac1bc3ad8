"""The direction of imports, and what must work without torch."""

import ast
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "study").rglob("*.py"))
MEETING_PLACES = {"study/sweep.py", "study/explain.py", "study/cli.py", "study/__main__.py"}
HEAVY = ("torch", "pandas", "matplotlib", "distributed", "sklearn", "pydantic", "faiss")
AUDITED = ("captum", "curvlinops", "dattri", "kronfluence", "pydvl")


def imported(path: Path, inside_functions: bool) -> set[str]:
    """Dotted names that a file imports, at its top or anywhere."""
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree) if inside_functions else tree.body
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def touches(names: set[str], package: str) -> bool:
    return any(name == package or name.startswith(package + ".") for name in names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    place, names = str(path.relative_to(ROOT)), imported(path, inside_functions=True)
    if place.startswith("study/audit/peers"):  # they run where the study is not installed
        assert not touches(names, "study")
    elif place.startswith("study/audit"):
        assert not touches(names, "study.compute")
        assert not touches(names, "torch")
    elif place.startswith("study/compute"):
        assert not touches(names, "study.evidence")
    elif place.startswith("study/evidence"):
        assert not touches(names, "study.compute")
        assert not touches(names, "torch")
    else:
        assert not touches(names, "torch")
        if place not in MEETING_PLACES:
            assert not touches(names, "study.compute")
            assert not touches(names, "study.evidence")
    if not place.startswith("study/audit/peers"):
        own = {"curvlinops"} if place.startswith("study/compute") else set()  # an extra of ours, too
        assert not [package for package in AUDITED if package not in own and touches(names, package)]
    if place not in MEETING_PLACES:
        assert place.startswith("study/audit") or not touches(names, "study.audit")
        assert not touches(names, "study.sweep")
        assert not touches(names, "study.cli")


def test_estimators_and_protocols_never_meet() -> None:
    for path in MODULES:
        place, names = str(path.relative_to(ROOT)), imported(path, inside_functions=True)
        if "compute/estimators" in place:
            assert not touches(names, "study.compute.protocols")
        if "compute/protocols" in place:
            assert not touches(names, "study.compute.estimators")


@pytest.mark.parametrize(
    ("part", "never"),
    [
        ("statistics", ["files", "store", "readings", "lookup", "tables", "figures", "report"]),
        ("tables", ["figures", "report"]),
        ("figures", ["report"]),
        ("report", ["figures"]),
    ],
)
def test_evidence_flows_from_statistics_and_tables_to_figures_and_report(part: str, never: list[str]) -> None:
    files = sorted((ROOT / "study" / "evidence" / part).glob("*.py"))
    assert len(files) > 4
    for path in files:
        names = imported(path, inside_functions=True)
        assert not [other for other in never if touches(names, f"study.evidence.{other}")], path


def test_faiss_is_imported_in_one_place_and_there_only_when_asked_for() -> None:
    users = [path for path in MODULES if touches(imported(path, inside_functions=True), "faiss")]
    assert [str(path.relative_to(ROOT)) for path in users] == ["study/compute/neighbours.py"]
    assert not touches(imported(users[0], inside_functions=False), "faiss")


def test_specs_come_before_everything() -> None:
    for path in (ROOT / "study" / "specs").glob("*.py"):
        names = imported(path, inside_functions=True)
        assert all(name.startswith(("study.specs", "study.errors")) for name in names if name.startswith("study"))


@pytest.mark.parametrize("arguments", ["-c 'import study'", "-m study --help"])
def test_a_start_loads_nothing_heavy(arguments: str) -> None:
    code = f"{sys.executable} -X importtime {arguments}"
    done = subprocess.run(code, shell=True, cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "study" in loaded
    assert loaded.isdisjoint(HEAVY + AUDITED)


def test_what_is_installed_is_the_whole_package(tmp_path: Path) -> None:
    """A wheel, not the editable install that the tests run in: every module, the kernels and the templates."""
    source = tmp_path / "source"  # a build leaves files beside the package
    shutil.copytree(ROOT / "study", source / "study", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
    ]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [wheel] = tmp_path.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("study/")}
    expected = {path for path in (ROOT / "study").rglob("*") if path.suffix in {".py", ".cpp", ".h", ".j2", ".txt"}}
    assert held == {str(path.relative_to(ROOT)) for path in expected}
