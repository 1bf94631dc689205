"""How everything is compiled, and the disk cache behind it.

Whatever is compiled in fastbp goes through this room, so that options are decided in one place:

* no counting of references, which is atomic: nothing is allocated in a kernel, and the arrays that
  go in outlive the call (hundreds of counts in a step of one sample took longer than the step);
* ``error_model="numpy"``: without a check for division by zero, which would stop vectorisation;
* fastmath without ``nnan`` and ``ninf``: a network that diverges must be seen to diverge.

Under ``NUMBA_DISABLE_JIT=1`` the kernels run as plain Python, for debugging and for tests.
"""

import ctypes
import gc
import hashlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ContextDecorator, contextmanager, nullcontext
from functools import cache, wraps
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.caching import FunctionCache, IndexDataCacheFile, NullCache
from numba.core.ccallback import CFunc
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from fastbp.compiler.processor import HAS_AVX512
from fastbp.forks import hold_at_forks

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

FASTMATH = {"contract", "reassoc", "nsz", "arcp"}
EXACT_ORDER = {"contract"}
# Of an overload. Without `forceinline` a longer one would be a call, and no loop around it be
# vectorised.
EXACT_INLINE = {"fastmath": EXACT_ORDER, "error_model": "numpy", "forceinline": True}
TIDYING = (  # of code that is optimised already; LLVM's names
    *("always_inliner", "sroa", "simplify_cfg", "instruction_combine", "new_gvn"),
    *("loop_rotate", "simplify_cfg", "instruction_combine"),
    "global_dead_code_eliminate",  # Numba would not cache code with globals of its own left in it
)
DISABLED: bool = numba.config.DISABLE_JIT
PATIENCE = 60.0  # seconds for another process to compile; after that it is done here, too

hold_at_forks(global_compiler_lock)  # what is half compiled could not be finished in the child

_announced = threading.Event()


def _announce() -> None:
    """Tell a user who is about to wait why; once in a process."""
    if not _announced.is_set():
        _announced.set()
        print(
            "fastbp: compiling kernels that are new to this processor. This takes some seconds; "
            "later runs load them from a cache.",
            file=sys.stderr,
            flush=True,
        )


@cache
def revision() -> str:
    """Digest of the source of every kernel, part of each key of the disk cache.

    Numba's own key sees a change in a function but not in what it calls from another file.
    """
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for room in ("compiler", "kernels", "matmul"):
        for path in sorted((package / room).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


class _Turn(ContextDecorator):
    """Inside, processes take turns to compile: the next loads what the one before has saved.

    A turn is taken where something is in no cache, and ends with the outermost function. It is a
    lock of the system's on a file, which goes with a process that dies; where a file cannot be
    locked, there are no turns.

    Numba has LLVM go through each function three times: alone, then twice with all that is linked
    in. Inside the first is left out: the code is as fast, and there sooner; `optimised_alone` says
    where it is not, and `optimised_already` where there is less to do. And loops are made of the
    longest vectors that the processor has.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._file: Any = None
        self._collects = False
        self._target_machine: Any = None

    def __enter__(self) -> None:
        global_compiler_lock.acquire()
        if self._depth == 0:
            self._collects = gc.isenabled()
            gc.disable()  # the compiler allocates much: looking through it took a tenth of the time
            codegen = vars(_codegen())
            codegen["_function_pass_manager"] = lambda: (_NoPasses(), None)
            self._target_machine, codegen["_tm"] = codegen["_tm"], _with_longest_vectors()
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            codegen = vars(_codegen())  # what others compile is compiled as ever
            del codegen["_function_pass_manager"]
            codegen["_tm"] = self._target_machine
            if self._collects:
                if gc.get_freeze_count() == 0:
                    gc.freeze()  # and unfrozen all is old: else it would be looked through at once
                    gc.unfreeze()
                gc.enable()
            if self._file is not None:
                self._file.close()
                self._file = None
        global_compiler_lock.release()

    def take(self, folder: str) -> bool:
        """Wait for the turn; true where another process may have compiled something until then."""
        if self._depth == 0 or self._file is not None:
            return False
        until = time.monotonic() + PATIENCE
        try:
            self._file = Path(folder, "fastbp.lock").open("ab")  # noqa: SIM115
            while not _lock(self._file) and time.monotonic() < until:
                time.sleep(0.02)
        except OSError:
            return False
        return True


def _lock(file: Any) -> bool:
    """Lock a file; false where another process has locked it."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


class _NoPasses:
    """What Numba runs in place of LLVM's passes."""

    def run(self, code: Any, builder: Any) -> None:
        """Leave the code as it is."""


def _codegen() -> Any:
    return cpu_target.target_context.codegen()


@cache
def _with_longest_vectors() -> Any:
    """Return what LLVM optimises for; by itself it leaves vectors of 512 bits alone on Intel's."""
    codegen = _codegen()
    if not HAS_AVX512:
        return codegen._tm
    options = {"opt": numba.config.OPT}
    codegen._customize_tm_options(options)
    options["features"] += ",-prefer-256-bit"
    target = llvm.Target.from_triple(llvm.get_process_triple())
    return target.create_target_machine(**options)


@contextmanager
def _all_passes() -> Iterator[None]:
    left_out = vars(_codegen()).pop("_function_pass_manager")
    try:
        yield
    finally:
        vars(_codegen())["_function_pass_manager"] = left_out


@contextmanager
def _few_passes() -> Iterator[None]:
    vars(_codegen())["_module_pass_manager"] = _tidying
    try:
        yield
    finally:
        del vars(_codegen())["_module_pass_manager"]


def _tidying(cost: str = "full", **_: Any) -> tuple[Any, Any]:
    """Return no passes for the first of Numba's rounds over all, and TIDYING for the second."""
    if cost == "cheap":
        return _NoPasses(), None
    passes = llvm.create_new_module_pass_manager()
    for name in TIDYING:
        getattr(passes, f"add_{name}_pass")()
    return passes, _codegen()._pass_builder()


turn = _Turn()


class _CacheFile(IndexDataCacheFile):  # type: ignore[misc]
    """Numba's files of a function, the code of each key in a file of its own name.

    Numba numbers them by what it reads in the index, where two processes that compile for two types
    at once can come to the same number: one would then load the other's code, for other types.
    """

    def save(self, key: Any, data: Any) -> None:
        """Save the code, then the index, from which another process may drop the key again."""
        digest = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
        name = self._index_name.removesuffix("nbi") + f"{digest}.nbc"
        self._save_data(name, data)
        self._save_index(self._load_index() | {key: name})


class _Cache(FunctionCache):  # type: ignore[misc]
    """Numba's disk cache, keyed by our revision and the function's options as well."""

    def __init__(self, function: Callable[..., Any], options: str) -> None:
        super().__init__(function)
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file = _CacheFile(self._cache_path, self._impl.filename_base, stamp)
        self._extra = (revision(), options)

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return (*super()._index_key(sig, codegen), *self._extra)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        found = super().load_overload(sig, target_context)
        if found is None and turn.take(self._cache_path):
            found = super().load_overload(sig, target_context)
        if found is None:
            _announce()
        return found


class _NoCache(NullCache):  # type: ignore[misc]
    def load_overload(self, sig: Any, target_context: Any) -> None:
        _announce()


def _cache_for(function: Callable[..., Any], options: str) -> Any:
    try:
        return _Cache(function, options)
    except (RuntimeError, OSError):  # no folder that can be written: compile in each process
        return _NoCache()


def _compile(function: Callable[..., Any], **options: Any) -> Any:
    options = {"fastmath": FASTMATH, **options}
    options.setdefault("_nrt", options.get("parallel", False))  # Numba's threads allocate
    dispatcher = numba.njit(nogil=True, error_model="numpy", **options)(function)
    if not DISABLED:
        chosen = {**options, "fastmath": sorted(options["fastmath"])}  # a set's order is random
        dispatcher._cache = _cache_for(function, repr(sorted(chosen.items())))
        compile_alone = dispatcher.compile

        @wraps(compile_alone)
        def compile_in_turn(signature: Any) -> Any:
            with turn:
                return compile_alone(signature)

        dispatcher.compile = compile_in_turn
    return dispatcher


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function at its first call from Python; the tests' and benchmarks' way in."""
    return _compile(function)


def inner_kernel(function: Callable[..., Any]) -> Any:
    """Compile a function that only other kernels call: it gets no wrapper for Python."""
    return _compile(function, no_cpython_wrapper=True)


def part(function: Callable[..., Any]) -> Any:
    """Make a function part of each kernel that calls it, before that is compiled."""
    return numba.njit(inline="always")(function)


# What sums numbers is compiled into each of its callers. As a function of its own it would be there
# twice, compiled alone and with a caller, with two orders of the sums; which of the two is called
# depends on what the process has compiled and what it has loaded.


def exact_kernel(function: Callable[..., Any]) -> Any:
    """Compile a function whose sums must not be reordered, as those of a range reduction."""
    return _compile(function, fastmath=EXACT_ORDER, no_cpython_wrapper=True, forceinline=True)


def summing_kernel(function: Callable[..., Any]) -> Any:
    """Compile a function whose sums may be reordered."""
    return _compile(function, no_cpython_wrapper=True, forceinline=True)


def parallel_kernel(function: Callable[..., Any]) -> Any:
    """Compile a function whose `prange` loops run on Numba's threads, at its first call."""
    return _compile(function, parallel=True)


_not_cached: set[Any] = set()


def is_ready(kernel: Any, arguments: tuple[Any, ...], compile_it: bool) -> bool:
    """Tell whether a kernel can be called with these arguments at once.

    One that is in the disk cache is loaded; one that is not takes seconds to compile, which is done
    only where the caller says that it is worth it. (In a background thread it would cost nothing,
    but Numba changes the warnings' filters while it compiles, and those are the whole process's.)
    """
    if DISABLED:
        return True
    signature = tuple(numba.typeof(argument) for argument in arguments)
    if signature in kernel.overloads:
        return True
    key = (kernel, signature)
    if not compile_it:
        if key in _not_cached or not isinstance(kernel._cache, _Cache):
            return False
        with global_compiler_lock:
            found = FunctionCache.load_overload(kernel._cache, signature, kernel.targetctx)
        if found is None:
            _not_cached.add(key)
            return False
    kernel.compile(signature)
    return True


# What Numba links into a caller it optimises again there, and again in the caller's caller. So the
# larger functions are compiled once, as C functions, and called through their addresses, which come
# in as arguments: a kernel that held an address itself could not be cached.


_passes: dict[Callable[..., Any], Callable[[], Any]] = {}  # where they are not those of `turn`


def optimised_alone(function: Callable[..., Any]) -> Callable[..., Any]:
    """Have LLVM optimise a C function alone, too, before what is linked in.

    A loop of so many rounds is then unrolled before the loop around it could be vectorised.
    """
    _passes[function] = _all_passes
    return function


def optimised_already(function: Callable[..., Any]) -> Callable[..., Any]:
    """Have LLVM only tidy a C function whose loops are emitted as they should be, by vectors."""
    _passes[function] = _few_passes
    return function


def c_function(
    function: Callable[..., Any],
    *arguments: Any,
    as_written: bool = False,
    compile_it: bool = True,
) -> int:
    """Compile a function of such Numba types now, and return its address.

    Without the compiler, the function is kept as it is, and the address is its number. With
    `as_written` all sums are in the order they are written in, and no product is fused with one.
    With `compile_it=False` the address is 0 where the function is in no cache.
    """
    if DISABLED:
        _python_functions.append(function)
        return len(_python_functions) - 1
    fastmath = set() if as_written else FASTMATH
    options = {"nopython": True, "_nrt": False, "error_model": "numpy", "fastmath": fastmath}
    compiled = CFunc(function, (arguments, types.void), {}, options)
    compiled._cache = _cache_for(function, f"c_function {as_written}")  # type: ignore[attr-defined]
    with turn:
        if not compile_it and not _is_cached(compiled):
            return 0
        with _passes.get(function, nullcontext)():
            compiled.compile()
    _c_functions.append(compiled)
    address: Any = compiled.address
    return int(address)


def _is_cached(function: Any) -> bool:
    cache, target = function._cache, function._targetdescr.target_context
    if not isinstance(cache, _Cache):
        return False
    return FunctionCache.load_overload(cache, function._sig, target) is not None


_c_functions: list[CFunc] = []  # keeps the machine code alive
_python_functions: list[Callable[..., Any]] = []


@intrinsic
def call(typing_context, function, arguments):
    """Call the C function at an address, with a tuple of integers and pointers as integers."""

    def codegen(context, builder, signature, values):
        operands = cgutils.unpack_tuple(builder, values[1])
        kind = ir.FunctionType(ir.VoidType(), [operand.type for operand in operands])
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), operands)
        return context.get_dummy_value()

    return types.void(types.int64, types.UniTuple(types.int64, len(arguments))), codegen


@intrinsic
def address(typing_context, array, index):
    """Address of element `index` of a contiguous array, which must outlive its use."""

    def codegen(context, builder, signature, values):
        data = context.make_array(array)(context, builder, values[0]).data
        return builder.ptrtoint(builder.gep(data, [values[1]]), ir.IntType(64))

    return types.int64(array, types.int64), codegen


@intrinsic
def prefetch(typing_context, where):
    """Ask for the line of the cache at an address, to be read soon; there may be nothing there."""

    def codegen(context, builder, signature, values):
        i32 = ir.IntType(32)
        pointer = builder.inttoptr(values[0], ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, i32, i32, i32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [pointer, i32(0), i32(3), i32(1)])  # read, nearest cache, data
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def copy_bytes(typing_context, source, target, size):
    """Copy so many bytes from one address to another."""

    def codegen(context, builder, signature, values):
        pointer = ir.IntType(8).as_pointer()
        source, target = (builder.inttoptr(value, pointer) for value in values[:2])
        cgutils.raw_memcpy(builder, target, source, values[2], itemsize=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


def emit_array(context: Any, builder: Any, kind: Any, data: Any, lengths: list[Any]) -> Any:
    """Emit an array of a Numba type, in C order, that lies at a pointer."""
    is_record = isinstance(kind.dtype, types.Record)
    n_bytes = kind.dtype.size if is_record else kind.dtype.bitwidth // 8
    itemsize = context.get_constant(types.intp, n_bytes)
    strides = [itemsize]
    for length in lengths[:0:-1]:
        strides.insert(0, builder.mul(strides[0], length))
    array = context.make_array(kind)(context, builder)
    populate_array(
        array,
        data=builder.bitcast(data, array.data.type),
        shape=cgutils.pack_array(builder, lengths),
        strides=cgutils.pack_array(builder, strides),
        itemsize=itemsize,
        meminfo=None,
    )
    return array._getvalue()


@intrinsic
def matrix_view(typing_context, vector, offset, rows, columns):
    """View of shape (rows, columns) on a contiguous vector from `offset` on, which must outlive it.

    Slicing and reshaping gives the same and counts references, which costs more than a short row.
    """
    result = types.Array(vector.dtype, 2, "C")

    def codegen(context, builder, signature, values):
        source, offset, *shape = values
        data = context.make_array(vector)(context, builder, source).data
        return emit_array(context, builder, result, builder.gep(data, [offset]), shape)

    return result(vector, types.int64, types.int64, types.int64), codegen


@intrinsic
def array_at(typing_context, pointer, shape):
    """Array of this shape, in C order, that lies at a pointer, as Numba's `carray`."""
    result = types.Array(pointer.dtype, len(shape), "C")

    def codegen(context, builder, signature, values):
        lengths = cgutils.unpack_tuple(builder, values[1])
        return emit_array(context, builder, result, values[0], lengths)

    return result(pointer, shape), codegen


@intrinsic
def shifted(typing_context, pointer, index):
    """Pointer to element `index` of what a pointer points to."""

    def codegen(context, builder, signature, values):
        return builder.gep(values[0], [values[1]])

    return pointer(pointer, types.int64), codegen


@intrinsic
def store(typing_context, where, value):
    """Store a number at an address."""

    def codegen(context, builder, signature, values):
        builder.store(values[1], builder.inttoptr(values[0], values[1].type.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, value), codegen


def call_python(function: int, arguments: tuple[int, ...]) -> None:
    """Call the Python function of this number."""
    _python_functions[function](*arguments)


if DISABLED:
    call = call_python

    def array_at(array: Any, shape: tuple[int, ...]) -> Any:
        """Return the array, which stands for a pointer, in this shape."""
        return array.reshape(shape)

    def address(array: Any, index: int) -> int:
        """Address of element `index` of a contiguous array, which must outlive its use."""
        return int(array.ctypes.data + index * array.itemsize)

    def store(where: int, value: Any) -> None:
        """Store a number at an address."""
        memory_view(where, value.dtype, (1,))[0] = value

    def prefetch(where: int) -> None:
        """Do nothing: it is only a hint."""

    def copy_bytes(source: int, target: int, size: int) -> None:
        """Copy so many bytes from one address to another."""
        ctypes.memmove(int(target), int(source), int(size))

    def matrix_view(vector: Any, offset: int, rows: int, columns: int) -> Any:
        """View of shape (rows, columns) on a contiguous vector from `offset` on."""
        return vector[offset : offset + rows * columns].reshape(rows, columns)


def memory_view(
    address: int, dtype: Any, shape: tuple[int, ...], strides: tuple[int, ...] | None = None
) -> Any:
    """Return the array of this shape that lies at an address, with strides in bytes or C order."""
    dtype = np.dtype(dtype)
    if strides is None:
        strides = np.empty(shape, np.bool_).strides
        strides = tuple(stride * dtype.itemsize for stride in strides)
    size = sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True)) + dtype.itemsize
    memory: Any = (ctypes.c_byte * int(max(size, dtype.itemsize))).from_address(int(address))
    flat = np.frombuffer(memory, dtype)
    return np.lib.stride_tricks.as_strided(flat, shape, strides)
