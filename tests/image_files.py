"""Image data sets as small files, written by the tests themselves, and the real ones where they are at hand."""

import gzip
import hashlib
import os
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from study import archives, images

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"  # beside the repository, where there is such a folder


def real(*paths: str) -> str:
    """The data root that holds these files; skips the test where there is none."""
    for root in filter(None, (os.environ.get(images.ROOT), str(SHARED))):
        if all((Path(root) / path).exists() for path in paths):
            return root
    pytest.skip(f"no {paths[0]} in {images.ROOT} or ../shared/data")


def blurred(rows: int, classes: int, side: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images [rows, side, side] of a bright row of pixels that tells the class, and noise; many pixels are 0."""
    generator = np.random.default_rng(seed)
    y = generator.permutation(np.arange(rows) % classes)
    x = generator.integers(0, 120, size=(rows, side, side)) * (generator.random((rows, side, side)) < 0.3)
    x[np.arange(rows), y + 1] += 90
    x[:, 0] = 0
    return x.astype(np.uint8), y.astype(np.uint8)


def idx(array: np.ndarray) -> bytes:
    """The array as an IDX file of unsigned bytes."""
    return struct.pack(f">i{array.ndim}i", 0x0800 + array.ndim, *array.shape) + array.tobytes()


def write_mnist(root: Path, monkeypatch: pytest.MonkeyPatch, rows=(60, 30), classes=10, side=12, packed=True) -> None:
    """A small data set in the place and under the name of mnist, whose checksums are then its own."""
    source = archives.SOURCES["mnist"]
    parts = []
    for part, count, seed in zip((source.train, source.test), rows, (0, 1), strict=True):
        files = []
        for file, array in zip(part, blurred(count, classes, side, seed), strict=True):
            path = root / (file.path + ".gz" * packed)
            path.parent.mkdir(parents=True, exist_ok=True)
            content = idx(array)
            path.write_bytes(gzip.compress(content) if packed else content)
            files.append(replace(file, content=hashlib.sha256(array.tobytes()).hexdigest()))
        parts.append(tuple(files))
    small = replace(source, shape=(1, side, side), rows=rows, train=parts[0], test=parts[1])
    monkeypatch.setitem(archives.SOURCES, "mnist", small)
    monkeypatch.setenv(images.ROOT, str(root))
