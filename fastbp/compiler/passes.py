"""How LLVM optimises what is compiled here.

Numba has LLVM go through each function three times: alone, then twice with all that is linked in.
Here the first is left out: the code is as fast, and there sooner; `optimised_alone` says where it
is not, and `optimised_already` where there is less to do. And loops are made of the longest vectors
that the processor has.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numba
from numba.core.registry import cpu_target

from fastbp.compiler.processor import HAS_AVX512

__all__ = ["optimised_alone", "optimised_already", "our_passes", "passes_of"]

TIDYING = (  # of code that is optimised already; LLVM's names
    *("always_inliner", "sroa", "simplify_cfg", "instruction_combine", "new_gvn"),
    *("loop_rotate", "simplify_cfg", "instruction_combine"),
    "global_dead_code_eliminate",  # Numba would not cache code with globals of its own left in it
)

_passes: dict[Callable[..., Any], Callable[[], AbstractContextManager[None]]] = {}


@contextmanager
def our_passes() -> Iterator[None]:
    """Set Numba to the passes of this room, and back: what others compile is compiled as ever."""
    codegen, longest = vars(_codegen()), _with_longest_vectors()
    target_machine, codegen["_tm"] = codegen["_tm"], longest
    codegen["_function_pass_manager"] = lambda: (_NoPasses(), None)
    try:
        yield
    finally:
        del codegen["_function_pass_manager"]
        codegen["_tm"] = target_machine


def passes_of(function: Callable[..., Any]) -> AbstractContextManager[None]:
    """Return what is to be entered, within `our_passes`, while this function is compiled."""
    return _passes.get(function, nullcontext)()


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
