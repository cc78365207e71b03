"""Many small networks trained as one: a batched product instead of many small ones."""

import math
from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from .._errors import explain
from ._fit import minibatches
from .data import Dataset
from .models import Mlp

__all__ = ["fit_together"]


def fit_together(
    nets: Sequence[Mlp],
    data: Dataset,
    *,
    lrs: Sequence[float],
    seeds: Sequence[int],
    steps: int,
    batch_size: int = 60,
    at: Collection[int] = (),
    after: Callable[[int], None] = lambda _: None,
) -> list[list[float]]:
    """Train networks by SGD on cross entropy, each on its own minibatches at its own rate.

    On one thread each ends with the bits that it would have in any other company. A network whose
    loss is not finite goes on with numbers that are not finite, and does not touch the others.

    Args:
        nets: alike but for their weights, with batch norm or no norm; in training mode. The hidden
            width is a multiple of 4.
        data: what to learn.
        lrs: learning rate of each.
        seeds: of each one's order of examples.
        steps: minibatches.
        batch_size: examples in each, a multiple of 4.
        at: steps after which the networks have their weights and `after` is called.
        after: called with the step's number.

    Returns:
        For each, the training loss (nats) of every step up to the first that is not finite.

    Raises:
        ValueError: the networks are not alike, or have another norm, or sizes that are no
            multiples of 4.
    """
    _check_sizes(nets[0], batch_size)
    # torch computes the last elements of a tensor on another path, with other bits: they are those
    # of a network that nobody looks at.
    stack = _Stack([*nets, nets[-1]])
    rate = torch.tensor([*lrs, 0.0], dtype=torch.float32).neg()
    batches = [minibatches(len(data.x_train), batch_size, seed) for seed in (*seeds, seeds[-1])]
    losses = torch.full((steps, len(batches)), math.nan)
    for step in range(1, steps + 1):
        chosen = torch.stack([next(each) for each in batches])
        logits = stack(data.x_train[chosen].transpose(1, 2))
        lost = functional.cross_entropy(logits, data.y_train[chosen], reduction="none").mean(1)
        lost.sum().backward()
        stack.descend(rate)
        losses[step - 1] = lost.detach()
        if step in at:
            stack.write(nets)
            after(step)
    stack.write(nets)

    return [_finite(column.tolist()) for column in losses.T[: len(nets)]]


def _check_sizes(net: Mlp, batch_size: int) -> None:
    """The product of a network's matrices has other bits where they begin at odd addresses."""
    hidden = net.head.in_features
    if hidden % 4 or batch_size % 4:
        rule, got = "sizes must be multiples of 4", f"hidden={hidden}, batch_size={batch_size}"
        raise ValueError(explain("fit_together", rule, got, "Round them, or use fit"))


def _finite(losses: list[float]) -> list[float]:
    """Up to the first that is not."""
    end = next((i for i, loss in enumerate(losses, 1) if not math.isfinite(loss)), len(losses))

    return losses[:end]


class _Stack(nn.Module):
    """The networks as one: ``(networks, features, N)`` goes in, ``(networks, classes, N)`` out.

    A norm sees ``(1, networks · features, N)``: every feature of every network is a channel.
    """

    def __init__(self, nets: Sequence[Mlp]) -> None:
        super().__init__()
        first = nets[0]
        self.activation, self.placement = first.activation, first.placement
        self.layers = nn.ModuleList(
            _Linear([_linears(net)[i] for net in nets]) for i in range(len(_linears(first)))
        )
        self.norms = nn.ModuleList(
            _merged([_norms(net)[i] for net in nets]) for i in range(len(_norms(first)))
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer, norm in zip(self.layers[:-1], self.norms[:-1], strict=True):
            x = layer(x)
            if self.placement == "before":
                x = self.activation(_apply(norm, x))
            else:
                x = _apply(norm, self.activation(x))

        return _apply(self.norms[-1], self.layers[-1](x))

    @torch.no_grad()
    def descend(self, rate: Tensor) -> None:
        """One step of SGD; `rate` is negative, one per network."""
        for parameter in self.parameters():
            assert parameter.grad is not None
            shape = (len(rate), -1)
            mine, slope = parameter.view(shape), parameter.grad.view(shape)
            mine.addcmul_(slope, rate[:, None])
            parameter.grad = None

    @torch.no_grad()
    def write(self, nets: Sequence[Mlp]) -> None:
        """Give every network what it has learned."""
        for k, net in enumerate(nets):
            for linear, layer in zip(_linears(net), self.layers, strict=True):
                assert isinstance(layer, _Linear)
                linear.weight.copy_(layer.weight[k])
                if layer.bias is not None:
                    linear.bias.copy_(layer.bias[k, :, 0])
            for mine, merged in zip(_norms(net), self.norms, strict=True):
                for name, held in mine.state_dict().items():
                    whole = merged.state_dict()[name]
                    held.copy_(whole if whole.ndim == 0 else whole.view(-1, len(held))[k])


class _Linear(nn.Module):
    def __init__(self, linears: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([linear.weight.detach() for linear in linears]))
        biases = [linear.bias.detach() for linear in linears if linear.bias is not None]
        self.bias = nn.Parameter(torch.stack(biases)[:, :, None]) if biases else None

    def forward(self, x: Tensor) -> Tensor:
        if self.bias is None:
            return torch.bmm(self.weight, x)
        return torch.baddbmm(self.bias, self.weight, x)


def _linears(net: Mlp) -> list[nn.Linear]:
    return [module for module in (*net.linears, net.head) if isinstance(module, nn.Linear)]


def _norms(net: Mlp) -> list[nn.Module]:
    return [*net.norms, net.last]


def _apply(norm: nn.Module, x: Tensor) -> Tensor:
    if isinstance(norm, nn.Identity):
        return x
    result: Tensor = norm(x.reshape(1, -1, x.shape[-1]))

    return result.view_as(x)


def _merged(norms: Sequence[nn.Module]) -> nn.Module:
    """One layer with the channels of all."""
    kinds = {type(norm) for norm in norms}
    first = norms[0]
    if kinds == {nn.Identity}:
        return nn.Identity()
    if len(kinds) > 1 or not isinstance(first, nn.BatchNorm1d):
        rule = "all networks must have the same batch norm, or none"
        cure = "Train the others one by one with fit"
        got = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise ValueError(explain("fit_together", rule, got, cure))
    merged = type(first)(
        first.num_features * len(norms),
        first.eps,
        first.momentum,
        first.affine,
        first.track_running_stats,
    )
    states = [norm.state_dict() for norm in norms]
    merged.load_state_dict(
        {
            name: held if held.ndim == 0 else torch.cat([state[name] for state in states])
            for name, held in states[0].items()
        }
    )

    return merged
