"""Models in files: what is restored, what is refused, and that files are complete."""

import json
import os
import pickle
import re
import time
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy.sparse import csr_array, issparse
from sklearn.datasets import load_iris, make_multilabel_classification

import fastbp
from fastbp import BPClassifier, BPRegressor, files
from fastbp.estimators import serialization

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_iris(return_X_y=True)
SETTINGS = {"hidden_layer_sizes": (8, 3), "max_iter": 5}


def models():
    frame = pd.DataFrame(X, columns=list("abcd"))
    several = make_multilabel_classification(60, 4, random_state=0)
    yield BPClassifier(**SETTINGS, random_state=0, class_weight={0: 2.0}).fit(X, Y), X
    yield BPClassifier(**SETTINGS, random_state=1).fit(frame, np.array(list("xyz"))[Y]), frame
    yield BPClassifier(**SETTINGS, activation=["relu", "tanh"]).fit(X.astype("f4"), Y > 0), X
    yield BPClassifier(**SETTINGS, n_iter_no_change=np.inf, early_stopping=True).fit(X, Y), X
    yield BPClassifier(**SETTINGS, solver="lbfgs").fit(*several), several[0]
    yield BPRegressor(**SETTINGS, random_state=np.random.RandomState(3)).fit(X, X[:, :2]), X
    yield BPRegressor("poisson", hidden_layer_sizes=(), dtype="float32").fit(X, Y), X


@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize("number", range(7))
def test_a_model_comes_back(number, state, tmp_path):
    model, data = list(models())[number]
    fastbp.save(model, tmp_path / "model", state=state)
    loaded = fastbp.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict(data), model.predict(data))
    assert type(loaded) is type(model)
    assert str(loaded).split(" at 0x")[0] == str(model).split(" at 0x")[0]
    for name in serialization._ATTRIBUTES:
        assert getattr(loaded, name, "none") == getattr(model, name, "none")
    for name in serialization._ARRAYS:
        if hasattr(model, name):
            np.testing.assert_array_equal(getattr(loaded, name), getattr(model, name))
            assert getattr(loaded, name).dtype.kind == getattr(model, name).dtype.kind
    assert os.listdir(tmp_path) == ["model"]
    assert hasattr(loaded, "history_") == (state and hasattr(model, "history_"))
    if state and hasattr(model, "history_"):
        for name, column in model.history_.items():
            np.testing.assert_array_equal(loaded.history_[name], column)


@pytest.mark.parametrize(
    "parameters",
    [
        {"hidden_layer_sizes": np.array([8, 3]), "activation": np.array(["relu", "tanh"])},
        {"activation": np.array(["relu", "tanh"], object)},
        {"hidden_layer_sizes": (np.int64(8), 3), "alpha": np.float32(0.5)},
        {"class_weight": dict(zip(np.unique(Y), [1.0, 2.0, 3.0], strict=True))},
    ],
    ids=str,
)
def test_parameters_of_numpy_come_back(parameters, tmp_path):
    model = BPClassifier(**{**SETTINGS, **parameters}, random_state=0).fit(X, Y)
    fastbp.save(model, tmp_path / "model")
    loaded = fastbp.load(tmp_path / "model")
    for name, value in parameters.items():
        np.testing.assert_equal(getattr(loaded, name), value)
    np.testing.assert_array_equal(loaded.fit(X, Y).predict_proba(X), model.predict_proba(X))


def test_predictions_stay_sparse_where_the_targets_were(tmp_path):
    data, targets = make_multilabel_classification(60, 4, random_state=0)
    model = BPClassifier(**SETTINGS).fit(data, csr_array(targets))
    fastbp.save(model, tmp_path / "model")
    predicted = fastbp.load(tmp_path / "model").predict(data)
    assert issparse(predicted)
    np.testing.assert_array_equal(predicted.toarray(), model.predict(data).toarray())


@pytest.mark.parametrize("solver", ["adam", "sgd", "adagrad"])
def test_partial_fit_goes_on_with_the_state(solver, tmp_path):
    model = BPClassifier(**SETTINGS, solver=solver, random_state=np.random.RandomState(0))
    model.partial_fit(X, Y, classes=[0, 1, 2]).partial_fit(X, Y)
    fastbp.save(model, tmp_path / "model", state=True)
    loaded = fastbp.load(tmp_path / "model")
    for other in (model, loaded):
        other.partial_fit(X, Y)
    assert loaded.loss_curve_ == model.loss_curve_
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))


def test_the_size_is_that_of_the_weights(tmp_path):
    model = BPClassifier((300,), max_iter=1).fit(np.tile(X, 40).astype("f4"), Y)
    n_bytes = sum(w.nbytes for w in model.coefs_ + model.intercepts_)
    for given, most in (({}, 1.05), ({"state": True}, 3.1)):
        fastbp.save(model, tmp_path / "model", **given)
        assert n_bytes < (tmp_path / "model").stat().st_size < most * n_bytes


def test_every_flipped_bit_and_every_cut_is_found(tmp_path):
    path = tmp_path / "model"
    fastbp.save(BPClassifier((2,), max_iter=1).fit(X, Y), path)
    contents = path.read_bytes()
    for position in range(0, len(contents), 7):
        path.write_bytes(
            contents[:position]
            + bytes([contents[position] ^ 1 << position % 8])
            + contents[position + 1 :]
        )
        with pytest.raises(ValueError, match="model"):
            fastbp.load(path)
    for length in range(0, len(contents), 11):
        path.write_bytes(contents[:length])
        with pytest.raises(ValueError, match="model"):
            fastbp.load(path)


def test_names_types_and_shapes_of_arrays_are_part_of_the_digest(tmp_path):
    path = tmp_path / "model"
    fastbp.save(BPClassifier((3,), max_iter=1).fit(X, Y), path)
    contents = path.read_bytes()
    for before, after in ((b'"coefs.0"', b'"coefs.7"'), (b'"I64"', b'"F64"'), (b"[4,3]", b"[3,4]")):
        assert contents.count(before) == 1
        path.write_bytes(contents.replace(before, after))
        with pytest.raises(ValueError, match="was altered"):
            fastbp.load(path)


def test_what_is_no_model_of_ours(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "model"
    save_file({"a": np.zeros(3)}, path)
    with pytest.raises(ValueError, match="not a model in fastbp's format 1: its format is None"):
        fastbp.load(path)
    save_file({"a": np.zeros(3)}, path, {"fastbp": "2"})
    with pytest.raises(ValueError, match="format 1: its format is '2'"):
        fastbp.load(path)
    path.write_bytes((1 << 60).to_bytes(8, "little") + b"{}")
    with pytest.raises(ValueError, match="cannot be read as a model"):
        fastbp.load(path)
    with pytest.raises(FileNotFoundError):
        fastbp.load(tmp_path / "none")


def deep(contents, arrays):
    return '{"a":' * 100_000 + "1" + "}" * 100_000


UNFIT = {
    "another estimator": lambda c, a: c.update(estimator="Foo"),
    "no parameters": lambda c, a: c.pop("parameters"),
    "a parameter of a newer fastbp": lambda c, a: c["parameters"].update(new=1),
    "an attribute of another name": lambda c, a: c["attributes"].update(predict="x"),
    "another class": lambda c, a: c["attributes"].update(__class__="x"),
    "another number of features": lambda c, a: c["attributes"].update(n_features_in_=2),
    "no number of features": lambda c, a: c["attributes"].pop("n_features_in_"),
    "a number of features that is none": lambda c, a: c["attributes"].update(n_features_in_=4.0),
    "steps that are less than none": lambda c, a: c["attributes"].update(t_=-1),
    "a loss in words": lambda c, a: c["attributes"].update(loss_="x"),
    "a curve of integers": lambda c, a: a.update(loss_curve_=np.zeros(5, int)),
    "a curve in rows": lambda c, a: a.update(loss_curve_=np.zeros((5, 2))),
    "an output that is not known": lambda c, a: c["attributes"].update(out_activation_="x"),
    "no coefs": lambda c, a: [a.pop("coefs.0"), a.pop("coefs.1")],
    "no last intercepts": lambda c, a: a.pop("intercepts.1"),
    "coefs of one dimension": lambda c, a: a.update({"coefs.0": np.zeros(3)}),
    "coefs of other inputs": lambda c, a: a.update({"coefs.1": np.zeros((4, 3))}),
    "coefs of other outputs": lambda c, a: a.update({"coefs.1": np.zeros((3, 5))}),
    "coefs of integers": lambda c, a: a.update({"coefs.0": np.zeros((4, 3), int)}),
    "coefs of half precision": lambda c, a: a.update({"coefs.0": np.zeros((4, 3), "f2")}),
    "coefs of two precisions": lambda c, a: a.update({"coefs.0": np.zeros((4, 3), "f4")}),
    "coefs of no inputs": lambda c, a: a.update({"coefs.0": np.zeros((0, 10**13))}),
    "intercepts that would be spread": lambda c, a: a.update({"intercepts.0": np.zeros(1)}),
    "a class less": lambda c, a: a.update(classes_=np.arange(2)),
    "classes in rows": lambda c, a: a.update(classes_=np.zeros((3, 1))),
    "no classes": lambda c, a: a.pop("classes_"),
    "no labels": lambda c, a: c.pop("labels"),
    "labels of another type": lambda c, a: c.update(labels=["continuous", False]),
    "a name less": lambda c, a: c.update(feature_names_in_={"list": ["a", "b", "c"]}),
    "a moment too long": lambda c, a: a.update({"optimizer.first": np.zeros(99)}),
    "a moment too short": lambda c, a: a.update({"optimizer.first": np.zeros(2)}),
    "best weights of another shape": lambda c, a: a.update(best=np.zeros(2)),
    "another solver": lambda c, a: c["optimizer"].update(solver="x"),
    "settings of no solver": lambda c, a: c["optimizer"].update(begin=1),
    "no losses in the history": lambda c, a: a.pop("history.loss"),
    "an epoch less in the history": lambda c, a: a.update({"history.loss": np.zeros(4)}),
    "an array wider than the file": lambda c, a: c["parameters"].update(
        hidden_layer_sizes={"array": {"list": ["a"]}, "dtype": "S1000000000"}
    ),
    "a number of more than 64 bits": lambda c, a: c["parameters"].update(
        hidden_layer_sizes={"array": {"list": [2**70]}, "dtype": "<i8"}
    ),
    "a list": lambda c, a: "[]",
    "no JSON": lambda c, a: "{",
    "what nests too deep": deep,
}


@pytest.mark.parametrize("kind", UNFIT)
def test_contents_that_make_no_model(kind, tmp_path):
    """Malformed files with a correct digest are refused, too."""
    from safetensors.numpy import save_file

    path = tmp_path / "model"
    fastbp.save(BPClassifier((3,), max_iter=5, random_state=0).fit(X, Y), path, state=True)
    contents, arrays = files.read(path)
    text = UNFIT[kind](contents, arrays)
    text = text if isinstance(text, str) else json.dumps(contents)
    metadata = {"fastbp": "1", "contents": text, "digest": files._digest(text, arrays)}
    save_file(arrays, path, metadata)
    with pytest.raises(ValueError, match=str(path)):
        fastbp.load(path)


def test_weights_that_users_gave_are_saved_as_they_predict(tmp_path):
    model = BPClassifier((3,), max_iter=5, random_state=0).fit(X, Y)
    model.coefs_[0] = np.arange(12).reshape(4, 3)
    fastbp.save(model, tmp_path / "model")
    loaded = fastbp.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize("case", ["dtype", "all", "width"])
def test_a_model_whose_weights_were_replaced_comes_back_with_its_state(case, tmp_path):
    model = BPClassifier((3,), dtype="float32", early_stopping=True, random_state=0)
    data = {"X": X, "y": Y, "X_val": X, "y_val": Y}
    model.partial_fit(**data, classes=[0, 1, 2])
    if case == "width":
        model.coefs_ = [np.ones((4, 5)), np.ones((5, 3))]
        model.intercepts_ = [np.zeros(5), np.zeros(3)]
    else:
        model.coefs_ = [w.astype(np.float64) for w in model.coefs_]
        if case == "all":
            model.intercepts_ = [b.astype(np.float64) for b in model.intercepts_]
    fastbp.save(model, tmp_path / "model", state=True)
    loaded = fastbp.load(tmp_path / "model")
    with fastbp.keep_training_state():
        copied = pickle.loads(pickle.dumps(model))
    for other in (loaded, copied):
        np.testing.assert_array_equal(other.predict_proba(X), model.predict_proba(X))
    if case != "width":
        expected = model.partial_fit(**data).predict_proba(X)
        np.testing.assert_array_equal(loaded.partial_fit(**data).predict_proba(X), expected)


def test_a_call_that_is_refused_changes_nothing(tmp_path):
    model = BPRegressor(hidden_layer_sizes=(3,), random_state=0).partial_fit(X, X[:, 0])
    expected = model.predict(X)
    with pytest.raises(ValueError, match="continue with the layers of the first fit"):
        model.partial_fit(X, X[:, :2])
    fastbp.save(model, tmp_path / "model")
    np.testing.assert_array_equal(fastbp.load(tmp_path / "model").predict(X), expected)


def test_permissions_and_links_stay(tmp_path):
    model, path = BPClassifier(**SETTINGS).fit(X, Y), tmp_path / "model"
    (tmp_path / "new").touch()
    fastbp.save(model, path)
    assert path.stat().st_mode == (tmp_path / "new").stat().st_mode
    path.chmod(0o640)
    (tmp_path / "link").symlink_to("model")
    before = path.read_bytes()
    fastbp.save(BPClassifier((2,), max_iter=1).fit(X, Y), tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640
    assert path.read_bytes() != before


def test_what_a_killed_process_left_is_removed(tmp_path):
    """An hour later, of this very name."""
    left, written = ".model[1].00c0ffee.tmp", ".model[1].11c0ffee.tmp"
    others = ".model1.00c0ffee.tmp", ".model[1].notes.tmp"
    for name in (left, written, *others):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, time.time() - 3700))
    os.utime(tmp_path / written, (0, time.time() - 3500))  # somebody may still be writing
    folder = tmp_path / ".model[1].22c0ffee.tmp"  # which cannot be removed so
    folder.mkdir()
    os.utime(folder, (0, 0))
    fastbp.save(BPClassifier(**SETTINGS).fit(X, Y), tmp_path / "model[1]")
    assert set(os.listdir(tmp_path)) == {"model[1]", written, *others, folder.name}


def test_many_epochs_do_not_fill_the_header(tmp_path):
    """safetensors allows no more than 100 MB for it."""
    model = BPClassifier((2,), max_iter=1, early_stopping=True).fit(X, Y)
    sizes = []
    for n in (10, 10_000):
        model.loss_curve_, model.validation_scores_ = [0.1] * n, [0.3] * n
        fastbp.save(model, tmp_path / "model")
        sizes.append(int.from_bytes((tmp_path / "model").read_bytes()[:8], "little"))
        assert fastbp.load(tmp_path / "model").loss_curve_ == model.loss_curve_
    assert sizes[1] < sizes[0] + 100


def test_a_folder_is_named(tmp_path):
    with pytest.raises(IsADirectoryError, match=re.escape(str(tmp_path))):
        fastbp.load(tmp_path)


def test_where_no_file_can_be_written(tmp_path):
    model = BPClassifier(**SETTINGS).fit(X, Y)
    with pytest.raises(FileNotFoundError, match=re.escape(f"there is no folder {tmp_path}/none.")):
        fastbp.save(model, tmp_path / "none" / "model")
    with pytest.raises(IsADirectoryError, match="path must be a file"):
        fastbp.save(model, tmp_path)


def test_what_cannot_be_saved_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "model"
    model = BPClassifier(**SETTINGS).fit(X, Y)
    fastbp.save(model, path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="the parameter scoring cannot be saved"):
        fastbp.save(model.set_params(scoring=lambda *a: 0.0), path)
    with pytest.raises(Exception, match="not fitted"):
        fastbp.save(BPClassifier(), path)
    with pytest.raises(ValueError, match="must be a BPClassifier or BPRegressor, got Other"):
        fastbp.save(type("Other", (BPClassifier,), {})(**SETTINGS).fit(X, Y), path)
    for error in (OSError("disk full"), KeyboardInterrupt("disk full")):
        monkeypatch.setattr(os, "fsync", Mock(side_effect=error))
        with pytest.raises(type(error), match="disk full"):
            fastbp.save(BPClassifier(**SETTINGS).fit(X, Y), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["model"]


def test_the_header_is_text_that_says_what_it_is(tmp_path):
    fastbp.save(BPClassifier(**SETTINGS).fit(X, Y), tmp_path / "model")
    raw = (tmp_path / "model").read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    contents = json.loads(header["__metadata__"]["contents"])
    assert contents["estimator"] == "BPClassifier"
    assert contents["versions"] == {
        "fastbp": fastbp.__version__,
        "scikit-learn": sklearn.__version__,
    }
