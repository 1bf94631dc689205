"""What this processor has, and what it is slow at."""

import llvmlite.binding as llvm

NAME = llvm.get_host_cpu_name()
FEATURES = frozenset(name for name, present in llvm.get_host_cpu_features().items() if present)
IS_X86 = "sse2" in FEATURES
HAS_AVX512 = "avx512f" in FEATURES
# A vector of float64 is divided, on Intel's, in the time of 32 multiply-adds of vectors, and its
# square roots take that of 46. Zen 4 multiplies at half that rate, and divides sooner.
DIVIDES_SLOWLY = HAS_AVX512 and not NAME.startswith("znver")
