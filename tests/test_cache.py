"""The disk cache: its key, and processes that share it."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from common import run_python

from fastbp.compiler import cache
from fastbp.compiler.turn import turn

TESTS = Path(__file__).parent


def test_the_cache_key_holds_the_source_of_all_kernels(tmp_path, monkeypatch):
    """After a change to a callee in another file, stale code must not be loaded from the cache."""
    package = tmp_path / "fastbp"
    for room in ("compiler", "kernels", "matmul"):
        (package / room).mkdir(parents=True)
        (package / room / "a.py").write_text("x = 1")
    monkeypatch.setattr(cache, "__file__", str(package / "compiler" / "cache.py"))
    digest = cache.revision.__wrapped__()
    assert cache.revision.__wrapped__() == digest
    (package / "matmul" / "a.py").write_text("x = 2")
    assert cache.revision.__wrapped__() != digest


def test_the_cache_key_is_the_same_in_every_process():
    """The key once held a set, whose order differs between processes: nothing was ever found."""
    code = (
        "from fastbp.kernels.team import join, run_team; "
        "print(join._cache._extra, run_team._cache._extra)"
    )
    outputs = {run_python(code, PYTHONHASHSEED=seed).stdout for seed in ("0", "1", "2")}
    assert len(outputs) == 1
    serial, parallel = eval(outputs.pop().replace(") (", "), ("))
    assert serial != parallel


def test_processes_that_compile_at_once_do_not_mix_their_code(tmp_path, monkeypatch):
    """Both read the index before either writes; the first to write is the last to save code."""
    first, second = (cache._CacheFile(str(tmp_path), "function", "stamp") for _ in range(2))
    with monkeypatch.context() as patch:
        patch.setattr(cache._CacheFile, "_load_index", lambda self: {})
        second.save("float64", "code for float64")
        first._save_index = lambda index: None  # its index is overwritten
        first.save("float32", "code for float32")
    assert second.load("float64") == "code for float64"
    assert second.load("float32") is None


COMPILED_BY_TWO = """
import sys, time
from pathlib import Path
import numpy as np
from slow import total
folder, mine, other = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
(folder / mine).touch()
while not (folder / other).exists():
    time.sleep(0.001)
assert total(np.ones(5)) == 40 * 5
print(sum(total.stats.cache_misses.values()), sum(total.stats.cache_hits.values()))
"""


def test_of_two_processes_one_compiles(tmp_path):
    """The other process waits, and loads what the first has saved."""
    loops = "".join(f"    for i in range(len(x)):\n        s += x[i] ** {n}\n" for n in range(40))
    (tmp_path / "slow.py").write_text(
        "from fastbp.compiler.jit import kernel\n\n"
        f"@kernel\ndef total(x):\n    s = 0.0\n{loops}    return s\n"
    )
    environment = {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    with ThreadPoolExecutor(2) as pool:
        finished = pool.map(
            lambda names: run_python(COMPILED_BY_TWO, str(tmp_path), *names, **environment),
            [("a", "b"), ("b", "a")],
        )
        assert sorted(process.stdout for process in finished) == ["0 1\n", "1 0\n"]


FITTED = """
import numpy as np
from common import make_data
from fastbp import BPClassifier, BPRegressor
for kind, target in ((BPClassifier, "multiclass"), (BPRegressor, "regression")):
    X, y = make_data(target)
    for weight in (None, 0.1 + np.linspace(0, 1, len(y))):
        model = kind(hidden_layer_sizes=(300, 30), max_iter=40, tol=0, random_state=0)
        model.fit(X, y, sample_weight=weight)
        print(model.loss_curve_, model.coefs_[0].sum())
"""


def test_what_is_loaded_computes_as_what_was_compiled(tmp_path):
    """A process that compiles may hold two versions of a function, one that loads has only one."""
    environment = {
        "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path]),
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    compiled, loaded = (run_python(FITTED, **environment) for _ in range(2))
    assert "compiling" in compiled.stderr
    assert "compiling" not in loaded.stderr
    assert compiled.stdout == loaded.stdout


SAVES_NOTHING = """
import numpy as np
from fastbp.compiler import cache
from fastbp.kernels.decisions import largest_function

def fail(self, name, data):
    raise OSError("no space left on device")

cache._CacheFile._save_data = fail
largest_function("float32")
"""


def test_what_cannot_be_saved_is_compiled_all_the_same(tmp_path):
    finished = run_python(SAVES_NOTHING, NUMBA_CACHE_DIR=str(tmp_path))
    assert "compiling" in finished.stderr
    assert not list(tmp_path.rglob("*.nbc"))


def test_other_processes_are_waited_for_so_long_in_all(tmp_path, monkeypatch):
    """A process that has been stopped keeps all its locks."""
    module = sys.modules["fastbp.compiler.turn"]
    now, locked = [0.0], []

    def fail(file, byte):
        locked.append(byte)
        return False

    monkeypatch.setattr(module, "_lock", fail)
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module.time, "sleep", lambda seconds: now.append(now.pop() + seconds))
    for began in (0.0, 1000.0):  # two turns
        now[0] = began
        with turn:
            for name in ("a", "b", "c"):
                turn.lock(tmp_path / name)
        assert now[0] - began == pytest.approx(module.PATIENCE, abs=0.1)
    assert len(set(locked)) == 3
