"""Image data sets: found below the data root, downloaded where allowed, verified, and decoded."""

import gzip
import hashlib
import importlib.util
import io
import os
import tarfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study import cache
from study.archives import SOURCES, File, Source
from study.errors import StudyError

ROOT, DOWNLOAD = "STUDY_DATA", "STUDY_DOWNLOAD"  # environment variables: workers on this machine inherit them
IDX_IMAGES, IDX_LABELS = 0x0803, 0x0801  # unsigned bytes in three dimensions, and in one


@dataclass(frozen=True)
class Images:
    """x [N, channels·height·width] pixels 0 to 255, y [N] classes; rows of the training part first, the last `own_test` are
    the test part's."""

    x: NDArray[np.uint8]
    y: NDArray[np.int64]
    own_test: int
    shape: tuple[int, int, int]


def root() -> Path:
    """The folder that `--data-root` or STUDY_DATA names; by default one in the program's cache."""
    given = os.environ.get(ROOT)
    return Path(given).expanduser() if given else cache.folder() / "data"


def load(name: str) -> Images:
    """The data set of this name, its content verified; StudyError where a file is missing, damaged or another one."""
    source, folder = SOURCES[name], root()
    found = tuple(str(_found(name, file, folder)) for file in source.files)
    stamps = tuple((os.stat(path).st_mtime_ns, os.stat(path).st_size) for path in found)
    return _load(name, found, stamps)


@lru_cache(maxsize=2)
def _load(name: str, found: tuple[str, ...], stamps: tuple[Any, ...]) -> Images:
    """stamps: so that a file changed within this process is read anew."""
    source = SOURCES[name]
    paths = dict(zip(source.files, map(Path, found), strict=True))
    parts = [_part(name, source, k, paths) for k in (0, 1)]
    x, y = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
    for array in (x, y):
        array.setflags(write=False)
    return Images(x, y, len(parts[1][0]), source.shape)


def _found(name: str, file: File, folder: Path) -> Path:
    """The file as it lies there, packed or not; downloaded where that is allowed."""
    candidates = _candidates(file, folder)
    there = next((path for path in candidates if path.is_file()), None)
    if there is not None:
        return there
    if not os.environ.get(DOWNLOAD):
        ways = f"put it there (--data-root or {ROOT} names another folder)"
        ways += ", or let it be downloaded with --download" * bool(file.url)
        raise StudyError(f"data.name: {name}: {candidates[-1]} is missing; {ways}")
    return _downloaded(name, file, candidates[-1])


def _candidates(file: File, folder: Path) -> list[Path]:
    """Unpacked, packed; of a file known by the checksum of its archive only the archive."""
    path = folder / file.path
    if path.suffix in (".gz", ".bin"):
        return [path]
    packed = path.with_name(path.name + ".gz")
    return [packed] if file.packed else [path, packed]


def _downloaded(name: str, file: File, path: Path) -> Path:
    if not file.url:
        raise StudyError(f"data.name: {name}: {path} is missing and cannot be downloaded; put it there")
    if importlib.util.find_spec("pooch") is None:
        raise StudyError('--download needs pooch; install it with `pip install "influence-fragility-study[data]"`')
    import pooch  # an optional package, needed for downloads only

    try:
        digest = f"sha256:{file.packed}" if file.packed else None  # otherwise the content is verified when it is read
        pooch.retrieve(file.url, digest, fname=path.name, path=path.parent)
    except (OSError, ValueError) as error:  # no network, or another file than the one that is meant
        raise StudyError(
            f"data.name: {name}: {file.url} could not be downloaded ({error}); put the file into {path.parent} by hand"
        ) from None
    return path


def _part(name: str, source: Source, which: int, paths: dict[File, Path]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Images [n, d] and classes [n] of the training (0) or the test part (1)."""
    files, rows = (source.train, source.test)[which], source.rows[which]
    if source.layout == "idx":
        pixels, labels = (_content(name, file, paths[file]) for file in files)
        size = source.shape[1:]
        x = _idx(name, paths[files[0]], files[0], pixels, IDX_IMAGES, (rows, *size)).reshape(rows, -1)
        y = _idx(name, paths[files[1]], files[1], labels, IDX_LABELS, (rows,))
    else:
        content = b"".join(_batches(name, source, files, which, paths))
        width = 1 + int(np.prod(source.shape))
        if len(content) != rows * width:
            raise _wrong(name, paths[files[0]], f"holds {len(content)} bytes, not {rows} rows of {width}")
        table = np.frombuffer(content, np.uint8).reshape(rows, width)
        x, y = table[:, 1:], table[:, 0]
    return x, y.astype(np.int64)


def _batches(name: str, source: Source, files: tuple[File, ...], which: int, paths: dict[File, Path]) -> list[bytes]:
    contents = [_content(name, file, paths[file]) for file in files]
    if not source.batches:
        for file, content in zip(files, contents, strict=True):
            _verify(name, paths[file], content, file.content)
        return contents
    wanted = source.batches[:-1] if which == 0 else source.batches[-1:]
    try:
        with tarfile.open(fileobj=io.BytesIO(contents[0])) as archive:
            return [archive.extractfile(member).read() for member in wanted]  # type: ignore[union-attr]
    except (tarfile.TarError, KeyError) as error:
        raise _wrong(name, paths[files[0]], f"is no archive of it ({error})") from None


def _content(name: str, file: File, path: Path) -> bytes:
    """What the file holds, unpacked; an archive's own checksum is verified where only that is known."""
    try:
        packed = path.read_bytes()
        if file.packed:
            _verify(name, path, packed, file.packed)
        return gzip.decompress(packed) if path.suffix == ".gz" else packed
    except (EOFError, zlib.error, OSError) as error:  # cut short, damaged, or not to be read
        raise _wrong(name, path, f"cannot be read ({error})") from None


def _idx(name: str, path: Path, file: File, content: bytes, magic: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The array of an IDX file: a magic number, its sizes, then its bytes (LeCun et al. 1998)."""
    start = 4 * (1 + len(shape))
    header = np.frombuffer(content[:start], ">i4")
    size = int(np.prod(shape))
    if header.tolist() != [magic, *shape] or len(content) != start + size:
        raise _wrong(name, path, f"is no IDX file of {' x '.join(map(str, shape))} bytes")
    if file.content:
        _verify(name, path, content[start:], file.content)
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _verify(name: str, path: Path, content: bytes, expected: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise _wrong(name, path, f"has the wrong checksum (SHA-256 {found[:12]}…, not {expected[:12]}…)")


def _wrong(name: str, path: Path, problem: str) -> StudyError:
    return StudyError(f"data.name: {name}: {path} {problem}: damaged or another file; remove it and get it anew")
