"""The door of the watch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from torch import nn

from .._errors import explain
from ._alerts import Alert, Alerts, Rule
from ._builtin import builtin
from ._session import Watch
from ._sites import Choice
from .sinks import Target

__all__ = ["watch"]


def watch(
    model: nn.Module,
    *,
    to: Target = None,
    every: int = 500,
    optimizer: Any = None,
    modules: Choice | None = None,
    conditions: bool = False,
    rules: Iterable[Rule] = (builtin,),
    on_alert: Literal["warn"] | Callable[[Alert], object] | None = "warn",
    name: str = "",
    across_ranks: bool = True,
) -> Watch:
    """Record what happens in a network while it trains.

    The numbers of the training stay the same, bit by bit. Hooks are there only in the steps that
    are recorded, and never after the ``with``.

    Args:
        model: as the training calls it, with what ``torch.compile`` or data parallelism put around
            it.
        to: where rows go. None: memory, see :attr:`Watch.recording`. A file name that ends with
            ``.jsonl`` or ``.parquet``; ``"live"``: the terminal; a TensorBoard ``SummaryWriter``; a
            sink of ``batchnorm.watch.sinks``; or a list of these.
        every: record step 0, and each that is a multiple.
        optimizer: of the training, or a list of which each makes one step; its hooks count the
            steps. None: call :meth:`Watch.step` after each.
        modules: which to watch: dotted paths, or ``modules(path, module)``; None: batch norms (any
            subclass of torch's) and activations.
        conditions: the condition number of every input, too: an eigenvalue problem per layer.
        rules: that raise alerts; ``batchnorm.doctor.while_training()`` is one with the doctor's.
        on_alert: ``"warn"``; a function of the :class:`Alert`, which may raise to stop the
            training; None: the recording only.
        name: of the run.
        across_ranks: one recording of all ranks' values, by the first; False: each rank records.

    Raises:
        ValueError: nothing to watch; an unknown sink; ``every`` below 1.
        TypeError: the optimizer is none of torch's.
        RuntimeError: the sink's package is not installed.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
        >>> optimizer = torch.optim.SGD(model.parameters(), 0.1)
        >>> with watch(model, optimizer=optimizer, every=2) as watching:
        ...     for _ in range(5):
        ...         model(torch.randn(16, 3)).square().mean().backward()
        ...         optimizer.step()
        >>> [row["step"] for row in watching.recording.layers if row["path"] == "1"]
        [0, 2, 4]
    """
    if every < 1:
        raise ValueError(
            explain("watch", "every= counts steps", f"every={every}", "Use every=500, or 1 for all")
        )

    return Watch(
        model, to=to, every=every, optimizer=optimizer, modules=modules, conditions=conditions,
        alerts=Alerts(rules, on_alert), name=name, across_ranks=across_ranks,
    )  # fmt: skip
