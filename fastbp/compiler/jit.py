"""The decorators and options with which everything is compiled.

All compilation in fastbp goes through this file, so that options are set in one place:

* no reference counting, which is atomic: kernels allocate nothing, and the arrays passed to them
  outlive the call (the hundreds of counts in a step of one sample took longer than the step);
* ``error_model="numpy"``: no check for division by zero, which would prevent vectorisation;
* fastmath without ``nnan`` and ``ninf``: the divergence of a network must be detected.

Under ``NUMBA_DISABLE_JIT=1`` the kernels run as plain Python, for debugging and for tests.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.ccallback import CFunc
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import intrinsic

from fastbp.compiler.cache import cache_for, find
from fastbp.compiler.passes import passes_of
from fastbp.compiler.turn import turn

FASTMATH = {"contract", "reassoc", "nsz", "arcp"}
EXACT_ORDER = {"contract"}
# The options of an overload. Without `forceinline` a longer one would become a call, and the loops
# around it would not be vectorised.
EXACT_INLINE = {"fastmath": EXACT_ORDER, "error_model": "numpy", "forceinline": True}
DISABLED: bool = numba.config.DISABLE_JIT


def _compile(function: Callable[..., Any], **options: Any) -> Any:
    options = {"fastmath": FASTMATH, **options}
    options.setdefault("_nrt", options.get("parallel", False))  # Numba's parallel loops allocate
    dispatcher = numba.njit(nogil=True, error_model="numpy", **options)(function)
    if not DISABLED:
        chosen = {**options, "fastmath": sorted(options["fastmath"])}  # a set's order is random
        dispatcher._cache = cache_for(function, repr(sorted(chosen.items())))
        compile_alone = dispatcher.compile

        @wraps(compile_alone)
        def compile_in_turn(signature: Any) -> Any:
            with turn:
                return compile_alone(signature)

        dispatcher.compile = compile_in_turn
    return dispatcher


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function at its first call from Python; for tests and benchmarks."""
    return _compile(function)


def inner_kernel(function: Callable[..., Any]) -> Any:
    """Compile a function that only other kernels call: it gets no wrapper for Python."""
    return _compile(function, no_cpython_wrapper=True)


def part(function: Callable[..., Any]) -> Any:
    """Inline a function into each kernel that calls it, before that kernel is compiled."""
    return numba.njit(inline="always")(function)


# Functions that sum numbers are inlined into each caller. A separate function would exist twice,
# compiled alone and with a caller, with two orders of summation; which of them is called would
# depend on what the process has compiled and what it has loaded.


def exact_kernel(function: Callable[..., Any]) -> Any:
    """Compile a function whose sums must not be reordered, such as a range reduction."""
    return _compile(function, fastmath=EXACT_ORDER, no_cpython_wrapper=True, forceinline=True)


def summing_kernel(function: Callable[..., Any]) -> Any:
    """Compile a function whose sums may be reordered."""
    return _compile(function, no_cpython_wrapper=True, forceinline=True)


def parallel_kernel(function: Callable[..., Any]) -> Any:
    """Compile a function whose `prange` loops run on Numba's threads, at its first call."""
    return _compile(function, parallel=True)


_not_cached: set[Any] = set()


def is_ready(kernel: Any, arguments: tuple[Any, ...], compile_it: bool) -> bool:
    """Return whether a kernel can be called with these arguments without a wait.

    A kernel in the disk cache is loaded. Any other takes seconds to compile, which is done only if
    `compile_it` is true. (Compiling in a background thread would cost nothing, but Numba changes
    the warning filters meanwhile, and those belong to the whole process.)
    """
    if DISABLED:
        return True
    signature = tuple(numba.typeof(argument) for argument in arguments)
    if signature in kernel.overloads:
        return True
    key = (kernel, signature)
    if not compile_it:
        if key in _not_cached:
            return False
        with global_compiler_lock:
            found = find(kernel._cache, signature, kernel.targetctx)
        if found is None:
            _not_cached.add(key)
            return False
    kernel.compile(signature)
    return True


# Numba optimises linked code again in the caller, and again in the caller's caller. So the larger
# functions are compiled once, as C functions, and called through their addresses, which are passed
# as arguments: a kernel that contained an address could not be cached.


def c_function(
    function: Callable[..., Any],
    *arguments: Any,
    as_written: bool = False,
    compile_it: bool = True,
) -> int:
    """Compile a function for arguments of these Numba types now, and return its address.

    With the compiler disabled, the function is stored as it is, and its index is the address. With
    `as_written`, sums are evaluated in the order written, and no product is fused with a sum. With
    `compile_it=False`, the address is 0 if the function is in no cache.
    """
    if DISABLED:
        _python_functions.append(function)
        return len(_python_functions) - 1
    fastmath = set() if as_written else FASTMATH
    options = {"nopython": True, "_nrt": False, "error_model": "numpy", "fastmath": fastmath}
    compiled = CFunc(function, (arguments, types.void), {}, options)
    compiled._cache = cache_for(function, f"c_function {as_written}")  # type: ignore[attr-defined]
    with turn:
        target = compiled._targetdescr.target_context  # type: ignore[attr-defined]
        if not compile_it and find(compiled._cache, compiled._sig, target) is None:  # type: ignore
            return 0
        with passes_of(function):
            compiled.compile()
    _c_functions.append(compiled)
    address: Any = compiled.address
    return int(address)


_c_functions: list[CFunc] = []  # keeps the machine code alive
_python_functions: list[Callable[..., Any]] = []


@intrinsic
def call(typing_context, function, arguments):
    """Call the C function at an address with a tuple of integers, some of them pointers."""

    def codegen(context, builder, signature, values):
        operands = cgutils.unpack_tuple(builder, values[1])
        kind = ir.FunctionType(ir.VoidType(), [operand.type for operand in operands])
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), operands)
        return context.get_dummy_value()

    return types.void(types.int64, types.UniTuple(types.int64, len(arguments))), codegen


def call_python(function: int, arguments: tuple[int, ...]) -> None:
    """Call the Python function with this index."""
    _python_functions[function](*arguments)


if DISABLED:
    call = call_python
