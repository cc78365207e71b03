"""What the variants share: tensors, layers filled from them, and torch's layer as a function."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.trial import Data, Way

__all__ = ["Affine", "kind", "leaf", "make_data", "module_way", "numbers", "per_channel"]


def make_data(shape: tuple[int, ...], *, channel: int = 1, nhwc: bool = False) -> Data:
    """Data of mean 0.5 and standard deviation 1.5, a random cotangent, weight and bias."""
    generator = torch.Generator().manual_seed(0)

    def random(*sizes: int) -> Tensor:
        return torch.randn(sizes, generator=generator)

    x, grad = random(*shape) * 1.5 + 0.5, random(*shape)
    if nhwc:
        x, grad = (t.contiguous(memory_format=torch.channels_last) for t in (x, grad))
    channels = shape[channel]
    weight = torch.rand(channels, generator=generator) + 0.5
    return {"input": x, "grad": grad, "weight": weight, "bias": random(channels) * 0.2}


def numbers(shape: tuple[int, ...], channel: int = 1) -> int:
    """Values per channel."""
    return torch.Size(shape).numel() // shape[channel]


def kind(shape: tuple[int, ...], library: object, prefix: str = "BatchNorm") -> type[nn.Module]:
    """The layer of that rank in a library."""
    return getattr(library, f"{prefix}{'2d' if len(shape) == 4 else '1d'}")


def leaf(values: Tensor) -> Tensor:
    """The same memory as a leaf of its own."""
    return values.detach().requires_grad_()


def per_channel(values: Tensor, like: Tensor) -> Tensor:
    """``(C,)`` or ``(N, C)`` to broadcast against ``(N, C, *)``."""
    rows = values if values.dim() == 2 else values.unsqueeze(0)
    return rows.reshape(*rows.shape, *(1,) * (like.dim() - 2))


class Affine:
    """Leaves of a way by functions: input, weight, bias; and running statistics as torch's."""

    def __init__(self, data: Data, *rows: int):
        self.x = leaf(data["input"])
        self.weight = data["weight"].clone().requires_grad_()
        self.bias = data["bias"].clone().requires_grad_()
        size = (*rows, self.weight.shape[-1])
        self.mean, self.var = self.x.new_zeros(size), self.x.new_ones(size)

    @property
    def leaves(self) -> dict[str, Tensor]:
        return {"input": self.x, "weight": self.weight, "bias": self.bias}

    def memory(self) -> dict[str, Tensor]:
        return {"running_mean": self.mean, "running_var": self.var}

    def forget(self) -> None:
        self.mean.zero_()
        self.var.fill_(1)

    def way(self, forward: Callable[[], Tensor], **options) -> Way:
        """A way that remembers as torch's layer."""
        return Way(forward, self.leaves, self.memory, self.forget, **options)


def module_way(
    layer: nn.Module, data: Data, call: Callable[[nn.Module, Tensor], Tensor] | None = None
) -> Way:
    """A layer with the weight and bias of the data, called on the input."""
    x = leaf(data["input"])
    layer = layer.to(x.dtype)
    leaves = {"input": x}
    if layer.weight is not None:
        with torch.no_grad():
            layer.weight.copy_(data["weight"])
            layer.bias.copy_(data["bias"])
        leaves |= {"weight": layer.weight, "bias": layer.bias}

    def memory() -> dict[str, Tensor]:
        return {"running_mean": layer.running_mean, "running_var": layer.running_var}

    def forward() -> Tensor:
        return layer(x) if call is None else call(layer, x)

    return Way(forward, leaves, memory, layer.reset_running_stats)
