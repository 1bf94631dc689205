"""The LLVM optimisation passes for the code compiled here.

Numba has LLVM optimise each function three times: alone, then twice with everything linked in.
Here the first round is left out: the code is as fast, and ready sooner. `optimised_alone` marks
functions that need it, and `optimised_already` those that need fewer passes. Loops use the longest
vectors that the processor has.
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

TIDYING = (  # the passes for code that is already optimised, by LLVM's names
    *("always_inliner", "sroa", "simplify_cfg", "instruction_combine", "new_gvn"),
    *("loop_rotate", "simplify_cfg", "instruction_combine"),
    "global_dead_code_eliminate",  # Numba does not cache code in which its dynamic globals are left
)

_passes: dict[Callable[..., Any], Callable[[], AbstractContextManager[None]]] = {}


@contextmanager
def our_passes() -> Iterator[None]:
    """Make Numba use the passes of this module; restore its own for other code on leaving."""
    codegen, longest = vars(_codegen()), _with_longest_vectors()
    target_machine, codegen["_tm"] = codegen["_tm"], longest
    codegen["_function_pass_manager"] = lambda: (_NoPasses(), None)
    try:
        yield
    finally:
        del codegen["_function_pass_manager"]
        codegen["_tm"] = target_machine


def passes_of(function: Callable[..., Any]) -> AbstractContextManager[None]:
    """Return the context, within `our_passes`, in which to compile this function."""
    return _passes.get(function, nullcontext)()


def optimised_alone(function: Callable[..., Any]) -> Callable[..., Any]:
    """Have LLVM also optimise a C function alone, before linking.

    A loop of constant length is then unrolled in time for the loop around it to be vectorised.
    """
    _passes[function] = _all_passes
    return function


def optimised_already(function: Callable[..., Any]) -> Callable[..., Any]:
    """Have LLVM only tidy a C function whose loops are already emitted as vector instructions."""
    _passes[function] = _few_passes
    return function


class _NoPasses:
    """A pass manager without passes, in place of LLVM's."""

    def run(self, code: Any, builder: Any) -> None:
        """Leave the code as it is."""


def _codegen() -> Any:
    return cpu_target.target_context.codegen()


@cache
def _with_longest_vectors() -> Any:
    """Return the target to compile for; by default LLVM avoids 512-bit vectors on Intel's."""
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
    """Return no passes for Numba's first round over the linked code, TIDYING for the second."""
    if cost == "cheap":
        return _NoPasses(), None
    passes = llvm.create_new_module_pass_manager()
    for name in TIDYING:
        getattr(passes, f"add_{name}_pass")()
    return passes, _codegen()._pass_builder()
