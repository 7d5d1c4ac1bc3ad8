"""`study audit`: from the records of an experiment to `results/<name>/audit/`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from study.audit import PEERS, answers, environments, exchange, figure, tables
from study.audit.answers import Answer
from study.audit.exchange import Question
from study.errors import StudyError, show, suggestion
from study.evidence import files
from study.evidence.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from study.trials import Experiment

Tell = Callable[[str], None]


def chosen(peers: str) -> list[str]:
    """The packages named in a list separated by commas, in our order; all where it is empty. StudyError on an unknown name."""
    names = [name.strip().lower() for name in peers.split(",") if name.strip()]
    for name in names:
        if name not in PEERS:
            raise StudyError(f"--peers: {show(name)} is not audited; {suggestion(name, PEERS)}")
    return [name for name in PEERS if name in names or not names]


def forget(peers: Sequence[str]) -> None:
    """What these packages have answered, so that they are asked again."""
    for package in peers:
        shutil.rmtree(answers.kept(package), ignore_errors=True)


def run(experiment: Experiment, store: Store, peers: Sequence[str], workers: int, tell: Tell) -> list[Path]:
    """Ask every package about every trial that has a record, `workers` packages at a time; returns the files written.

    What a package answered is kept in the cache and not asked again. audit.csv, defects.csv: see `tables`. predictions.npz:
    KEY/PACKAGE/K [n, T], the K-th method's answer in the order of audit.csv, and KEY/exact. environments/PACKAGE.txt: what was
    installed. audit.pdf, .png, .svg: the figure.
    """
    questions = _questions(experiment, store)
    interpreters = {}
    for package in peers:
        if not environments.exists(package):
            tell(f"{package}: making its environment (minutes, once)")
        interpreters[package] = environments.python(package)
    asked: list[tuple[Question, Answer]] = []
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        problems = exchange.write(questions, Path(folder) / "problems")
        endings = _ask(interpreters, problems, workers, tell)
        for package in peers:
            own, ended = answers.kept(package), endings[package]
            for question, problem in zip(questions, problems, strict=True):
                asked += [(question, answer) for answer in answers.answers(package, own, problem, ended)]
            found += answers.cases(package, own, ended)
    return _write(store.folder / "audit", asked, tables.audit(asked, experiment.name), tables.defects(found), peers)


def _ask(interpreters: dict[str, Path], problems: Sequence[Path], workers: int, tell: Tell) -> dict[str, str]:
    """Why each script ended early, empty where it did not; what it wrote is `answers.kept`."""

    def ask(package: str) -> str:
        tell(f"{package}: {len(problems)} {'trial' if len(problems) == 1 else 'trials'}")
        ended = answers.ask(package, interpreters[package], problems, answers.kept(package))
        tell(f"{package}: {ended or 'done'}")
        return ended

    with ThreadPoolExecutor(workers) as pool:
        return dict(zip(interpreters, pool.map(ask, interpreters), strict=True))


def _questions(experiment: Experiment, store: Store) -> list[Question]:
    done = store.done()
    return [exchange.question(trial, store.read(trial.key)) for trial in experiment.trials if trial.key in done]


def _write(
    folder: Path,
    asked: Sequence[tuple[Question, Answer]],
    audit: pd.DataFrame,
    defects: pd.DataFrame,
    peers: Sequence[str],
) -> list[Path]:
    paths = [folder / "audit.csv", folder / "defects.csv", folder / "predictions.npz"]
    for path, table in zip(paths, (audit, defects), strict=False):
        with files.replacing(path) as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")
    with files.replacing(paths[2]) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, allow_pickle=False, **_predictions(asked))
    for package in peers:
        paths.append(folder / "environments" / f"{package}.txt")
        files.write_bytes(paths[-1], environments.frozen(package).encode())
    return [*paths, *figure.write(audit, folder / "audit")]


def _predictions(asked: Sequence[tuple[Question, Answer]]) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    counts: dict[str, int] = {}
    for question, answer in asked:
        key = question.trial.key
        arrays[f"{key}/exact"] = question.exact
        stem = f"{key}/{answer.package}"
        counts[stem] = counts.get(stem, -1) + 1
        if answer.predicted is not None:
            arrays[f"{stem}/{counts[stem]}"] = answer.predicted
    return arrays
