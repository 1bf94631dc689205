"""Processes that help to compile."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numba
import pytest
from common import run_python, wait_until

from fastbp.compiler import helpers
from fastbp.compiler.helpers import compile_together
from fastbp.compiler.turn import turn

TESTS = Path(__file__).parent

# Functions that take some tenths of a second each to compile, and a function that compiles one.
SLOW = """
import time
from pathlib import Path
import numba
from numba import types
from fastbp.compiler.jit import c_function

def compile_one(number):
    return c_function(globals()[f"f{number}"], types.CPointer(types.float64), types.int64)

def wait_for_help():
    until = time.monotonic() + 60
    while len(list(Path(numba.config.CACHE_DIR).rglob("*.nbc"))) < 2:
        assert time.monotonic() < until
        time.sleep(0.01)
"""
LOOPS = "".join(
    f"    for i in range(n):\n        s += x[i] ** {power} / (i + 1)\n" for power in range(12)
)
N_FUNCTIONS = 6
SLOW += "".join(
    f"\ndef f{number}(x, n):\n    s = {number}.0\n{LOOPS}    x[0] = s\n"
    for number in range(N_FUNCTIONS)
)
# Its arguments: the number of processors, and what to do once something is compiled.
COMPILED = """
import ctypes, sys
from functools import partial
import numpy as np
from fastbp.compiler import helpers
from fastbp.compiler.turn import turn
from slow import compile_one, wait_for_help

helpers._count_processors = lambda: int(sys.argv[1])
tasks = [partial(compile_one, i) for i in range(6)]
tasks.insert(1, wait_for_help if sys.argv[2] == "wait" else int)
addresses = helpers.compile_together(tasks)
del addresses[1]
values = []
for address in addresses:
    x = np.ones(1)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(address)(x.ctypes.data, 1)
    values.append(float(x[0]))
print(values == [12.0 + i for i in range(6)], turn.n_compiled)
"""


@pytest.fixture
def environment(tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    return {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
        "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
    }


def compile_all(environment, processors, then="nothing", before=""):
    """Return whether the functions are right, and how many the process compiled itself."""
    right, n_compiled = run_python(
        before + COMPILED, str(processors), then, **environment
    ).stdout.split()
    return right == "True", int(n_compiled)


def test_a_helper_compiles_some_of_it(environment):
    """The process loads what the helper has compiled; the next process loads everything."""
    right, n_compiled = compile_all(environment, 2, "wait")
    assert right
    assert 0 < n_compiled < N_FUNCTIONS
    assert compile_all(environment, 2) == (True, 0)


def test_without_a_processor_for_it_there_is_none(environment):
    assert compile_all(environment, 1) == (True, N_FUNCTIONS)


@pytest.mark.parametrize("executable", ["/nowhere/python", "/bin/false", "", None])
def test_without_one_that_works_all_is_compiled(environment, executable):
    before = f"import sys\nsys.executable = {executable!r}\n"
    assert compile_all(environment, 2, before=before) == (True, N_FUNCTIONS)


@pytest.fixture
def started(monkeypatch):
    """Record the tasks of the helpers that are started."""
    tasks_of = []

    class Helper:
        def kill(self):
            tasks_of.append("killed")

        def communicate(self):
            tasks_of.append("ended")

    def start(tasks, helpers):
        tasks_of.append(list(tasks))
        helpers.append(Helper())

    monkeypatch.setattr(helpers, "_start_helpers", start)
    monkeypatch.setattr(turn, "n_compiled", turn.n_compiled)
    monkeypatch.setattr(turn, "n_waits", turn.n_waits)
    return tasks_of


def compiling():
    turn.n_compiled += 1


def test_helpers_get_what_is_left_once_something_is_in_no_cache(started):
    after = [int, compiling, str]
    assert compile_together([int, int, compiling, *after]) == [0, 0, None, 0, None, ""]
    assert started == [after, "killed", "ended"]


def test_where_all_is_there_nothing_is_started(started):
    assert compile_together([int, str]) == [0, ""]
    assert started == []


def test_where_another_process_compiles_nothing_is_started(started):
    def wait():
        turn.n_waits += 1

    compile_together([wait, compiling, compiling])
    assert started == []


def test_helpers_end_with_an_error(started):
    with pytest.raises(ZeroDivisionError):
        compile_together([compiling, lambda: 1 / 0])
    assert started[1:] == ["killed", "ended"]


def test_an_application_in_one_file_is_not_started_again(started, monkeypatch):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    compile_together([compiling, compiling])
    assert started == []


def test_of_those_that_could_not_all_be_started_none_is_left(started, monkeypatch):
    start = helpers._start_helpers

    def start_one(tasks, some):
        start(tasks, some)
        raise pickle.PicklingError

    monkeypatch.setattr(helpers, "_start_helpers", start_one)
    assert compile_together([compiling, compiling, int]) == [None, None, 0]
    assert started == [[compiling, int], "killed", "ended"]  # it is not tried again


@pytest.mark.parametrize(
    ("processors", "n_tasks", "n_helpers"),
    [(1, 100, 0), (2, 2, 0), (2, 3, 1), (2, 100, 1), (3, 5, 1), (3, 6, 2), (64, 100, 3)],
)
def test_each_helper_has_all_tasks_and_a_place_of_its_own(
    monkeypatch, processors, n_tasks, n_helpers
):
    given = []

    class Pipe:
        def write(self, data):
            given.append(pickle.loads(pickle.loads(data)[2]))

        def flush(self):
            pass

    class Popen:
        def __init__(self, *_, **options):
            assert options["start_new_session"]
            self.stdin = Pipe()

    monkeypatch.setattr(helpers, "_count_processors", lambda: processors)
    monkeypatch.setattr(helpers.subprocess, "Popen", Popen)
    begun = []
    helpers._start_helpers(range(n_tasks), begun)
    assert len(begun) == len(given) == n_helpers
    assert all(sorted(share) == list(range(n_tasks)) for share in given)
    assert len({share[0] for share in given}) == n_helpers
    assert all(share == list(range(n_tasks))[::-1] for share in given[:1])


def test_workers_are_told_by_numbas_setting(monkeypatch):
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 1)
    assert helpers._count_processors() == 1


def started_in(folder, monkeypatch, task):
    """Start a helper in a folder of Python files."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(helpers, "_count_processors", lambda: 2)
    begun = []
    helpers._start_helpers([task] * 3, begun)
    (helper,) = begun
    return helper


def test_a_helper_that_has_done_all_ends_well(tmp_path, monkeypatch):
    """It still waits for its input to end; there it once missed a buffer's lock, and aborted."""
    helper = started_in(tmp_path, monkeypatch, os.getpid)
    assert helper.wait(60) == 0
    helper.communicate()


def test_a_helper_imports_nothing_from_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "_compat_pickle.py").write_text("open('imported', 'w')\nraise SystemExit(7)\n")
    helper = started_in(tmp_path, monkeypatch, os.getpid)
    assert helper.wait(60) == 0
    helper.communicate()
    assert not (tmp_path / "imported").exists()


def test_helpers_compile_into_the_cache_of_the_program(environment):
    """Also if the program has set the folder of the cache itself."""
    folder = environment.pop("NUMBA_CACHE_DIR")
    before = f"import numba\nnumba.config.CACHE_DIR = {folder!r}\n"
    right, n_compiled = compile_all(environment, 2, "wait", before)
    assert right
    assert n_compiled < N_FUNCTIONS


LEFT = """
import pickle, sys, time
from pathlib import Path
from fastbp.compiler import helpers
from patient import wait
helpers._count_processors = lambda: 2
begun = []
helpers._start_helpers([wait] * 3, begun)
helper, = begun
print(helper.pid, flush=True)
time.sleep(60)
"""


def test_a_helper_goes_with_the_process_that_started_it(tmp_path):
    begun = tmp_path / "begun"
    (tmp_path / "patient.py").write_text(
        "import time\nfrom pathlib import Path\n"
        f"def wait():\n    Path({str(begun)!r}).touch()\n    time.sleep(60)\n"
    )
    asking = subprocess.Popen(
        [sys.executable, "-c", LEFT],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        stdout=subprocess.PIPE,
    )
    helper = int(asking.stdout.readline())
    wait_until(begun.exists)
    asking.kill()
    asking.communicate()
    wait_until(lambda: not is_running(helper))


def is_running(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat")
    return not (state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] == "Z")
