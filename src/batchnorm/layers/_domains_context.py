"""The domain of everything that a model is given for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from .._errors import explain
from ._domain_memory import _DomainMemory

__all__ = ["domain"]


@contextmanager
def domain(model: nn.Module, labels: int | str | Tensor) -> Iterator[None]:
    """Tell every domain layer in a model the domain of what it is given.

    For models that call their layers with an input alone, as ``nn.Sequential`` does. A domain that
    is passed to a layer itself takes precedence. Contexts may be nested; each restores what was
    before, also when the body raises. Backward through activation checkpointing repeats the forward
    and must run inside.

    Args:
        model: every ``DomainBatchNorm`` and ``SplitBatchNorm`` in it takes part.
        labels: int64 ``(N,)``, one domain for all samples, or the name of a split.

    Raises:
        ValueError: the model has no such layer.

    Example:
        >>> model = torch.nn.Sequential(batchnorm.DomainBatchNorm1d(3, num_domains=2))
        >>> with domain(model, torch.tensor([0, 1, 1, 0])):
        ...     y = model(torch.randn(4, 3))
        >>> model[0].num_batches_tracked
        tensor([1, 1])
    """
    layers = [module for module in model.modules() if isinstance(module, _DomainMemory)]
    if not layers:
        raise ValueError(
            explain(
                "domain",
                "the model must have layers with domains",
                f"{type(model).__name__} with none",
                "Build it with batchnorm.DomainBatchNorm1d, 2d or 3d",
            )
        )

    before = [layer._domain for layer in layers]
    try:
        for layer in layers:
            layer._domain = labels
        yield
    finally:
        for layer, outer in zip(layers, before, strict=True):
            layer._domain = outer
