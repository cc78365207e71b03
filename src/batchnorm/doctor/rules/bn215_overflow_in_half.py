"""BN215: values at the edge of float16."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from ...stats._inputs import input_and_mask
from .._context import Context
from .._finding import Finding
from .._rule import Rule

__all__ = ["OverflowInHalf"]

_LARGEST = torch.finfo(torch.float16).max
_MARGIN = 4


class OverflowInHalf(Rule):
    """What enters a layer does not fit into float16, or hardly.

    Checks: the largest value on the given batches. In float16 more than a quarter of 65 504 is a
    *warning*: spread over more batches and steps two more bits are soon used. In float32 more than
    65 504 is *info*, since nothing says that training will be in half precision.

    Why it hurts: one overflow is an infinite batch mean, which torch's layers take into the running
    statistics for good (BN101). The scaler of mixed precision looks at gradients only, after that.

    Example: unstandardised inputs in `torch.autocast("cpu", torch.float16)`.

    Instead: bfloat16; standardised inputs; a batch norm earlier; layers of this package, which keep
    such batches out.

    Is the fix safe: there is none; precision is set by your code.

    Source: pytorch/pytorch#88474, #115500 (both open); Micikevicius et al. 2018 (arXiv:1710.03740).
    """

    code = "BN215"
    name = "overflow-in-half"
    severity = "warning"
    depth = "live"

    def check(self, context: Context) -> Iterator[Finding]:
        """Layers with large inputs."""
        assert context.live is not None
        largest: dict[str, float] = {}
        half: set[str] = set()

        def visit(path: str, layer: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            input, _ = input_and_mask(layer, args, kwargs)
            if torch.is_tensor(input) and input.numel() and input.is_floating_point():
                size = float(input.detach().abs().max())
                largest[path] = max(size, largest.get(path, 0.0))
                if input.dtype == torch.float16:
                    half.add(path)

        context.live.listen("norms", context.layers, visit)
        for path, size in largest.items():
            if size > (_LARGEST / _MARGIN if path in half else _LARGEST):
                yield self.finding(
                    path,
                    f"values up to {size:.3g} enter, where float16 ends at {_LARGEST:.0f}",
                    "Use bfloat16, or standardise the input",
                    severity="warning" if path in half else "info",
                    largest=size,
                )
