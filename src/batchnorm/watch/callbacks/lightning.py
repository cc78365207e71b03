"""PyTorch Lightning: a callback for its ``Trainer``."""

from __future__ import annotations

from typing import Any

from ..._errors import explain
from .._session import Watch
from .._watch import watch

try:
    from lightning.pytorch import Callback
except ImportError:
    try:
        from pytorch_lightning import Callback
    except ImportError:
        Callback = None

__all__ = ["WatchCallback"]

_Base: Any = object if Callback is None else Callback


class WatchCallback(_Base):  # type: ignore[misc]
    """Records while the trainer fits: ``Trainer(callbacks=[WatchCallback(to="run.jsonl")])``.

    Steps are those of the optimizers. Metrics that the module logs are recorded with them.

    Args:
        options: of :func:`batchnorm.watch`, without model and optimizer.

    Attributes:
        watching: the recording, from the start of the training on.

    Raises:
        RuntimeError: Lightning is not installed.
    """

    def __init__(self, **options: Any) -> None:
        if Callback is None:
            raise RuntimeError(
                explain(
                    "WatchCallback",
                    "this callback needs PyTorch Lightning",
                    "no such package",
                    "pip install lightning",
                )
            )
        super().__init__()
        self._options = options
        self.watching: Watch | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin."""
        optimizers = list(trainer.optimizers) or None
        self.watching = watch(pl_module, optimizer=optimizers, **self._options).start()

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Take what the module has logged."""
        if self.watching is not None:
            self.watching.log(**trainer.logged_metrics)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        """Count a step where there is no optimizer that does."""
        if self.watching is not None and not trainer.optimizers:
            self.watching.step()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """End."""
        self._close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """End, too."""
        self._close()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """End in any case."""
        self._close()

    def _close(self) -> None:
        if self.watching is not None:
            self.watching.close()
