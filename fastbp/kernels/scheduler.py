"""Calls of the system's scheduler: to let other threads run, and to get another processor.

Kernels call its functions by their addresses, which are 0 if the system has no such function.
"""

import ctypes
import os
import sys
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastbp.compiler.jit import DISABLED, call, part
from fastbp.compiler.processor import IS_X86

__all__ = ["SPINS", "affinity_addresses", "leave", "pause", "processor", "yield_address"]

SPINS = 1_000  # turns of a loop after which a waiting thread yields its processor

_WORDS = 128  # of 64 processors each, in a set of processors

_PROCESSOR, _GET, _SET = range(3)  # places in `affinity_addresses`


@cache
def yield_address() -> int:
    """Return the address of the system's function that lets other threads run, or 0."""
    if os.name == "posix":
        return _addresses(None, "sched_yield")[0]
    return _addresses("kernel32", "SwitchToThread")[0]


@cache
def affinity_addresses() -> Any:
    """Return the addresses of Linux's functions for processor affinity, for `leave`, or zeros."""
    names = "sched_getcpu", "sched_getaffinity", "sched_setaffinity"
    addresses = _addresses(None, *names) if sys.platform == "linux" else [0, 0, 0]
    return np.array(addresses if all(addresses) else [0, 0, 0])


def _addresses(library: str | None, *names: str) -> list[int]:
    try:
        loaded = ctypes.CDLL(library)
        return [ctypes.cast(getattr(loaded, name), ctypes.c_void_p).value or 0 for name in names]
    except (OSError, AttributeError):
        return [0] * len(names)


@part
def pause(turns, yield_function):
    """Wait for a moment, after SPINS turns by letting others run; return ``turns + 1``."""
    _relax()
    if turns >= SPINS and yield_function != 0:
        call(yield_function, (0,))
    return turns + 1


@part
def processor(functions):
    """The number of the processor that the calling thread is on, -1 if it is unknown."""
    return _get_processor(functions[_PROCESSOR]) if functions[_PROCESSOR] != 0 else -1


@part
def leave(functions, number):
    """Move the calling thread off a processor, if it may run elsewhere; it may return later.

    In a virtual machine Linux may wake a thread on its waker's processor although another is idle,
    which it seems to take for one that the host has taken away, and leave both there for 10 ms.
    """
    _leave(functions[_GET], functions[_SET], number)


@intrinsic
def _get_processor(typing_context, function):
    def codegen(context, builder, signature, values):
        kind = ir.FunctionType(ir.IntType(32), []).as_pointer()
        return builder.sext(builder.call(builder.inttoptr(values[0], kind), []), ir.IntType(64))

    return types.int64(types.int64), codegen


@intrinsic
def _leave(typing_context, getter, setter, number):
    """If there is no other processor, setting the affinity fails and nothing changes."""

    def codegen(context, builder, signature, values):
        getter, setter, number = values
        i32, i64 = ir.IntType(32), ir.IntType(64)
        allowed = cgutils.alloca_once(builder, i64, _WORDS)
        kind = ir.FunctionType(i32, [i32, i64, allowed.type]).as_pointer()
        of_this_thread = i32(0), i64(8 * _WORDS), allowed
        failed = builder.call(builder.inttoptr(getter, kind), of_this_thread)
        with builder.if_then(builder.icmp_signed("==", failed, i32(0))):
            word = builder.gep(allowed, [builder.lshr(number, i64(6))])
            bit = builder.shl(i64(1), builder.and_(number, i64(63)))
            for _ in range(2):  # without the processor, then with it again
                builder.store(builder.xor(builder.load(word), bit), word)
                builder.call(builder.inttoptr(setter, kind), of_this_thread)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def _relax(typing_context):
    """Tell the processor that this is a waiting loop."""

    def codegen(context, builder, signature, values):
        if IS_X86:
            kind = ir.FunctionType(ir.VoidType(), [])
            name = "llvm.x86.sse2.pause"
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])
        return context.get_dummy_value()

    return types.void(), codegen


def _do_nothing():
    pass


if DISABLED:
    _relax = _do_nothing
