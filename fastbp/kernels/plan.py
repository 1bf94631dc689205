"""The data that the compiled functions work on, passed as one row of integers.

A plan holds the addresses and lengths of all arrays, and the other integers. The functions are C
functions of a plan and a few integers: each is compiled once and calls the others by address, and a
call costs next to nothing. (Numba's own calls split each array into seven arguments, and linked
functions are optimised again in each caller.)
"""

import ctypes
from collections.abc import Callable
from functools import cache, partial
from itertools import count
from types import SimpleNamespace
from typing import Any
from weakref import WeakValueDictionary

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastbp.compiler.jit import DISABLED, c_function, call_python
from fastbp.compiler.memory import emit_array
from fastbp.kernels.arrays import Bundles

KEPT = ("layers", "transposed")  # arrays that are the plan's own

# Arrays whose elements few functions read: the others are compiled once for all dtypes of X.
OF_X = ("X", "values", "indptr", "column_values")
_UNSEEN = np.dtype([("unseen", np.uint8)])  # such an array has a length, but no numbers

_alive: "WeakValueDictionary[int, Plan]" = WeakValueDictionary()


class Plan:
    """The integers of some bundles, which are its attributes; keeps their arrays alive.

    `n_bytes` is the memory of its own arrays, which it keeps after `forget_arrays`.

    Parameters
    ----------
    bundles : Bundles
        Their arrays are in C order, aligned and in native byte order.
    """

    network: Any
    data: Any
    solver: Any
    workspace: Any
    run: Any

    def __init__(self, bundles: Bundles) -> None:
        self._places: dict[str, dict[str, int]] = {}
        integers: list[int] = []
        self._spans: dict[str, range] = {}
        for name, bundle in bundles._asdict().items():
            setattr(self, name, SimpleNamespace(**bundle._asdict()))
            self._places[name], first = {}, len(integers)
            for field, value in bundle._asdict().items():
                self._places[name][field] = len(integers)
                integers += _integers(value)
            self._spans[name] = range(first, len(integers))
        self._given: list[tuple[dict[str, Any], str]] = []  # arrays of others, set for each use
        for bundle in (self.network, self.data, self.solver, self.run):
            held = bundle.__dict__
            for field, value in held.items():
                if isinstance(value, np.ndarray) and field not in KEPT:
                    self._given.append((held, field))
        own = [*vars(self.workspace).values(), *(vars(self.network)[name] for name in KEPT)]
        self.n_bytes = sum(value.nbytes for value in own if isinstance(value, np.ndarray))
        self._memory = np.array(integers, np.int64)
        self.address = address_of(self._memory)
        fields = [field for bundle in bundles for field in bundle._asdict().items()]
        self.type = _number_of(tuple(_kind(value) for _, value in fields))
        unseen = ((_UNSEEN, value.ndim) if name in OF_X else _kind(value) for name, value in fields)
        self.type_without_x = _number_of(tuple(unseen))
        _alive[self.address] = self

    def set(self, name: str, **fields: Any) -> None:
        """Replace fields of one bundle; arrays must be of the same types."""
        held, places, memory = vars(getattr(self, name)), self._places[name], self._memory
        for field, value in fields.items():
            if value is held[field]:
                continue
            held[field] = value
            if type(value) is int:
                memory[places[field]] = value
                continue
            for place, integer in enumerate(_integers(value), places[field]):
                memory[place] = integer

    def place(self, name: str, field: str) -> int:
        """Return the index at which the integers of a field of a bundle begin."""
        return self._places[name][field]

    def span(self, name: str) -> range:
        """Return the range of the integers of a bundle."""
        return self._spans[name]

    @property
    def integers(self) -> Any:
        """All integers; a caller that changes them must restore them."""
        return self._memory

    def forget_arrays(self) -> None:
        """Drop the references to data and weights, which must be set again before the next use."""
        for held, field in self._given:
            if held[field] is not None and held[field].size:  # an empty one is always the same
                held[field] = None


def address_of(array: Any) -> int:
    """Return the address of the elements of an ndarray in C order."""
    if array.size and array.flags.writeable:  # in a quarter of NumPy's microsecond
        return ctypes.addressof(ctypes.c_char.from_buffer(array))
    return int(array.ctypes.data)


def _integers(value: Any) -> list[int]:
    if not isinstance(value, np.ndarray):
        return [int(value)]
    if not (value.flags.c_contiguous and value.flags.aligned):
        raise ValueError("A plan holds arrays in C order only.")
    return [address_of(value), *value.shape]


def _kind(value: Any) -> Any:
    return (value.dtype, value.ndim) if isinstance(value, np.ndarray) else int


_types: dict[int, Any] = {}  # Numba's types of bundles, which take long to compare
_numbers = count()


@cache
def _number_of(kinds: tuple[Any, ...]) -> int:
    """Return a number for the type of bundles whose values are given as (dtype, ndim) or int."""
    left = iter(kinds)
    bundles = []
    for bundle in Bundles.__annotations__.values():
        members = []
        for _ in bundle._fields:
            kind = next(left)
            is_array = kind is not int
            members.append(
                types.Array(numba.from_dtype(kind[0]), kind[1], "C") if is_array else types.int64
            )
        bundles.append(types.NamedTuple(members, bundle))
    number = next(_numbers)  # never the same in two threads
    _types[number] = types.NamedTuple(bundles, Bundles)
    return number


_looks_into_x: set[Callable[..., Any]] = set()


def looks_into_x(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function of a plan see the elements of X; others see only how many there are."""
    _looks_into_x.add(function)
    return function


class PlanFunction:
    """A function of a plan of some type and of integers, to be compiled.

    It can be pickled, to be compiled in another process.
    """

    def __init__(self, function: Callable[..., Any], plan: Plan) -> None:
        self._function = function
        self._type = plan.type if function in _looks_into_x else plan.type_without_x

    def __call__(self) -> int:
        """Compile or load the function; return its address."""
        return _compile(self._function, self._type)

    def __reduce__(self) -> Any:
        return partial, (_compile_for, self._function, _types[self._type])


def plan_function(function: Callable[..., Any], plan: Plan) -> int:
    """Compile or load a function of such a plan and of integers; return its address."""
    return PlanFunction(function, plan)()


@cache
def _compile(function: Any, plan_type: int) -> int:
    return _compile_for(function, _types[plan_type])


def _compile_for(function: Any, plan_type: Any) -> int:
    n_integers = function.__code__.co_argcount - 1
    return c_function(function, types.CPointer(plan_type), *[types.int64] * n_integers)


@cache
def _as_python(address: int, n_integers: int) -> Any:
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p, *[ctypes.c_int64] * n_integers)(address)


def run(address: int, plan: Plan, *integers: int) -> None:
    """Call a function that `plan_function` compiled; other Python threads run on meanwhile."""
    if DISABLED:
        call_python(address, (plan.address, *integers))
    else:
        _as_python(address, len(integers))(plan.address, *integers)


@intrinsic
def bundles(typing_context, plan):
    """The bundles of a plan."""

    def codegen(context, builder, signature, values):
        i64 = ir.IntType(64)
        memory = builder.bitcast(values[0], i64.as_pointer())
        position = 0

        def take():
            nonlocal position
            position += 1
            return builder.load(builder.gep(memory, [i64(position - 1)]))

        def build(kind):
            if isinstance(kind, types.NamedTuple):
                return context.make_tuple(builder, kind, [build(member) for member in kind.types])
            if not isinstance(kind, types.Array):
                return take()
            data = builder.inttoptr(take(), ir.IntType(8).as_pointer())
            return emit_array(context, builder, kind, data, [take() for _ in range(kind.ndim)])

        return build(signature.return_type)

    return plan.dtype(plan), codegen


@intrinsic
def as_integer(typing_context, plan):
    """The address of a plan, to be passed on."""

    def codegen(context, builder, signature, values):
        return builder.ptrtoint(values[0], ir.IntType(64))

    return types.int64(plan), codegen


if DISABLED:

    def bundles(plan):
        """The bundles of a plan."""
        return _alive[plan]

    def as_integer(plan):
        """The address of a plan, to be passed on."""
        return plan
