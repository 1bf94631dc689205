"""Export of trained networks to ONNX, skl2onnx and PyTorch, each imported only when it is used."""

import json
import math
from importlib import import_module
from itertools import count
from numbers import Real
from typing import Any

import numpy as np
import sklearn
from sklearn.utils.validation import check_is_fitted

from fastbp.estimators.base import BaseBP
from fastbp.estimators.classifier import BPClassifier
from fastbp.estimators.regressor import BPRegressor
from fastbp.onnx_graph import Graph, Value, output_shapes, write_network

__all__ = ["register_with_skl2onnx", "to_onnx", "to_torch"]

# onnxruntime reads these from version 1.14 (2023) on.
OPSET, IR_VERSION = 18, 8


def to_onnx(model: Any, X: Any = None) -> Any:
    """Return a fitted model as an ONNX graph.

    The input is "X", of shape (n_samples, n_features) and the weights' dtype. The outputs are those
    of skl2onnx without ZipMap: a classifier's "label", strings or int64, and "probabilities", with
    two columns for two classes; a regressor's "variable", of shape (n_samples, n_outputs), with one
    column for one output.

    Parameters
    ----------
    model : BPClassifier, BPRegressor, or Pipeline that ends in one
        A Pipeline is converted by skl2onnx.
    X : array-like or DataFrame, default=None
        For a Pipeline, rows that define the names and types of its inputs; one row is enough. By
        default the input is one matrix, as above. onnxruntime lacks float64 for some operators that
        skl2onnx writes (that of SimpleImputer is written here): if it refuses the graph, give
        float32. Some operators compute with integers in float32: give large integers, such as
        times, in float64.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    TypeError
        If the model is none of these.
    NotFittedError
        If the network is not fitted.
    ValueError
        If a Pipeline has another network before its last step, X is missing, or skl2onnx cannot
        convert the Pipeline for this X.
    ImportError
        If onnx, or skl2onnx for a Pipeline, is not installed.

    Examples
    --------
    >>> import fastbp
    >>> import onnxruntime
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = fastbp.BPClassifier(max_iter=500, random_state=0).fit(X, y)
    >>> graph = fastbp.to_onnx(model).SerializeToString()
    >>> label, probabilities = onnxruntime.InferenceSession(graph).run(None, {"X": X})
    >>> bool((label == model.predict(X)).all())
    True
    """
    network = _last_step(model)
    onnx = _import("onnx", "fastbp[onnx]")
    proto = _convert(model) if network is model else _convert_pipeline(model, network, X)
    from fastbp import __version__

    properties = {"fastbp": __version__, "scikit-learn": sklearn.__version__}
    if hasattr(model, "feature_names_in_"):
        properties["feature_names"] = json.dumps(model.feature_names_in_.tolist())
    onnx.helper.set_model_props(proto, properties)
    return proto


def register_with_skl2onnx() -> None:
    """Let skl2onnx convert networks in a Pipeline, a VotingClassifier or a similar estimator.

    The options are those of MLPClassifier; the default one, ZipMap, does not accept float64. The
    dtype is that of the input, not of the weights. Networks used by their `transform` are not
    converted.

    Raises
    ------
    ImportError
        If skl2onnx is not installed.

    Examples
    --------
    >>> import skl2onnx
    >>> from fastbp import BPRegressor
    >>> from fastbp.export import register_with_skl2onnx
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.ensemble import VotingRegressor
    >>> from sklearn.linear_model import Ridge
    >>> register_with_skl2onnx()
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = VotingRegressor([("net", BPRegressor(solver="lbfgs", tol=1)), ("ridge", Ridge())])
    >>> graph = skl2onnx.to_onnx(model.fit(X, y), X[:1])
    """
    register = _import("skl2onnx", "fastbp[onnx]").update_registered_converter
    options = {
        "zipmap": [True, False, "columns"],
        "output_class_labels": [False, True],
        "nocl": [True, False],
    }
    register(BPClassifier, "FastbpBPClassifier", _set_shapes, _convert_step, options=options)
    register(BPRegressor, "FastbpBPRegressor", _set_shapes, _convert_step)


def to_torch(model: BaseBP) -> Any:
    """Return a fitted network as a PyTorch module.

    It is a Sequential of alternating Linear and activation modules, in the weights' dtype, on the
    CPU and in evaluation mode. It returns the activations of the output layer, of shape (n_samples,
    n_outputs): a regressor's predictions, with one column for one output; a classifier's
    probabilities, for two classes one column, that of the second. ``net[:-1]`` returns the logits.

    Parameters
    ----------
    model : BPClassifier or BPRegressor

    Returns
    -------
    torch.nn.Sequential

    Raises
    ------
    TypeError
        If the model is neither.
    NotFittedError
        If the model is not fitted.
    ImportError
        If torch is not installed.

    Examples
    --------
    >>> import fastbp
    >>> import torch
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = fastbp.BPClassifier(max_iter=500, random_state=0).fit(X, y)
    >>> with torch.no_grad():
    ...     probabilities = fastbp.to_torch(model)(torch.from_numpy(X)).numpy()
    >>> bool((probabilities.argmax(axis=1) == model.predict(X)).all())
    True
    """
    _check_model(model, "a BPClassifier or BPRegressor")
    _import("torch", "torch")
    from fastbp.torch_network import make_network

    return make_network(*model._current_network())


def _import(name: str, requirement: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(f"This needs {name}: pip install {requirement!r}.") from error


def _check_model(model: Any, kinds: str) -> None:
    if not isinstance(model, BaseBP):
        raise TypeError(f"model must be {kinds}, got {type(model).__name__}.")
    check_is_fitted(model)


def _last_step(model: Any) -> Any:
    """Return the network at the end of a Pipeline, or the model itself."""
    from sklearn.pipeline import Pipeline

    while isinstance(model, Pipeline):
        *before, (_, last) = model.steps
        for name, step in before:
            parts = step.get_params().values() if hasattr(step, "get_params") else ()
            if any(isinstance(part, BaseBP) for part in (step, *parts)):
                raise ValueError(
                    f"model has a network in its step {name!r}, before the last: skl2onnx would "
                    "use its predictions, not its transform."
                )
        model = last
    _check_model(model, "a BPClassifier, a BPRegressor, or a Pipeline that ends in one")
    return model


def _convert(model: BaseBP) -> Any:
    from onnx import TensorProto, helper, numpy_helper

    from fastbp import __version__

    dtype, numbers = model._current_weights().dtype, count()
    graph = Graph(dtype, lambda name: f"{name}_{next(numbers)}")
    outputs = output_shapes(model)
    kinds = dict.fromkeys(["X", *outputs], helper.np_dtype_to_tensor_dtype(dtype))
    classes = getattr(model, "classes_", None)
    if classes is not None:
        kinds["label"] = TensorProto.STRING if classes.dtype.kind in "OU" else TensorProto.INT64
    write_network(graph, model, Value(graph, "X"), list(outputs), classes)
    shapes = {"X": [model.coefs_[0].shape[0]], **outputs}
    variables = [
        helper.make_tensor_value_info(name, kinds[name], [None, *shape])
        for name, shape in shapes.items()
    ]
    nodes = [helper.make_node(name, i, [o], **options) for name, i, o, options in graph.nodes]
    constants = [numpy_helper.from_array(array, name) for name, array in graph.constants.items()]
    name, opset = type(model).__name__, helper.make_opsetid("", OPSET)
    return helper.make_model(
        helper.make_graph(nodes, name, variables[:1], variables[1:], constants),
        producer_name="fastbp",
        producer_version=__version__,
        ir_version=IR_VERSION,
        opset_imports=[opset],
    )


# skl2onnx ----------------------------------------------------------------------------------------


def _convert_pipeline(pipeline: Any, network: BaseBP, X: Any) -> Any:
    skl2onnx = _import("skl2onnx", "fastbp[onnx]")
    from skl2onnx.algebra.type_helper import guess_initial_types
    from sklearn.impute import SimpleImputer

    if X is None:
        if not hasattr(pipeline, "n_features_in_"):
            raise ValueError("X must be given: the Pipeline does not know how many columns it has.")
        X = np.zeros((1, pipeline.n_features_in_), network._current_weights().dtype)
    elif not hasattr(X, "columns"):
        X = np.asarray(X)
    register_with_skl2onnx()
    options = {id(network): {"zipmap": False}} if isinstance(network, BPClassifier) else None
    try:
        proto = skl2onnx.convert_sklearn(
            pipeline,
            f"ONNX({type(pipeline).__name__})",
            guess_initial_types(X, None),
            options=options,
            custom_conversion_functions={SimpleImputer: _convert_imputer},
        )
    except (AssertionError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"skl2onnx cannot convert the Pipeline for this X ({error}): X must be rows as in fit, "
            "with columns of NumPy numbers or of text."
        ) from error
    _keep_float64(proto)
    return proto


def _keep_float64(proto: Any) -> None:
    """Concatenate float64 columns by Concat; skl2onnx's operator converts them to float32."""
    from onnx import TensorProto, helper

    doubles = {
        variable.name
        for variable in proto.graph.input
        if variable.type.tensor_type.elem_type == TensorProto.DOUBLE
    }
    for node in proto.graph.node:
        if node.op_type == "FeatureVectorizer" and doubles.issuperset(node.input):
            node.CopyFrom(helper.make_node("Concat", node.input, node.output, node.name, axis=1))


def _set_shapes(step: Any) -> None:
    """Set the output types and shapes of a skl2onnx Operator."""
    from skl2onnx.common import shape_calculator

    model = step.raw_operator
    if isinstance(model, BPClassifier):
        shape_calculator.calculate_linear_classifier_output_shapes(step)
    else:
        shape_calculator.calculate_linear_regressor_output_shapes(step)
    n_samples = step.inputs[0].get_first_dimension()
    for variable, shape in zip(step.outputs, output_shapes(model).values(), strict=True):
        variable.type.shape = [n_samples, *shape]


def _convert_step(scope: Any, step: Any, container: Any) -> None:
    """Add the nodes of a skl2onnx Operator to its ModelComponentContainer."""
    from onnx import TensorProto
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
    from skl2onnx.common.utils_classifier import get_label_classes

    model, X = step.raw_operator, step.inputs[0]
    is_double = isinstance(X.type, DoubleTensorType)
    graph = Graph(np.dtype("f8" if is_double else "f4"), scope.get_unique_variable_name)
    source = Value(graph, X.full_name)
    if not isinstance(X.type, (DoubleTensorType, FloatTensorType)):
        source = graph.add("Cast", source, to=TensorProto.FLOAT)
    classes = get_label_classes(scope, model) if isinstance(model, BPClassifier) else None
    write_network(graph, model, source, step.output_full_names, classes)
    _put_into(container, scope, graph)


def _convert_imputer(scope: Any, step: Any, container: Any) -> None:
    """Add a SimpleImputer's nodes; onnxruntime lacks skl2onnx's operator for float64."""
    from skl2onnx.common._registration import get_converter
    from skl2onnx.common.data_types import DoubleTensorType

    imputer = step.raw_operator
    if len(imputer.get_feature_names_out()) != imputer.n_features_in_:
        raise ValueError("SimpleImputer adds or drops columns")
    if not isinstance(step.inputs[0].type, DoubleTensorType):
        get_converter("SklearnSimpleImputer")(scope, step, container)
        return
    missing_value = imputer.missing_values
    if not isinstance(missing_value, Real):
        raise TypeError(f"SimpleImputer has missing_values={missing_value!r}")
    values = np.asarray(imputer.statistics_, np.float64)
    graph = Graph(np.dtype("f8"), scope.get_unique_variable_name)
    X = graph.add("Concat", *(Value(graph, v.full_name) for v in step.inputs), axis=1)
    is_nan = math.isnan(missing_value)
    missing = graph.add("IsNaN", X) if is_nan else graph.add("Equal", X, missing_value)
    graph.add("Where", missing, values, X, output=step.output_full_names[0])
    _put_into(container, scope, graph)


def _put_into(container: Any, scope: Any, graph: Graph) -> None:
    """Add a graph's constants and nodes to a ModelComponentContainer."""
    from onnx import numpy_helper

    for name, array in graph.constants.items():
        container.initializers.append(numpy_helper.from_array(array, name))
    for operator, inputs, output, options in graph.nodes:
        name = scope.get_unique_operator_name(operator)
        container.add_node(operator, inputs, [output], name=name, **options)
