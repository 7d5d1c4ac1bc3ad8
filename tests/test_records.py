"""A record comes back as it was written, or not at all."""

import io

import numpy as np
import pytest

from study import records
from study.records import Failure, Record, RecordError

ARRAYS = {
    "predicted/exact": np.arange(6.0).reshape(3, 2),
    "null_norm/warm": np.array(0.5),
    "flag/warm": np.array(["", "diverged; another_basin"]),
    "selected": np.array([[True], [False]]),
    "empty": np.empty((0, 2)),
    "columns_first": np.asfortranarray(np.arange(6).reshape(2, 3)),
}
RECORD = Record({"schema": 1, "key": "a" * 64, "count": np.int64(3), "bad": float("nan"), "name": "ε"}, ARRAYS)


def test_a_record_comes_back_as_it_was():
    back = records.from_bytes(records.to_bytes(RECORD))
    assert back.key == "a" * 64
    assert back.header["count"] == 3
    assert back.header["name"] == "ε"
    assert list(back.arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert back.arrays[name].dtype == array.dtype
        assert back.arrays[name].shape == array.shape
        np.testing.assert_array_equal(back.arrays[name], array)


def test_numpy_opens_the_file_without_pickle():
    with np.load(io.BytesIO(records.to_bytes(RECORD)), allow_pickle=False) as file:
        assert bytes(file["header"]).startswith(b"{")
        np.testing.assert_array_equal(file["predicted/exact"], ARRAYS["predicted/exact"])


def test_equal_records_are_equal_bytes():
    assert records.to_bytes(RECORD) == records.to_bytes(RECORD)


def test_no_altered_byte_and_no_truncation_goes_unseen():
    data = records.to_bytes(RECORD)
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(RecordError, match="some"):
            records.from_bytes(bytes(changed), "some.npz")
    for length in range(0, len(data), 7):
        with pytest.raises(RecordError):
            records.from_bytes(data[:length])
    with pytest.raises(RecordError):
        records.from_bytes(data + b"\0")


@pytest.mark.parametrize("header", [{"schema": 2, "key": "a"}, {"schema": 1}])
def test_another_schema_or_no_key_is_refused(header):
    with pytest.raises(RecordError):
        records.from_bytes(records.to_bytes(Record(header, {})))


def test_objects_are_neither_written_nor_read():
    with pytest.raises(ValueError, match="Object arrays"):
        records.to_bytes(Record({"key": "a"}, {"bad": np.array([{}], dtype=object)}))


def test_a_failure_comes_back_and_damage_is_named():
    failure = Failure("a" * 64, {"seed": 1}, "ValueError: no", "Traceback …")
    assert Failure.from_text(failure.to_text()) == failure
    with pytest.raises(RecordError, match="there"):
        Failure.from_text("{", "there.json")
