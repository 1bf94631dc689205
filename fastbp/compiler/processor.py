"""The name and features of this processor."""

import llvmlite.binding as llvm

NAME = llvm.get_host_cpu_name()
FEATURES = frozenset(name for name, present in llvm.get_host_cpu_features().items() if present)
IS_X86 = "sse2" in FEATURES
HAS_FMA = "fma" in FEATURES or not IS_X86
HAS_AVX512 = "avx512f" in FEATURES
# Intel processors with AVX-512; AMD's multiply at half the rate, load less, and divide faster.
IS_INTEL_512 = HAS_AVX512 and not NAME.startswith("znver")
