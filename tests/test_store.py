"""The store: presence means done, damage is found, and writers do not disturb each other."""

import multiprocessing
import os
import shutil

import pytest

from study.evidence import files
from study.evidence.store import Store
from study.records import Failure, RecordError
from tests import synthetic

EXPERIMENT = synthetic.experiment(seeds=2)
KEYS = [trial.key for trial in EXPERIMENT.trials]


@pytest.fixture
def store(tmp_path):
    return synthetic.filled(Store(tmp_path, "synthetic"), EXPERIMENT)


def test_a_store_makes_no_folder_until_it_writes(tmp_path):
    store = Store(tmp_path, "synthetic")
    assert store.done() == store.failed() == set()
    assert store.damaged() == store.leftovers() == []
    assert not list(tmp_path.iterdir())


def test_done_lists_records_and_reading_verifies_them(store):
    assert store.done() == set(KEYS)
    assert store.read(KEYS[0]).key == KEYS[0]
    assert store.verified_done(KEYS) == (set(KEYS), {})
    assert store.damaged() == []
    assert set(store.sizes()) == set(KEYS)
    assert min(store.sizes().values()) > 1000


def test_damage_is_found_and_never_read(store):
    path = store.record_path(KEYS[0])
    path.write_bytes(path.read_bytes()[:-100])
    good, damaged = store.verified_done(KEYS)
    assert good == set(KEYS[1:])
    assert list(damaged) == [KEYS[0]]
    assert [found for found, _ in store.damaged()] == [path]
    with pytest.raises(RecordError, match=str(path)):
        store.read(KEYS[0])


def test_a_record_under_another_name_is_refused(store):
    shutil.copy(store.record_path(KEYS[0]), store.record_path(KEYS[1]))
    with pytest.raises(RecordError, match=KEYS[0]):
        store.read(KEYS[1])
    assert len(store.damaged()) == 1


@pytest.mark.parametrize("key", ["../../etc/passwd", "A" * 64, ""])
def test_only_a_key_names_a_file(store, key):
    with pytest.raises(RecordError):
        store.read(key)


def test_a_missing_record_is_named(tmp_path):
    with pytest.raises(RecordError, match="cannot be read"):
        Store(tmp_path, "synthetic").read(KEYS[0])


def test_leftovers_are_reported_and_left(store):
    leftover = store.record_path(KEYS[0]).with_name(f".{KEYS[0]}.npz.123{files.TEMPORARY}")
    leftover.write_bytes(b"half")
    assert store.done() == set(KEYS)
    assert store.damaged() == []
    assert [path for path, _ in store.leftovers()] == [leftover]
    assert leftover.exists()


def test_a_failure_is_recorded_beside_and_can_be_cleared(store):
    failure = Failure(KEYS[0], {"seed": 0}, "RuntimeError: no", "Traceback")
    store.write_failure(failure)
    assert store.failed() == {KEYS[0]}
    assert store.read_failure(KEYS[0]) == failure
    store.clear_failure(KEYS[0])
    store.clear_failure(KEYS[0])
    assert store.failed() == set()


def test_a_block_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(TypeError), files.replacing(path) as temporary:
        temporary.write_bytes("half")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["table.csv"]


def _write_often(folder):
    store, record = Store(folder, "synthetic"), synthetic.record(EXPERIMENT.trials[0])
    for _ in range(50):
        store.write(record)


def test_two_processes_may_write_the_same_key(tmp_path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_often, args=(tmp_path,)) for _ in range(2)]
    for writer in writers:
        writer.start()
    store, reads = Store(tmp_path, "synthetic"), 0
    while any(writer.is_alive() for writer in writers):
        if KEYS[0] in store.done():
            reads += store.read(KEYS[0]).key == KEYS[0]
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert reads
    assert store.verified_done(KEYS)[0] == {KEYS[0]}
    assert store.leftovers() == []
