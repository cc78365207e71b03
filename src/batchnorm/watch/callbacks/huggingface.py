"""Hugging Face: a callback for the ``Trainer`` of transformers."""

from __future__ import annotations

from typing import Any

from ..._errors import explain
from .._session import Watch
from .._watch import watch

try:
    from transformers import TrainerCallback
except ImportError:
    TrainerCallback = None

__all__ = ["WatchCallback"]

_Base: Any = object if TrainerCallback is None else TrainerCallback


class WatchCallback(_Base):  # type: ignore[misc]
    """Records while the trainer trains: ``Trainer(..., callbacks=[WatchCallback(to="r.jsonl")])``.

    The trainer tells its callbacks nothing when it raises; ``with callback: trainer.train()`` ends
    the recording then, too.

    Args:
        options: of :func:`batchnorm.watch`, without model and optimizer.

    Attributes:
        watching: the recording, from the start of the training on.

    Raises:
        RuntimeError: transformers is not installed.
    """

    def __init__(self, **options: Any) -> None:
        if TrainerCallback is None:
            raise RuntimeError(
                explain(
                    "WatchCallback",
                    "this callback needs transformers",
                    "no such package",
                    "pip install transformers",
                )
            )
        super().__init__()
        self._options = options
        self.watching: Watch | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin."""
        self.close()
        optimizer = kwargs.get("optimizer")
        self.watching = watch(kwargs["model"], optimizer=optimizer, **self._options).start()

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the numbers that the trainer logs."""
        logs = kwargs.get("logs") or {}
        if self.watching is not None:
            numbers = {n: v for n, v in logs.items() if isinstance(v, (int, float))}
            self.watching.log(**numbers)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count a step where there is no optimizer that does."""
        if self.watching is not None and kwargs.get("optimizer") is None:
            self.watching.step()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End."""
        self.close()

    def close(self) -> None:
        """End the recording."""
        if self.watching is not None:
            self.watching.close()

    def __enter__(self) -> WatchCallback:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
