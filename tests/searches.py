"""Shared by the tests of searches: both modules, a search over epochs, and comparisons."""

from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import sklearn.model_selection
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

import fastbp.model_selection
from fastbp import BPClassifier
from fastbp.model_selection import family
from fastbp.training.engine import Engine

STOCK, OURS = sklearn.model_selection, fastbp.model_selection

CLASSIFIER = BPClassifier(hidden_layer_sizes=(5,), max_iter=8, random_state=0)
LONER = clone(CLASSIFIER).set_params(max_time=1e6)  # no family accepts it


def scaled(network):
    return Pipeline([("scale", StandardScaler()), ("net", network)])


def halving_search(module, prefix, **parameters):
    """A halving search over epochs of a network or, with a prefix, a Pipeline; see `EPOCHS`."""
    network = clone(CLASSIFIER).set_params(**parameters)
    grid = {
        "solver": ["adam", "sgd", "adagrad"],
        "learning_rate": ["constant", "adaptive", "invscaling"],
        "early_stopping": [False, True],
    }
    return module.HalvingGridSearchCV(
        scaled(network) if prefix else network,
        {prefix + name: values for name, values in grid.items()},
        resource=prefix + "max_iter",
        max_resources=27,
        min_resources=3,
        cv=2,
        factor=3,
        refit=False,
    )


CANDIDATES = [18, 6, 2]  # in each round of `halving_search`
EPOCHS = 2 * (18 * 3 + 6 * 9 + 2 * 27)  # that it trains if each round starts anew
EPOCHS_GOING_ON = 2 * (18 * 3 + 6 * 6 + 2 * 18)  # ... if each continues from the previous one


@contextmanager
def counting_epochs():
    """Yield a list that collects the losses of all epochs trained in this process."""
    train, losses = Engine.train, []

    def counting(*arguments):
        for some in train(*arguments):
            losses.extend(some.losses)
            yield some

    describe = family._describe

    def counting_of_family(tables, k, *times):
        losses.extend(tables.losses[k, : int(tables.n_epochs[k])])
        return describe(tables, k, *times)

    with (
        patch.object(Engine, "train", counting),
        patch.object(family, "_describe", counting_of_family),
    ):
        yield losses


def equal(mine, theirs):
    """Return whether two entries of cv_results_ are the same, bit for bit."""
    return str(np.ma.asarray(mine).tolist()) == str(np.ma.asarray(theirs).tolist())


def assert_same(mine, theirs):
    """Check that two dicts of results agree in everything except times."""
    assert mine.keys() == theirs.keys()
    for name in mine:
        if "_time" not in name:
            assert equal(mine[name], theirs[name]), name
