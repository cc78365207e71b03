"""Models that are hard to operate on, and exact pictures of them."""

import copy

import torch
from torch import nn


class Block(nn.Module):
    """Convolution, batch norm, relu, with a residual where the widths agree."""

    def __init__(self, before: int, after: int, norm=nn.BatchNorm2d):
        super().__init__()
        self.conv = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.bn = norm(after)
        self.relu = nn.ReLU()
        self.same = before == after

    def forward(self, x):
        y = self.bn(self.conv(x))
        return self.relu(y + x if self.same else y)


class Tangled(nn.Module):
    """One batch norm called twice under two names and held in a list and an attribute."""

    def __init__(self):
        super().__init__()
        self.one = nn.Conv2d(3, 4, 1)
        self.two = nn.Conv2d(4, 4, 1)
        self.bn = nn.BatchNorm2d(4)
        self.nested = nn.ModuleDict({"again": nn.ModuleList([self.bn])})
        self.plain = [self.bn]
        object.__setattr__(self, "alias", self.bn)

    def forward(self, x):
        y = torch.relu(self.bn(self.one(x)))
        y = torch.relu(self.nested["again"][0](self.two(y)))
        return self.plain[0](self.alias(y))


def randomise(model: nn.Module) -> nn.Module:
    """Random parameters and running statistics."""
    with torch.no_grad():
        for module in model.modules():
            if getattr(module, "running_mean", None) is not None:
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
                module.num_batches_tracked.fill_(7)
                if module.weight is not None:
                    module.weight.uniform_(0.5, 1.5)
                    module.bias.normal_()
    return model


def picture(model: nn.Module) -> dict:
    """Identities of everything that a model holds, and bits of its tensors."""
    return {
        "modules": [(n, id(m)) for n, m in model.named_modules(remove_duplicate=False)],
        "modes": [m.training for m in model.modules()],
        "parameters": [(n, id(p), p.requires_grad) for n, p in model.named_parameters()],
        "buffers": [(n, id(b)) for n, b in model.named_buffers(remove_duplicate=False)],
        "state": {k: v.clone() for k, v in model.state_dict().items()},
        "attributes": [sorted(m.__dict__) for m in model.modules()],
    }


def optimizer_picture(optimizer) -> tuple:
    groups = [[id(p) for p in group["params"]] for group in optimizer.param_groups]
    state = {
        id(p): {k: v.clone() if torch.is_tensor(v) else v for k, v in values.items()}
        for p, values in optimizer.state.items()
    }
    return groups, copy.deepcopy(state)


def assert_same_picture(now, before):
    for key in before:
        if key != "state":
            assert now[key] == before[key], key
    assert list(now["state"]) == list(before["state"])
    for name, value in before["state"].items():
        assert torch.equal(now["state"][name], value), name


def assert_same_optimizer(now, before):
    assert now[0] == before[0]
    assert now[1].keys() == before[1].keys()
    for key, values in before[1].items():
        for name, value in values.items():
            other = now[1][key][name]
            assert torch.equal(other, value) if torch.is_tensor(value) else other == value
