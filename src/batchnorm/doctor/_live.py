"""A few batches through the model: what enters every batch norm layer, and what comes out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from .._types import BatchStats
from ..stats._feed import eager
from ..stats._inputs import input_and_mask, measure
from ..stats._layers import has_own_input
from ..stats._population import Population
from ..stats._samples import by_sample
from ._untouched import untouched

__all__ = ["Batch", "Heard", "Live", "Mode", "Run", "Visit"]

Mode = Literal["train", "eval", "norms"]
"""``"train"``, ``"eval"``: the whole model. ``"norms"``: batch norm as in training and all else
(dropout) as in inference."""

Visit = Callable[[str, nn.Module, tuple[Any, ...], dict[str, Any], Any], None]
"""``visit(path, module, args, kwargs, output)``, after each call of a module."""


@dataclass(frozen=True)
class Batch:
    """Arguments of one forward.

    Args:
        args: positional ones.
        kwargs: named ones.
        raw: what the loader gave, with targets; the sample itself without a loader.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    raw: Any

    @property
    def size(self) -> int:
        """Examples: the first dimension of the first tensor; 0 without any."""
        tensors = (x for x in _pytree.tree_leaves((self.args, self.kwargs)) if torch.is_tensor(x))
        first = next(tensors, None)

        return len(first) if first is not None and first.dim() else 0


@dataclass(frozen=True)
class Heard:
    """What entered a layer in one call.

    Args:
        batch: which of the batches.
        shape: of the input.
        dtype: of the input.
        masked: whether the call had a mask.
        stats: count, mean and biased variance per channel, of real positions; None where the input
            is not ``(N, C, *)``.
        draws: the same with every example as one independent draw, from which standard errors
            come; None also for fewer than two examples, and in eval mode.
    """

    batch: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    masked: bool
    stats: BatchStats | None
    draws: Population | None


@dataclass
class Run:
    """All batches in one mode.

    Args:
        mode: of the model.
        heard: path → calls of the layer, in order.
        outputs: of the model, one per batch.
        error: what the model raised; later batches did not run.
    """

    mode: Mode
    heard: dict[str, list[Heard]] = field(default_factory=dict)
    outputs: list[Any] = field(default_factory=list)
    error: Exception | None = None


class Live:
    """Runs the batches, each mode once and only when asked, and leaves no trace.

    Args:
        model: without wrappers.
        layers: path → batch norm layer.
        batches: on the model's device.
        loader: whose random generators are kept too.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: dict[str, Any],
        batches: list[Batch],
        loader: Iterable[Any] | None = None,
    ) -> None:
        self.model, self.layers, self.batches, self.loader = model, layers, batches, loader

    @cached_property
    def train(self) -> Run:
        """The whole model in training mode (layers that refuse it, being frozen, excepted)."""
        return self._run("train")

    @cached_property
    def eval(self) -> Run:
        """The whole model in eval mode."""
        return self._run("eval")

    @cached_property
    def norms(self) -> Run:
        """Batch norm in training mode, all else in eval mode."""
        return self._run("norms")

    def _run(self, mode: Mode) -> Run:
        run = Run(mode, {path: [] for path in self.layers})

        def enter(path: str, layer: nn.Module, args: Any, kwargs: Any) -> None:
            heard = _heard(layer, args, kwargs, len(run.outputs), draws=mode != "eval")
            run.heard[path].append(heard)

        with ExitStack() as stack:
            for path, layer in self.layers.items():
                handle = layer.register_forward_pre_hook(
                    lambda m, args, kwargs, path=path: enter(path, m, args, kwargs),
                    with_kwargs=True,
                )
                stack.callback(handle.remove)
            run.error = self._forward(mode, run.outputs.append)

        return run

    def runs(self, mode: Mode) -> bool:
        """Whether the model runs the first batch in a mode."""
        return self._forward(mode, lambda output: None, self.batches[:1]) is None

    def listen(self, mode: Mode, modules: dict[str, nn.Module], visit: Visit) -> Exception | None:
        """Run all batches and hear every call of these modules.

        Args:
            mode: of the model.
            modules: by path.
            visit: is told of each call; the values must not be written to.

        Returns:
            What the model raised, or None.
        """
        with ExitStack() as stack:
            for path, module in modules.items():
                handle = module.register_forward_hook(
                    lambda m, args, kwargs, output, path=path: visit(path, m, args, kwargs, output),
                    with_kwargs=True,
                )
                stack.callback(handle.remove)

            return self._forward(mode, lambda output: None)

    def outputs(self, mode: Mode, batches: Iterable[Batch]) -> list[Any]:
        """The model's outputs for batches of your own.

        Raises:
            Exception: whatever the model raises.
        """
        found: list[Any] = []
        error = self._forward(mode, found.append, batches)
        if error is not None:
            raise error

        return found

    def _forward(
        self, mode: Mode, take: Callable[[Any], None], batches: Iterable[Batch] | None = None
    ) -> Exception | None:
        with untouched(self.model, self.loader), eager(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the model's own; it has given them already
            try:
                self._set(mode)
            except Exception as error:  # exported programs have one mode only
                return error
            for batch in self.batches if batches is None else batches:
                # A model may overwrite its input.
                args, kwargs = _pytree.tree_map_only(
                    Tensor, torch.clone, (batch.args, batch.kwargs)
                )
                try:
                    take(self.model(*args, **kwargs))
                except Exception as error:
                    return error

        return None

    def _set(self, mode: Mode) -> None:
        self.model.train(mode == "train")
        if mode == "norms":
            for layer in self.layers.values():
                layer.train()


def _heard(
    layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], batch: int, *, draws: bool
) -> Heard:
    input, mask = input_and_mask(layer, args, kwargs)
    input = input.detach()
    own = has_own_input(layer) if getattr(layer, "running_mean", None) is not None else False
    odd = own or input.dim() < 2 or input.shape[1] != getattr(layer, "num_features", None)
    stats = None if odd else measure(input, mask, "diagnose")
    drawn = None if odd or len(input) < 2 or not draws else by_sample(input, mask)

    return Heard(batch, tuple(input.shape), input.dtype, mask is not None, stats, drawn)
