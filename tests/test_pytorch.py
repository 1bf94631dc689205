"""Whole fits compared with the same training in PyTorch, where it has the same features."""

from dataclasses import replace

import pytest
from networks import make_case
from trainings import CASE, PYTORCH, assert_same_training, fit, fit_in_pytorch, make_masks

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

DROPPED = replace(CASE, dropout=(0.25, 0.5))
OUTPUTS = {
    "classes": (3, "softmax", "log_loss"),
    "two classes": (1, "logistic", "log_loss"),
    "labels": (3, "logistic", "log_loss"),
    "number": (1, "identity", "squared_error"),
    "numbers": (2, "identity", "squared_error"),
    "squares of classes": (3, "softmax", "squared_error"),
    "squares of two classes": (1, "logistic", "squared_error"),
    "counts": (1, "exp", "poisson"),
    "several counts": (2, "exp", "poisson"),
}


def case_of(kind, **changes):
    n_outputs, output, loss = OUTPUTS[kind]
    case = make_case((6, 8, 7, n_outputs), ["tanh", "tanh", output], loss, 45)
    if output == "logistic":
        case = replace(case, y=(case.y > 0).astype(float))
    return replace(case, **changes)


@pytest.mark.parametrize("kind", OUTPUTS)
@pytest.mark.parametrize("solver", PYTORCH)
def test_every_solver(solver, kind):
    case = case_of(kind)
    rtol = 1e-8 if kind.startswith("squares") else 1e-9  # rmsprop divides by small gradients
    assert_same_training(fit(case, solver=solver), fit_in_pytorch(case, solver), rtol)


@pytest.mark.parametrize("solver", PYTORCH)
def test_class_weight(solver):
    """The mean is weighted, as in cross_entropy with class indices."""
    weights = [0.3, 2.0, 5.0]
    model = fit(CASE, solver=solver, class_weight=dict(enumerate(weights)))
    assert_same_training(model, fit_in_pytorch(CASE, solver, class_weight=weights))


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum(nesterov):
    model = fit(CASE, solver="sgd", momentum=0.9, nesterovs_momentum=nesterov)
    assert_same_training(model, fit_in_pytorch(CASE, "sgd", momentum=0.9, nesterov=nesterov))


@pytest.mark.parametrize("loss", ["absolute_error", "huber", "log_cosh", "quantile"])
def test_losses_of_regressors(loss):
    case = case_of("numbers", loss=loss)
    assert_same_training(fit(case, solver="sgd"), fit_in_pytorch(case, "sgd"))


@pytest.mark.parametrize("kind", OUTPUTS)
@pytest.mark.parametrize("solver", PYTORCH)
def test_dropout(solver, kind):
    """With the same masks, which differ from epoch to epoch."""
    case = case_of(kind, dropout=DROPPED.dropout)
    trained = fit_in_pytorch(case, solver, masks=make_masks(case))
    assert_same_training(fit(case, solver=solver), trained)


@pytest.mark.parametrize("solver", PYTORCH)
@pytest.mark.parametrize("clip_norm", [0.1, 0.8])
def test_clip_norm(clip_norm, solver):
    model = fit(CASE, solver=solver, clip_norm=clip_norm)
    assert model.history_["gradient_norm"].max() > clip_norm
    assert_same_training(model, fit_in_pytorch(CASE, solver, clip_norm=clip_norm))


@pytest.mark.parametrize("solver", PYTORCH)
def test_l1(solver):
    assert_same_training(fit(CASE, solver=solver, l1=0.2), fit_in_pytorch(CASE, solver, l1=0.2))


@pytest.mark.parametrize("smoothing", [0.1, 0.7])
@pytest.mark.parametrize("kind", ["classes", "two classes", "labels"])
@pytest.mark.parametrize("solver", PYTORCH)
def test_label_smoothing(solver, kind, smoothing):
    """For softmax by PyTorch's own parameter, for logistic units by smoothed targets."""
    case = case_of(kind, smoothing=smoothing)
    assert_same_training(fit(case, solver=solver), fit_in_pytorch(case, solver))


@pytest.mark.parametrize("solver", PYTORCH)
def test_all_together(solver):
    case = replace(DROPPED, smoothing=0.2)
    settings = {"l1": 0.1, "clip_norm": 0.2}
    model = fit(case, solver=solver, learning_rate="cosine", **settings)
    trained = fit_in_pytorch(
        case, solver, lambda lr, optimizer: lr.CosineAnnealingLR(optimizer, 20),
        make_masks(case), **settings,
    )  # fmt: skip
    assert_same_training(model, trained)
