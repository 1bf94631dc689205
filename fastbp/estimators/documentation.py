"""The parameters and attributes that both estimators have, described once."""

import inspect
from typing import TypeVar

__all__ = ["documented"]

SHARED_PARAMETERS = """\
hidden_layer_sizes : int or array-like of int, default=(100,)
    The number of units of each hidden layer; ``()`` is a linear model.
activation : str or sequence of str, default='relu'
    The function of the hidden units, or one for each hidden layer: 'identity', 'logistic',
    'tanh', 'relu', and beyond scikit-learn's 'leaky_relu' (slope 0.01), 'elu', 'selu',
    'softplus', 'gelu' (exact), 'silu'.
solver : {'adam', 'sgd', 'lbfgs', 'adamw', 'adagrad', 'rmsprop'}, default='adam'
    The rule of the update; formulas and sources are in `fastbp.training.solvers`.

    - 'adam', 'sgd', 'lbfgs' are scikit-learn's
    - 'adamw' shrinks weights by the learning rate times `alpha` a step, in place of the penalty
    - 'adagrad' divides by the root of the sum of all squared gradients
    - 'rmsprop' divides by the root of their running mean, which `beta_2` decays

alpha : float, default=0.0001
    Strength of the L2 penalty, ``alpha / 2 * sum(W**2)`` divided by the number of samples of a
    mini-batch (or the sum of their weights): the smaller the batch, the stronger. Biases have none.
    For 'adamw', the decay.
batch_size : int, 'auto' or 'full', default='auto'
    Samples in a mini-batch: 'auto' is ``min(200, n_samples)``, 'full' is all of them, which is
    gradient descent; 1 is a step for each sample. Not used by 'lbfgs'.
learning_rate : str or callable, default='constant'
    The schedule of the learning rate. Formulas and sources are in `fastbp.training.schedules`.

    - 'constant': `learning_rate_init`
    - 'invscaling': ``learning_rate_init / t ** power_t``, t the samples seen so far and 1
    - 'adaptive': a fifth of the rate each time training comes to a halt, down to 1e-6
    - 'plateau': the same with the factor `decay_rate`
    - 'cosine': down to 0 along half a cosine, over `max_iter` epochs
    - 'one_cycle': up from 1/25 of the rate in the first 30 % of the steps, then down to nothing
    - 'exponential': evenly, `decay_rate` of it in `decay_epochs`
    - 'step': `decay_rate` of it after each `decay_epochs`
    - a function of the number of the step, from 0 on, and of the number of all steps, that returns
      the factor of the rate

    As in scikit-learn, 'adam' takes 'invscaling' and 'adaptive' for 'constant'. In `partial_fit` an
    epoch is a call.
learning_rate_init : float, default=0.001
    The learning rate, or the first. Not used by 'lbfgs'.
power_t : float, default=0.5
    The exponent of 'invscaling'.
max_iter : int, default=200
    The most epochs, or iterations of 'lbfgs'.
shuffle : bool, default=True
    Whether to shuffle the samples in each epoch.
random_state : int, RandomState instance or None, default=None
    Decides the initial weights, the split for early stopping and the shuffles. The same integer
    gives the same model, and the one scikit-learn gives. With an integer each call of `partial_fit`
    shuffles alike; a RandomState moves on.
tol : float, default=1e-4
    An epoch improves where it lowers the loss, or with `early_stopping` raises the score, by as
    much. For 'lbfgs', the largest gradient at which it stops.
verbose : bool or int, default=False
    1 or True shows a bar with the loss and the time left where the output is a terminal, 2 a line
    for each epoch; elsewhere both print lines.
warm_start : bool, default=False
    Go on from the weights of the last `fit`, with a fresh solver.
momentum : float, default=0.9
    Momentum of 'sgd', in [0, 1].
nesterovs_momentum : bool, default=True
    Whether the momentum of 'sgd' is Nesterov's.
early_stopping : bool, default=False
    Hold a part of the data back, or take `X_val` of `fit`, and stop where the score on it has not
    improved for `n_iter_no_change` epochs; the weights of the best epoch are kept (Prechelt 1998,
    "Early stopping - but when?"). Binary targets are split by stratum.
validation_fraction : float, default=0.1
    The part to hold back, in [0, 1).
beta_1 : float, default=0.9
    Decay of the first moment of 'adam' and 'adamw', in [0, 1).
beta_2 : float, default=0.999
    Decay of the second moment of 'adam', 'adamw' and 'rmsprop', in [0, 1).
epsilon : float, default=1e-8
    Added to the denominator of 'adam', 'adamw', 'adagrad' and 'rmsprop'.
n_iter_no_change : int or inf, default=10
    Epochs without improvement after which training comes to a halt.
max_fun : int, default=15000
    The most evaluations of the loss by 'lbfgs'.
dtype : {'auto', 'float32', 'float64'}, default='auto'
    Precision of the weights and of training. 'auto' is that of X where it is float32 or float64,
    else float64. Not in scikit-learn, like those below.
n_jobs : int or None, default=None
    Threads: None leaves it to the work and to where the call comes from, -1 is all of them. The
    result is the same, bit for bit, whatever it is.
init : str, default='auto'
    The initial draw. 'auto' is scikit-learn's; 'glorot_uniform', 'glorot_normal', 'he_uniform',
    'he_normal' and 'lecun_normal' start biases at 0. See `fastbp.network.draw_weights`.
""".rstrip()

SCORING = """\
scoring : str, callable or None, default=None
    What `early_stopping` goes by: None is accuracy or R², 'loss' the loss on the validation set
    without the penalty (its negative is kept as the score), any other string or callable one of
    scikit-learn's scorers, or a function of model, X and y. Weights of samples and classes count,
    but for functions, and for scorers whose metric takes no `sample_weight`. NaN is no improvement.
""".rstrip()

STEERING = """\
warmup_epochs : float, default=0
    Epochs, or a fraction of one, in which the learning rate rises evenly before the schedule
    begins.
decay_rate : float, default=0.1
    The factor of 'exponential', 'step' and 'plateau', in (0, 1].
decay_epochs : float, default=10
    The epochs that it is for, in 'exponential' and 'step'.
dropout : float or sequence of float, default=0.0
    The part of the units of each hidden layer, or of each one its own, that is set to 0 at random
    in training, in [0, 1); the others are divided by the rest (Srivastava et al. 2014). The same
    units for any number of threads. Not for 'lbfgs', like the next two.
l1 : float, default=0.0
    Strength of the L1 penalty, ``l1 * sum(abs(W))``, divided like that of `alpha` (the lasso's;
    Tibshirani 1996). Its subgradient makes weights small, not zero.
clip_norm : float or None, default=None
    The largest norm of the gradient g of a mini-batch, of all weights and biases together and with
    the penalties; a longer one is shortened to it, ``g * min(1, clip_norm / (norm(g) + 1e-6))``
    (Pascanu et al. 2013, arXiv:1211.5063; as PyTorch's clip_grad_norm_).
max_time : float or None, default=None
    Seconds after which `fit` ends with a ConvergenceWarning, after a whole step.
""".rstrip()

SHARED_ATTRIBUTES = """\
loss_ : float
    The loss of the last epoch, NaN before the first has ended, or the loss at the end of 'lbfgs'.
best_loss_ : float or None
    The lowest loss of an epoch; None with `early_stopping`. Not set by 'lbfgs', like those below
    up to `best_validation_score_`.
loss_curve_ : list of float, of length n_iter_
    The loss of each epoch: the mean over its mini-batches, each before its step.
history_ : dict of str to ndarray of shape (n_epochs,)
    The last 10,000 epochs, of all calls of `partial_fit` or of warm starts: 'epoch' from 1 on,
    'loss', 'validation_loss' (without penalty, smoothing and dropout) and 'validation_score' (NaN
    without `early_stopping`), 'learning_rate' and 'gradient_norm' of the last mini-batch (the
    latter before it is clipped), 'seconds' (epochs that one compiled call does share its time). A
    pickle has it only inside `fastbp.keep_training_state`.
validation_scores_ : list of float or None
    The score of each epoch; None without `early_stopping`.
best_validation_score_ : float or None
    The highest of them.
stopped_ : bool
    Whether `early_stopping` has brought `partial_fit` to its end.
t_ : int
    The number of samples trained on, repetitions counted.
coefs_ : list of ndarray of shape (n_in, n_out), of length n_layers_ - 1
    The weights of each layer. What is written into them is used.
intercepts_ : list of ndarray of shape (n_out,), of length n_layers_ - 1
    The biases of each layer.
n_features_in_ : int
    Number of features seen in `fit`.
feature_names_in_ : ndarray of shape (n_features_in_,)
    Their names, where X had names that are all strings.
n_iter_ : int
    The number of epochs, or iterations of 'lbfgs'.
n_layers_ : int
    The number of layers, that of the inputs included.
n_outputs_ : int
    The number of outputs.
out_activation_ : str
    The activation of the output.
""".rstrip()

Estimator = TypeVar("Estimator", bound=type)


def documented(estimator: Estimator) -> Estimator:
    """Complete a class's docstring with the parameters and attributes both estimators share."""
    doc = inspect.cleandoc(estimator.__doc__ or "")
    for name, text in (
        ("parameters", SHARED_PARAMETERS),
        ("scoring", SCORING),
        ("steering", STEERING),
        ("attributes", SHARED_ATTRIBUTES),
    ):
        doc = doc.replace(f"{{{name}}}", text)
    estimator.__doc__ = doc
    return estimator
