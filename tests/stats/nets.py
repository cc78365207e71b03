"""Small networks with batch norms of both kinds, and data for them."""

import copy

import torch
from torch import nn

import batchnorm as bn

F64 = torch.float64


def net(seed: int = 0) -> nn.Sequential:
    """Convolutions and a linear layer in float64, ours and torch's norms, dropout between."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        bn.BatchNorm2d(6, activation="relu"),
        nn.Dropout(0.5),
        nn.Conv2d(6, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 5),
        bn.BatchNorm1d(5),
    ).double()


NORMS = (1, 4, 8)


def images(sizes=(8, 8, 8, 3), seed: int = 0) -> list[torch.Tensor]:
    """Batches that differ in mean and spread, the last one ragged."""
    g = torch.Generator().manual_seed(seed)
    return [
        torch.randn(n, 3, 6, 6, generator=g, dtype=F64) * (1 + i) + i for i, n in enumerate(sizes)
    ]


def rows(x: torch.Tensor) -> torch.Tensor:
    """``(N, C, *)`` as ``(values, C)``."""
    return x.movedim(1, -1).flatten(0, -2)


def state(model: nn.Module) -> dict[str, object]:
    """Everything that a tool has to restore: tensors, modes, momenta, hooks, flags."""
    found: dict[str, object] = {}
    for name, tensor in (*model.named_buffers(), *model.named_parameters()):
        found[name] = (id(tensor), tensor.detach().clone(), tensor.requires_grad)
    for name, module in model.named_modules():
        found[f"{name}:"] = (
            module.training,
            getattr(module, "momentum", None),
            getattr(module, "_updates", None),
            getattr(module, "_pending", None),
            len(module._forward_pre_hooks),
            len(module._forward_pre_hooks_with_kwargs),
            len(module._forward_hooks),
        )
    return found


def assert_state(model: nn.Module, before: dict[str, object], but: tuple[str, ...] = ()) -> None:
    """The model is as it was, except for tensors whose names end with one of ``but``."""
    after = state(model)
    assert after.keys() == before.keys()
    for name, value in after.items():
        if isinstance(value[1], torch.Tensor):
            assert value[0] == before[name][0], f"{name} is another tensor"
            assert value[2] == before[name][2], f"{name}.requires_grad"
            if not name.endswith(but or ("\0",)):
                assert torch.equal(value[1], before[name][1]), f"{name} changed"
        else:
            assert value == before[name], name


def by_hand(model: nn.Sequential, data, order: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Mean and unbiased variance of every norm's inputs, layer after layer, without hooks."""
    model = copy.deepcopy(model).eval()
    found = []
    batches = list(data)
    for layer in model:
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            whole = torch.cat([rows(x) for x in batches])
            mean, var = whole.mean(0), whole.var(0)
            found.append((mean, var))
            if order == "layerwise":
                layer.running_mean.copy_(mean)
                layer.running_var.copy_(var)
            else:
                layer.train()
        with torch.no_grad():
            batches = [layer(x) for x in batches]
    return found
