"""Experiments: a spec expanded into its trials, each fully specified and identified by its key."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from study import checks, factories
from study.data import Dataset, Split
from study.errors import StudyError
from study.keys import LATER_KEYS, NUMBERS_VERSION, canonical, content, digest_of, family_of, key
from study.specs import Settings, Spec, Twin, files, overrides, twins, validation
from study.specs.paths import NAMED_LISTS, value_at
from study.specs.sweeps import MOST_TRIALS, Block, combinations

__all__ = ["LATER_KEYS", "NUMBERS_VERSION", "Experiment", "Trial", "check", "content", "family", "key", "load"]

HEADER = ("name", "question", "primary", "twins")


@dataclass(frozen=True)
class Trial:
    """One fully specified point of the sweep.

    `swept` holds the trial's value of every path swept anywhere in the spec (without `seed`, `estimators` and
    `protocols`), None where it has no such key. `folder` is the spec's, to find data and factories from; it is no part
    of the key.
    """

    settings: Settings
    key: str
    swept: dict[str, object]
    folder: str


@dataclass(frozen=True)
class Experiment:
    """One question: a spec file and the trials it expands into.

    `text` is the TOML as read, before any of the `overrides`. `files` holds the SHA-256 of every file that it names. `twins`:
    which of its cells are compared with which.
    """

    name: str
    question: str
    primary: str
    trials: list[Trial]
    swept_paths: list[str]
    text: str
    path: Path
    files: dict[str, str] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    twins: tuple[Twin, ...] = ()


def load(
    spec: str | Path, overrides: Sequence[str] = (), experiments: str | Path = "experiments", kept: bool = False
) -> Experiment:
    """The experiment of a spec file, given by path or by its name in the folder `experiments`.

    `overrides` are `PATH=VALUE`: a single value replaces the plain one and removes the axis wherever the path is
    swept, a list (or `{ first, count }`) replaces the axis in each block that sweeps it. Trials of equal key are one.
    `kept`: files named by a spec that lies with its results are known by the digests kept beside it, so that records
    can be read where data and factories are not; never to compute from.
    Raises StudyError, with one message that names file, path and value, whatever the file holds.
    """
    path = files.find(spec, experiments)
    text = files.read(path)
    try:
        return _experiment(path, text, overrides, files.kept_digests(path) if kept else {})
    except StudyError as error:
        raise StudyError(f"{path}: {error}") from None


def _experiment(path: Path, text: str, given: Sequence[str], known: dict[str, str]) -> Experiment:
    plain, blocks, replaced = overrides.apply(files.parse(text), given)
    blocks = blocks or [Block("spec", {})]
    every_path = list(dict.fromkeys(swept for block in blocks for swept in block.axes))
    validation.check_base(plain, every_path, replaced)
    validation.check_ranking(plain, blocks)
    validation.check_paths(plain)
    count = sum(block.size for block in blocks)
    if count > MOST_TRIALS:
        raise StudyError(f"sweep: {count} trials; at most {MOST_TRIALS} can be planned as one experiment")
    swept_paths = [swept for swept in every_path if swept != "seed" and swept not in NAMED_LISTS]
    folder = os.path.abspath(path.parent)
    settings_table = {name: value for name, value in plain.items() if name not in HEADER}
    trials: dict[str, Trial] = {}
    for block in blocks:
        for trial in _expand(block, settings_table, swept_paths, folder, known):
            trials.setdefault(trial.key, trial)
    header = Spec.model_fields
    question = plain.get("question", header["question"].default)
    primary = plain.get("primary", header["primary"].default)
    every = list(trials.values())
    compared = twins.checked(plain.get("twins", []), [(trial.settings, trial.swept) for trial in every], swept_paths)
    return Experiment(plain["name"], question, primary, every, swept_paths, text, path, known, tuple(given), compared)


def _expand(
    block: Block, table: Mapping[str, Any], swept_paths: Sequence[str], folder: str, known: dict[str, str]
) -> Iterator[Trial]:
    """The trials of a block; combinations are validated once, their seeds vary within."""
    seeds = validation.checked_seeds(block, table)
    for document in _documents(block, table):
        settings = validation.validated({**document, "seed": seeds[0]}, block)
        yield from _seeded(settings, seeds, content(settings, folder, known), swept_paths, folder)


def _seeded(
    settings: Settings, seeds: Sequence[int], contents: Mapping[str, str], swept_paths: Sequence[str], folder: str
) -> Iterator[Trial]:
    tables = canonical(settings, contents)
    swept = {path: value_at(settings, path) for path in swept_paths}
    for seed in seeds:
        yield Trial(settings.model_copy(update={"seed": seed}), digest_of({**tables, "seed": seed}), swept, folder)


def _documents(block: Block, table: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    try:
        yield from combinations(block, table)
    except StudyError as error:
        raise StudyError(f"{block.label} {error}") from None


def family(trial: Trial) -> str:
    """A text that is equal for trials whose networks can share one stack; see `study.keys.family_of`."""
    return family_of(trial.settings, trial.folder)


def check(experiment: Experiment) -> None:
    """Loads each data set once and refuses, before any work, what it cannot serve; StudyError names file and path."""
    seen: set[str] = set()
    loaded: dict[str, tuple[Dataset, Split]] = {}
    for trial in experiment.trials:
        whole = trial.settings.model_dump_json(exclude={"seed"})
        if whole in seen:
            continue
        seen.add(whole)
        name = trial.settings.data.model_dump_json()
        try:
            if name not in loaded:
                loaded[name] = checks.load_split(trial.settings, trial.folder)
            if trial.settings.model.is_factory:
                factories.check(trial.settings.model.kind, trial.folder)
            checks.check(trial.settings, *loaded[name])
        except StudyError as error:
            raise StudyError(f"{experiment.path}: {error}") from None
