"""Whether what torch.fx saw of modules is what they do, on a sample."""

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree

from ._proof import record

__all__ = ["faithful"]


def faithful(
    model: nn.Module, traced: dict[nn.Module, fx.GraphModule], sample: Any
) -> set[nn.Module]:
    """The modules whose traces give the same outputs in every call that the sample leads to.

    torch.fx does not see that a branch depends on ``x is None`` or ``isinstance(x, list)``: the
    trace has one of the ways, and other calls go another. A module that is not called is not
    shown to be the same either.
    """
    verdicts: dict[nn.Module, bool] = {}
    given: dict[nn.Module, Any] = {}

    def before(module: nn.Module, args: Any, kwargs: Any) -> None:
        # A forward may overwrite its input.
        given[module] = _pytree.tree_map_only(Tensor, Tensor.clone, (args, kwargs))

    def after(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        args, kwargs = given.pop(module)
        try:
            again = traced[module].eval()(*args, **kwargs)
        except Exception:  # the trace may have baked anything in
            again = None
        verdicts[module] = verdicts.get(module, True) and _equal(output, again)

    handles = []
    for module in traced:
        handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        handles.append(module.register_forward_hook(after, with_kwargs=True))
    try:
        record(model, sample, gradients=False)
    finally:
        for handle in handles:
            handle.remove()

    return {module for module, same in verdicts.items() if same}


def _equal(one: Any, other: Any) -> bool:
    left, shape = _pytree.tree_flatten(one)
    right, other_shape = _pytree.tree_flatten(other)

    return shape == other_shape and all(map(_same, left, right))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one.nan_to_num(), other.nan_to_num())

    return type(one) is type(other) and bool(one == other)
