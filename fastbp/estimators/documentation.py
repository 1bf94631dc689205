"""The descriptions of the parameters and attributes that both estimators share."""

import inspect
from typing import TypeVar

__all__ = ["documented"]

SHARED_PARAMETERS = """\
hidden_layer_sizes : int or array-like of int, default=(100,)
    The number of units of each hidden layer; ``()`` is a linear model.
activation : str or sequence of str, default='relu'
    The activation of the hidden units, or one for each hidden layer: 'identity', 'logistic',
    'tanh', 'relu', and, in addition to scikit-learn's, 'leaky_relu' (slope 0.01), 'elu', 'selu',
    'softplus', 'gelu' (exact), 'silu'.
solver : {'adam', 'sgd', 'lbfgs', 'adamw', 'adagrad', 'rmsprop'}, default='adam'
    The update rule; formulas and sources are in `fastbp.training.solvers`.

    - 'adam', 'sgd', 'lbfgs' are scikit-learn's
    - 'adamw' shrinks weights by the learning rate times `alpha` per step, instead of the penalty
    - 'adagrad' divides by the root of the sum of all squared gradients
    - 'rmsprop' divides by the root of their running mean, which decays by `beta_2`

alpha : float, default=0.0001
    Strength of the L2 penalty, ``alpha / 2 * sum(W**2)`` divided by the number of samples in a
    mini-batch (or the sum of their weights): the smaller the batch, the stronger the penalty.
    Biases have none. For 'adamw', the strength of the weight decay.
batch_size : int, 'auto' or 'full', default='auto'
    Samples in a mini-batch: 'auto' is ``min(200, n_samples)``, 'full' is all of them (gradient
    descent), 1 is a step for each sample. Not used by 'lbfgs'.
learning_rate : str or callable, default='constant'
    The schedule of the learning rate. Formulas and sources are in `fastbp.training.schedules`.

    - 'constant': `learning_rate_init`
    - 'invscaling': ``learning_rate_init / t ** power_t``, where t is 1 plus the samples seen so far
    - 'adaptive': divided by 5 each time training comes to a halt, until it is 1e-6 or less
    - 'plateau': the same, but multiplied by `decay_rate`
    - 'cosine': down to 0 along half a cosine, over `max_iter` epochs
    - 'one_cycle': up from 1/25 of the rate in the first 30 % of the steps, then down to nearly 0
    - 'exponential': decays evenly, by the factor `decay_rate` in `decay_epochs` epochs
    - 'step': multiplied by `decay_rate` after every `decay_epochs` epochs
    - a function of the step number, from 0 on, and of the total number of steps, that returns the
      factor of the rate

    As in scikit-learn, 'adam' treats 'invscaling' and 'adaptive' as 'constant'. In `partial_fit`,
    each call is an epoch.
learning_rate_init : float, default=0.001
    The (initial) learning rate. Not used by 'lbfgs'.
power_t : float, default=0.5
    The exponent of 'invscaling'.
max_iter : int, default=200
    Maximum number of epochs, or of iterations of 'lbfgs'.
shuffle : bool, default=True
    Whether to shuffle the samples in each epoch.
random_state : int, RandomState instance or None, default=None
    Determines the initial weights, the split for early stopping and the shuffles. The same integer
    gives the same model, which is also scikit-learn's. With an integer, each call of `partial_fit`
    shuffles in the same way; a RandomState advances.
tol : float, default=1e-4
    An epoch counts as an improvement only if it lowers the loss, or with `early_stopping` raises
    the score, by at least `tol`. 'lbfgs' stops once no element of the gradient exceeds `tol`.
verbose : bool or int, default=False
    In a terminal, 1 or True shows a bar with the loss and the time left, and 2 prints a line for
    each epoch; elsewhere both print lines.
warm_start : bool, default=False
    Continue from the weights of the last `fit`, with a fresh solver.
momentum : float, default=0.9
    Momentum of 'sgd', in [0, 1].
nesterovs_momentum : bool, default=True
    Whether the momentum of 'sgd' is Nesterov's.
early_stopping : bool, default=False
    Hold out a part of the data, or use `X_val` of `fit`, and stop once the score on it has not
    improved for more than `n_iter_no_change` epochs; the weights of the best epoch are kept
    (Prechelt 1998, "Early stopping - but when?"). For binary targets the split is stratified.
validation_fraction : float, default=0.1
    The fraction of the data to hold out, in [0, 1).
beta_1 : float, default=0.9
    Decay of the first moment of 'adam' and 'adamw', in [0, 1).
beta_2 : float, default=0.999
    Decay of the second moment of 'adam', 'adamw' and 'rmsprop', in [0, 1).
epsilon : float, default=1e-8
    Added to the denominator of 'adam', 'adamw', 'adagrad' and 'rmsprop'.
n_iter_no_change : int or inf, default=10
    Epochs without improvement that are tolerated; the next one halts training.
max_fun : int, default=15000
    Maximum number of evaluations of the loss by 'lbfgs'.
dtype : {'auto', 'float32', 'float64'}, default='auto'
    Precision of the weights and of training. 'auto' is that of X if it is float32 or float64, else
    float64. This and the parameters below are not in scikit-learn.
n_jobs : int or None, default=None
    Number of threads: None decides by the work and by where the call comes from, -1 is all threads.
    The result is the same, bit for bit, for any number.
init : str, default='auto'
    How the weights are initialised. 'auto' is as in scikit-learn; 'glorot_uniform',
    'glorot_normal', 'he_uniform', 'he_normal' and 'lecun_normal' start biases at 0. See
    `fastbp.network.draw_weights`.
""".rstrip()

SCORING = """\
scoring : str, callable or None, default=None
    The criterion of `early_stopping`: None is accuracy or R²; 'loss' is the loss on the validation
    set without the penalty (its negative is the score); any other string or callable is one of
    scikit-learn's scorers, or a function of model, X and y. Weights of samples and classes count,
    except for functions, and for scorers whose metric takes no `sample_weight`. NaN is not an
    improvement.
""".rstrip()

STEERING = """\
warmup_epochs : float, default=0
    Epochs, or a fraction of one, in which the learning rate rises evenly before the schedule
    begins.
decay_rate : float, default=0.1
    The factor of 'exponential', 'step' and 'plateau', in (0, 1].
decay_epochs : float, default=10
    The number of epochs for each factor `decay_rate`, in 'exponential' and 'step'.
dropout : float or sequence of float, default=0.0
    The fraction, in [0, 1), of each hidden layer's units that is set to 0 at random in training; a
    sequence gives each hidden layer its own. The other units are divided by 1 minus the fraction
    (Srivastava et al. 2014). The same units are dropped for any number of threads. `dropout`, `l1`
    and `clip_norm` are not for 'lbfgs'.
l1 : float, default=0.0
    Strength of the L1 penalty, ``l1 * sum(abs(W))``, divided like that of `alpha` (the lasso's;
    Tibshirani 1996). Its subgradient makes weights small, not zero.
clip_norm : float or None, default=None
    The largest norm of the gradient g of a mini-batch, of all weights and biases together and
    including the penalties; a longer gradient is scaled to
    ``g * min(1, clip_norm / (norm(g) + 1e-6))`` (Pascanu et al. 2013, arXiv:1211.5063; as PyTorch's
    clip_grad_norm_).
max_time : float or None, default=None
    Seconds after which `fit` ends with a ConvergenceWarning, at the end of a step.
""".rstrip()

SHARED_ATTRIBUTES = """\
loss_ : float
    The loss of the last epoch, NaN before the first has ended; or the loss at the end of 'lbfgs'.
best_loss_ : float or None
    The lowest loss of an epoch; None with `early_stopping`. This and the attributes below up to
    `best_validation_score_` are not set by 'lbfgs'.
loss_curve_ : list of float, of length n_iter_
    The loss of each epoch: the mean over its mini-batches, each taken before its step.
history_ : dict of str to ndarray of shape (n_epochs,)
    The last 10,000 epochs, over all calls of `partial_fit` or warm starts: 'epoch' from 1 on,
    'loss', 'validation_loss' (without penalty, smoothing and dropout) and 'validation_score' (NaN
    without `early_stopping`), 'learning_rate' and 'gradient_norm' of the last mini-batch (the
    latter before clipping), 'seconds' (the epochs of one compiled call share its time equally). A
    pickle includes it only if made inside `fastbp.keep_training_state`.
validation_scores_ : list of float or None
    The score of each epoch; None without `early_stopping`.
best_validation_score_ : float or None
    The highest validation score; None without `early_stopping`.
stopped_ : bool
    Whether `early_stopping` has ended training by `partial_fit`.
t_ : int
    The number of samples trained on, including repetitions.
coefs_ : list of ndarray of shape (n_in, n_out), of length n_layers_ - 1
    The weights of each layer. Values written into them take effect.
intercepts_ : list of ndarray of shape (n_out,), of length n_layers_ - 1
    The biases of each layer.
n_features_in_ : int
    Number of features seen in `fit`.
feature_names_in_ : ndarray of shape (n_features_in_,)
    The names of the features; set only if X had names that are all strings.
n_iter_ : int
    The number of epochs, or of iterations of 'lbfgs'.
n_layers_ : int
    The number of layers, including the input layer.
n_outputs_ : int
    The number of outputs.
out_activation_ : str
    The activation of the output layer.
""".rstrip()

Estimator = TypeVar("Estimator", bound=type)


def documented(estimator: Estimator) -> Estimator:
    """Insert the descriptions that both estimators share into a class's docstring."""
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
