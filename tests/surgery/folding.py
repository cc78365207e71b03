"""Layers with statistics that are not the fresh ones, and a comparison with float64."""

import torch
from torch import nn

import batchnorm as bn
from batchnorm.surgery._fold import fold
from tests.tolerance import ulp


def seen(model: nn.Module) -> nn.Module:
    """The model in eval mode, every batch norm with random statistics and parameters."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for name in ("weight", "bias"):
                if getattr(module, name) is not None:
                    nn.init.normal_(getattr(module, name))
            if module.running_mean is not None:
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
        if hasattr(module, "running_whitening"):
            module.running_whitening.normal_()

    return model.eval()


def folded_error(model: nn.Module, *inputs: torch.Tensor) -> tuple[float, object]:
    """Largest error of folding in float64, over the largest output, and the report."""
    model.double()
    inputs = tuple(x.double() for x in inputs)
    with torch.no_grad():
        before = model(*inputs)
        report = fold(model)
        after = report.model(*inputs)

    return float((after - before).abs().max() / before.abs().max()), report


#: First-order rounding of a sum of products, in float64.
EXACT = 1000 * ulp(torch.float64)

NORMS = [
    *(nn.BatchNorm2d, nn.SyncBatchNorm),
    *(bn.BatchNorm2d, bn.layers.GhostBatchNorm2d, bn.layers.SyncBatchNorm),
]
