"""BN017: running statistics or parameters in half precision."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from ...surgery import Change, SurgeryReport
from ...surgery._swap import Surgery
from .._context import Context
from .._finding import Finding
from .._operate import operate
from .._rule import Rule
from .._training import covering, is_training, named

__all__ = ["HalfPrecision"]

_HALF = (torch.float16, torch.bfloat16)
_STATISTICS = ("running_mean", "running_var")
_PARAMETERS = ("weight", "bias")


class HalfPrecision(Rule):
    """Running statistics, or weight and bias, are float16 or bfloat16.

    Checks: a *warning* for running statistics in half precision in a model that is trained; *info*
    for those of a model for inference, and for weight and bias alone while they are trained. One
    finding per part of the model whose batch norms are all like that.

    Why it hurts: an update moves a running statistic by momentum times its distance from the batch.
    If that is less than half a step of the number format it is rounded away, and the statistic is
    stuck: in bfloat16 with momentum 0.1 within 2 % of its value, with momentum 0.01 within 20 %.
    float16 overflows at 65504, which a variance reaches where values are about 256.

    Example: `model.bfloat16()`, then training.

    Instead: autocast with float32 parameters; or this package's layers, whose statistics stay
    float32 in `.half()` and `.bfloat16()`.

    Is the fix safe: yes. Statistics, weight and bias become float32 with the same values, and the
    layer's output keeps the dtype of its input; it differs by rounding. Checkpoints from before
    load.

    Source: Micikevicius et al. 2018, section 3.3 (arXiv:1710.03740): batch norm reads half and
    computes in single precision.
    """

    code = "BN017"
    name = "half-precision"
    severity = "warning"
    depth = "tree"
    fixable = True

    def check(self, context: Context) -> Iterator[Finding]:
        """Parts of the model in half precision."""
        trains = is_training(context)
        stats = [path for path, layer in context.layers.items() if _half(layer, _STATISTICS)]
        for path, layers in covering(context, stats).items():
            dtype, margin = _margin(context.layers[layers[0]])
            yield self.finding(
                path,
                f"running statistics of {named(len(layers))} in {dtype}: an update is lost within "
                f"{margin:.2g} of the value",
                "Keep batch norm in float32",
                severity="warning" if trains else "info",
                fixable=trains and all(_is_plain(context, context.layers[p]) for p in layers),
                dtype=dtype,
                margin=margin,
                layers=layers,
            )
        affine = [
            path
            for path, layer in context.layers.items()
            if trains and path not in stats and _half(layer, _PARAMETERS)
        ]
        for path, layers in covering(context, affine).items():
            yield self.finding(
                path,
                f"weight and bias of {named(len(layers))} are trained in half precision",
                "Train float32 parameters under autocast",
                severity="info",
                fixable=False,
                layers=layers,
            )

    def fix(self, context: Context, finding: Finding) -> SurgeryReport:
        """Widen statistics and parameters to float32."""
        layers: list[Any] = [context.layers[path] for path in finding.measured["layers"]]

        def plan(surgery: Surgery) -> None:
            for layer in layers:
                for name in _STATISTICS:
                    surgery.set_buffer(layer, name, getattr(layer, name).float())
                for name, old in ((n, getattr(layer, n)) for n in _PARAMETERS):
                    if old is not None:
                        new = nn.Parameter(old.detach().float(), old.requires_grad)
                        surgery.set_parameter(layer, name, new)

        dtype = finding.measured["dtype"]
        change = Change(finding.path, "changed", dtype, "float32", finding.code)

        return operate(context, change, plan)


def _half(layer: Any, names: tuple[str, ...]) -> list[str]:
    tensors = {name: getattr(layer, name, None) for name in names}

    return [name for name, tensor in tensors.items() if getattr(tensor, "dtype", None) in _HALF]


def _margin(layer: Any) -> tuple[str, float]:
    """Dtype of the statistics, and the relative distance below which an update is rounded away."""
    dtype = getattr(layer, _half(layer, _STATISTICS)[0]).dtype
    # eps is the step above 1; below the next power of two it is half as large in proportion.
    momentum = layer.momentum or 1.0

    return str(dtype).removeprefix("torch."), torch.finfo(dtype).eps / 4 / momentum


def _is_plain(context: Context, layer: Any) -> bool:
    """Whether its tensors are its own, and can be exchanged."""
    own = {name: layer._parameters.get(name) for name in _PARAMETERS}
    if any(getattr(layer, name, None) is not own[name] for name in _PARAMETERS):
        return False
    ids = {id(tensor) for tensor in own.values() if tensor is not None}
    holders = [m for m in context.model.modules() if ids & set(map(id, m._parameters.values()))]

    return len(holders) < 2
