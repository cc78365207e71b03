"""A recording in progress: a context manager around a training loop."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from .._errors import explain
from ._alerts import Alert, Alerts, Moment
from ._changes import Changes
from ._door import Door
from ._entries import alert_rows, run_row, scalar_rows
from ._ranks import Ranks
from ._recorder import Recorder
from ._schema import Recording, Row
from ._sites import Choice, find_sites, innermost
from ._steps import Steps
from ._table import Table
from .sinks import Memory, Target, choose

__all__ = ["Watch", "WatchWarning"]

_SAMPLES = 1024


class WatchWarning(UserWarning):
    """A recording is not what was asked for."""


class Watch:
    """A recording in progress; made by :func:`watch`.

    Attributes:
        steps: that are done.
        alerts: all that were seen, on the first rank.
        sinks: where rows go; none on the other ranks.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        to: Target,
        every: int,
        optimizer: Any,
        modules: Choice | None,
        conditions: bool,
        alerts: Alerts,
        name: str,
        across_ranks: bool,
    ) -> None:
        self._model = innermost(model)
        device = next((t.device for t in model.parameters()), torch.device("cpu"))
        self._ranks = Ranks(across_ranks, device, _SAMPLES)
        sites = find_sites(self._model, modules)
        self._recorder = Recorder(self._model, sites, self._ranks.share, conditions)
        self._door = Door(model, self._model, self._recorder)
        self._changes = Changes(self._model)
        self._table = Table(self._ranks.size)
        self._optimizers = Steps(optimizer, self._copy, self._gradients, self._finish)
        self._rules = alerts
        self._every = every
        self._run = run_row(name, self._model, every, self._ranks.size)
        self._last: dict[str, Row] = {}
        self._scalars: dict[str, float | Tensor] = {}
        self._running = self._armed = self._given_up = False
        self.alerts: list[Alert] = []
        self.sinks = choose(to) if self._ranks.rank == 0 else []
        self.steps = 0

    def start(self) -> Self:
        """Begin to record; ``with`` does it."""
        if self._running:
            return self
        self._running, self._began = True, time.monotonic()
        try:
            for sink in self.sinks:
                sink.open(self._run)
            self._optimizers.install()
            self._arm()
        except BaseException:
            self.close()
            raise

        return self

    def close(self) -> None:
        """Take every hook off and close the sinks; ``with`` does it, whatever ended the body."""
        self._disarm()
        self._optimizers.remove()
        if not self._running:
            return
        self._running = False
        for sink in self.sinks:
            self._guarded(sink.close)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.close()

    def step(self) -> None:
        """A step of training is over: call it after each, unless ``optimizer=`` was given.

        Raises:
            RuntimeError: it was given.
        """
        if self._optimizers.optimizers:
            raise RuntimeError(
                explain(
                    "watch",
                    "the optimizer's hooks count the steps",
                    "optimizer= and a call of step()",
                    "Leave one of them out",
                )
            )
        self._finish()

    def log(self, **values: float | Tensor) -> None:
        """Numbers of your own beside the layers', like ``log(loss=loss)``.

        Call it before the optimizer's step. In steps that are not recorded it does nothing, and
        reads no tensor.
        """
        if self._armed:
            self._scalars |= {
                name: value.detach() if isinstance(value, Tensor) else value
                for name, value in values.items()
            }

    @property
    def recording(self) -> Recording:
        """What was recorded so far, with ``to=None``.

        Raises:
            RuntimeError: it is not in memory.
        """
        for sink in self.sinks:
            if isinstance(sink, Memory):
                return sink.recording

        raise RuntimeError(
            explain(
                "watch",
                "the recording is in memory with to=None, on the first rank",
                f"sinks {[type(sink).__name__ for sink in self.sinks]}",
                "Read the file with batchnorm.watch.read",
            )
        )

    def _arm(self) -> None:
        """Listen to the coming step, if it is one to record."""
        if not self._given_up and self.steps % self._every == 0:
            self._armed = True
            self._door.open()
            if not self._optimizers.optimizers:
                self._guarded(self._changes.before)

    def _disarm(self) -> None:
        self._armed = False
        self._door.close()
        self._changes.forget()
        self._recorder.taken()

    def _copy(self) -> None:
        """Parameters are about to move."""
        if self._armed:
            self._guarded(self._changes.before)

    def _gradients(self, optimizer: Any) -> None:
        """An optimizer has its gradients."""
        if self._armed:
            self._guarded(self._changes.gradients, optimizer)

    def _finish(self) -> None:
        """The parameters have moved."""
        if not self._running:
            return
        if not self._armed:  # most steps
            self.steps += 1
            self._arm()
            return

        alerts = self._record()
        self._disarm()
        self.steps += 1
        self._arm()
        self.alerts += alerts
        self._rules.tell(alerts)

    def _record(self) -> list[Alert]:
        """Make the rows of this step and write them."""
        if not self._optimizers.optimizers:
            self._guarded(self._changes.gradients)
        heard = self._recorder.taken()
        failure = self._recorder.failure
        together = self._ranks.unite(heard, failed=failure is not None or self._given_up)
        if together is None:
            self._give_up(failure or "another rank failed, or measured other layers")
            return []
        if not together:
            self._warn(
                "no watched module was called in training mode. If the forward is compiled, pass "
                "the compiled module; if parts are called directly, watch those"
            )
        changes = self._guarded(self._changes.after) or {}
        seconds = time.monotonic() - self._began
        rows = self._guarded(self._table.rows, together, changes, self.steps, seconds) or []
        optimizers = self._optimizers.optimizers
        moment = Moment(self._model, self.steps, rows, self._last, optimizers, self._door.batch)
        alerts: list[Alert] = self._guarded(self._rules.ask, moment) or []
        self._last |= {row["path"]: row for row in rows}
        scalars, self._scalars = self._scalars, {}
        if self._ranks.rank == 0:
            own = self._guarded(scalar_rows, scalars, optimizers, self.steps, seconds) or []
            self._write([*rows, *own, *alert_rows(alerts, seconds)])

        return alerts if self._ranks.rank == 0 else []

    def _write(self, rows: Sequence[Row]) -> None:
        for sink in self.sinks:
            self._guarded(sink.write, rows)

    def _guarded(self, action: Callable[..., Any], *args: Any) -> Any:
        """Do it; a failure ends the recording, not the training."""
        try:
            return action(*args)
        except Exception as error:
            self._give_up(error)
            return None

    def _give_up(self, reason: object) -> None:
        if not self._given_up:
            self._given_up = True
            self._warn(f"the recording has ended, the training goes on: {reason!r}")

    def _warn(self, text: str) -> None:
        warnings.warn(f"watch: {text}.", WatchWarning, stacklevel=2)
