"""Hooks that measure what goes into every watched module and what comes out."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..ops import FLOAT_DTYPES, Lane, choose_lane
from ._sites import Site, input_and_mask
from ._values import Values, first_tensor, take

__all__ = ["CALLS", "Heard", "Recorder"]

CALLS = 4
"""Calls of one module in one forward that are recorded, each as a place of its own."""

_graph_task = torch._C._current_graph_task_id


@dataclass
class Heard:
    """What was measured at one place.

    Args:
        path: dotted, with ``:2`` for the second call.
        site: the module.
        training: its mode.
        memory: running mean and variance before the first call, where they are per channel.
        tracked: batches that the memory had seen by then.
        calls: that were measured: more than one for micro-batches.
        passes: of the first place: all calls of the module.
        input: None where it was no tensor of numbers.
        output: likewise.
    """

    path: str
    site: Site
    training: bool
    memory: tuple[Tensor, Tensor] | None
    tracked: Tensor | None
    calls: int = 0
    passes: int = 0
    input: Values | None = None
    output: Values | None = None


class Recorder:
    """Listens to modules while it is installed.

    Args:
        model: whose forward begins a new round of calls.
        sites: what to listen to.
        size: of the samples.
        rows: whether whole positions of inputs are kept.
    """

    def __init__(self, model: nn.Module, sites: Iterable[Site], size: int, rows: bool) -> None:
        self._model, self._sites, self._size, self._rows = model, list(sites), size, rows
        self._handles: list[Any] = []
        self.heard: dict[str, Heard] = {}
        self.failure: Exception | None = None
        self._begin()

    def _begin(self) -> None:
        self._calls: Counter[str] = Counter()
        self._open: dict[str, list[Heard | None]] = {}
        self._last: tuple[Any, int, Values] | None = None

    @property
    def installed(self) -> bool:
        """Whether there are hooks."""
        return bool(self._handles)

    def install(self) -> None:
        """Put hooks on the modules; all of them or none."""
        try:
            self._handles.append(self._model.register_forward_pre_hook(self._enter_model))
            for site in self._sites:
                before, after = _hooks(self, site)
                module = site.module
                self._handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
                self._handles.append(module.register_forward_hook(after))
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """Take the hooks off."""
        while self._handles:
            self._handles.pop().remove()
        self._begin()

    def taken(self) -> list[Heard]:
        """What was heard since the last time, in the order of the forward."""
        heard, self.heard = list(self.heard.values()), {}

        return heard

    def _enter_model(self, model: nn.Module, args: Any) -> None:
        if not torch.compiler.is_compiling():
            self._begin()

    def _listens(self) -> bool:
        """Not to a validation pass, and not to a recomputation by activation checkpointing."""
        return self._model.training and _graph_task() == -1 and self.failure is None

    def guarded(self, listen: Callable[..., None], *args: Any) -> None:
        """Listen, and remember a failure of it: the training must not fail for it."""
        try:
            with torch.no_grad():
                listen(*args)
        except Exception as error:
            self.failure = error

    def enter(self, site: Site, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A watched module is called."""
        if not self._listens():
            return

        self._calls[site.path] += 1
        call = self._calls[site.path]
        stack = self._open.setdefault(site.path, [])
        if call > 1 and site.path in self.heard:
            self.heard[site.path].passes += 1
        if call > CALLS:
            stack.append(None)
            return

        path = site.path if call == 1 else f"{site.path}:{call}"
        heard = self.heard.get(path)
        if heard is None:
            heard = self.heard[path] = _new(path, site)
        heard.passes += call == 1
        stack.append(heard)
        value, mask = input_and_mask(site.module, args, kwargs)
        heard.input = _merged(heard.input, self._measure(heard, value, mask, enters=True))

    def leave(self, site: Site, output: Any) -> None:
        """A watched module returns."""
        stack = self._open.get(site.path)
        if not stack or _graph_task() != -1:
            return

        heard = stack.pop()
        if heard is not None:
            heard.calls += 1
            heard.output = _merged(heard.output, self._measure(heard, output, None, enters=False))

    def _measure(self, heard: Heard, value: Any, mask: Any, *, enters: bool) -> Values | None:
        x = first_tensor(value)
        if x is None or x.dtype not in FLOAT_DTYPES or choose_lane(x) is not Lane.EAGER:
            return None
        again = mask is None and not self._rows and heard.site.kind != "batchnorm"
        known = self._known(x) if again else None
        if known is not None:
            return known

        axis = getattr(heard.site.module, "channel_axis", 1)
        if isinstance(axis, int) and x.dim() > 2 and x is value:
            x = x.movedim(axis, 1)
        found = take(
            x,
            mask,
            self._size,
            errors=enters and heard.site.kind == "batchnorm",
            rows=enters and self._rows,
        )
        if found is not None and not enters and not x.is_inference():
            self._last = (weakref.ref(value), x._version, found) if x is value else None

        return found

    def _known(self, x: Tensor) -> Values | None:
        """The last output, if this is it: what leaves a batch norm most often enters a ReLU."""
        if self._last is None or x.is_inference():
            return None
        last, version, values = self._last

        return values if last() is x and x._version == version else None


def _hooks(recorder: Recorder, site: Site) -> tuple[Any, Any]:
    def before(module: nn.Module, args: Any, kwargs: Any) -> None:
        # A graph that is compiled while hooks are there must not have them in it.
        if not torch.compiler.is_compiling():
            recorder.guarded(recorder.enter, site, args, kwargs)

    def after(module: nn.Module, args: Any, output: Any) -> None:
        if not torch.compiler.is_compiling():
            recorder.guarded(recorder.leave, site, output)

    return before, after


def _new(path: str, site: Site) -> Heard:
    module: Any = site.module
    memory = tracked = None
    if site.kind == "batchnorm":
        mean, var = module.running_mean, module.running_var
        if mean is not None and var is not None and mean.dim() == 1:
            memory = mean.detach().clone(), var.detach().clone()
        count = module.num_batches_tracked
        tracked = None if count is None else count.detach().clone()

    return Heard(path, site, module.training, memory, tracked)


def _merged(old: Values | None, new: Values | None) -> Values | None:
    if old is None or new is None:
        return new if old is None else old
    if old.stats.mean.shape != new.stats.mean.shape:
        return old

    return old.merge(new)
