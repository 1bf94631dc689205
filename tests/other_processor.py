"""Run tests as on a processor of other features: ``python other_processor.py sse2,fma tests...``.

What is compiled so must go to a cache of its own, and without helpers, which see the real one.
"""

import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

NAME = "fastbp.compiler.processor"


def pretend(features):
    """Let all that is imported from here on be made for such a processor."""
    place = Path(find_spec("fastbp").origin).parent / "compiler" / "processor.py"
    spec = spec_from_file_location(NAME, place)
    processor = module_from_spec(spec)
    spec.loader.exec_module(processor)
    processor.FEATURES = frozenset(features)
    processor.HAS_FMA = "fma" in features
    processor.HAS_AVX512 = processor.IS_INTEL_512 = False
    sys.modules[NAME] = processor


if __name__ == "__main__":
    pretend(sys.argv[1].split(","))
    sys.exit(pytest.main(sys.argv[2:]))
