"""What test_concurrency.py runs in separate processes: fits in threads, forks and workers.

Threads are started even for the least work here, so that small networks meet every hazard.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, suppress

import joblib
import numpy as np
from joblib import Parallel, delayed, parallel_config
from numba.core.compiler_lock import global_compiler_lock
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import BaggingClassifier, StackingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    cross_val_score,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.utils import check_random_state
from threadpoolctl import threadpool_info

import fastbp.model_selection
from fastbp import BPClassifier, blas_limit, cancellation, pace, prediction, show_config, threads
from fastbp.kernels.team import run_team
from fastbp.training import engine

warnings.simplefilter("ignore")
threads.LEAST_WORK, engine.ASKED_PATIENCE = 0, 0.0
pace.Pace.CALL_SECONDS, pace.Pace.LEAST_SECONDS = 1e-3, 0.0

rng = np.random.default_rng(0)
X, y = rng.normal(size=(600, 30)), rng.integers(0, 3, 600)
ROWS = (1, 7, 16, 17, 255, 256, 257, 600)  # on both sides of sizes with memory of their own
GRID = {"alpha": [1e-4, 1e-2], "activation": ["relu", "tanh"]}
LONGEST = 60  # seconds before a forked child is killed


def network(**parameters):
    return BPClassifier(**{"max_iter": 5, "random_state": 0, **parameters})


def fit(n_jobs=2, dtype="float64"):
    """Return a hash of a fit's weights and predictions."""
    model = network(n_jobs=n_jobs, dtype=dtype).fit(X, y)
    return joblib.hash((model.coefs_, model.intercepts_, model.predict_proba(X)))


def fit_in_threads(n_jobs=(2, None, 64, 1)):
    with ThreadPoolExecutor(len(n_jobs)) as pool:
        return list(pool.map(fit, n_jobs))


def search(module=fastbp.model_selection, n_jobs=2):
    found = module.GridSearchCV(network(n_jobs=2), GRID, cv=3, n_jobs=n_jobs).fit(X, y)
    return joblib.hash((found.cv_results_["mean_test_score"], found.best_estimator_.coefs_))


def in_child(function):
    """Fork, and check that the function returns something true in the child."""
    child = os.fork()
    if child == 0:
        signal.alarm(LONGEST)
        try:
            code = 0 if function() else 3
        except BaseException:
            traceback.print_exc()
            code = 4
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == 0, code


@contextmanager
def busy(function):
    """Run a function of an event in a thread; it must return once the event is set."""
    stop = threading.Event()
    thread = threading.Thread(target=function, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def check_layer():
    """Check that the requested threading layer is in use; called after all scenarios."""
    layer = show_config(as_dict=True)["threading layer"]
    assert layer == os.environ["NUMBA_THREADING_LAYER"], layer


# Scenarios --------------------------------------------------------------------------------------


def fits_at_once():
    """Fit in threads from the first call on, so that all threads load the kernels at once."""
    models = fit_in_threads((2, None, 2, None, 2, None, 64, 64))
    assert run_team.overloads, "no threads were started"
    assert set(models) == {fit(1)}
    assert {fit(2), fit(64), fit(None)} == {models[0]}


def predictions_at_once():
    model = network(n_jobs=2).fit(X, y)
    expected = {rows: network(n_jobs=1).fit(X, y).predict_proba(X[:rows]) for rows in ROWS}

    def predict(i):
        rows = ROWS[i % len(ROWS)]
        return np.array_equal(model.predict_proba(X[:rows]), expected[rows])

    def fit_others(stop):
        while not stop.is_set():
            network(n_jobs=2, max_iter=3, random_state=1).fit(X, y)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(predict, range(256)))
        with busy(fit_others):
            assert all(pool.map(predict, range(256)))


def fork_before_threads():
    """Fork after fits on one thread only; Numba's layer may have been started all the same."""
    expected = fit(1)
    in_child(lambda: fit(2) == expected)
    assert threads.count_workers(-1) == 2
    in_child(lambda: fit(2) == expected)
    in_child(lambda: show_config(as_dict=True)["threads"] == 2)


def fork_after_threads():
    """Children fit, also on threads of their own, and search; so do their children."""
    expected, found = fit(2), search()
    in_child(lambda: set(fit_in_threads()) == {expected})
    in_child(lambda: search() == found)
    in_child(lambda: in_child(lambda: fit(2) == expected) is None)


def fork_amid_fits():
    """Fork during fits with NumPy's global generator, whose lock is held for whole calls."""
    expected = fit(2)
    pace.Pace.CALL_SECONDS = 0.1

    def fit_on(stop):
        with cancellation.cancelled_by(stop), suppress(cancellation.Cancelled):
            endless.fit(X, y)

    endless = network(max_iter=10**6, n_iter_no_change=np.inf, random_state=None, n_jobs=2)
    with busy(fit_on):
        for _ in range(3):
            time.sleep(0.25)
            in_child(lambda: check_random_state(None).uniform() < 1 and fit(2) == expected)
            in_child(lambda: network(random_state=None).fit(X, y).n_iter_ == 5)


def fork_amid_locks():
    """Fork while another thread holds each of the process's locks in turn."""
    expected, others = fit(2), []

    def hold(lock, held):
        with lock:
            held.set()
            time.sleep(0.3)

    for lock in (
        engine._pool._lock,
        prediction._pool._lock,
        threads._one_at_a_time,
        blas_limit._lock,
        global_compiler_lock,
    ):
        held = threading.Event()
        others.append(threading.Thread(target=hold, args=(lock, held)))
        others[-1].start()
        held.wait()
        # float32 is new to the process: its kernels must still be loaded
        in_child(lambda: fit(2) == expected and fit(2, "float32") and use_blas())
        others[-1].join()
    assert fit(2) == expected


def fork_amid_blas():
    """A BLAS limit set by a fit in the parent is lifted by the first fit in the child."""
    before = count_blas_threads()

    def limit(stop):
        with blas_limit.single_threaded_blas():
            inside.set()
            stop.wait()

    inside = threading.Event()
    with busy(limit):
        inside.wait()
        assert set(count_blas_threads()) == {1}
        in_child(lambda: use_blas() and count_blas_threads() == before)
    assert count_blas_threads() == before


def use_blas():
    with blas_limit.single_threaded_blas():
        return set(count_blas_threads()) == {1}


def count_blas_threads():
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def workers():
    """Fit in a thread pool inside a worker process, for every start method."""
    for method in multiprocessing.get_all_start_methods():  # before this process uses threads
        with multiprocessing.get_context(method).Pool(1) as pool:
            assert pool.apply(threads.choose_threads, (None, 1e9)) == 1, method
            assert pool.apply(threads.count_workers, (None,)) == 1, method
    expected = fit(2)
    for method in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context(method)
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            assert set(pool.submit(fit_in_threads).result()) == {expected}, method
            assert pool.submit(fit).result() == expected, method


def nested_pools():
    expected, found = fit(2), search()
    both = Parallel(n_jobs=2, backend="loky")(delayed(fit_in_threads)() for _ in range(2))
    assert set(both[0] + both[1]) == {expected}
    both = Parallel(n_jobs=2, backend="loky")(delayed(search)() for _ in range(2))
    assert set(both) == {found}

    def fit_by_joblib(n_jobs):
        return Parallel(n_jobs=2, backend="threading")(delayed(fit)(n_jobs) for _ in range(2))

    with ThreadPoolExecutor(4) as pool:
        for models in pool.map(fit_by_joblib, (2, None, 2, 64)):
            assert set(models) == {expected}


def searches_at_once():
    expected = search(sys.modules["sklearn.model_selection"])
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda n_jobs: search(n_jobs=n_jobs), (2, 64, None, -1))) == {expected}


# scikit-learn's own searches --------------------------------------------------------------------


def scaled():
    columns = make_column_transformer((StandardScaler(), [0, 1]), (MinMaxScaler(), [2, 3]))
    return make_pipeline(columns, network(max_iter=3))


def of_grid(n_jobs):
    return GridSearchCV(scaled(), {"bpclassifier__alpha": [1e-4, 1.0]}, cv=2, n_jobs=n_jobs)


def of_random(n_jobs):
    grid = {"alpha": [1e-4, 1.0]}
    return RandomizedSearchCV(network(), grid, n_iter=2, cv=2, random_state=0, n_jobs=n_jobs)


def of_halving(n_jobs):
    grid = {"alpha": [1e-4, 1e-2, 1.0]}
    return HalvingGridSearchCV(network(), grid, cv=2, random_state=0, n_jobs=n_jobs)


def of_calibration(n_jobs):
    return CalibratedClassifierCV(network(), cv=2, n_jobs=n_jobs)


def of_bagging(n_jobs):
    return BaggingClassifier(network(), 3, random_state=0, n_jobs=n_jobs)


def of_stacking(n_jobs):
    models = [("a", network()), ("b", network(activation="tanh"))]
    return StackingClassifier(models, network(), cv=2, n_jobs=n_jobs)


def of_one_against_rest(n_jobs):
    return OneVsRestClassifier(network(), n_jobs=n_jobs)


def of_folds(n_jobs):
    return cross_val_score(scaled(), X, y, cv=2, n_jobs=n_jobs).tolist()


def results_of(make, n_jobs):
    made = make(n_jobs)
    if not hasattr(made, "fit"):
        return made
    return made.fit(X, y).predict_proba(X[:50]).tolist()


def stock():
    """scikit-learn's searches and ensembles give the same results on every backend as on none."""
    makers = (
        of_grid, of_random, of_halving, of_calibration, of_bagging, of_stacking,
        of_one_against_rest, of_folds,
    )  # fmt: skip
    expected = {make: results_of(make, n_jobs=1) for make in makers}
    for backend, n_jobs in (
        ("loky", 2), ("loky", -1), ("threading", 2), ("threading", -1),
        ("multiprocessing", 2), ("multiprocessing", -1),
    ):  # fmt: skip
        with parallel_config(backend=backend):
            for make, result in expected.items():
                # only loky can pickle what scikit-learn's calibration sends to workers
                if make is not of_calibration or backend != "multiprocessing":
                    assert results_of(make, n_jobs) == result, (backend, n_jobs, make)
    with parallel_config(backend="loky", n_jobs=-1):  # so that n_jobs=None means these workers
        assert results_of(of_grid, None) == expected[of_grid]


def fit_shared(X, y):
    """Fit on an X that joblib has memory-mapped, and return whether it was read in place."""
    assert isinstance(X, np.memmap)
    assert not X.flags.writeable
    read = []
    original = engine.Engine.__init__

    def spy(self, weights, names, loss, samples, *args, **kwargs):
        read.append(samples.X)
        original(self, weights, names, loss, samples, *args, **kwargs)

    engine.Engine.__init__ = spy
    try:
        model = network(max_iter=2).fit(X, y)
    finally:
        engine.Engine.__init__ = original
    (mine,) = read
    return joblib.hash(model.coefs_), np.shares_memory(mine, X)


def shared_memory():
    large, classes = rng.normal(size=(5000, 30)), rng.integers(0, 3, 5000)
    assert large.nbytes > 1 << 20
    expected = joblib.hash(network(max_iter=2).fit(large, classes).coefs_)
    for backend in ("loky", "multiprocessing"):
        parallel = Parallel(n_jobs=2, backend=backend)
        results = parallel(delayed(fit_shared)(large, classes) for _ in range(2))
        assert results == [(expected, True)] * 2, backend
