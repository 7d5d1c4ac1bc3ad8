"""The record: all that one trial leaves behind, as one file that proves itself undamaged."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import struct
import zipfile
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from study.errors import StudyError

SCHEMA = 1
DIGEST = 64  # characters of a SHA-256 in hexadecimal


class RecordError(StudyError):
    """A record that is missing, damaged, or written by a newer version."""


@dataclass(frozen=True)
class Record:
    """One trial: `header` is plain JSON (spec, provenance, flags), `arrays` are its numbers by name."""

    header: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @property
    def key(self) -> str:
        return self.header["key"]


@dataclass(frozen=True)
class Failure:
    """An exception that ended a trial: recorded beside the records, never cached as done."""

    key: str
    settings: dict[str, Any]
    error: str
    traceback: str

    def to_text(self) -> str:
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1, default=_plain) + "\n"

    @classmethod
    def from_text(cls, text: str, name: str = "failure") -> Failure:
        """Raises RecordError naming the file when the text is not a failure."""
        try:
            content = json.loads(text)
            return cls(*(content[field] for field in ("key", "settings", "error", "traceback")))
        except (ValueError, KeyError, TypeError) as error:
            raise RecordError(f"{name}: not a readable failure ({error})") from error


def to_bytes(record: Record) -> bytes:
    """The record as an .npz file whose zip comment is the SHA-256 of every byte before it.

    Member "header" holds the JSON as uint8; `np.load` opens the file without pickle. Equal records give equal bytes.
    Raises ValueError for an array of Python objects or one named "header".
    """
    if "header" in record.arrays:
        raise ValueError("an array may not be called 'header'")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        header = json.dumps(_finite(record.header), default=_plain, allow_nan=False).encode()
        _add(archive, "header", np.frombuffer(header, dtype=np.uint8))
        for name, array in record.arrays.items():
            _add(archive, name, np.asarray(array))
        archive.comment = b"0" * DIGEST
    body = buffer.getvalue()[:-DIGEST]
    return body + hashlib.sha256(body).hexdigest().encode()


def from_bytes(data: bytes, name: str = "record") -> Record:
    """The record in `data`, arrays read-only. Raises RecordError naming the file when any byte is not as written."""
    verify(data, name)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {entry.removesuffix(".npy"): archive.read(entry) for entry in archive.namelist()}
        header = json.loads(_array(members.pop("header")).tobytes())
        arrays = {entry: _array(content) for entry, content in members.items()}
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError, SyntaxError, struct.error) as error:
        raise RecordError(f"{name}: not a record ({error})") from error
    if not isinstance(header, dict) or not isinstance(header.get("key"), str):
        raise RecordError(f"{name}: not a record (its header has no key)")
    if header.get("schema") != SCHEMA:
        raise RecordError(f"{name}: its schema is {header.get('schema')}, this version of the program reads {SCHEMA}")
    return Record(header, arrays)


def verify(data: bytes, name: str = "record") -> None:
    """Raise RecordError unless the last 64 bytes are the SHA-256 of all the others."""
    body, comment = data[:-DIGEST], data[-DIGEST:]
    if not body or hashlib.sha256(body).hexdigest().encode() != comment:
        raise RecordError(f"{name}: damaged, its {len(data)} bytes do not match their checksum")


def _add(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    content = io.BytesIO()
    np.lib.format.write_array(content, array, allow_pickle=False)
    # Floats hardly shrink and cost time; words and truth values shrink tenfold.
    method = zipfile.ZIP_STORED if array.dtype.kind == "f" else zipfile.ZIP_DEFLATED
    archive.writestr(zipfile.ZipInfo(name + ".npy"), content.getvalue(), compress_type=method)  # ZipInfo: a fixed date


def _array(content: bytes) -> np.ndarray:
    """An .npy file in memory as an array. Four times as fast as np.load, which parses each header anew."""
    if content[:6] != b"\x93NUMPY":
        raise ValueError("a member is not an .npy array")
    size, start = struct.unpack_from("<H", content, 8)[0], 10
    if content[6] > 1:
        size, start = struct.unpack_from("<I", content, 8)[0], 12
    dtype, order, shape = _layout(content[start : start + size].decode("utf-8"))
    array: np.ndarray = np.ndarray(shape, dtype, buffer=content, offset=start + size, order=order)
    return array


@lru_cache(maxsize=4096)
def _layout(text: str) -> tuple[np.dtype, Any, tuple[int, ...]]:
    layout = ast.literal_eval(text.strip())
    dtype = np.dtype(layout["descr"])
    if dtype.hasobject:
        raise ValueError("an array of Python objects is never read")
    return dtype, "F" if layout["fortran_order"] else "C", tuple(layout["shape"])


def _finite(value: Any) -> Any:
    """Numbers that are not finite become null: JSON has no word for them."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    if isinstance(value, float | np.floating) and not np.isfinite(value):
        return None
    return value


def _plain(value: object) -> object:
    """NumPy scalars and arrays as JSON knows them."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} {value!r} has no place in a record's header")
