"""The store: the folder of one experiment's evidence, `results/<name>/`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from study import records
from study.evidence import files
from study.records import Failure, Record, RecordError
from study.specs.files import digests_path, kept_digests

KEY = re.compile(r"[0-9a-f]{64}")


class Store:
    """Records and failures of one experiment by trial key.

    A record's presence says its trial is done: it is written under a unique temporary name and renamed, so any number
    of processes may write at once, without locks. Nothing here changes or deletes a record, and making a Store makes
    no folder.
    """

    def __init__(self, results: str | Path, name: str) -> None:
        self.folder = Path(results) / name
        self.spec_path = self.folder / "spec.toml"

    def record_path(self, key: str) -> Path:
        return self.folder / "records" / f"{_checked(key)}.npz"

    def failure_path(self, key: str) -> Path:
        return self.folder / "failures" / f"{_checked(key)}.json"

    def write(self, record: Record) -> Path:
        path = self.record_path(record.key)
        files.write_bytes(path, records.to_bytes(record))
        return path

    def read(self, key: str) -> Record:
        """Raises RecordError, naming the file, when the record is missing, damaged, or that of another trial."""
        path = self.record_path(key)
        record = records.from_bytes(_bytes(path), str(path))
        if record.key != key:
            raise RecordError(f"{path}: holds the record of trial {record.key}")
        return record

    def done(self) -> set[str]:
        """Keys of the trials that have a record. Lists names only; see `verified_done`."""
        return _keys(self.folder / "records", ".npz")

    def verified_done(self, keys: Iterable[str]) -> tuple[set[str], dict[str, str]]:
        """The `keys` whose record is present and undamaged, and, by key, why any other present record is not."""
        good, damaged = set(), {}
        for key in sorted(self.done().intersection(keys)):
            try:
                self.read(key)
                good.add(key)
            except RecordError as error:
                damaged[key] = str(error)
        return good, damaged

    def write_failure(self, failure: Failure) -> Path:
        path = self.failure_path(failure.key)
        files.write_bytes(path, failure.to_text().encode())
        return path

    def read_failure(self, key: str) -> Failure:
        path = self.failure_path(key)
        return Failure.from_text(_bytes(path).decode(errors="replace"), str(path))

    def failure_reason(self, key: str) -> str:
        """The error of a failed trial in a line, or why it cannot be told."""
        try:
            return self.read_failure(key).error
        except RecordError as error:
            return str(error)

    def clear_failure(self, key: str) -> None:
        self.failure_path(key).unlink(missing_ok=True)

    def failed(self) -> set[str]:
        """Keys of the trials that have a failure. Lists names only."""
        return _keys(self.folder / "failures", ".json")

    def write_spec(self, text: str, digests: Mapping[str, str]) -> None:
        """Keep the spec as the user wrote it beside the evidence it led to, and the SHA-256 of each file it names."""
        files.write_bytes(self.spec_path, text.encode())
        if digests:
            both = kept_digests(self.spec_path) | dict(digests)
            files.write_bytes(digests_path(self.spec_path), (json.dumps(both, indent=1) + "\n").encode())

    def note_overrides(self, part: str, overrides: Sequence[str]) -> None:
        """Say in the folder of tables or figures which `--set` changed the sweep they cover; without any, say nothing."""
        path = self.folder / part / "overrides.txt"
        if overrides:
            files.write_bytes(path, "".join(f"--set {override}\n" for override in overrides).encode())
        else:
            path.unlink(missing_ok=True)

    def damaged(self) -> list[tuple[Path, str]]:
        """Every file among records and failures that cannot be trusted, with the reason."""
        found = []
        for folder, suffix, read in (("records", ".npz", self.read), ("failures", ".json", self.read_failure)):
            for path in _files(self.folder / folder):
                if path.suffix != suffix or not KEY.fullmatch(path.stem):
                    found.append((path, "its name is not that of a trial"))
                    continue
                try:
                    read(path.stem)
                except RecordError as error:
                    found.append((path, str(error).removeprefix(f"{path}: ")))
        return found

    def leftovers(self) -> list[tuple[Path, str]]:
        """Temporary files of writers that were killed, or that still run. Harmless: nothing ever reads them."""
        paths = sorted(self.folder.rglob(f"*{files.TEMPORARY}"))
        return [(path, "leftover temporary file of an interrupted write") for path in paths]

    def sizes(self) -> dict[str, int]:
        """Bytes on disk of each record by key."""
        return {key: self.record_path(key).stat().st_size for key in sorted(self.done())}


def _checked(key: str) -> str:
    if not KEY.fullmatch(key):
        raise RecordError(f"{key!r} is not a trial key (64 hexadecimal digits)")
    return key


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror})") from error


def _keys(folder: Path, suffix: str) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.endswith(suffix)]
    except FileNotFoundError:
        return set()
    return {name.removesuffix(suffix) for name in names if KEY.fullmatch(name.removesuffix(suffix))}


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix != files.TEMPORARY)
