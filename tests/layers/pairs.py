"""Our three layers beside torch's, and inputs for each."""

import torch
from torch import nn

import batchnorm as bn

PAIRS = [
    (bn.BatchNorm1d, nn.BatchNorm1d, (6, 5)),
    (bn.BatchNorm1d, nn.BatchNorm1d, (6, 5, 7)),
    (bn.BatchNorm2d, nn.BatchNorm2d, (6, 5, 4, 3)),
    (bn.BatchNorm3d, nn.BatchNorm3d, (4, 5, 2, 3, 2)),
]
IDS = ["1d-rows", "1d", "2d", "3d"]
LAYERS = [
    (bn.BatchNorm1d, (6, 5, 7)),
    (bn.BatchNorm2d, (6, 5, 4, 3)),
    (bn.BatchNorm3d, PAIRS[3][2]),
]


def twins(ours, theirs, *args, **options):
    """Both layers with the same random parameters and buffers."""
    mine, torchs = ours(*args, **options), theirs(*args, **options)
    with torch.no_grad():
        for p in torchs.parameters():
            p.normal_()
        if torchs.running_mean is not None:
            torchs.running_mean.normal_()
            torchs.running_var.uniform_(0.5, 2.0)
    mine.load_state_dict(torchs.state_dict())
    return mine, torchs


def snapshot(layer: nn.Module) -> dict[str, torch.Tensor]:
    """Every buffer of a module, the non-persistent ones too."""
    return {k: v.detach().clone() for k, v in layer.named_buffers()}


def assert_unchanged(layer: nn.Module, before: dict[str, torch.Tensor]) -> None:
    for name, value in layer.named_buffers():
        assert torch.equal(value, before[name]), f"{name} changed: {before[name]} -> {value}"
