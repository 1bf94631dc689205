"""PyTorch in eager mode: the training loop of its tutorials, with its fused optimisers."""

import torch
from torch import nn

from benchmarks.contenders.draws import Draws
from benchmarks.problems import ALPHA, Problem


class PyTorchEager:
    """Keeps tensors in memory, takes rows by index, and copies nothing back within an epoch."""

    given = (
        "eager mode, tensors in memory, fused Adam or SGD, `torch.set_num_threads`; the L2 penalty "
        "is the optimiser's weight decay, and is not part of the loss"
    )

    def __init__(self, problem: Problem, dtype: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self.problem, self.dtype = problem, dtype
        X, y = problem.data(dtype)
        self.X = torch.from_numpy(X)
        self.y = torch.from_numpy(y)
        self.loss: nn.Module = nn.CrossEntropyLoss()
        if problem.n_classes == 2:
            self.y = self.y.to(self.X.dtype).unsqueeze(1)
            self.loss = nn.BCEWithLogitsLoss()

    def fit(self, epochs: int) -> list[float]:
        """Train a new network; return the mean loss of each epoch, without the penalty."""
        draws = Draws(self.problem)
        model = self._make_model(draws)
        optimizer = self._make_optimizer(model)
        losses = []
        for order in draws.orders(epochs):
            total = torch.zeros((), dtype=self.X.dtype)
            for rows in torch.from_numpy(order).split(self.problem.batch_size):
                optimizer.zero_grad()
                loss = self.loss(model(self.X[rows]), self.y[rows])
                loss.backward()
                optimizer.step()
                total += loss.detach() * len(rows)
            losses.append(total.item() / len(order))
        return losses

    def _make_model(self, draws: Draws) -> nn.Module:
        layers: list[nn.Module] = []
        for W, b in draws.weights(self.dtype):
            layer = nn.Linear(*W.shape, dtype=self.X.dtype)
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(W).T)
                layer.bias.copy_(torch.from_numpy(b))
            layers += [layer, nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    def _make_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """Return scikit-learn's solver, with its L2 penalty on the weights, not on the biases."""
        parameters = list(model.parameters())
        groups = [
            {"params": parameters[0::2], "weight_decay": ALPHA / self.problem.batch_size},
            {"params": parameters[1::2], "weight_decay": 0.0},
        ]
        if self.problem.solver == "sgd":
            return torch.optim.SGD(groups, lr=1e-3, momentum=0.9, nesterov=True, fused=True)
        return torch.optim.Adam(groups, lr=1e-3, fused=True)
