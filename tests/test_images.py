"""Image data sets: the real files where they are at hand, small ones in their place, and whatever is wrong with them."""

import functools
import gzip
import hashlib
import http.server
import io
import tarfile
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from study import archives, data, images
from study.cli import main
from study.errors import StudyError
from study.specs import Data
from tests import image_files


def settings(name="mnist", **keys):
    return Data.model_validate({"name": name, "standardize": False, **keys})


@pytest.fixture
def small(tmp_path, monkeypatch):
    image_files.write_mnist(tmp_path, monkeypatch)
    return tmp_path


def test_mnist_as_it_is(monkeypatch):
    monkeypatch.setenv(images.ROOT, image_files.real("MNIST/raw/train-images-idx3-ubyte.gz"))
    found = images.load("mnist")
    assert (found.x.shape, found.own_test, found.shape) == ((70_000, 784), 10_000, (1, 28, 28))
    assert np.bincount(found.y[:60_000]).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert found.y[:5].tolist() == [5, 0, 4, 1, 9]
    assert found.y[60_000:60_003].tolist() == [7, 2, 1]


def test_the_stand_in_is_never_taken_for_cifar10(monkeypatch):
    monkeypatch.setenv(images.ROOT, image_files.real("cifar-10-batches-bin/test_batch.bin"))
    found = images.load("cifar10_standin")
    assert (found.x.shape, found.own_test, found.shape) == ((12_000, 3072), 2_000, (3, 32, 32))
    assert np.bincount(found.y[:10_000]).tolist() == [1000] * 10
    with pytest.raises(StudyError, match=r"cifar-10-binary\.tar\.gz is missing; put it there .* with --download"):
        images.load("cifar10")


@pytest.mark.parametrize("packed", [True, False])
def test_the_same_content_however_it_is_packed(tmp_path, monkeypatch, packed):
    image_files.write_mnist(tmp_path, monkeypatch, packed=packed)
    found = images.load("mnist")
    pixels, classes = image_files.blurred(60, 10, 12, 0)
    assert np.array_equal(found.x[:60], pixels.reshape(60, -1))
    assert np.array_equal(found.y[:60], classes)
    assert found.own_test == 30
    with pytest.raises(ValueError, match="read-only"):
        found.x[0, 0] = 1


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def _damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(bytes(content))


def _another(path: Path) -> None:
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[-1] ^= 1
    path.write_bytes(gzip.compress(bytes(content)))


def _shorter(path: Path) -> None:
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1]))


def _text(path: Path) -> None:
    path.write_bytes(b"<html>not found</html>")


@pytest.mark.parametrize(
    ("change", "said"),
    [(_cut, "cannot be read"), (_damage, ""), (_another, "has the wrong checksum"), (_shorter, "is no IDX file"),
     (_text, "cannot be read")],
)  # fmt: skip
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"])
def test_a_file_that_is_not_the_right_one_is_refused(small, change, said, name):
    images.load("mnist")
    change(small / "MNIST/raw" / name)
    with pytest.raises(StudyError, match=rf"mnist: .*{name} .*{said}.*remove it and get it anew"):
        images.load("mnist")


def test_what_is_missing_is_said_with_both_ways_out(tmp_path, monkeypatch):
    monkeypatch.setenv(images.ROOT, str(tmp_path))
    with pytest.raises(StudyError) as refused:
        images.load("fashion_mnist")
    for word in ("FashionMNIST/raw/train-images-idx3-ubyte.gz", "--data-root", "STUDY_DATA", "--download"):
        assert word in str(refused.value)
    with pytest.raises(StudyError, match=r"data_batch_1\.bin is missing; put it there \([^)]*\)$"):
        images.load("cifar10_standin")


def cifar_archive(rows=(4, 3)):
    """An archive in CIFAR-10's layout, and its batches."""
    generator = np.random.default_rng(0)
    batches = [generator.integers(0, 256, size=(count, 1 + 3072), dtype=np.uint8) for count in (*[rows[0]] * 5, rows[1])]
    for batch in batches:
        batch[:, 0] %= 10
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for member, batch in zip(archives.SOURCES["cifar10"].batches, batches, strict=True):
            info = tarfile.TarInfo(member)
            info.size = batch.size
            archive.addfile(info, io.BytesIO(batch.tobytes()))
    return stream.getvalue(), batches


def use_archive(root, monkeypatch, content, **changes):
    file = replace(
        archives.SOURCES["cifar10"].train[0], packed=hashlib.sha256(content).hexdigest(), **changes
    )
    source = replace(archives.SOURCES["cifar10"], rows=(20, 3), train=(file,), test=(file,))
    monkeypatch.setitem(archives.SOURCES, "cifar10", source)
    monkeypatch.setenv(images.ROOT, str(root))
    return file


def test_cifar10_is_read_from_its_verified_archive(tmp_path, monkeypatch):
    content, batches = cifar_archive()
    use_archive(tmp_path, monkeypatch, content)
    path = tmp_path / "cifar-10-binary.tar.gz"
    path.write_bytes(content)
    found = images.load("cifar10")
    whole = np.concatenate(batches)
    assert np.array_equal(found.x, whole[:, 1:])
    assert np.array_equal(found.y, whole[:, 0])
    assert found.own_test == 3
    path.write_bytes(content[:-1])
    with pytest.raises(StudyError, match="wrong checksum"):
        images.load("cifar10")


@pytest.fixture
def server(tmp_path):
    """A web server on this machine that offers what lies in a folder."""
    offered = tmp_path / "offered"
    offered.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(offered))
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield offered, f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_a_download_is_verified_and_kept(tmp_path, monkeypatch, server):
    pytest.importorskip("pooch")
    content, _ = cifar_archive()
    offered, address = server
    use_archive(tmp_path, monkeypatch, content, url=f"{address}/cifar.tar.gz")
    with pytest.raises(StudyError, match="with --download"):
        images.load("cifar10")
    monkeypatch.setenv(images.DOWNLOAD, "1")
    with pytest.raises(StudyError, match=r"could not be downloaded .* by hand"):
        images.load("cifar10")
    (offered / "cifar.tar.gz").write_bytes(content[:-5])
    with pytest.raises(StudyError, match="could not be downloaded"):
        images.load("cifar10")
    (offered / "cifar.tar.gz").write_bytes(content)
    assert len(images.load("cifar10").x) == 23
    monkeypatch.delenv(images.DOWNLOAD)
    assert len(images.load("cifar10").x) == 23


def test_a_download_needs_pooch(tmp_path, monkeypatch):
    monkeypatch.setenv(images.ROOT, str(tmp_path))
    monkeypatch.setenv(images.DOWNLOAD, "1")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StudyError, match=r"needs pooch; install it with .*\[data\]"):
        images.load("mnist")


def test_the_parts_are_held_out_as_the_authors_did(small):
    dataset = data.load(settings(), ".")
    split = data.split(dataset, settings())
    assert split.train_rows.tolist() == list(range(60))
    assert split.test_rows.tolist() == list(range(60, 90))
    pixels, _ = image_files.blurred(60, 10, 12, 0)
    np.testing.assert_array_equal(split.x_train, pixels.reshape(60, -1) / 255)
    assert data.training_count(dataset, settings()) == 60


def test_rows_are_drawn_from_their_own_parts(small):
    drawn = settings(n_train=20, n_test=7, validation_rows=10, split_seed=3)
    dataset = data.load(drawn, ".")
    split = data.split(dataset, drawn)
    assert len(split.train_rows) == data.training_count(dataset, drawn) == 20
    assert split.train_rows.min() >= 10
    assert split.train_rows.max() < 60 <= split.test_rows.min()
    assert len(set(split.test_rows)) == 7
    again = data.split(dataset, settings(n_train=20, n_test=9, validation_rows=10, split_seed=3))
    assert np.array_equal(again.train_rows, split.train_rows)
    other = data.split(dataset, settings(n_train=20, validation_rows=10, split_seed=4))
    assert not np.array_equal(other.train_rows, split.train_rows)
    with pytest.raises(StudyError, match=r"data\.n_train = 51: there are only 50 rows to draw from"):
        data.split(dataset, settings(n_train=51, validation_rows=10))


def test_some_classes_are_kept_and_numbered_anew(small):
    chosen = settings(classes=[7, 1])
    dataset, whole = data.load(chosen, "."), data.load(settings(), ".")
    split = data.split(dataset, chosen)
    assert dataset.classes == 2
    assert set(whole.y[split.train_rows]) == set(whole.y[split.test_rows]) == {1, 7}
    assert np.array_equal(split.y_train, whole.y[split.train_rows] == 1)
    with pytest.raises(StudyError, match=r"data\.classes: no class 12; mnist has classes 0 to 9"):
        data.load(settings(classes=[1, 12]), ".")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_label_noise_gives_other_classes_to_that_share_of_the_training_rows(small, share):
    dataset = data.load(settings(), ".")
    clean, noisy = (data.split(dataset, settings(label_noise=each)) for each in (0.0, share))
    assert (clean.y_train != noisy.y_train).sum() == round(share * 60)
    assert np.array_equal(clean.y_test, noisy.y_test)
    assert set(noisy.y_train) <= set(range(10))
    other = data.split(dataset, settings(label_noise=share, split_seed=1))
    assert (other.identity == noisy.identity) == (share == 0)


def test_pixels_may_be_standardized(small):
    keys = {"name": "mnist", "standardize": True}
    split = data.split(data.load(Data.model_validate(keys), "."), Data.model_validate(keys))
    spread = split.x_train.std(axis=0)
    np.testing.assert_allclose(split.x_train.mean(axis=0), 0, atol=1e-14)
    assert (np.isclose(spread, 1) | (spread == 0)).all()
    assert (spread[:12] == 0).all()  # the first row of pixels is black in every image


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"name": "mnist", "test_rows": [3]}, "test_rows: mnist has a test part of its own"),
        ({"name": "mnist", "test_fraction": 0.2}, "test_fraction: mnist has a test part of its own"),
        ({"name": "iris", "n_train": 20}, "n_train: only an image set has parts"),
        ({"name": "iris", "classes": [0, 1]}, "classes: only an image set"),
        ({"name": "diabetes", "label_noise": 0.1}, "label_noise = 0.1: a regression has no classes"),
        ({"name": "mnist", "classes": [1, 1]}, "1 is given twice"),
        ({"name": "mnist", "label_noise": 1.0}, "less than 1"),
    ],
)
def test_keys_that_do_not_fit_the_data_are_refused(keys, said):
    with pytest.raises(ValueError, match=said):
        Data.model_validate(keys)


SPEC = """
name = "small"
data.name = "mnist"
model.kind = "linear"
points = { train = "random", train_count = 3 }
estimators = [{ kind = "exact" }]
protocols = [{ kind = "stationary" }]
"""


def test_the_command_line_names_the_folder(small, monkeypatch):
    monkeypatch.delenv(images.ROOT)
    (small / "small.toml").write_text(SPEC)
    asked = ["run", str(small / "small.toml"), "--dry-run", "--results", str(small / "results"), "--data-root"]
    missing = CliRunner().invoke(main, [*asked, str(small / "nowhere")])
    assert missing.exit_code == 2
    assert "nowhere/MNIST/raw/train-images-idx3-ubyte.gz is missing" in missing.output
    monkeypatch.setenv(images.ROOT, "")
    planned = CliRunner().invoke(main, [*asked, str(small)])
    assert planned.exit_code == 0, planned.output
    assert "1 trial, 0 done" in planned.output
