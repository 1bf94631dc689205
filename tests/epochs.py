"""Generated networks, and epochs of their training compared with the oracle's."""

import naive
import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from networks import SEED, make_case, make_optimizer

from fastbp.samples import as_rows

few = settings(max_examples=30)

# Around the widths of tiles and vectors, where tails occur.
WIDTHS = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 25, 31, 33, 48, 50])


@st.composite
def cases(draw):
    """Networks of up to three hidden layers, with any loss and output."""
    output, loss, n_outputs = draw(
        st.sampled_from(
            [
                ("softmax", "log_loss", 2),
                ("softmax", "log_loss", 10),
                ("softmax", "squared_error", 3),
                ("logistic", "log_loss", 1),
                ("logistic", "log_loss", 4),
                ("identity", "squared_error", 1),
                ("identity", "squared_error", 3),
                ("exp", "poisson", 1),
                ("exp", "gamma", 2),
                ("identity", "huber", 2),
                ("identity", "quantile", 1),
                ("identity", "log_cosh", 1),
                ("identity", "absolute_error", 1),
            ]
        )
    )
    hidden = draw(st.lists(WIDTHS, max_size=3))
    names = draw(st.lists(st.sampled_from(sorted(naive.SLOPES)[1:]), min_size=3, max_size=3))
    names = [name if name != "exp" else "elu" for name in names]
    return make_case(
        (draw(WIDTHS), *hidden, n_outputs),
        [*names[: len(hidden)], output],
        loss,
        n_samples=draw(st.integers(1, 40)),
        weighted=draw(st.booleans()),
        sparse=draw(st.booleans()),
        seed=draw(st.integers(0, 1000)),
    )


@st.composite
def cases_below_one_output(draw):
    """Networks whose last hidden layer sums its gradient over subsets, unless X is sparse."""
    output, loss = draw(st.sampled_from([("logistic", "log_loss"), ("identity", "squared_error")]))
    hidden = [*draw(st.lists(WIDTHS, max_size=1)), draw(st.integers(5, 70))]
    return make_case(
        (draw(st.integers(1, 50)), *hidden, 1),
        [*[draw(st.sampled_from(["relu", "leaky_relu", "identity"])) for _ in hidden], output],
        loss,
        n_samples=draw(st.integers(4, 60)),
        weighted=draw(st.booleans()),
        sparse=draw(st.booleans()),
        seed=draw(st.integers(0, 1000)),
    )


def check_epochs(case, solver, batch_size, dtype=np.float64, **parameters):
    """Train with fastbp and with the oracle for two epochs, and compare losses and weights."""
    alpha = 1e-2
    tolerance = 1e-9 if dtype == np.float64 else 2e-3
    l1, clip_norm = parameters.get("l1", 0.0), parameters.get("clip_norm")
    engine = case.engine(dtype, batch_size, keep_gradient=clip_norm is not None)
    optimizer = make_optimizer(solver, alpha=alpha, **parameters)
    optimizer.begin(engine.weights)
    oracle = naive.Solver(
        solver,
        0.01,
        alpha,
        parameters.get("momentum", 0.9),
        parameters.get("nesterovs_momentum", True),
        eps=1e-3,
    )
    optimizer.epsilon = 1e-3  # 1e-8 would turn rounding errors into steps where a gradient vanishes
    coefs, intercepts = [w.copy() for w in case.coefs], [b.copy() for b in case.intercepts]
    rng = np.random.default_rng(0)

    def masks(step, places):
        return naive.dropout_masks(case.dropout, engine.weights.units, SEED, step, places)

    for _ in range(2):
        order = as_rows(rng.permutation(len(case.X)), len(case.X))
        (epochs,) = engine.train(order, 1, optimizer)
        (loss,) = epochs.losses
        expected = naive.train_epoch(
            coefs, intercepts, case.names, case.loss, case.X, case.targets(), order, batch_size,
            oracle, case.weight, np.finfo(dtype).eps, l1, clip_norm,
            masks if case.dropout else None,
        )  # fmt: skip
        np.testing.assert_allclose(loss, expected, rtol=tolerance)
    for mine, theirs in zip(
        engine.weights.coefs + engine.weights.intercepts, coefs + intercepts, strict=True
    ):
        np.testing.assert_allclose(mine, theirs, rtol=tolerance, atol=tolerance)
