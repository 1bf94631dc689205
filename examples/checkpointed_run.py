"""A training run that is killed and resumed.

Every few epochs `Checkpoint` writes a file with everything that training needs to continue: the
weights, the solver's moments, the order of the samples, the generator, the best weights so far.
Here a process that trains on MNIST is killed at a random moment, by a signal that it cannot catch
(SIGKILL; on Windows it is terminated). `fit` with `resume_from` reads the file, repeats the epochs
done since, and ends with the model of an uninterrupted run, bit for bit. The last line shows the
result of a warm start from the file's weights alone: another model.
"""

import random
import warnings
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep

import numpy as np
from helper import OUTPUT, run
from sklearn.exceptions import ConvergenceWarning

import fastbp
from fastbp import BPClassifier
from fastbp.callbacks import Checkpoint, LogEvery
from fastbp.datasets import load_mnist

EVERY = 4


def make_model(n_epochs):
    return BPClassifier(
        hidden_layer_sizes=(128, 64),
        max_iter=n_epochs,
        learning_rate="cosine",
        learning_rate_init=3e-3,
        dropout=0.1,
        early_stopping=True,
        n_iter_no_change=np.inf,  # run all epochs, and keep the best epoch's weights
        random_state=0,
    )


def train_in_child(n_epochs, X, y, path, connection):
    """Train with checkpoints, and send a line after each epoch."""
    callbacks = Checkpoint(path, every=EVERY), LogEvery(1, log=connection.send)
    make_model(n_epochs).set_callbacks(*callbacks).fit(X, y)


def train_and_kill(n_epochs, *data_and_path):
    """Train in a process, kill it, and return how many epochs it did and its exit code."""
    processes = get_context("spawn")
    receiver, sender = processes.Pipe(duplex=False)
    arguments = (n_epochs, *data_and_path, sender)
    child = processes.Process(target=train_in_child, args=arguments, daemon=True)
    child.start()
    sender.close()  # so that the child's is the only open end
    lines = [receiver.recv()]
    began = perf_counter()
    for _ in range(random.randint(n_epochs // 4, n_epochs // 2)):
        lines.append(receiver.recv())
    sleep(random.random() * (perf_counter() - began) / len(lines))  # a part of an epoch
    child.kill()
    child.join()
    while True:
        try:
            lines.append(receiver.recv())
        except EOFError:
            return len(lines), child.exitcode


def count_same(model, other):
    """Return how many weights and biases of two networks are the same, bit for bit."""
    bits = [
        np.concatenate([w.ravel() for w in (*m.coefs_, *m.intercepts_)]).view(np.int32)
        for m in (model, other)
    ]
    return f"{np.sum(bits[0] == bits[1])} of {len(bits[0])}"


def main(quick: bool = False, output: Path = OUTPUT) -> None:  # nothing to draw
    warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is fixed on purpose
    X, y = load_mnist(return_X_y=True)
    X_test, y_test = load_mnist(subset="test", return_X_y=True)
    n_samples, n_epochs = (6000, 40) if quick else (60000, 20)
    X, y = X[:n_samples], y[:n_samples]
    print(f"{len(X)} images, {X.dtype}, {n_epochs} epochs, a checkpoint every {EVERY}")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "run.fastbp"
        n_done, exit_code = train_and_kill(n_epochs, X, y, path)
        print(f"Killed after {n_done} epochs, with exit code {exit_code}")
        epochs = []
        began = perf_counter()
        resumed = make_model(n_epochs).set_callbacks(LogEvery(1, log=epochs.append))
        resumed.fit(X, y, resume_from=path)
        seconds = perf_counter() - began
        warm = fastbp.load(path)
        print(f"Resumed after epoch {warm.n_iter_}: {len(epochs)} epochs in {seconds:.1f} s")
        warm.set_params(warm_start=True, max_iter=n_epochs - warm.n_iter_).fit(X, y)
    began = perf_counter()
    whole = make_model(n_epochs).fit(X, y)
    whole_seconds = perf_counter() - began
    print(f"Without a break: {whole_seconds:.1f} s, so {whole_seconds - seconds:.1f} s were saved")
    right, whole_right = (model.score(X_test, y_test) for model in (resumed, whole))
    print(f"Accuracy on the test set: {right:.2%}, without a break {whole_right:.2%}")
    print(f"Weights equal to those without a break: {count_same(resumed, whole)}")
    same = sum(a == b for a, b in zip(resumed.loss_curve_, whole.loss_curve_, strict=True))
    print(f"Losses equal to those without a break: {same} of {n_epochs} epochs")
    print(f"Weights equal if only the weights are read from the file: {count_same(warm, whole)}")


if __name__ == "__main__":
    run(main, __doc__)
