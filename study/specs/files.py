"""Spec files: finding one by path or by name, reading its bytes, parsing its TOML; whatever is wrong is one message."""

import json
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from study.errors import StudyError, listed, nearest, show

LARGEST_FILE = 10_000_000
DEEPEST = 12


def find(spec: str | Path, experiments: str | Path) -> Path:
    """The file meant by a path, or by the name of a spec in the folder `experiments` or in one below it."""
    path = Path(spec)
    looks_like_path = isinstance(spec, Path) or path.suffix == ".toml" or len(path.parts) > 1
    if not looks_like_path and (named := named_in(str(spec), experiments)):
        return named
    if _holds(path.is_file):
        return path
    if _holds(path.is_dir):
        kept = path / "spec.toml"
        hint = f"; did you mean {show(str(kept))}?" if _holds(kept.is_file) else ""
        raise StudyError(f"{show(str(spec))} is a folder; a spec is a .toml file{hint}")
    if _holds(path.exists):
        raise StudyError(f"{show(str(spec))} is not a regular file that can be read; a spec is a .toml file")
    wanted = f"the path of a TOML file is needed, or a name in {experiments}/"
    raise StudyError(f"{show(str(spec))}: no such spec; {wanted}; {_nearest_spec(path, Path(experiments))}")


def named_in(name: str, experiments: str | Path) -> Path | None:
    """The file `name`.toml in the folder or in one below it, None where there is none; two of one name are refused."""
    found = [file for file in known_in(experiments) if file.stem == name]
    if len(found) > 1:
        raise StudyError(f"{show(name)}: {len(found)} specs are called so: {' and '.join(map(str, found))}; give the path of one")
    return found[0] if found else None


def known_in(experiments: str | Path) -> list[Path]:
    """Every spec in the folder and below it."""
    return [path for path in _known(Path(experiments), "**/*.toml") if _holds(path.is_file)]


def _nearest_spec(path: Path, experiments: Path) -> str:
    """Suggests a file beside the path, or, where the path is a bare word, a name in `experiments`."""
    known = {file.stem: str(file) for file in _known(path.parent)}
    if len(path.parts) == 1:
        known |= {file.stem: file.stem for file in known_in(experiments)}
    match = nearest(path.stem, known)
    return f"did you mean {show(known[match])}?" if match else f"there are: {listed(known.values()) or 'none'}"


def _holds(test: Callable[[], bool]) -> bool:
    try:
        return test()
    except (OSError, ValueError):  # a name too long, or with a NUL byte
        return False


def _known(folder: Path, pattern: str = "*.toml") -> list[Path]:
    try:
        return sorted(folder.glob(pattern))
    except (OSError, ValueError):
        return []


def read(path: Path) -> str:
    """The text of the file: UTF-8, at most ten megabytes."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise StudyError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > LARGEST_FILE:
        raise StudyError(f"{path}: larger than {LARGEST_FILE} bytes; a spec is a short text file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise StudyError(f"{path}: line {line} is not UTF-8 text (byte 0x{data[error.start]:02x})") from None


def digests_path(spec: Path) -> Path:
    """Where the digests of the files that a spec names are kept once it lies with its results."""
    return spec.with_name("files.json")


def kept_digests(spec: Path) -> dict[str, str]:
    """SHA-256 of the files that the spec names, by name, none where they are not kept beside it."""
    path = digests_path(spec)
    if not path.is_file():
        return {}
    try:
        kept = json.loads(path.read_text())
        return {str(name): str(digest) for name, digest in kept.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise StudyError(f"{path}: cannot be read: {error}; remove it") from None


def parse(text: str) -> dict[str, Any]:
    """The document that the TOML text holds."""
    try:
        document = tomllib.loads(text)
    except ValueError as error:  # a syntax error, or an integer of more digits than Python reads
        raise StudyError(f"not valid TOML: {error}") from None
    except RecursionError:
        raise StudyError("nested too deeply for a spec") from None
    refuse_unfit(document)
    return document


def refuse_unfit(document: Mapping[str, Any]) -> None:
    """Refuses what is nested deeper, or an integer longer, than any spec needs; never recurses, so that nothing can
    exhaust it, and keeps integers that Python refuses to print away from everything later."""
    level: list[tuple[str, object]] = [("", document)]
    for _ in range(DEEPEST):
        level = [(path, inner) for place, value in level for path, inner in _inside(place, value)]
        for path, value in level:
            if isinstance(value, int) and value.bit_length() > 64:
                raise StudyError(f"{path}: an integer of more than 64 bits, which TOML does not know")
    if level:
        raise StudyError(f"{level[0][0]}: nested too deeply for a spec")


def _inside(place: str, value: object) -> list[tuple[str, object]]:
    if isinstance(value, dict):
        return [(f"{place}.{key}" if place else str(key), inner) for key, inner in value.items()]
    return [(place, inner) for inner in value] if isinstance(value, list) else []
