"""A batch norm by domain, where one domain is fixed: its statistics, weight and bias."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from .._errors import explain
from ..layers._domain import _DomainBatchNorm
from ..layers._unseen import with_mean, with_pooled
from ._activations import module_of
from ._affine import Folded
from ._graph import Call

__all__ = ["FoldedDomain", "OneDomain", "domain_left_over", "is_by_domain", "one_domain"]

_CURE = "fold inside `with batchnorm.domain(model, k):`"
_ARGUMENT = 1  # after the input


class OneDomain(NamedTuple):
    """What eval mode uses for one domain.

    Args:
        name: for the report.
        domain: as calls name it.
        running_mean: ``(C,)``.
        running_var: ``(C,)``.
        weight: ``(C,)``, or None.
        bias: ``(C,)``, or None.
        eps: added to the variance.
    """

    name: str
    domain: int | str
    running_mean: Tensor
    running_var: Tensor
    weight: Tensor | None
    bias: Tensor | None
    eps: float


def is_by_domain(layer: nn.Module) -> bool:
    """Whether it is a domain or split batch norm with their forward."""
    own: Any = type(layer).forward
    usual = own is _DomainBatchNorm.forward and "forward" not in layer.__dict__

    return usual and isinstance(layer, _DomainBatchNorm)


def one_domain(layer: Any, calls: Sequence[Call]) -> OneDomain | str:
    """The domain of all calls, or why there is not one."""
    given = {_given(call, layer) for call in calls}
    if len(given) > 1:
        return "its calls are of different domains"
    domain = given.pop() if given else layer._domain
    if isinstance(domain, Call | Tensor):
        cure = "pass an integer" if isinstance(domain, Call) else _CURE
        return f"its domain is given for each sample: {cure}"
    try:
        at = layer._named(domain) if domain is None or isinstance(domain, str) else domain
    except RuntimeError:
        return f"no domain is fixed: {_CURE}"
    except ValueError:
        return f"it has no domain {domain!r}"
    if not -1 <= at < layer.num_domains:
        return f"there is no domain {at}"

    return _row(layer, at, at if domain is None else domain)


def _given(call: Call, layer: Any) -> Any:
    args = call.args[_ARGUMENT : _ARGUMENT + 1]
    domain = call.kwargs.get("domain", args[0] if args else None)

    return layer._domain if domain is None else domain


def _row(layer: Any, at: int, domain: int | str) -> OneDomain | str:
    lacks = layer._lacks_batch()
    tables: tuple[Tensor | None, ...] = (
        layer.running_mean, layer.running_var, layer.weight, layer.bias,
    )  # fmt: skip
    name = f"{layer.names[at]!r}" if hasattr(layer, "names") and at >= 0 else f"{at}"
    if at < 0 or bool(lacks[at]):
        if layer.unseen != "pooled":
            return f"domain {name} was never trained, and unseen={layer.unseen!r}"
        mean, var, weight, bias = tables
        tables = with_pooled(mean, var, ~lacks)  # type: ignore[arg-type]
        affine = (weight, bias)
        if not layer.shared_affine:
            affine = tuple(with_mean(table, ~lacks) for table in affine)  # type: ignore[assignment]
        tables, name, at = (*tables, *affine), f"{name}, all pooled", -1
    mean, var, weight, bias = tables
    assert mean is not None
    assert var is not None
    if not layer.shared_affine:
        weight, bias = (None if table is None else table[at] for table in (weight, bias))

    return OneDomain(name, domain, mean[at], var[at], weight, bias, layer.eps)


class FoldedDomain(Folded):
    """What is left of a batch norm by domain, one of which went elsewhere.

    Args:
        activation: applied last.
        slope: of leaky_relu and elu.
        domain: which; another cannot be asked for any more.
    """

    def __init__(self, activation: str, slope: float, domain: int | str) -> None:
        super().__init__(activation, slope)
        self.domain = domain

    def forward(  # type: ignore[override]
        self,
        input: Tensor,
        domain: int | str | None = None,
        residual: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Add the residual, activate, clear padding; arguments as for the batch norm."""
        if domain is not None and domain != self.domain:
            raise ValueError(
                explain(
                    "fold",
                    f"the model was folded for domain {self.domain!r}",
                    f"domain={domain!r}",
                    "Undo the folding, or fold another copy for it",
                )
            )

        return super().forward(input, residual, mask)

    def extra_repr(self) -> str:
        """The activation and the domain."""
        return f"{super().extra_repr()}, domain={self.domain!r}"


def domain_left_over(layer: Any, extras: bool, one: OneDomain) -> nn.Module:
    """What takes the layer's place.

    Args:
        layer: the batch norm.
        extras: whether it is called with a domain, a residual or a mask.
        one: the domain that was folded.
    """
    if not extras:
        return module_of(layer.activation, layer.slope)

    return FoldedDomain(layer.activation, layer.slope, one.domain)
