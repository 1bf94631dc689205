"""Run tests as if on another processor: ``python other_processor.py sse2,fma tests...``.

The compiled code must go to a cache of its own, without helpers, which see the real processor.
"""

import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

NAME = "fastbp.compiler.processor"


def pretend(features):
    """Make everything imported from here on compile for a processor with these features."""
    place = Path(find_spec("fastbp").origin).parent / "compiler" / "processor.py"
    spec = spec_from_file_location(NAME, place)
    processor = module_from_spec(spec)
    spec.loader.exec_module(processor)
    processor.FEATURES = frozenset(features)
    processor.IS_X86 = "sse2" in features
    processor.HAS_FMA = "fma" in features or not processor.IS_X86
    processor.HAS_AVX512 = processor.IS_INTEL_512 = False
    sys.modules[NAME] = processor


if __name__ == "__main__":
    pretend(sys.argv[1].split(","))
    sys.exit(pytest.main(sys.argv[2:]))
