"""ONNX graphs and PyTorch modules against the models' own predictions."""

import doctest
import json
import pickle
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import skl2onnx
from common import CLASSIFIED, TARGETS, cover, make_data, make_pair
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import VotingClassifier, VotingRegressor
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, RobustScaler, StandardScaler

import fastbp
from fastbp import BPClassifier, BPRegressor, export, to_onnx, to_torch
from fastbp.kernels.activations import CODES
from fastbp.onnx_graph import Graph, activate

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

HIDDEN = sorted(set(CODES) - {"softmax", "exp"})
OUTPUT = sorted(set(CODES) - {"softmax"})
DTYPES = ["float32", "float64"]
TYPES = {1: "float32", 7: "int64", 8: "string", 11: "float64"}  # of onnx.TensorProto
CASES = cover(
    2,
    {
        "target": TARGETS,
        "activation": HIDDEN,
        "dtype": DTYPES,
        "hidden_layer_sizes": [(), (5,), (7, 4), (3, 20, 2)],
    },
)


def run(proto, inputs):
    """Return onnxruntime's outputs by name."""
    onnx.checker.check_model(proto, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    inputs = inputs if isinstance(inputs, dict) else {"X": inputs}
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def signature(proto):
    """Return name, type and shape of inputs and outputs."""
    variables = [*proto.graph.input, *proto.graph.output]
    tensors = [(v.name, v.type.tensor_type) for v in variables]
    return {
        name: (TYPES[tensor.elem_type], [d.dim_value for d in tensor.shape.dim])
        for name, tensor in tensors
    }


def fit(target, dtype, activation="relu", hidden_layer_sizes=(5,)):
    X, y = make_data(target)
    n_hidden = len(hidden_layer_sizes)
    names = [activation, *["tanh", "silu"][: n_hidden - 1]][:n_hidden]
    model, _ = make_pair(
        target, hidden_layer_sizes=hidden_layer_sizes, activation=names, max_iter=3, random_state=0
    )
    return model.fit(X.astype(dtype), y), X.astype(dtype)


def predict(model, X):
    """Return what the last output of a graph must be."""
    if hasattr(model, "predict_proba"):
        return model.predict_proba(X)
    predicted = model.predict(X)
    return predicted.reshape(len(predicted), -1)


def assert_near(values, expected, n_eps=32):
    """Check dtype, shape, and errors of at most n_eps times the precision of the largest value."""
    assert values.dtype == expected.dtype
    assert values.shape == expected.shape
    atol = n_eps * np.finfo(expected.dtype).eps * np.abs(expected).max()
    np.testing.assert_allclose(values, expected, rtol=0, atol=atol)


def one_unit(activation, dtype):
    """Return a network whose output is the activation of its only input."""
    X = np.linspace(0, 1, 5).reshape(-1, 1).astype(dtype)
    model = BPRegressor(hidden_layer_sizes=(), out_activation=activation, max_iter=1).fit(
        X, X[:, 0]
    )
    model.coefs_ = [np.ones((1, 1), dtype)]
    model.intercepts_ = [np.zeros(1, dtype)]
    return model


def far_out(dtype):
    """Return inputs of all magnitudes, including those from which exp is 0 or infinite."""
    z = np.concatenate([np.logspace(-8, 1.9, 200), np.linspace(1, 40, 79), [700, 1e4, 1e30]])
    return np.concatenate([-z, [0], z]).reshape(-1, 1).astype(dtype)


# For these, onnxruntime's own functions or PyTorch's are accurate to an absolute error only.
ABSOLUTE = {("onnx", "float32", name) for name in ("elu", "selu", "gelu")}
ABSOLUTE |= {("torch", dtype, "gelu") for dtype in DTYPES}


def assert_near_far_out(values, expected, kind, activation):
    finfo = np.finfo(expected.dtype)
    absolute = (kind, expected.dtype.name, activation) in ABSOLUTE
    atol = 8 * finfo.eps if absolute else finfo.tiny
    rtol = 1e-12 if (kind, activation) == ("onnx", "gelu") and not absolute else 8 * finfo.eps
    np.testing.assert_allclose(values, expected, rtol=rtol, atol=atol)
    assert values.dtype == expected.dtype


# ONNX --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=str)
def test_graphs_give_what_the_models_predict(case):
    model, X = fit(**case)
    outputs = run(to_onnx(model), X)
    if case["target"] in CLASSIFIED:
        label = outputs.pop("label")
        np.testing.assert_array_equal(label, model.predict(X))
        assert label.dtype == np.int64
    (name,) = outputs
    assert name == ("probabilities" if case["target"] in CLASSIFIED else "variable")
    assert_near(outputs[name], predict(model, X))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", OUTPUT)
def test_activations_of_graphs_near_0_and_far_from_it(activation, dtype):
    model, z = one_unit(activation, dtype), far_out(dtype)
    values = run(to_onnx(model), z)["variable"]
    assert_near_far_out(values, predict(model, z), "onnx", activation)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", ["binary", "multiclass"])
def test_probabilities_far_from_zero(target, dtype):
    model, X = fit(target, dtype, hidden_layer_sizes=())
    X = np.concatenate([X * 100, X * 1e6])
    expected = model.predict_proba(X)
    values = run(to_onnx(model), X)["probabilities"]
    assert expected.min() == 0
    assert_near(values, expected, 500)  # the error of the sums is proportional to X


@pytest.mark.parametrize(
    "classes",
    [
        np.array(["no", "yes", "perhaps"]),
        np.array(["no", "yes"]),
        np.array(["ja", "vielleicht"], dtype=object),
        np.array(["the only one"]),
        np.array([False, True]),
        np.array([-3, 10**12]),
        np.array([7]),
        np.array([1.0, 2.0, 5.0]),
        np.array([0, 200, 255], np.uint8),
    ],
    ids=str,
)
def test_classes_of_any_kind(classes):
    X, y = make_data("multiclass")
    model = BPClassifier((4,), max_iter=3, random_state=0).fit(X, classes[y // 2 % len(classes)])
    proto = to_onnx(model)
    outputs = run(proto, X)
    is_text = classes.dtype.kind in "OU"
    assert outputs["label"].tolist() == model.predict(X).tolist()
    assert outputs["label"].dtype == (object if is_text else np.int64)
    assert_near(outputs["probabilities"], model.predict_proba(X))
    assert signature(proto)["label"] == ("string" if is_text else "int64", [0])


def test_weights_and_activations_that_users_write_are_those_of_the_graph():
    model, X = fit("multioutput", "float64")
    before = model.predict(X)
    model.coefs_ = [w * 2 for w in model.coefs_]
    model.set_params(activation="softplus")
    after = run(to_onnx(model), X)["variable"]
    assert_near(after, model.predict(X))
    assert np.abs(after - before).max() > 0.1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", ["binary", "multiclass", "regression"])
def test_names_types_and_shapes_are_those_of_skl2onnx(target, dtype):
    ours, X = fit(target, dtype)
    kind, options = MLPRegressor, None
    if target in CLASSIFIED:
        kind, options = MLPClassifier, {"zipmap": False}
    theirs = kind(hidden_layer_sizes=(5,), max_iter=3).fit(X, make_data(target)[1])
    theirs = signature(skl2onnx.to_onnx(theirs, X[:1], options=options))
    assert signature(to_onnx(ours)) == theirs
    assert list(signature(to_onnx(ours))) == list(theirs)


def test_names_types_and_shapes_of_several_outputs():
    labels, _ = fit("multilabel", "float32")
    assert signature(to_onnx(labels)) == {
        "X": ("float32", [0, 6]), "label": ("int64", [0, 3]), "probabilities": ("float32", [0, 3])
    }  # fmt: skip
    regressor, _ = fit("multioutput", "float64")
    assert signature(to_onnx(regressor)) == {
        "X": ("float64", [0, 6]),
        "variable": ("float64", [0, 3]),
    }


def test_a_graph_says_where_it_is_from():
    X, y = make_data("binary")
    frame = pd.DataFrame(X, columns=list("uvwxyz"))
    proto = to_onnx(BPClassifier((2,), max_iter=1).fit(frame, y))
    assert (proto.producer_name, proto.producer_version) == ("fastbp", fastbp.__version__)
    assert proto.graph.name == "BPClassifier"
    assert (proto.ir_version, proto.opset_import[0].version) == (8, 18)
    properties = {p.key: p.value for p in proto.metadata_props}
    assert json.loads(properties["feature_names"]) == list("uvwxyz")
    assert properties["fastbp"] == fastbp.__version__
    proto = to_onnx(BPClassifier((2,), max_iter=1).fit(X, y))
    assert "feature_names" not in {p.key for p in proto.metadata_props}


def test_an_activation_that_onnx_has_not():
    with pytest.raises(NotImplementedError, match="'sine' is not in ONNX"):
        activate(Graph(np.dtype("f4"), str), "sine", None)


# Pipelines ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", TARGETS)
def test_pipelines(target, dtype):
    model, X = fit(target, dtype, "gelu")
    y = make_data(target)[1]
    pipeline = make_pipeline(StandardScaler(), make_pipeline(StandardScaler(), model)).fit(X, y)
    assert pipeline[-1][-1].coefs_[0].dtype == dtype
    for proto in (to_onnx(pipeline), to_onnx(pipeline, X[:1])):
        outputs = run(proto, X)
        assert_near(list(outputs.values())[-1], predict(pipeline, X))
        if target in CLASSIFIED:
            np.testing.assert_array_equal(outputs["label"], pipeline.predict(X))
        assert signature(proto) == signature(to_onnx(model))


def test_pipelines_of_columns():
    X, y = make_data("multiclass")
    frame = pd.DataFrame(X[:, :2], columns=["a", "b"])
    frame["word"] = np.array(["x", "y", "z"])[y // 2]
    frame["number"] = np.arange(len(y))
    columns = make_column_transformer(
        (StandardScaler(), ["a", "b"]), (OneHotEncoder(), ["word"]), ("passthrough", ["number"])
    )
    pipeline = make_pipeline(columns, BPClassifier((3,), max_iter=5, random_state=0))
    proto = to_onnx(pipeline.fit(frame, y), frame[:1])
    outputs = run(proto, {name: frame[[name]].to_numpy() for name in frame})
    np.testing.assert_array_equal(outputs["label"], pipeline.predict(frame))
    assert_near(outputs["probabilities"], pipeline.predict_proba(frame))
    properties = {p.key: p.value for p in proto.metadata_props}
    assert json.loads(properties["feature_names"]) == ["a", "b", "word", "number"]


def test_inputs_of_integers():
    X, y = make_data("regression")
    X = np.round(10 * X).astype(np.int64)
    model = BPRegressor(hidden_layer_sizes=(3,), max_iter=3, random_state=0).fit(X, y)
    export.register_with_skl2onnx()
    values = run(skl2onnx.to_onnx(model, X[:1]), X)["variable"]
    assert_near(values, predict(model, X).astype(np.float32))


@pytest.mark.parametrize(
    ("classes", "names"), [([4, 6], ["i4", "i6"]), (["no", "yes"], ["sno", "syes"])]
)
def test_the_options_of_skl2onnx(classes, names):
    X, y = make_data("binary")
    X = X.astype(np.float32)
    model = BPClassifier((3,), max_iter=3, random_state=0).fit(X, np.array(classes)[y])
    export.register_with_skl2onnx()
    expected = model.predict_proba(X)

    def outputs(**options):
        return run(skl2onnx.to_onnx(model, X[:1], options={id(model): options}), X)

    rows = run(skl2onnx.to_onnx(model, X[:1]), X)["output_probability"]
    assert list(rows[0]) == classes
    assert_near(np.array([list(row.values()) for row in rows], np.float32), expected)
    columns = outputs(zipmap="columns")
    assert_near(np.column_stack([columns[name] for name in names]), expected)
    numbers = outputs(zipmap=False, nocl=True)["label"]
    assert np.array(classes)[numbers].tolist() == model.predict(X).tolist()
    assert outputs(zipmap=False, output_class_labels=True)["class_labels"].tolist() == classes


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", ["binary", "multiclass"])
@pytest.mark.parametrize("kind", ["voting", "calibrated"])
def test_ensembles_of_classifiers(kind, target, dtype):
    network, X = fit(target, dtype)
    y = make_data(target)[1]
    model = CalibratedClassifierCV(network, cv=2)
    if kind == "voting":
        both = [("network", network), ("linear", LogisticRegression())]
        model = VotingClassifier(both, voting="soft", flatten_transform=False)
    model.fit(X, y)
    export.register_with_skl2onnx()
    outputs = run(skl2onnx.to_onnx(model, X[:1], options={id(model): {"zipmap": False}}), X)
    np.testing.assert_array_equal(outputs["label"], model.predict(X))
    assert_near(outputs["probabilities"], model.predict_proba(X).astype(dtype))


def test_ensembles_of_regressors():
    network, X = fit("regression", "float64")
    model = VotingRegressor([("network", network), ("linear", Ridge())])
    model.fit(X, make_data("regression")[1])
    export.register_with_skl2onnx()
    assert_near(run(skl2onnx.to_onnx(model, X[:1]), X)["variable"], predict(model, X))


# PyTorch -----------------------------------------------------------------------------------------


def run_torch(net, X):
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        return net(torch.from_numpy(X)).numpy()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_modules_give_what_the_models_predict(case):
    pytest.importorskip("torch")
    model, X = fit(**case)
    expected = predict(model, X)
    if case["target"] == "binary":
        expected = expected[:, 1:]
    assert_near(run_torch(to_torch(model), X), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", OUTPUT)
def test_activations_of_modules_near_0_and_far_from_it(activation, dtype):
    pytest.importorskip("torch")
    model, z = one_unit(activation, dtype), far_out(dtype)
    values = run_torch(to_torch(model), z)
    assert_near_far_out(values, predict(model, z), "torch", activation)


def test_a_module_is_like_any_other(tmp_path):
    torch = pytest.importorskip("torch")
    model, X = fit("poisson", "float32", "gelu", (4, 3))
    torch.manual_seed(0)
    state = torch.get_rng_state()
    net = to_torch(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert not net.training
    assert [type(module).__name__ for module in net] == [
        "Linear", "GELU", "Linear", "Tanh", "Linear", "Exp"
    ]  # fmt: skip
    assert all(p.dtype == torch.float32 and p.requires_grad for p in net.parameters())
    expected = run_torch(net, X)
    np.testing.assert_array_equal(run_torch(pickle.loads(pickle.dumps(net)), X), expected)
    other = to_torch(fit("poisson", "float32", "gelu", (4, 3))[0].fit(X, expected[:, 0]))
    assert (run_torch(other, X) != expected).any()
    other.load_state_dict(net.state_dict())
    np.testing.assert_array_equal(run_torch(other, X), expected)
    net[0].weight.data.zero_()  # the model has its own copy of the weights
    assert_near(expected, predict(model, X))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_modules_are_scripted_and_traced():
    torch = pytest.importorskip("torch")
    model, X = fit("poisson", "float64")
    net = to_torch(model)
    expected = run_torch(net, X)
    for compiled in (torch.jit.script(net), torch.jit.trace(net, torch.from_numpy(X))):
        assert_near(run_torch(compiled, X), expected)


def test_the_logits_are_before_the_last_module():
    torch = pytest.importorskip("torch")
    model, X = fit("multiclass", "float64")
    logits = torch.from_numpy(run_torch(to_torch(model)[:-1], X))
    assert_near(torch.softmax(logits, dim=1).numpy(), model.predict_proba(X))


# Errors ------------------------------------------------------------------------------------------


def test_what_cannot_be_exported():
    X, y = make_data("binary")
    with pytest.raises(NotFittedError):
        to_onnx(BPClassifier())
    with pytest.raises(NotFittedError):
        to_onnx(make_pipeline(StandardScaler(), BPClassifier()))
    with pytest.raises(NotFittedError):
        to_torch(BPRegressor())
    linear = LogisticRegression().fit(X, y)
    for model in (linear, make_pipeline(linear), BPClassifier, None):
        with pytest.raises(
            TypeError, match="model must be a BPClassifier, a BPRegressor, or a Pip"
        ):
            to_onnx(model)
        with pytest.raises(TypeError, match="model must be a BPClassifier or BPRegressor, got"):
            to_torch(model)


def test_networks_that_transform_are_refused():
    X, y = make_data("regression")
    network, last = BPRegressor(hidden_layer_sizes=(2,), max_iter=1), BPRegressor(max_iter=1)
    for first in (network, make_pipeline(network, StandardScaler()), make_union(network)):
        pipeline = Pipeline([("pass", "passthrough"), ("first", first), ("last", last)]).fit(X, y)
        with pytest.raises(ValueError, match="model has a network in its step 'first'"):
            to_onnx(pipeline)


def test_a_pipeline_of_unknown_width_needs_rows():
    texts = ["a word", "another word", "no word"]
    pipeline = make_pipeline(CountVectorizer(), BPRegressor(hidden_layer_sizes=(2,), max_iter=1))
    with pytest.raises(ValueError, match="X must be given"):
        to_onnx(pipeline.fit(texts, [0.0, 1.0, 2.0]))
    for rows in (texts, pd.Series(texts), np.array(texts)):
        assert to_onnx(pipeline, rows).graph.output[0].name == "variable"


IMPUTERS = [
    SimpleImputer(),
    SimpleImputer(strategy="most_frequent"),
    SimpleImputer(strategy="constant", fill_value=1 / 3),
    SimpleImputer(missing_values=0, strategy="median"),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("imputer", IMPUTERS[:-1])
def test_imputers(imputer, dtype):
    """onnxruntime has an imputer for float32 only."""
    X, y = make_data("multiclass")
    X = np.where(np.random.default_rng(0).random(X.shape) < 0.2, np.nan, X).astype(dtype)
    network = BPClassifier((3,), max_iter=5, random_state=0)
    pipeline = make_pipeline(clone(imputer), StandardScaler(), network).fit(X, y)
    for proto in (to_onnx(pipeline), to_onnx(pipeline, X[:1])):
        assert_near(run(proto, X)["probabilities"], pipeline.predict_proba(X))


@pytest.mark.parametrize("imputer", IMPUTERS)
def test_imputers_of_columns(imputer):
    X, y = make_data("multiclass")
    frame = pd.DataFrame(X, columns=list("uvwxyz")).assign(n=np.arange(len(y)))
    frame.iloc[::3, 1] = imputer.missing_values
    columns = make_column_transformer(
        (make_pipeline(clone(imputer), StandardScaler()), list("vx")),
        ("passthrough", list("uwyzn")),
    )
    pipeline = make_pipeline(columns, BPClassifier((3,), max_iter=5, random_state=0))
    proto = to_onnx(pipeline.fit(frame, y), frame[:1])
    outputs = run(proto, {name: frame[[name]].to_numpy() for name in frame})
    assert_near(outputs["probabilities"], pipeline.predict_proba(frame))


@pytest.mark.parametrize("step", [StandardScaler(), MinMaxScaler(), RobustScaler()])
def test_columns_of_float64_stay_float64(step):
    X, y = make_data("binary")
    frame = pd.DataFrame({"time": 1.7e9 + 30 * X[:, 0], "b": X[:, 1]})
    pipeline = make_pipeline(step, BPClassifier((3,), max_iter=20, random_state=0)).fit(frame, y)
    outputs = run(to_onnx(pipeline, frame), {name: frame[[name]].to_numpy() for name in frame})
    np.testing.assert_allclose(outputs["probabilities"], pipeline.predict_proba(frame), atol=1e-12)


@pytest.mark.filterwarnings("ignore:Skipping features")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("imputer", "message"),
    [
        (SimpleImputer(add_indicator=True), "SimpleImputer adds or drops columns"),
        (SimpleImputer(), "SimpleImputer adds or drops columns"),
        (SimpleImputer(missing_values=pd.NA), "<NA>"),
    ],
)
def test_imputers_that_are_not_converted(imputer, message, dtype):
    X, y = make_data("binary")
    X = X.astype(dtype)
    X[::2, 0] = np.nan
    if not imputer.add_indicator:
        X[:, 0] = np.nan
    if imputer.missing_values is pd.NA:
        X[:, 0] = 0
    pipeline = make_pipeline(imputer, BPClassifier((3,), max_iter=5, random_state=0)).fit(X, y)
    with pytest.raises(ValueError, match=message):
        to_onnx(pipeline, X[:1])


def test_rows_that_skl2onnx_does_not_take():
    X, y = make_data("binary")
    frame = pd.DataFrame(X[:, :2], columns=["a", "b"])
    columns = make_column_transformer((StandardScaler(), ["a", "b"]))
    pipeline = make_pipeline(columns, BPClassifier((3,), max_iter=5, random_state=0))
    integers = frame.assign(a=pd.array(np.arange(len(y)), dtype="Int64"))
    for fitted, rows in ((frame, None), (frame, X[:, :2]), (integers, integers)):
        pipeline.fit(fitted, y)
        with pytest.raises(ValueError, match="cannot convert the Pipeline for this X"):
            to_onnx(pipeline, rows)


def test_columns_that_skl2onnx_does_not_take():
    X, y = make_data("binary")
    frame = pd.DataFrame({"a": X[:, 0], "is_b": X[:, 1] > 0})
    columns = make_column_transformer((OneHotEncoder(), ["is_b"]), remainder="passthrough")
    pipeline = make_pipeline(columns, BPClassifier((3,), max_iter=5, random_state=0))
    with pytest.raises(ValueError, match=r"cannot convert the Pipeline for this X .*Boolean"):
        to_onnx(pipeline.fit(frame, y), frame)


@pytest.mark.parametrize("convert", [np.asarray, np.ndarray.tolist])
def test_rows_of_a_pipeline_of_numbers(convert):
    X, y = make_data("binary")
    pipeline = make_pipeline(SimpleImputer(), BPClassifier((3,), max_iter=5, random_state=0))
    pipeline.fit(X.astype(np.float32), y)
    proto = to_onnx(pipeline, X.astype(np.float32))
    outputs = run(proto, X.astype(np.float32))
    assert_near(outputs["probabilities"], pipeline.predict_proba(X.astype(np.float32)))
    scaled = make_pipeline(StandardScaler(), BPClassifier((3,), max_iter=5, random_state=0))
    outputs = run(to_onnx(scaled.fit(X, y), convert(X[:1])), X)
    assert_near(outputs["probabilities"], scaled.predict_proba(X))


@pytest.mark.parametrize("missing", ["onnx", "skl2onnx", "torch"])
def test_packages_that_are_missing(missing, monkeypatch):
    model, X = fit("regression", "float64")
    pipeline = make_pipeline(StandardScaler(), model).fit(X, X[:, 0])
    monkeypatch.setitem(sys.modules, missing, None)
    calls = {
        "onnx": [lambda: to_onnx(model)],
        "skl2onnx": [lambda: to_onnx(pipeline), export.register_with_skl2onnx],
        "torch": [lambda: to_torch(model)],
    }
    package = "torch" if missing == "torch" else r"fastbp\[onnx\]"
    for call in calls[missing]:
        with pytest.raises(ImportError, match=f"needs {missing}: pip install '{package}'"):
            call()


def test_importing_fastbp_imports_none_of_them():
    code = "import fastbp, sys; print({'onnx', 'skl2onnx', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("name", export.__all__)
def test_examples_in_docstrings(name):
    if name == "to_torch":
        pytest.importorskip("torch")
    (example,) = doctest.DocTestFinder(recurse=False).find(getattr(export, name), name)
    assert len(example.examples) > 5
    assert doctest.DocTestRunner().run(example).failed == 0
