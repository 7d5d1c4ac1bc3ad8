"""Data: the known sets, the split and its scaling, and users' files refused cell by cell."""

from pathlib import Path

import numpy as np
import pytest

from study import data
from study.errors import StudyError
from study.specs import Data

SHAPES = {"iris": (150, 4, 3), "digits": (1797, 64, 10), "wine": (178, 13, 3), "breast_cancer": (569, 30, 2)}


def known(name: str, **keys: object) -> Data:
    return Data.model_validate({"name": name, **keys})


def own(name: str, task: str = "classification", **keys: object) -> Data:
    return Data.model_validate({"name": name, "task": task, **keys})


def csv(folder: Path, *lines: str) -> str:
    (folder / "own.csv").write_text("\n".join(lines) + "\n")
    return str(folder)


@pytest.mark.parametrize("name", SHAPES)
def test_known_classification(name):
    dataset = data.load(known(name), ".")
    rows, features, classes = SHAPES[name]
    assert (dataset.x.shape, dataset.y.shape, dataset.classes) == ((rows, features), (rows,), classes)
    assert (dataset.x.dtype, dataset.y.dtype, dataset.task) == (np.float64, np.int64, "classification")
    assert set(dataset.y) == set(range(classes))
    assert len(dataset.features) == features


def test_known_regression():
    dataset = data.load(known("diabetes"), ".")
    assert (dataset.x.shape, dataset.y.dtype, dataset.task, dataset.classes) == ((442, 10), np.float64, "regression", 0)


def test_loading_twice_is_free_and_safe():
    first = data.load(known("iris"), ".")
    assert data.load(known("iris", split_seed=3), "elsewhere") is first
    with pytest.raises(ValueError, match="read-only"):
        first.x[0, 0] = 1.0


def test_chosen_rows_are_held_out_in_their_order():
    dataset = data.load(known("iris"), ".")
    split = data.split(dataset, known("iris", test_rows=[83, 2, 149]))
    assert split.test_rows.tolist() == [83, 2, 149]
    assert split.train_rows.tolist() == [row for row in range(150) if row not in (2, 83, 149)]
    assert split.y_test.tolist() == dataset.y[[83, 2, 149]].tolist()


@pytest.mark.parametrize("name", [*SHAPES, "diabetes"])
@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.33, 0.9])
def test_a_fraction_is_split_as_scikit_learn_does(name, fraction):
    from sklearn.model_selection import train_test_split

    settings = known(name, test_fraction=fraction, split_seed=7)
    dataset = data.load(settings, ".")
    split = data.split(dataset, settings)
    train, test = train_test_split(np.arange(len(dataset.x)), test_size=fraction, random_state=7)
    assert split.train_rows.tolist() == sorted(train)
    assert split.test_rows.tolist() == sorted(test)
    assert data.training_count(dataset, settings) == len(train)


def test_scaling_is_fitted_on_the_training_rows():
    dataset = data.load(known("iris"), ".")
    split = data.split(dataset, known("iris", test_rows=[0, 1, 2]))
    mean, deviation = dataset.x[3:].mean(axis=0), dataset.x[3:].std(axis=0)
    np.testing.assert_allclose(split.x_train.mean(axis=0), 0, atol=1e-14)
    np.testing.assert_allclose(split.x_train.std(axis=0), 1)
    np.testing.assert_allclose(split.x_test, (dataset.x[:3] - mean) / deviation)


def test_a_constant_feature_is_only_centred():
    split = data.split(data.load(known("digits"), "."), known("digits"))
    assert np.isfinite(split.x_train).all()
    assert (split.x_train[:, 0] == 0).all()


def test_a_regression_target_is_scaled_with_the_features():
    dataset = data.load(known("diabetes"), ".")
    scaled = data.split(dataset, known("diabetes"))
    assert abs(scaled.y_train.mean()) < 1e-12
    assert scaled.y_train.std() == pytest.approx(1)
    plain = data.split(dataset, known("diabetes", standardize=False))
    np.testing.assert_array_equal(plain.y_train, dataset.y[plain.train_rows])
    np.testing.assert_array_equal(plain.x_test, dataset.x[plain.test_rows])


@pytest.mark.parametrize(
    ("keys", "words"), [({"test_rows": [150]}, "0 to 149"), ({"test_rows": list(range(149))}, "fewer than 2")]
)
def test_rows_that_cannot_be_held_out(keys, words):
    with pytest.raises(StudyError, match=words):
        data.split(data.load(known("iris"), "."), known("iris", **keys))


def test_own_csv(tmp_path):
    folder = csv(tmp_path, "a,b,kind", "1,2.5,yes", "2,1e3,no", "3,-1,yes", "4,0,maybe")
    dataset = data.load(own("own.csv", target="kind"), folder)
    assert dataset.features == ["a", "b"]
    assert dataset.x.tolist() == [[1, 2.5], [2, 1000], [3, -1], [4, 0]]
    assert (dataset.y.tolist(), dataset.classes) == ([2, 1, 2, 0], 3)


def test_own_csv_for_regression(tmp_path):
    folder = csv(tmp_path, "a,target", "1,0.5", "2,1", "3,2")
    dataset = data.load(own("own.csv", "regression"), folder)
    assert (dataset.y.tolist(), dataset.y.dtype, dataset.classes) == ([0.5, 1.0, 2.0], np.float64, 0)


def test_a_changed_file_is_read_anew(tmp_path):
    first = data.load(own("own.csv"), csv(tmp_path, "a,target", "1,0", "2,1", "3,0"))
    second = data.load(own("own.csv"), csv(tmp_path, "a,target", "1,0", "2,1", "3,0", "4,1"))
    assert (len(first.x), len(second.x)) == (3, 4)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["a,target", "1,0", ",1", "3,0"], ['column "a"', "row 1", "missing"]),
        (["a,target", "1,0", "2,", "3,0"], ['column "target"', "row 1", "missing"]),
        (["a,b,target", "1,7,0", "2,7,1", "3,7,0"], ['column "b" is constant']),
        (["a,target", "1,0", "x,1", "3,0"], ['column "a"', "row 1", '"x"', "not a number"]),
        (["a,target", "1,0", "inf,1", "3,0"], ['column "a"', "row 1", "inf"]),
        (["a,target", "1,0", "1e300,1", "3,0"], ['column "a"', "row 1", "finite"]),
        (["a,target", "1,0", "2,0", "3,0"], ["one class"]),
        (["a,target", "1,0.5", "2,1.25", "3,0"], ["0.5", "names no class", "regression"]),
        (["a,tarjet", "1,0", "2,1", "3,0"], ['no target column "target"', '"tarjet"']),
        (["target", "1", "2", "3"], ["0 features"]),
        (["a,target", "1,0", "2,1"], ["2 rows"]),
        (["a,target"], ["0 rows"]),
        ([""], ["cannot be read as CSV"]),
        (["a,target", "1,0", "2,1,5,6", "3,0"], ["cannot be read as CSV"]),
        (["a,target", "1,0,2", "2,1,3", "3,0,4"], ["cannot be read as CSV", "Length of header"]),
    ],
)
def test_a_csv_is_refused_naming_column_and_row(tmp_path, lines, words):
    with pytest.raises(StudyError) as caught:
        data.load(own("own.csv"), csv(tmp_path, *lines))
    assert all(word in str(caught.value) for word in ["own.csv", *words]), str(caught.value)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["a,target", "1,x", "2,1", "3,2"], ['target "target"', "row 0", "not a number"]),
        (["a,target", "1,2", "2,2", "3,2"], ["the same in every row"]),
        (["a,target", "1,-inf", "2,2", "3,3"], ["row 0", "-inf"]),
    ],
)
def test_a_regression_target_is_checked(tmp_path, lines, words):
    with pytest.raises(StudyError) as caught:
        data.load(own("own.csv", "regression"), csv(tmp_path, *lines))
    assert all(word in str(caught.value) for word in words), str(caught.value)


X = np.arange(12.0).reshape(6, 2)
Y = np.array([0, 1, 0, 1, 0, 5])


def npz(folder: Path, **arrays: np.ndarray) -> str:
    np.savez(folder / "own.npz", **arrays)  # type: ignore[arg-type]
    return str(folder)


def test_own_npz(tmp_path):
    dataset = data.load(own("own.npz"), npz(tmp_path, x=X.astype(np.float32), y=Y))
    assert (dataset.x.tolist(), dataset.x.dtype, dataset.y.tolist()) == (X.tolist(), np.float64, [0, 1, 0, 1, 0, 2])
    assert (dataset.classes, dataset.features) == (3, ["x0", "x1"])
    named = data.load(own("own.npz", "regression", target="z"), npz(tmp_path, x=X, z=Y))
    assert named.y.tolist() == Y.tolist()


def spoilt(value: float) -> np.ndarray:
    x = X.copy()
    x[2, 1] = value
    return x


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"y": Y}, ['no array "x"']),
        ({"x": X}, ['no array "y"']),
        ({"x": X[0], "y": Y}, ["shape"]),
        ({"x": X[:3], "y": Y}, ["shape"]),
        ({"x": X[:, :0], "y": Y}, ["0 features"]),
        ({"x": X.astype(complex), "y": Y}, ["complex"]),
        ({"x": X.astype(object), "y": Y}, ["cannot be read as NPZ"]),
        ({"x": spoilt(np.nan), "y": Y}, ["column 1 of x", "row 2", "nan"]),
        ({"x": spoilt(np.inf), "y": Y}, ["column 1 of x", "row 2", "inf"]),
        ({"x": np.ones((6, 2)), "y": Y}, ["constant"]),
        ({"x": X, "y": np.array([0, 1, np.nan, 0, 1, 0])}, ["row 2", "nan"]),
        ({"x": X, "y": np.zeros(6)}, ["one class"]),
    ],
)
def test_an_npz_is_refused(tmp_path, arrays, words):
    with pytest.raises(StudyError) as caught:
        data.load(own("own.npz"), npz(tmp_path, **arrays))
    assert all(word in str(caught.value) for word in ["own.npz", *words]), str(caught.value)


@pytest.mark.parametrize("name", ["own.csv", "own.npz"])
@pytest.mark.parametrize("content", [b"", b"\x00\xff" * 50, b"PK\x03\x04broken", b"\x93NUMPY"])
def test_damaged_files_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StudyError, match=name):
        data.load(own(name), str(tmp_path))


@pytest.mark.parametrize("name", ["none.csv", "a\0b.csv", "x" * 5000 + ".npz"])
def test_missing_files_are_refused(tmp_path, name):
    with pytest.raises(StudyError, match=r"data\.name"):
        data.load(own(name), str(tmp_path))
