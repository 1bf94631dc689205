"""A network as PyTorch modules; imported only if PyTorch is installed."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from fastbp.kernels.activations import LEAKY_SLOPE
from fastbp.network import Weights

__all__ = ["Exp", "make_network"]


class Exp(nn.Module):  # type: ignore[misc]
    """``e ** x``, for which PyTorch has no module."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``e ** x`` of each element."""
        return torch.exp(x)


_MODULES: dict[str, Callable[[], nn.Module]] = {
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "logistic": nn.Sigmoid,
    "tanh": nn.Tanh,
    "leaky_relu": lambda: nn.LeakyReLU(LEAKY_SLOPE),
    "elu": nn.ELU,
    "selu": nn.SELU,
    "softplus": lambda: nn.Softplus(threshold=40),  # PyTorch's 20 would cost float64 digits
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "exp": Exp,
    "softmax": lambda: nn.Softmax(dim=-1),
}


def make_network(weights: Weights, names: Sequence[str]) -> nn.Sequential:
    """Return alternating Linear and activation modules, in evaluation mode."""
    network = nn.Sequential()
    for w, b, name in zip(weights.coefs, weights.intercepts, names, strict=True):
        # Without skip_init, Linear would draw weights from the user's generator.
        linear = nn.utils.skip_init(nn.Linear, *w.shape, dtype=getattr(torch, w.dtype.name))
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(w.T))
            linear.bias.copy_(torch.tensor(b))
        network.extend([linear, _MODULES[name]()])
    return network.eval()
