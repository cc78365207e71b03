"""How a forward is listened to: by hooks, or by a run beside it where it is compiled."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from ._probe import is_compiled, run_aside
from ._recorder import Recorder

__all__ = ["Door"]


class Door:
    """Open while a step is recorded.

    Args:
        outer: the model as it is called, with its wrappers.
        inner: the model itself.
        recorder: listens to its modules.

    Attributes:
        batch: arguments of the last forward that came through.
    """

    def __init__(self, outer: nn.Module, inner: nn.Module, recorder: Recorder) -> None:
        self._outer, self._inner, self._recorder = outer, inner, recorder
        self._stack = ExitStack()
        self._aside = self._beside = False
        self.batch: tuple[tuple[Any, ...], dict[str, Any]] | None = None

    def open(self) -> None:
        """Put hooks on the model. No graph of ``torch.compile`` is made anew for it."""
        self.close()
        self._aside = is_compiled(self._outer)
        compiled = self._outer._compiled_call_impl
        if compiled is None:
            handle = self._outer.register_forward_pre_hook(self._enter, with_kwargs=True)
            self._stack.callback(handle.remove)
        else:
            self._around(compiled)
        if not self._aside:
            self._stack.callback(self._recorder.remove)
            self._recorder.install()

    def close(self) -> None:
        """Take them off."""
        self._stack.close()
        self.batch = None

    def _around(self, compiled: Callable[..., Any]) -> None:
        """``module.compile()`` has hooks inside the graph: come before it instead."""

        def call(*args: Any, **kwargs: Any) -> Any:
            self._enter(self._outer, args, kwargs)
            return compiled(*args, **kwargs)

        outer: Any = self._outer
        self._stack.callback(setattr, outer, "_compiled_call_impl", compiled)
        outer._compiled_call_impl = call

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if torch.compiler.is_compiling() or self._beside or not self._inner.training:
            return

        self.batch = args, kwargs
        if self._aside:
            self._recorder.guarded(self._run_aside, args, kwargs)

    def _run_aside(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._beside = True  # the run comes through this door itself
        try:
            self._recorder.install()
            run_aside(self._inner, args, kwargs)
        finally:
            self._recorder.remove()
            self._beside = False
