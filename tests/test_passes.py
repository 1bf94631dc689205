"""What LLVM's passes do to fastbp's functions, and to others."""

import re
from contextlib import nullcontext

import numba

from fastbp.compiler import passes
from fastbp.compiler.processor import HAS_AVX512, IS_X86
from fastbp.compiler.turn import turn
from fastbp.matmul.nonzeros import multiply_nonzeros
from fastbp.matmul.product import multiply
from fastbp.matmul.tile import VECTOR_BYTES


def test_others_functions_are_compiled_as_ever():
    codegen = passes.cpu_target.target_context.codegen()
    whole, machine = codegen._function_pass_manager, codegen._tm  # Numba's attributes
    with turn, turn:
        assert codegen._function_pass_manager != whole
        assert (codegen._tm is machine) == (not HAS_AVX512)
    assert codegen._function_pass_manager == whole
    assert codegen._tm is machine


def multiplies_by_vectors(chosen):
    @numba.njit(error_model="numpy")
    def triple(x):
        for i in range(x.size):
            x[i] *= 3

    with turn, chosen:
        triple.compile((numba.float32[::1],))
    vectors = {64: r"mulps.*%zmm", 32: r"mulps.*%ymm", 16: r"mulps.*%xmm"}
    product = vectors[VECTOR_BYTES] if IS_X86 else r"fmul\s+v\d+\.4s"
    return bool(re.search(product, triple.inspect_asm(triple.signatures[0])))


def test_loops_are_of_the_longest_vectors():
    assert multiplies_by_vectors(nullcontext())


def test_what_is_optimised_already_is_only_tidied():
    whole = passes.cpu_target.target_context.codegen()._module_pass_manager
    assert not multiplies_by_vectors(passes._few_passes())
    assert passes.cpu_target.target_context.codegen()._module_pass_manager == whole
    assert passes._passes.keys() >= {multiply, multiply_nonzeros}
