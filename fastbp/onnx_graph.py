"""A network as ONNX nodes: the operators and their constants."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp.estimators.base import BaseBP
from fastbp.estimators.classifier import BPClassifier
from fastbp.kernels.activations import LEAKY_SLOPE, SELU_ALPHA, SELU_SCALE
from fastbp.kernels.elementary import TAIL_END, tail_parts_float64

__all__ = ["Graph", "Value", "output_shapes", "write_network"]

Array = NDArray[Any]

INT64 = 7  # onnx.TensorProto.INT64


@dataclass
class Graph:
    """Nodes and constants; constants have this dtype, except labels."""

    dtype: np.dtype[Any]
    new_name: Callable[[str], str]  # returns a unique name derived from this one
    nodes: list[tuple[str, list[str], str, dict[str, Any]]] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)

    def add(self, operator: str, *inputs: Any, output: str = "", **attributes: Any) -> "Value":
        """Add a node; its inputs are values, and numbers and arrays, which become constants."""
        names = [i.name if isinstance(i, Value) else self._add_constant(i) for i in inputs]
        output = output or self.new_name(operator)
        self.nodes.append((operator, names, output, attributes))
        return Value(self, output)

    def _add_constant(self, values: Any) -> str:
        array = np.asarray(values)
        name = self.new_name("constant")
        is_label = array.ndim > 0 and array.dtype.kind != "f"
        self.constants[name] = array if is_label else array.astype(self.dtype)
        return name


def _arithmetic(operator: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return two methods, for a value on the left of the operator and for one on its right."""
    return (lambda a, b: a.graph.add(operator, a, b)), (lambda a, b: a.graph.add(operator, b, a))


@dataclass(frozen=True)
class Value:
    """An input of the graph or the output of a node; arithmetic with it adds nodes."""

    graph: Graph
    name: str

    __add__, __radd__ = _arithmetic("Add")
    __sub__, __rsub__ = _arithmetic("Sub")
    __mul__, __rmul__ = _arithmetic("Mul")
    __truediv__, __rtruediv__ = _arithmetic("Div")


# Operators, with attributes, that onnxruntime implements for float32 only.
_FLOAT32_OPERATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "leaky_relu": ("LeakyRelu", {"alpha": LEAKY_SLOPE}),
    "elu": ("Elu", {}),
    "selu": ("Selu", {"alpha": SELU_ALPHA, "gamma": SELU_SCALE}),
    "softplus": ("Softplus", {}),
}


def activate(graph: Graph, name: str, z: Any) -> Any:
    """Add an activation, accurate to the dtype's precision for large and small z too."""
    f = graph.add
    if graph.dtype == np.float32 and name in _FLOAT32_OPERATORS:
        operator, attributes = _FLOAT32_OPERATORS[name]
        return f(operator, z, **attributes)
    match name:
        case "identity":
            return z
        case "relu" | "tanh" | "exp":
            return f(name.capitalize(), z)
        case "softmax":
            return f("Softmax", z, axis=1)
        case "leaky_relu":
            return f("Max", z, z * LEAKY_SLOPE)
        case "logistic":  # onnxruntime's Sigmoid is 0 below -18, and imprecise near it
            return 1 / (1 + f("Exp", -1 * z))
        case "silu":
            return z / (1 + f("Exp", -1 * z))
        case "elu" | "selu":
            t = f("Tanh", f("Min", z, 0) / 2)
            alpha, scale = (1, 1) if name == "elu" else (SELU_ALPHA, SELU_SCALE)
            return scale * f("Relu", z) + 2 * alpha * scale * t / (1 - t)  # 2t / (1-t) = expm1
        case "softplus":
            u = f("Exp", -1 * f("Abs", z))
            v = 1 + u
            return f("Relu", z) + (f("Log", v) + (u - (v - 1)) / v)  # that is log1p(u)
        case "gelu" if graph.dtype == np.float32:
            return z * 0.5 * (1 + f("Erf", z * math.sqrt(0.5)))
        case "gelu":
            y = f("Min", f("Abs", z), TAIL_END["float64"])
            p, q = tail_parts_float64(y, y * y)  # type: ignore[no-untyped-call]
            return f("Relu", z) - f("Exp", y * y * -0.5) / q * (y * p)
    raise NotImplementedError(f"The activation {name!r} is not in ONNX yet.")


def write_network(
    graph: Graph, model: BaseBP, X: Any, outputs: Sequence[str], classes: Any
) -> None:
    """Add the nodes that compute these outputs from X."""
    f, a = graph.add, X
    weights, names = model._current_network()
    for w, b, name in zip(weights.coefs, weights.intercepts, names, strict=True):
        a = activate(graph, name, f("Gemm", a, w, b))
    if isinstance(model, BPClassifier):
        if model._multilabel:
            label = f("Cast", f("Greater", a, 0.5), to=INT64)
        else:
            a = f("Concat", 1 - a, a, axis=1) if model.coefs_[-1].shape[1] == 1 else a
            classes = np.resize(classes, max(2, len(classes)))  # a single class fills both places
            classes = classes.astype(object if classes.dtype.kind in "OU" else np.int64)
            label = f("Gather", classes, f("ArgMax", a, axis=1, keepdims=0))
        f("Identity", label, output=outputs[0])
    f("Identity", a, output=outputs[-1])


def output_shapes(model: BaseBP) -> dict[str, list[int]]:
    """Return the names of the outputs, and their shapes without the first dimension."""
    n_outputs = model.coefs_[-1].shape[1]
    if not isinstance(model, BPClassifier):
        return {"variable": [n_outputs]}
    label = [n_outputs] if model._multilabel else []
    return {"label": label, "probabilities": [max(2, n_outputs)]}
