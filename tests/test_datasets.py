"""The datasets: contents of the files, forms in which they are returned, and errors."""

import doctest
import importlib
import re
import shutil
import socket
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import Bunch

from fastbp import datasets

files = datasets.files

# One way to call each loader that reads a file; for MNIST, without its large part.
LOADERS = {
    "mnist": lambda **options: datasets.load_mnist(subset="test", **options),
    "letter": datasets.load_letter,
    "california_housing": datasets.load_california_housing,
    "adult": datasets.load_adult,
    "clothing_reviews": datasets.load_clothing_reviews,
}
TABLES = ["letter", "california_housing", "adult"]
FROM_SKLEARN = ["breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine"]


@pytest.fixture(scope="module")
def bunches():
    return {name: load() for name, load in LOADERS.items()}


def assert_same(array, expected):
    """Check that arrays are equal and of one dtype; in object arrays, nan equals nan."""
    assert array.dtype == expected.dtype
    if array.dtype == object:
        array, expected = (np.where(a == a, a, "missing") for a in (array, expected))
    np.testing.assert_array_equal(array, expected)


# ------------------------------------------------------------------------------ contents


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "target_dtype"),
    [
        ("mnist", (10000, 784), np.float32, np.int64),
        ("letter", (20000, 16), np.float64, np.dtype("U1")),
        ("california_housing", (20640, 8), np.float64, np.float64),
        ("adult", (48842, 14), object, np.dtype("U5")),
        ("clothing_reviews", (22641,), object, np.int64),
    ],
)
def test_shapes_dtypes_and_entries(bunches, name, shape, dtype, target_dtype):
    bunch = bunches[name]
    assert isinstance(bunch, Bunch)
    assert bunch.data.shape == shape
    assert bunch.data.dtype == dtype
    assert bunch.data.flags.c_contiguous
    assert bunch.target.shape == shape[:1]
    assert bunch.target.dtype == target_dtype
    assert len(bunch.feature_names) == (shape[1] if len(shape) == 2 else 1)
    assert all(isinstance(feature, str) for feature in bunch.feature_names)
    assert bunch.filename in files.SHA256
    assert bunch.data_module == "fastbp.datasets"
    assert "Licence:" in bunch.DESCR


def test_mnist_train_and_test(bunches):
    test = bunches["mnist"]
    assert np.bincount(test.target).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip
    assert test.target[:5].tolist() == [7, 2, 1, 0, 4]
    assert test.data.mean(dtype=np.float64) * 255 == pytest.approx(33.791224, abs=1e-5)
    assert test.data.min() == 0
    assert test.data.max() == 1
    assert test.feature_names[29] == "pixel_1_1"
    assert test.target_names.tolist() == list(range(10))
    # The first image is a seven: ink in the upper rows, none in the first seven.
    assert np.shares_memory(test.images, test.data)
    assert test.images.shape == (10000, 28, 28)
    assert test.images[0, :7].max() == 0
    assert test.images[0, 8, 6:17].min() > 0

    train = datasets.load_mnist()
    assert train.data.shape == (60000, 784)
    assert np.bincount(train.target).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip
    assert train.target[:5].tolist() == [5, 0, 4, 1, 9]
    assert train.data.mean(dtype=np.float64) * 255 == pytest.approx(33.318421, abs=1e-5)


def test_mnist_all_is_train_then_test(bunches):
    X, y = datasets.load_mnist(subset="all", return_X_y=True)
    assert X.shape == (70000, 784)
    assert y[:5].tolist() == [5, 0, 4, 1, 9]
    np.testing.assert_array_equal(X[60000:], bunches["mnist"].data)
    np.testing.assert_array_equal(y[60000:], bunches["mnist"].target)


def test_mnist_pixels_without_scale_and_in_double_precision(bunches):
    raw, _ = datasets.load_mnist(subset="test", return_X_y=True, scale=False)
    assert raw.dtype == np.float32
    assert raw.max() == 255
    np.testing.assert_array_equal(raw, np.rint(raw))
    np.testing.assert_array_equal(raw / np.float32(255), bunches["mnist"].data)
    double, _ = datasets.load_mnist(subset="test", return_X_y=True, dtype="float64")
    assert double.dtype == np.float64
    np.testing.assert_array_equal(double, raw.astype(np.float64) / 255)


def test_letter(bunches):
    letter = bunches["letter"]
    assert letter.data[0].tolist() == [2, 8, 3, 5, 1, 8, 13, 0, 6, 6, 10, 8, 0, 8, 0, 8]
    assert set(np.unique(letter.data)) == set(range(16))
    counts = Counter(letter.target.tolist())
    assert "".join(sorted(counts)) == "ABCDEFGHIJKLMNOPQRSTUVWXYZ" == "".join(letter.target_names)
    assert (min(counts.values()), max(counts.values())) == (734, 813)
    assert (counts["A"], counts["U"], counts["Z"]) == (789, 813, 734)
    assert letter.feature_names[:2] == ["x.box", "y.box"]
    rows = {(label, *row) for label, row in zip(letter.target, letter.data.tolist(), strict=True)}
    assert len(rows) == 20000 - 1332


def test_california_housing(bunches):
    housing = bunches["california_housing"]
    assert housing.feature_names == [
        "MedInc", "HouseAge", "AveRooms", "AveBedrms",
        "Population", "AveOccup", "Latitude", "Longitude",
    ]  # fmt: skip
    assert housing.target_names == ["MedHouseVal"]
    assert housing.data[0, [0, 1, 6, 7]].tolist() == [8.3252, 41.0, 37.88, -122.23]
    assert housing.data[-1, [0, 1, 6, 7]].tolist() == [2.3886, 16.0, 39.37, -121.24]
    assert np.isfinite(housing.data).all()
    assert housing.target.mean() == pytest.approx(2.0685581690891475)
    assert housing.target.max() == 5.00001
    assert (housing.target > 5).sum() == 965


@pytest.mark.parametrize("load", [datasets.load_letter, datasets.load_california_housing])
def test_tables_in_single_precision(load):
    double, y_double = load(return_X_y=True)
    single, y_single = load(return_X_y=True, dtype=np.float32)
    assert single.dtype == np.float32
    np.testing.assert_array_equal(single, double.astype(np.float32))
    if y_double.dtype == np.float64:
        assert y_single.dtype == np.float32
        y_double = y_double.astype(np.float32)
    np.testing.assert_array_equal(y_single, y_double)


def test_adult(bunches):
    adult = bunches["adult"]
    assert Counter(adult.target.tolist()) == {"<=50K": 37155, ">50K": 11687}
    # The original test set first, then the original training set.
    assert (adult.target[:16281] == ">50K").sum() == 3846
    assert adult.target_names.tolist() == ["<=50K", ">50K"]
    assert [adult.feature_names[index] for index in adult.numeric_features] == [
        "age", "fnlwgt", "educational-num", "capital-gain", "capital-loss", "hours-per-week",
    ]  # fmt: skip
    assert sorted(adult.numeric_features + adult.categorical_features) == list(range(14))
    assert adult.data[0].tolist() == [
        25.0, "Private", 226802.0, "11th", 7.0, "Never-married", "Machine-op-inspct",
        "Own-child", "Black", "Male", 0.0, 0.0, 40.0, "United-States",
    ]  # fmt: skip
    numbers = adult.data[:, adult.numeric_features]
    assert {type(value) for value in numbers.ravel()} == {float}
    assert not np.isnan(numbers.astype(np.float64)).any()
    words = adult.data[:, adult.categorical_features]
    missing = words != words  # only nan differs from itself
    assert {type(value) for value in words[~missing]} == {str}
    assert "?" not in set(words[~missing])
    missing_counts = {
        adult.feature_names[index]: int(count)
        for index, count in zip(adult.categorical_features, missing.sum(axis=0), strict=True)
        if count
    }
    assert missing_counts == {"workclass": 2799, "occupation": 2809, "native-country": 857}
    assert missing.any(axis=1).sum() == 3620


@pytest.mark.parametrize("as_frame", [False, True])
def test_adult_goes_into_a_column_transformer(as_frame):
    adult = datasets.load_adult(as_frame=as_frame)
    X, y = adult.data[:4000], adult.target[:4000]
    # Missing values as a category of their own, or imputed: neither needs preparation.
    for encoder in (
        OneHotEncoder(),
        make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()),
    ):
        model = make_pipeline(
            make_column_transformer(
                (StandardScaler(), adult.numeric_features),
                (encoder, adult.categorical_features),
            ),
            LogisticRegression(max_iter=1000),
        )
        assert model.fit(X, y).score(X, y) > 0.82
        assert list(model.classes_) == ["<=50K", ">50K"]


def test_clothing_reviews(bunches):
    reviews = bunches["clothing_reviews"]
    assert Counter(reviews.target.tolist()) == {0: 4101, 1: 18540}
    assert reviews.target_names.tolist() == ["not recommended", "recommended"]
    assert reviews.data[0] == "Absolutely wonderful - silky and sexy and comfortable"
    assert {type(text) for text in reviews.data} == {str}
    assert all(text.strip() for text in reviews.data)
    # Texts that span lines or contain quotes are read whole.
    assert sum("\n" in text for text in reviews.data) == 2024
    assert sum("\r" in text for text in reviews.data) == 1398
    assert any("5'8\"" in text for text in reviews.data)

    graded = datasets.load_clothing_reviews(target="rating")
    assert np.bincount(graded.target).tolist() == [0, 821, 1549, 2823, 4908, 12540]
    assert graded.target_names.tolist() == ["1", "2", "3", "4", "5"]
    assert graded.target.dtype == np.int64
    assert graded.data.tolist() == reviews.data.tolist()
    # Happy authors recommend: the two targets belong to the same rows.
    assert reviews.target[graded.target == 5].mean() > 0.99
    assert reviews.target[graded.target == 1].mean() < 0.05


def test_clothing_reviews_go_into_a_vectorizer(bunches):
    counts = CountVectorizer(vocabulary=["love", "returned"]).transform(
        bunches["clothing_reviews"].data
    )
    liked = bunches["clothing_reviews"].target == 1
    share = np.asarray((counts > 0)[liked].mean(axis=0) / (counts > 0)[~liked].mean(axis=0))
    assert share.ravel()[0] > 1 > share.ravel()[1]


@pytest.mark.parametrize("name", FROM_SKLEARN)
def test_small_datasets_are_those_of_scikit_learn(name):
    assert getattr(datasets, f"load_{name}") is getattr(sklearn.datasets, f"load_{name}")


def test_public_names():
    assert set(datasets.__all__) == {f"load_{name}" for name in [*LOADERS, *FROM_SKLEARN]}
    assert all(callable(getattr(datasets, name)) for name in datasets.__all__)


# -------------------------------------------------------------------------- forms


@pytest.mark.parametrize("name", LOADERS)
def test_the_pair_agrees_with_the_bunch(bunches, name):
    pair = LOADERS[name](return_X_y=True)
    assert isinstance(pair, tuple)
    for array, expected in zip(pair, (bunches[name].data, bunches[name].target), strict=True):
        assert type(array) is np.ndarray
        assert_same(array, expected)


@pytest.mark.parametrize("name", TABLES)
def test_as_frame_agrees_with_the_arrays(bunches, name):
    pandas = pytest.importorskip("pandas")
    arrays = bunches[name]
    assert arrays.frame is None
    bunch = LOADERS[name](as_frame=True)
    assert isinstance(bunch.data, pandas.DataFrame)
    assert isinstance(bunch.target, pandas.Series)
    assert list(bunch.data.columns) == arrays.feature_names
    assert list(bunch.frame.columns) == [*arrays.feature_names, bunch.target.name]
    assert bunch.frame[arrays.feature_names].equals(bunch.data)
    assert bunch.frame[bunch.target.name].equals(bunch.target)
    for index, feature in enumerate(arrays.feature_names):
        categorical = name == "adult" and index in arrays.categorical_features
        assert bunch.data[feature].dtype == ("category" if categorical else np.float64)
        assert_same(bunch.data[feature].to_numpy(dtype=arrays.data.dtype), arrays.data[:, index])
    assert bunch.target.dtype == (np.float64 if name == "california_housing" else "category")
    np.testing.assert_array_equal(bunch.target.to_numpy(), arrays.target)

    X, y = LOADERS[name](as_frame=True, return_X_y=True)
    assert X.equals(bunch.data)
    assert y.equals(bunch.target)


def test_frame_in_single_precision():
    pytest.importorskip("pandas")
    bunch = datasets.load_california_housing(as_frame=True, dtype=np.float32)
    assert set(bunch.frame.dtypes) == {np.dtype(np.float32)}


@pytest.mark.parametrize("name", TABLES)
def test_as_frame_without_pandas_says_what_is_missing(monkeypatch, name):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=rf"load_{name} with as_frame=True needs pandas"):
        LOADERS[name](as_frame=True)


@pytest.mark.parametrize("name", ["letter", "california_housing"])
def test_a_call_gives_arrays_of_its_own(bunches, name):
    X, _ = LOADERS[name](return_X_y=True)
    X[0] = -1
    assert not np.array_equal(bunches[name].data[0], X[0])
    assert not np.array_equal(LOADERS[name]().data[0], X[0])


# --------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("load", "options", "message"),
    [
        (datasets.load_mnist, {"subset": "valid"}, "subset must be one of 'train', 'test', 'all'"),
        (datasets.load_mnist, {"subset": ["train"]}, "subset must be one of"),
        (datasets.load_mnist, {"scale": 255}, "scale must be True or False; got 255"),
        (datasets.load_mnist, {"dtype": np.uint8}, "dtype must be numpy.float32 or numpy.float64"),
        (datasets.load_mnist, {"dtype": "pixels"}, "dtype must be .*got 'pixels'"),
        (datasets.load_mnist, {"dtype": None}, "dtype must be .*got None"),
        (datasets.load_mnist, {"return_X_y": "yes"}, "return_X_y must be True or False"),
        (datasets.load_letter, {"dtype": np.float16}, "dtype must be"),
        (datasets.load_letter, {"return_X_y": 1}, "return_X_y must be"),
        (datasets.load_letter, {"as_frame": "pandas"}, "as_frame must be True or False"),
        (datasets.load_california_housing, {"dtype": int}, "dtype must be"),
        (datasets.load_california_housing, {"return_X_y": None}, "return_X_y must be"),
        (datasets.load_california_housing, {"as_frame": 1}, "as_frame must be"),
        (datasets.load_adult, {"return_X_y": 0}, "return_X_y must be"),
        (datasets.load_adult, {"as_frame": None}, "as_frame must be"),
        (
            datasets.load_clothing_reviews,
            {"target": "stars"},
            "target must be one of 'recommended', 'rating'; got 'stars'",
        ),
        (datasets.load_clothing_reviews, {"return_X_y": "X"}, "return_X_y must be"),
    ],
)
def test_bad_arguments(load, options, message):
    with pytest.raises(ValueError, match=message):
        load(**options)


@pytest.mark.parametrize("name", LOADERS)
def test_options_are_keyword_only(name):
    load = getattr(datasets, f"load_{name}")
    with pytest.raises(TypeError, match="positional argument"):
        load(True)


@pytest.mark.parametrize("name", LOADERS)
def test_a_damaged_file_is_refused(bunches, monkeypatch, tmp_path, name):
    file = bunches[name].filename
    shutil.copy(files.FOLDER / file, tmp_path)
    monkeypatch.setattr(files, "FOLDER", tmp_path)
    content = bytearray(files.read_bytes(file))  # a copy with the right content is accepted
    content[len(content) // 2] ^= 1
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ValueError, match=rf"data file {re.escape(file)} .*is damaged"):
        LOADERS[name]()


@pytest.mark.parametrize("name", LOADERS)
def test_a_missing_file_is_named(bunches, monkeypatch, tmp_path, name):
    file = bunches[name].filename
    monkeypatch.setattr(files, "FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match=rf"data file {re.escape(file)} is missing"):
        LOADERS[name]()


def test_only_known_files_are_read(tmp_path, monkeypatch):
    (tmp_path / "other.csv.gz").write_bytes(b"")
    monkeypatch.setattr(files, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match=r"name must be one of .*'mnist.npz'"):
        files.read_bytes("other.csv.gz")


def test_neither_network_nor_pandas_is_needed(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a dataset used the network")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setitem(sys.modules, "pandas", None)
    for load in LOADERS.values():
        load()
    for name in FROM_SKLEARN:
        getattr(datasets, f"load_{name}")()


# ----------------------------------------------------------------------------- descriptions


def test_readme_and_checksums_cover_the_files_that_ship():
    shipped = {
        path.name
        for path in Path(files.FOLDER).iterdir()
        if path.name.endswith((".csv.gz", ".npz"))
    }
    assert shipped == set(files.SHA256)
    readme = (files.FOLDER / "README.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in readme.splitlines()
        if line.startswith("| `")
    ]
    assert {row[0].strip("`") for row in rows} == shipped
    assert all(len(row) == 6 and all(row) for row in rows)
    assert all(f"`{name}`" in readme for name in datasets.__all__)


def test_licences_in_readme_and_descriptions_agree(bunches):
    licences = {
        "mnist": "CC BY-SA 3.0",
        "letter": "CC BY 4.0",
        "california_housing": "none",
        "adult": "CC BY 4.0",
        "clothing_reviews": "CC0",
    }
    readme = (files.FOLDER / "README.md").read_text(encoding="utf-8")
    for name, licence in licences.items():
        (row,) = (
            line for line in readme.splitlines() if line.startswith(f"| `{bunches[name].filename}`")
        )
        assert row.strip("| ").split("|")[-1].strip().startswith(licence)
        assert f"Licence: {licence}" in bunches[name].DESCR


def test_examples_in_the_docstrings():
    result = doctest.testmod(importlib.import_module("fastbp.datasets.loaders"))
    assert result.failed == 0
    assert result.attempted >= 15
