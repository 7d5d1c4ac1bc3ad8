"""The record behind a key: found by its first digits in any experiment, and printed as text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from study.errors import StudyError
from study.evidence.store import Store
from study.records import Failure, Record

FEWEST_DIGITS = 6
MOST_NAMED = 8
PREFIX = re.compile(r"[0-9a-f]{1,64}")


def show(results: str | Path, prefix: str) -> str:
    """The record (or failure) whose key starts with `prefix`, as text.

    All experiments in the folder are searched; a trial that several share is printed once. Raises StudyError when
    `prefix` is no key, too short, unknown or ambiguous, and RecordError when the file is damaged.
    """
    key, stores = find(results, prefix)
    for store in stores:
        if key in store.done():
            path = store.record_path(key)
            others = [other.record_path(key) for other in stores if other is not store and key in other.done()]
            return of_record(store.read(key), path, others)
    return of_failure(stores[0].read_failure(key), stores[0].failure_path(key))


def find(results: str | Path, prefix: str) -> tuple[str, list[Store]]:
    """The one key that starts with `prefix`, and the stores that hold it."""
    wanted = prefix.strip().lower()
    if not PREFIX.fullmatch(wanted):
        raise StudyError(f"{prefix!r} is no trial key: up to 64 of the digits 0-9 and a-f")
    if len(wanted) < FEWEST_DIGITS:
        raise StudyError(f"{prefix!r} is too short: give at least {FEWEST_DIGITS} digits of the key")
    found: dict[str, list[Store]] = {}
    for store in _stores(results):
        for key in store.done() | store.failed():
            if key.startswith(wanted):
                found.setdefault(key, []).append(store)
    if not found:
        raise StudyError(f"{prefix}: no record in {results} has such a key; --results names another folder")
    if len(found) > 1:
        listed = [f"{key[: len(wanted) + 8]}… ({found[key][0].folder.name})" for key in sorted(found)[:MOST_NAMED]]
        more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
        raise StudyError(f"{prefix}: {len(found)} records start so; give more digits: {', '.join(listed)}{more}")
    return next(iter(found.items()))


def of_record(record: Record, path: Path, others: list[Path] | None = None) -> str:
    """All that a record holds: spec, certificates, flags, provenance in words, every array by shape and summary."""
    header = record.header
    lines = [f"trial {record.key}", f"record {path}", *(f"also in {other}" for other in others or [])]
    lines += [f"flags: {', '.join(header['flags']) or 'none'}", ""]
    lines += _section("spec", {**header["spec"], "numbers_version": header.get("numbers_version")})
    lines += _section("trained network", header["base"])
    for name, own in header["estimators"].items():
        lines += _section(f"estimator {name}", own)
    for name, own in header["protocols"].items():
        lines += _section(f"protocol {name}", {**own, **_retrained(record, name)})
    lines += _section("provenance", header["provenance"])
    return "\n".join([*lines, *_arrays(record)])


def of_failure(failure: Failure, path: Path) -> str:
    lines = [f"trial {failure.key}", f"failure {path}", f"error: {failure.error}", ""]
    lines += _section("spec", failure.settings)
    return "\n".join([*lines, failure.traceback.rstrip()])


def _stores(results: str | Path) -> list[Store]:
    folder = Path(results)
    if not folder.is_dir():
        raise StudyError(f"{folder}: no such folder of results; --results names another")
    return [Store(folder, path.name) for path in sorted(folder.iterdir()) if path.is_dir()]


def _section(title: str, table: Mapping[str, Any]) -> list[str]:
    """Dotted names and values below a title; what is null is left out."""
    entries = list(_flat(table))
    width = max((len(name) for name, _ in entries), default=0)
    return [title, *(f"  {name.ljust(width)}  {value}" for name, value in entries), ""]


def _flat(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            for place, item in enumerate(value):
                yield from _flat(item, f"{before}{name}.{item.get('name', place)}.")
        elif value is not None:
            yield f"{before}{name}", _value(value)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_value(item) for item in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _retrained(record: Record, protocol: str) -> dict[str, Any]:
    """What a protocol's certificates and flags amount to; index 0 of a certificate is the null, nothing removed."""
    arrays = record.arrays
    flags = arrays[f"flag/{protocol}"]
    found: dict[str, Any] = {"removals": len(flags), "removals flagged": int((flags != "").sum())}
    texts, counts = np.unique(flags[flags != ""], return_counts=True)
    found |= {f"flagged {text}": int(count) for text, count in zip(texts, counts, strict=True)}
    certified = arrays.get(f"certificate/{protocol}/certified")
    if certified is not None:
        found |= {"null certified": bool(certified[0]), "removals certified": int(certified[1:].sum())}
    for field, label in (("gradient_norm", "largest gradient norm"), ("delta_error", "largest delta_error")):
        values = arrays.get(f"certificate/{protocol}/{field}")
        if values is not None and len(values) > 1:
            found[label] = float(values[1:].max())
    return found


def _arrays(record: Record) -> list[str]:
    rows = [(name, f"{array.dtype} {list(array.shape)}", _summary(array)) for name, array in record.arrays.items()]
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    return ["arrays", *(f"  {name.ljust(widths[0])}  {kind.ljust(widths[1])}  {text}" for name, kind, text in rows)]


def _summary(array: np.ndarray) -> str:
    if array.size == 0:
        return "empty"
    if array.dtype.kind == "b":
        return f"{int(array.sum())} of {array.size} true"
    if array.dtype.kind not in "iuf":
        texts = [str(text) or "''" for text in np.unique(array)]
        return f"{len(texts)} distinct: {', '.join(texts[:4])}{' …' if len(texts) > 4 else ''}"
    finite = array[np.isfinite(array)]
    lost = f", {array.size - finite.size} not finite" if finite.size < array.size else ""
    if finite.size == 0:
        return f"no finite value of {array.size}"
    if array.size == 1:
        return f"{finite.item():.6g}"
    return f"{finite.min():.6g} to {finite.max():.6g}, median {np.median(finite):.6g}{lost}"
