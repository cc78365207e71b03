"""BN020: the scale of a weight is normalised, and then batch norm takes it away."""

from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

from .._context import Context
from .._finding import Finding
from .._rule import Rule
from .._walk import behind, norm_at

__all__ = ["WeightNormBeforeNorm"]

_OLD = {"WeightNorm": "weight norm", "SpectralNorm": "spectral norm"}
_NEW = {"_WeightNorm": "weight norm", "_SpectralNorm": "spectral norm"}


class WeightNormBeforeNorm(Rule):
    """A layer with weight norm or spectral norm feeds batch norm, which undoes the scale.

    Checks: a convolution or linear layer with weight norm (*warning*) or spectral norm (*info*),
    whose output only batch norm reads.

    Why it hurts: batch norm divides by the standard deviation, so the length of a weight changes
    nothing: the gain of weight norm gets no gradient but rounding, and its division at every step
    is paid for nothing. Spectral norm bounds a layer's Lipschitz constant; batch norm behind it has
    a constant of its own, so the bound does not hold for the two together.

    Example: `nn.Sequential(weight_norm(nn.Conv2d(3, 16, 3)), nn.BatchNorm2d(16))`

    Instead: one of the two. A discriminator with spectral norm does without batch norm.

    Is the fix safe: there is none; see `torch.nn.utils.parametrize.remove_parametrizations`.

    Source: Salimans & Kingma 2016, section 2 (arXiv:1602.07868); Miyato et al. 2018
    (arXiv:1802.05957).
    """

    code = "BN020"
    name = "weight-norm-before-norm"
    severity = "warning"
    depth = "trace"

    def check(self, context: Context) -> Iterator[Finding]:
        """Layers whose normalised weight is normalised away."""
        graph = context.graph
        assert graph is not None
        for path, layer in context.modules.items():
            norm = _norm_of_weight(layer)
            calls = graph.calls_of(layer) if norm else []
            readers = [norm_at(context, behind(graph, call)) for call in calls]
            if readers and None not in readers:
                yield self.finding(
                    path,
                    f"{norm} sets a scale that batch norm {readers[0]!r} takes away",
                    "Use one of the two",
                    severity="warning" if norm == "weight norm" else "info",
                    norms=sorted({reader for reader in readers if reader is not None}),
                )


def _norm_of_weight(layer: Any) -> str:
    if not isinstance(layer, (_ConvNd, nn.Linear)):
        return ""
    hooks = [*layer._forward_pre_hooks.values()]
    parametrized = getattr(layer, "parametrizations", {})
    chains = [*parametrized["weight"]] if "weight" in parametrized else []
    names = [_OLD.get(type(hook).__name__) for hook in hooks]
    names += [_NEW.get(type(part).__name__) for part in chains]

    return next((name for name in names if name), "")
