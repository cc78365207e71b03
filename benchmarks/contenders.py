"""The same layer by torch, by torch.compile and by us, as functions of (x, residual)."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

import batchnorm
from benchmarks.cases import Case, Tensors

__all__ = ["Contender", "compiled", "eager", "eager_inplace", "float64", "ours"]


class Contender:
    """A layer with its parameters, and the function that users would write around it."""

    def __init__(self, layer: nn.Module, function: Callable[..., Tensor], tensors: Tensors):
        self.layer = layer
        self.function = function
        self.arguments = tensors.inputs
        self.gradient_of = [*tensors.inputs, layer.weight, layer.bias]

    def forward(self) -> Tensor:
        return self.function(*self.arguments)


def _layer(kind: Callable[..., nn.Module], case: Case, tensors: Tensors, **options) -> nn.Module:
    """Float32 parameters whatever the input's dtype: what autocast gives both libraries."""
    layer = kind(case.shape[1], **options)
    with torch.no_grad():
        layer.weight.copy_(tensors.weight)
        layer.bias.copy_(tensors.bias)
    return layer


def eager(case: Case, tensors: Tensors) -> Contender:
    """``relu(bn(x) + residual)``, one operator after the other."""
    layer = _layer(case.torch_layer, case, tensors)
    return Contender(layer, _plain(layer, case.form), tensors)


def _plain(layer: nn.Module, form: str) -> Callable[..., Tensor]:
    functions = {
        "plain": lambda x: layer(x),
        "relu": lambda x: torch.relu(layer(x)),
        "residual_relu": lambda x, residual: torch.relu(layer(x) + residual),
    }
    return functions[form]


def eager_inplace(case: Case, tensors: Tensors) -> Contender:
    """What torchvision writes: add and ReLU in place on the output of batch norm."""
    layer = _layer(case.torch_layer, case, tensors)
    functions = {
        "relu": lambda x: torch.relu_(layer(x)),
        "residual_relu": lambda x, residual: torch.relu_(layer(x).add_(residual)),
    }
    return Contender(layer, functions[case.form], tensors)


def compiled(case: Case, tensors: Tensors) -> Contender:
    """The eager function under torch.compile with static shapes, compiled for this row alone."""
    from torch._inductor import config

    config.compile_threads = 1  # no pool of compiler processes beside what is being timed
    torch._dynamo.reset()
    layer = _layer(case.torch_layer, case, tensors)
    function = torch.compile(_plain(layer, case.form), dynamic=False, fullgraph=True)
    return Contender(layer, function, tensors)


def ours(case: Case, tensors: Tensors) -> Contender:
    """Our layer with activation and residual fused."""
    activation = "identity" if case.form == "plain" else "relu"
    kind = getattr(batchnorm, case.layer_name)
    layer = _layer(kind, case, tensors, activation=activation)
    if case.form == "residual_relu":
        return Contender(layer, lambda x, residual: layer(x, residual=residual), tensors)
    return Contender(layer, lambda x: layer(x), tensors)


def float64(case: Case, tensors: Tensors) -> Contender:
    """The judge: eager torch in float64 on contiguous copies."""
    wide = copy.copy(tensors)
    wide.x = _double(tensors.x)
    wide.residual = None if tensors.residual is None else _double(tensors.residual)
    layer = _layer(case.torch_layer, case, tensors).double()
    return Contender(layer, _plain(layer, case.form), wide)


def _double(values: Tensor) -> Tensor:
    return values.detach().double().contiguous().requires_grad_()
