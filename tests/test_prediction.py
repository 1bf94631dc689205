"""Prediction of single rows, of whole arrays, and from several threads at once."""

import tracemalloc
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from fastbp import BPClassifier, BPRegressor, prediction
from fastbp.estimators import predicting
from fastbp.pool import Pool
from fastbp.training import engine

pytestmark = pytest.mark.filterwarnings("ignore:.*Maximum iterations")

X = np.random.default_rng(0).normal(size=(400, 20))


@pytest.fixture(params=["binary", "classes", "targets"])
def model(request):
    parameters = {"hidden_layer_sizes": (40, 9), "max_iter": 3, "random_state": 0}
    if request.param == "binary":
        return BPClassifier(**parameters).fit(X, X[:, 0] > 0)
    if request.param == "classes":
        return BPClassifier(**parameters).fit(X, np.digitize(X[:, 0], [-1, 0, 0.5, 1, 2]))
    return BPRegressor(**parameters).fit(X, X[:, :3])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_one_by_one(model, dtype):
    x = X.astype(dtype)
    single = np.concatenate([model.predict(row[None]) for row in x])
    np.testing.assert_array_equal(single, model.predict(x))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_validation_that_is_skipped_changes_nothing(model, dtype, monkeypatch):
    x = X[:5].astype(dtype)
    assert model._may_skip_validation(x)
    expected = model.predict(x)
    monkeypatch.setattr(predicting, "MOST_SKIPPED", 0)
    assert not model._may_skip_validation(x)
    np.testing.assert_array_equal(model.predict(x), expected)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (X[:1, :19], "19 features"),
        (X[:0], "0 sample"),
        (X[0], "1D array"),
        (np.full((1, 20), np.nan), "NaN"),
        (np.full((1, 20), np.inf), "infinity"),
        (X[:1] + 1j, "Complex"),
        (np.full((1, 20), "a"), "convert"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_rows_are_not_let_through(model, bad, message):
    with pytest.raises(ValueError, match=message):
        model.predict(bad)


@pytest.mark.parametrize("most_skipped", [0, predicting.MOST_SKIPPED])
@pytest.mark.parametrize(("bad", "message"), [(np.nan, "NaN"), (-np.inf, "infinity")])
@pytest.mark.parametrize("row", [0, 255, 256, 400, 6999])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_one_bad_number_is_found_wherever_it_is(
    model, n_jobs, dtype, row, bad, message, most_skipped, monkeypatch
):
    """The threads check X while they predict, and leave nothing behind for the next prediction."""
    monkeypatch.setattr(predicting, "MOST_SKIPPED", most_skipped)
    model.n_jobs = n_jobs
    x = np.tile(X, (18, 1)).astype(dtype)[:7000]
    expected = model.predict(x)
    good, x[row, 19] = x[row, 19], bad
    with pytest.raises(ValueError, match=f"Input X contains {message}"):
        model.predict(x)
    with config_context(assume_finite=True):
        np.testing.assert_array_equal(
            np.delete(model.predict(x), row, axis=0), np.delete(expected, row, axis=0)
        )
    x[row, 19] = good
    np.testing.assert_array_equal(model.predict(x), expected)


def test_numbers_too_large_for_the_network(model):
    model.set_params(dtype="float32").fit(X, model.predict(X))
    x = X[:3].copy()
    x[1, 1] = 1e39
    for activation in ("relu", "tanh"):  # tanh makes any number finite
        model.set_params(activation=activation)
        for given in (x, scipy.sparse.csr_matrix(x)) if activation == "relu" else (x,):
            with pytest.raises(ValueError, match="Input X contains a value too large for dtype"):
                model.predict(given)
            model.predict(X[:3])  # which is none the worse for it


def test_outputs_too_large_for_the_network_are_not_the_fault_of_x():
    model = BPRegressor("poisson", hidden_layer_sizes=(3,), dtype="float32", random_state=0)
    model.fit(X, np.abs(X[:, 0]))
    model.intercepts_[-1][...] = 200.0
    for given in (X[:2], scipy.sparse.csr_matrix(X[:2])):
        assert np.isposinf(model.predict(given)).all()


@pytest.mark.parametrize(
    "convert",
    [
        np.asfortranarray,
        lambda x: np.repeat(x, 2, axis=1)[:, ::2],
        lambda x: x.astype(">f8"),
        lambda x: x.tolist(),
        scipy.sparse.csr_matrix,
    ],
    ids=["F order", "strided", "big-endian", "list", "sparse"],
)
def test_any_layout_gives_the_same(model, convert):
    expected = model.predict(X[:3])
    np.testing.assert_allclose(model.predict(convert(X[:3])), expected, rtol=1e-12)


def test_feature_names_are_still_looked_at():
    pandas = pytest.importorskip("pandas")
    names = [f"x{i}" for i in range(20)]
    model = BPRegressor(max_iter=1, hidden_layer_sizes=(3,))
    model.fit(pandas.DataFrame(X, columns=names), X[:, 0])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        model.predict(X[:1])


def test_many_threads_on_one_estimator(model):
    expected = [model.predict(X[i : i + 1 + i % 30]) for i in range(256)]
    with ThreadPoolExecutor(8) as pool:
        actual = pool.map(lambda i: model.predict(X[i : i + 1 + i % 30]), range(256))
        for mine, theirs in zip(actual, expected, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_x_is_not_kept_alive(model):
    for n in (1, 100):
        x = X[:n].copy()
        gone = weakref.ref(x)
        outputs = model.predict(x)
        del x
        assert gone() is None
        assert len(outputs) == n


@pytest.mark.parametrize("is_sparse", [False, True])
def test_x_has_room_once_where_it_is_gathered_and_none_where_it_is_sparse(is_sparse, monkeypatch):
    """A chunk has slopes and deltas beside its activations, but X has none."""
    wide = scipy.sparse.random(200, 10_000, 0.001, "csr", dtype=np.float32, random_state=0)
    x = wide if is_sparse else wide.toarray()
    y = np.arange(200) % 2
    model = BPClassifier((3,), max_iter=1, n_jobs=1).fit(x, y)
    model.predict(x)  # so that everything is compiled
    monkeypatch.setattr(prediction, "_pool", Pool(1))
    monkeypatch.setattr(engine, "_pool", Pool(1))
    for method in (model.fit, model.predict):
        arguments = (x, y) if method == model.fit else (x,)
        tracemalloc.start()
        method(*arguments)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        chunk = prediction.CHUNK_ROWS * wide.shape[1] * 4
        assert peak < (0.2 if is_sparse else 1.2) * chunk


def test_what_is_written_into_the_weights_predicts(model):
    before = model.predict(X[:2])
    model.coefs_[-1][...] = 0
    model.intercepts_[-1][...] = 0
    after = model.predict_proba(X[:2]) if hasattr(model, "predict_proba") else model.predict(X[:2])
    assert np.ptp(after) == 0
    assert before.shape[0] == after.shape[0]


def test_weights_of_another_shape_are_refused(model):
    changed = clone(model).set_params(max_iter=2).fit(X, X[:, 0] > 0)
    for i, w in ((0, np.ones((22, 16))), (1, np.ones((16, 9))), (2, np.ones((8, 2)))):
        before, changed.coefs_[i] = changed.coefs_[i], w
        with pytest.raises(
            ValueError, match="must have the shapes of layers from 20 inputs to 1 outputs"
        ):
            changed.predict(X)
        changed.coefs_[i] = before


# Hidden layers and derivatives ------------------------------------------------------------------


@pytest.mark.parametrize("convert", [np.asarray, scipy.sparse.csr_matrix, np.float32])
def test_transform_gives_the_hidden_layers(model, convert):
    a = X[:7]
    for layer in (0, 1):
        a = np.maximum(a @ model.coefs_[layer] + model.intercepts_[layer], 0)
        for number in (layer, layer - 2):
            actual = model.transform(convert(X[:7]), layer=number)
            np.testing.assert_allclose(actual, a, rtol=1e-5, atol=1e-5)
    assert model.get_feature_names_out()[-1] == f"{type(model).__name__.lower()}8"


def test_transform_in_a_pipeline_and_of_no_layer(model):
    pipeline = make_pipeline(clone(model).set_params(max_iter=60), LogisticRegression())
    y = X[:, 0] > 0
    if isinstance(model, BPClassifier):
        assert pipeline.fit(X, y).score(X, y) > 0.9
    with pytest.raises(ValueError, match=r"layer must be from -2 to 1.* got 2"):
        model.transform(X, layer=2)
    with pytest.raises(ValueError, match="19 features"):
        model.transform(X[:, :19])
    linear = clone(model).set_params(hidden_layer_sizes=()).fit(X, X[:, 0] > 0)
    np.testing.assert_array_equal(linear.transform(X), X)


def test_transform_as_a_table(model):
    """Each layer's columns are named after its own units."""
    shown = clone(model).set_params(max_iter=2).fit(X, X[:, 0] > 0).set_output(transform="pandas")
    for layer, n_units in ((0, 40), (1, 9), (-1, 9), (-2, 40)):
        frame = shown.transform(X[:7], layer=layer)
        kind = type(model).__name__.lower()
        assert list(frame) == [f"{kind}{i}" for i in range(n_units)]
        shown.set_output(transform="default")
        np.testing.assert_array_equal(frame, shown.transform(X[:7], layer=layer))
        shown.set_output(transform="pandas")
    assert shown.fit_transform(X, X[:, 0] > 0).shape == (len(X), 9)


@pytest.mark.parametrize("layer", [0.0, True, "0", None])
def test_a_layer_is_an_integer(model, layer):
    with pytest.raises(TypeError, match="layer must be an integer"):
        model.transform(X[:7], layer=layer)
    np.testing.assert_array_equal(model.transform(X[:7], np.int8(0)), model.transform(X[:7], 0))


@pytest.mark.parametrize("activation", ["tanh", "gelu", "selu", "identity"])
def test_input_gradient_is_the_difference_quotient(activation):
    for y, kind in [(X[:, 0] > 0, BPClassifier), (np.digitize(X[:, 0], [0, 1]), BPClassifier),
                    (X[:, 0], BPRegressor), (X[:, :3], BPRegressor)]:  # fmt: skip
        model = kind(hidden_layer_sizes=(9, 5), activation=activation, max_iter=5, random_state=0)
        model.fit(X, y)
        x = X[:4]
        gradient = model.input_gradient(x)
        outputs = model._predict_outputs(x).shape[1]
        assert gradient.shape == ((4, 20) if outputs == 1 else (4, 20, outputs))
        for feature in (0, 7):
            step = np.zeros(20)
            step[feature] = 1e-5
            quotient = model._predict_outputs(x + step) - model._predict_outputs(x - step)
            actual = gradient[:, feature].reshape(4, outputs)
            np.testing.assert_allclose(actual, quotient / 2e-5, rtol=1e-5, atol=1e-9)
        sparse = model.input_gradient(scipy.sparse.csr_matrix(x))
        np.testing.assert_allclose(sparse, gradient, rtol=1e-12)


def test_input_gradient_is_torchs(model):
    torch = pytest.importorskip("torch")
    x = torch.tensor(X[:5], requires_grad=True)
    z = x
    for i, (w, b) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        z = z @ torch.tensor(w) + torch.tensor(b)
        z = torch.relu(z) if i < 2 else z
    if model.out_activation_ == "softmax":
        z = torch.softmax(z, 1)
    elif model.out_activation_ == "logistic":
        z = torch.sigmoid(z)
    expected = [torch.autograd.grad(z[:, j].sum(), x, retain_graph=True)[0].numpy()
                for j in range(z.shape[1])]  # fmt: skip
    actual = model.input_gradient(X[:5]).reshape(5, 20, -1)
    np.testing.assert_allclose(actual, np.stack(expected, 2), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("hidden", [(), (5,), (16,), (33, 7)])
@pytest.mark.parametrize("n_classes", [2, 3, 20])
def test_a_rows_outputs_do_not_depend_on_the_others(n_classes, hidden, dtype):
    """So test and train rows may be predicted in one call and split: the bits are the same."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(700, 19)).astype(dtype), rng.integers(0, n_classes, 700)
    model = BPClassifier(hidden_layer_sizes=hidden, max_iter=2, random_state=0).fit(X, y)
    together = model.predict_proba(X)
    for end in (1, 2, 17, 255, 256, 257, 699):
        np.testing.assert_array_equal(model.predict_proba(X[:end]), together[:end])
        np.testing.assert_array_equal(model.predict_proba(X[end:]), together[end:])
