"""What rules look at: the model, what feeds what, the training set-up; each worked out once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from torch.utils import _pytree

from .._errors import explain
from ..stats._layers import innermost
from ..surgery._graph import Graph, arguments_of
from ..surgery._trace import trace
from ._live import Batch, Live
from ._untouched import untouched

__all__ = ["Context", "Distributed", "distributed_of"]


@dataclass(frozen=True)
class Distributed:
    """How training is spread.

    Args:
        world_size: processes.
        wrapper: ``"DistributedDataParallel"``, ``"DataParallel"``, or None.
        broadcast_buffers: DistributedDataParallel's option.
    """

    world_size: int = 1
    wrapper: str | None = None
    broadcast_buffers: bool = True


def distributed_of(model: nn.Module, given: Distributed | int | None) -> Distributed:
    """What is said, or else what the wrapper and the running process group say."""
    if isinstance(given, Distributed):
        return given
    wrappers = (nn.parallel.DistributedDataParallel, nn.DataParallel)
    wrapped = next((m for m in model.modules() if isinstance(m, wrappers)), None)
    size = given
    if size is None:
        there = torch.distributed.is_available() and torch.distributed.is_initialized()
        size = torch.distributed.get_world_size() if there else 1
        if isinstance(wrapped, nn.DataParallel):
            size = max(size, len(wrapped.device_ids))

    return Distributed(
        size,
        None if wrapped is None else type(wrapped).__name__,
        bool(getattr(wrapped, "broadcast_buffers", True)),
    )


class Context:
    """A model and its training set-up, as rules see them.

    Nothing here changes the model, its mode, its statistics or any random generator; everything is
    worked out when it is first asked for.

    Args:
        model: wrappers (data parallelism, ``torch.compile``) are taken off.
        sample: one input: a tensor, a tuple of arguments or a dict of named ones.
        loader: of batches; can be iterated more than once.
        optimizer: of the training.
        loss_fn: of the training.
        distributed: how training is spread, or the number of processes.
        batches: how many of the loader are looked at.
    """

    def __init__(
        self,
        model: nn.Module,
        sample: Any = None,
        *,
        loader: Iterable[Any] | None = None,
        optimizer: Optimizer | None = None,
        loss_fn: Any = None,
        distributed: Distributed | int | None = None,
        batches: int = 8,
    ) -> None:
        self.model = innermost(model)
        self.sample = sample
        self.loader = loader
        self.optimizer = optimizer
        self.loss_fn = loss_fn
        self.distributed = distributed_of(model, distributed)
        self.is_distributed_known = distributed is not None or self.distributed.world_size > 1
        self._limit = batches
        self._graph_reason = ""

    @cached_property
    def modules(self) -> dict[str, nn.Module]:
        """Path → module, each module once."""
        return dict(self.model.named_modules())

    @cached_property
    def paths(self) -> dict[nn.Module, str]:
        """Module → its first path."""
        return {module: path for path, module in self.modules.items()}

    @cached_property
    def layers(self) -> dict[str, Any]:
        """Path → batch norm layer: ours, torch's and all their subclasses, without lazy ones."""
        return {
            path: module
            for path, module in self.modules.items()
            if isinstance(module, _BatchNorm) and not _is_lazy(module)
        }

    @cached_property
    def lazy(self) -> list[str]:
        """Paths of modules that do not know their size yet: such a model is not run."""
        return [path for path, module in self.modules.items() if _is_lazy(module)]

    @cached_property
    def device(self) -> torch.device:
        """Of the first parameter or buffer."""
        tensors = (*self.model.parameters(), *self.model.buffers())

        return next((tensor.device for tensor in tensors), torch.device("cpu"))

    @cached_property
    def graph(self) -> Graph | None:
        """What feeds what in the model's present mode; None if it cannot be found out.

        A sample that the model can only run in eval mode (of one example) is run in eval mode.
        """
        if self.lazy:
            self._graph_reason = f"{self.lazy[0]} does not know its size yet"
            return None
        sample = self.sample
        if sample is None and self.batches:
            sample = self.batches[0].args or self.batches[0].kwargs
        for mode in (None, False) if self.model.training else (None,):
            try:
                with untouched(self.model):
                    if mode is not None:
                        self.model.train(mode)
                    return trace(self.model, self._moved(sample))
            except Exception as error:
                self._graph_reason = f"it cannot be traced: {_first_line(error)}"

        return None

    @property
    def graph_reason(self) -> str:
        """Why there is no graph."""
        return "" if self.graph is not None else self._graph_reason

    @cached_property
    def batches(self) -> list[Batch]:
        """The first of the loader, or the sample; on the model's device."""
        if self.loader is None:
            if self.sample is None:
                return []
            args, kwargs = arguments_of(self._moved(self.sample))
            return [Batch(args, kwargs, self.sample)]

        with untouched(self.model, self.loader):
            raw = [self._moved(batch) for batch in islice(iter(self.loader), self._limit)]

        return [Batch(*_arguments_of_batch(batch), batch) for batch in raw]

    @cached_property
    def live(self) -> Live | None:
        """The model run on the batches; None without any, or with lazy modules."""
        if not self.batches or self.lazy:
            return None

        return Live(self.model, self.layers, self.batches, self.loader)

    @cached_property
    def groups(self) -> dict[nn.Parameter, dict[str, Any]]:
        """Parameter → its group in the optimizer."""
        groups = [] if self.optimizer is None else self.optimizer.param_groups

        return {parameter: group for group in groups for parameter in group["params"]}

    def above(self, path: str) -> Iterator[nn.Module]:
        """The modules on the way from the model to a path, both included."""
        module = self.model
        yield module
        for name in path.split(".") if path else ():
            child = getattr(module, name, None)
            if not isinstance(child, nn.Module):
                return
            module = child
            yield module

    def _moved(self, batch: Any) -> Any:
        return _pytree.tree_map_only(Tensor, lambda t: t.to(self.device), batch)


def _is_lazy(module: nn.Module) -> bool:
    own: Sequence[Any] = (*module._parameters.values(), *module._buffers.values())

    return any(is_lazy(tensor) for tensor in own if tensor is not None)


def _arguments_of_batch(batch: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A tensor is the input; a mapping the keyword arguments; of a tuple the first is the input."""
    if hasattr(batch, "keys"):
        return (), dict(batch)
    if isinstance(batch, (tuple, list)) and batch:
        return (batch[0],), {}
    if isinstance(batch, Tensor):
        return (batch,), {}

    raise TypeError(
        explain(
            "diagnose",
            "a batch must be a tensor, a tuple that begins with the input, or a dict of arguments",
            f"a {type(batch).__name__}",
            "Wrap the loader so that it gives one of these",
        )
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
