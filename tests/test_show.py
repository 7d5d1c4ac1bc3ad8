"""`study show`: the record behind a key, from as few of its digits as tell it apart."""

import pytest

from study.errors import StudyError
from study.evidence import lookup
from study.evidence.store import Store
from study.records import Failure, RecordError
from tests import synthetic


@pytest.fixture
def stored(tmp_path):
    experiment = synthetic.experiment({"model.depth": [1, 2]}, seeds=2)
    store = synthetic.filled(Store(tmp_path, "synthetic"), experiment, flags=("collapsed",))
    return experiment, store


def _other(record, key):
    return type(record)({**record.header, "key": key}, record.arrays)


def test_a_record_is_shown_whole(stored, tmp_path):
    experiment, store = stored
    key = experiment.trials[0].key
    shown = lookup.show(tmp_path, key[:6])
    assert f"trial {key}" in shown
    assert str(store.record_path(key)) in shown
    assert "flags: collapsed" in shown
    for line in (
        "removals certified     30", "null certified         yes", "dtype     float64", "compiled  no",
        "gradient_norm         1e-11", "largest delta_error    1e-10",
    ):  # fmt: skip
        assert line in shown
    for name, array in store.read(key).arrays.items():
        (line,) = [line for line in shown.splitlines() if line.startswith(f"  {name} ")]
        assert f"{array.dtype} {list(array.shape)}" in line
    assert lookup.show(tmp_path, key) == lookup.show(tmp_path, f" {key.upper()} ") == shown


def test_all_experiments_are_searched_and_a_shared_trial_is_one(stored, tmp_path):
    experiment, store = stored
    key = experiment.trials[1].key
    twin = Store(tmp_path, "another")
    twin.write(store.read(key))
    shown = lookup.show(tmp_path, key[:8])
    assert shown.count(f"trial {key}") == 1
    assert str(store.record_path(key)) in shown
    assert str(twin.record_path(key)) in shown


@pytest.mark.parametrize(
    ("given", "said"),
    [("abc", "at least 6"), ("xyz123", "no trial key"), ("", "no trial key"), ("0" * 65, "no trial key"),
     ("../..", "no trial key"), ("000000", "no record in")],
)  # fmt: skip
def test_what_is_no_key_is_refused(stored, tmp_path, given, said):
    with pytest.raises(StudyError, match=said):
        lookup.show(tmp_path, given)


def test_an_ambiguous_key_names_the_candidates(stored, tmp_path):
    experiment, store = stored
    record = store.read(experiment.trials[0].key)
    keys = ["abcdef" + digit * 58 for digit in "12"]
    for key in keys:
        store.write(_other(record, key))
    with pytest.raises(StudyError, match="2 records start so") as error:
        lookup.show(tmp_path, "abcdef")
    assert all(key[:14] in str(error.value) for key in keys)
    assert f"trial {keys[1]}" in lookup.show(tmp_path, "abcdef2")


def test_a_failure_is_shown_and_a_record_goes_before_it(stored, tmp_path):
    experiment, store = stored
    lost = Failure("f" * 64, {"model": {"depth": 3}}, "ValueError: no", "Traceback …\nValueError: no\n")
    store.write_failure(lost)
    shown = lookup.show(tmp_path, "ffffff")
    assert "error: ValueError: no" in shown
    assert "model.depth  3" in shown
    assert shown.endswith("ValueError: no")
    key = experiment.trials[0].key
    store.write_failure(Failure(key, {}, "old", "old"))
    assert "error:" not in lookup.show(tmp_path, key)


def test_a_damaged_record_is_said(stored, tmp_path):
    experiment, store = stored
    path = store.record_path(experiment.trials[0].key)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(RecordError, match="damaged"):
        lookup.show(tmp_path, experiment.trials[0].key)


def test_no_folder_of_results(tmp_path):
    with pytest.raises(StudyError, match="--results"):
        lookup.show(tmp_path / "none", "abcdef")
