"""Searches on processes and clusters, whose workers may die, against scikit-learn's.

The workers are processes of this machine.
"""

import importlib
import os
import secrets
import signal
import sys
import threading
import time
import warnings
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import dask
import numpy as np
import pytest
from common import wait_until
from distributed import Client, LocalCluster
from joblib import parallel_config
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import _ExecutorManagerThread
from joblib.parallel import get_active_backend
from searches import (
    CANDIDATES,
    CLASSIFIER,
    EPOCHS_GOING_ON,
    OURS,
    STOCK,
    assert_same,
    counting_epochs,
    halving_search,
    scaled,
)
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

from fastbp import BPClassifier
from fastbp.model_selection import backend, batches, cluster

pytestmark = [
    pytest.mark.skipif(
        os.name != "posix", reason="workers are killed by SIGKILL, which Windows does not have"
    ),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite"),
]

GRID = {"alpha": [0.1, 1.0, 10.0, 100.0], "hidden_layer_sizes": [(5,), (8,)]}
PATIENCE = 60  # seconds, for what takes one or two
NOTHING_YET = SimpleNamespace(n_done=0)


@pytest.fixture(scope="module")
def client():
    manager = "distributed.scheduler.active-memory-manager.interval"  # how often copies are dropped
    with (
        dask.config.set({manager: "5ms"}),
        start_workers() as cluster,
        Client(cluster) as client,
    ):
        yield client


def start_workers():
    return LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
    )


@pytest.fixture(scope="module")
def ray():
    """Ray with two workers, on the loopback interface, as on systems without Ray clusters."""
    settings = {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        ray = pytest.importorskip("ray")
        importlib.import_module("ray.util.joblib").register_ray()
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield ray
        ray.shutdown()


@pytest.fixture(params=["dask", "loky", "ray"])
def workers(request):
    """Two workers of one kind of backend."""
    if request.param == "dask":
        request.getfixturevalue("client").wait_for_workers(2, timeout=PATIENCE)
    if request.param == "ray":
        request.getfixturevalue("ray")
    with parallel_config(backend=request.param, n_jobs=2):
        yield request.param


@pytest.fixture
def log(tmp_path):
    """A file that workers append lines to."""
    path = tmp_path / "log"
    path.touch()
    return path


def write(log, line):
    with log.open("a") as file:
        file.write(f"{line}\n")


def digits():
    X, y = load_digits(return_X_y=True)
    return X[:300], y[:300]


def accuracy(model, X, y):
    return float(np.mean(model.predict(X) == y))


def assert_as_in_scikit_learn(search, X, y):
    """Check that a search of ours gives the results of scikit-learn's in this process."""
    stock = getattr(STOCK, type(search).__name__)(**search.get_params(deep=False))
    if callable(stock.scoring):
        stock.scoring = accuracy
    with parallel_config(backend="sequential"):
        stock.fit(X, y)
    assert_same(search.cv_results_, stock.cv_results_)


class Counted:
    """A table that records when it is pickled."""

    def __init__(self, values, log):
        self.values, self.log = values, log
        self.shape = values.shape

    def __len__(self):
        return len(self.values)

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype)

    def __getitem__(self, rows):
        return self.values[rows]

    def __reduce__(self):
        write(self.log, os.getpid())
        return Counted, (self.values, self.log)


@pytest.mark.parametrize("prefix", ["", "net__"])
@pytest.mark.parametrize(("cluster", "backend"), [("client", "dask"), ("ray", "ray")])
def test_the_same_results_and_x_is_sent_to_a_worker_once(cluster, backend, log, prefix, request):
    request.getfixturevalue(cluster)
    X, y = digits()
    model = scaled(CLASSIFIER) if prefix else CLASSIFIER
    grid = {prefix + name: values for name, values in GRID.items()}
    for search in (
        OURS.GridSearchCV(model, grid, cv=3, refit=False),
        halving_search(OURS, prefix),
    ):
        log.write_text("")
        with parallel_config(backend=backend):
            search.fit(Counted(X, log), y)
        assert 1 <= len(log.read_text().split()) <= 2
        assert_as_in_scikit_learn(search, X, y)


def count_files(folder, model, X, y):
    return float(len(list(Path(folder).rglob("*.pkl"))))


def test_x_is_written_once_for_all_processes(tmp_path):
    X, y = np.tile(digits()[0], (8, 1)), np.tile(digits()[1], 8)
    assert X.nbytes > 1e6
    search = OURS.GridSearchCV(
        CLASSIFIER, GRID, cv=2, refit=False, scoring=partial(count_files, tmp_path)
    )
    get_reusable_executor().shutdown()  # an existing executor would keep its own folder
    with parallel_config(backend="loky", n_jobs=2, temp_folder=str(tmp_path)):
        search.fit(X, y)
    assert set(search.cv_results_["mean_test_score"]) == {1.0}
    search.set_params(scoring=None)
    with parallel_config(backend="loky", n_jobs=2):
        search.fit(X, y)
    assert_as_in_scikit_learn(search, X, y)


def score_or_die(log, model, X, y):
    """Return the accuracy; after ten calls, kill one worker that asks for it."""
    write(log, os.getpid())
    if len(log.read_text().split()) >= 10:
        with suppress(FileExistsError):
            log.with_name("killed").touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)
    return accuracy(model, X, y)


def test_a_worker_that_dies_takes_only_its_batches_along(workers, log):
    X, y = digits()
    scoring = partial(score_or_die, log)
    search = OURS.GridSearchCV(CLASSIFIER, GRID, cv=5, refit=False, scoring=scoring).fit(X, y)
    n_scores, n_fits = len(log.read_text().split()), 5 * 8
    assert n_fits < n_scores < 2 * n_fits
    assert_as_in_scikit_learn(search, X, y)


def score_here_only(pid, model, X, y):
    if os.getpid() != pid:
        os.kill(os.getpid(), signal.SIGKILL)
    return accuracy(model, X, y)


def test_what_kills_all_workers_is_done_here():
    X, y = digits()
    scoring = partial(score_here_only, os.getpid())
    search = OURS.GridSearchCV(CLASSIFIER, {"alpha": [1.0]}, cv=2, refit=False, scoring=scoring)
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        start_workers() as cluster,
        Client(cluster),
        parallel_config(backend="dask"),
        pytest.warns(RuntimeWarning, match="2 fits were lost"),
    ):
        search.fit(X, y)
    assert_as_in_scikit_learn(search, X, y)


def fail(error, model, X, y):
    raise error("no score")


@pytest.mark.parametrize("error", [ZeroDivisionError, FileNotFoundError])
def test_an_error_is_raised_as_anywhere(workers, error):
    X, y = digits()
    scoring = partial(fail, error)
    search = OURS.GridSearchCV(CLASSIFIER, GRID, cv=2, scoring=scoring, error_score="raise")
    with pytest.raises(error, match="no score") as caught:  # and no warning about lost fits
        search.fit(X, y)
    assert "in fail" in "".join(caught.value.__notes__)  # the traceback shows where it was raised


def test_an_error_does_not_stop_processes_while_a_batch_is_handed_out(monkeypatch):
    """Otherwise a thread of loky's does not find that batch, and pytest reports its error."""
    is_shutting_down = _ExecutorManagerThread.is_shutting_down

    def look_later(thread):  # the thread has just handed out a batch
        time.sleep(0.05)
        return is_shutting_down(thread)

    monkeypatch.setattr(_ExecutorManagerThread, "is_shutting_down", look_later)
    X, y = digits()
    scoring = partial(fail, ZeroDivisionError)
    search = OURS.GridSearchCV(CLASSIFIER, GRID, cv=2, scoring=scoring, error_score="raise")
    with (
        parallel_config(backend="loky", n_jobs=2),
        pytest.raises(ZeroDivisionError, match="no score"),
    ):
        search.fit(X, y)


@pytest.mark.filterwarnings("ignore:Failed candidates")
def test_warnings_are_filtered_as_here(workers):
    X, y = digits()
    search = OURS.GridSearchCV(CLASSIFIER, {"max_iter": [1, 2]}, cv=2, refit=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        with pytest.raises(ValueError, match=r"(?s)All the 4 fits failed.*ConvergenceWarning"):
            search.fit(X, y)


def test_what_workers_leave_to_scikit_learn_is_said(workers, capsys):
    X, y = digits()
    init = [np.ones((64, 5)), np.ones((5, 10))]
    search = OURS.GridSearchCV(CLASSIFIER, {"alpha": [0.1, 1.0]}, cv=2, refit=False, verbose=1)
    search.fit(X, y, coef_init=init)
    assert "left 4 fits to scikit-learn: fit is given coef_init." in capsys.readouterr().out


def count_epochs(log, *arguments):
    """Run a batch, and log how many epochs it has trained."""
    with counting_epochs() as losses:
        try:
            return batches.evaluate_batch(*arguments)
        finally:
            write(log, len(losses))


@pytest.mark.parametrize(("prefix", "dtype"), [("", "float32"), ("net__", "float64")])
def test_halving_goes_on_from_the_round_before(workers, log, prefix, dtype, monkeypatch):
    """The results are the same as from scratch, bit for bit, at the cost of the added epochs."""
    X, y = digits()
    search = halving_search(OURS, prefix, dtype=dtype, n_iter_no_change=100)
    with monkeypatch.context() as patch:
        patch.setattr(backend, "evaluate_batch", partial(count_epochs, log))
        search.fit(X, y)
    assert search.n_candidates_ == CANDIDATES
    assert sum(map(int, log.read_text().split())) == EPOCHS_GOING_ON
    assert_as_in_scikit_learn(search, X, y)


@pytest.mark.parametrize("prefix", ["", "net__"])
@pytest.mark.parametrize("params", [None, {"coef_init": None}])  # left to scikit-learn
def test_networks_come_back_whole(workers, prefix, params):
    """With history and solver, which pickles leave out, they continue like local ones."""
    X, y = digits()
    model = scaled(CLASSIFIER) if prefix else CLASSIFIER
    params = params and {prefix + name: value for name, value in params.items()}
    results = []
    for where in (workers, "threading"):
        with parallel_config(backend=where, n_jobs=2):
            results.append(
                OURS.cross_validate(model, X, y, cv=2, params=params, return_estimator=True)
            )
    assert results[0].keys() == results[1].keys()
    for estimators in zip(*(result["estimator"] for result in results), strict=True):
        there, here = (model[-1] if prefix else model for model in estimators)
        for name, column in here.history_.items():
            if name != "seconds":
                np.testing.assert_array_equal(there.history_[name], column)
        for network in (there, here):
            network.partial_fit(X, y)
        np.testing.assert_array_equal(there.coefs_[0], here.coefs_[0])


def test_ctrl_c_keeps_what_is_finished_and_frees_the_workers(workers, request):
    X, y = digits()
    model = BPClassifier(max_iter=10**6, n_iter_no_change=10**7, random_state=0)
    endless = {"tol": [0.0, 1e-9]}
    grid = [{"tol": [1e9, 1e8], "n_iter_no_change": [1]}, endless]
    search = OURS.GridSearchCV(model, grid, cv=2, refit=False)

    # Loky's workers take batches in order; until the last is handed out, loky may print an error.
    enough = 4 if workers == "loky" else 1

    def press():
        wait_until(lambda: (getattr(search, "_backend", None) or NOTHING_YET).n_done >= enough)
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    with pytest.raises(KeyboardInterrupt, match=r"[1-4] of 8 fits were done") as interrupt:
        search.fit(X, y)
    presser.join()
    scores = [search.cv_results_[f"split{fold}_test_score"] for fold in range(2)]
    assert str(interrupt.value).startswith(str(np.isfinite(scores).sum()))
    assert np.isnan(scores)[:, 2:].all()
    if workers == "dask":  # its workers have one thread each
        client = request.getfixturevalue("client")
        for address in client.scheduler_info()["workers"]:
            client.submit(os.getpid, workers=[address], pure=False).result(timeout=PATIENCE)
    if workers == "ray":
        ray = request.getfixturevalue("ray")
        on_both = ray.remote(num_cpus=2)(digits)
        ray.get(on_both.remote(), timeout=PATIENCE)


def fail_or_train(shared, fails):
    if fails:
        raise OSError("on purpose")
    model = BPClassifier((5,), max_iter=200, random_state=0)
    return model.fit(*shared[0]).n_iter_


@pytest.mark.parametrize("workers", ["dask", "ray"], indirect=True)
def test_a_cluster_is_of_use_after_a_call_that_failed(workers):
    backend, n_jobs = get_active_backend()
    found = cluster.find_cluster(backend, n_jobs)
    with pytest.raises(OSError, match="on purpose"):
        list(found.call(fail_or_train, [digits()], [(True,), (False,)]))
    assert list(found.call(fail_or_train, [digits()], [(False,)] * 3)) == [200] * 3
