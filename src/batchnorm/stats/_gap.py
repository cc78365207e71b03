"""How far running statistics are from a batch's, layer by layer, and what that does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from .._errors import explain
from ._feed import Forward, call, eager, mover
from ._gap_layers import comparison
from ._gap_report import GapReport
from ._layers import find_layers, innermost
from ._restore import Saved, borrowed, modes
from ._sights import sighted, why_no_sight

__all__ = ["train_eval_gap"]

Loss = Callable[[Any, Any], Tensor]
"""Loss of a model's output and the batch that it came from."""


def train_eval_gap(
    model: nn.Module,
    batch: Any,
    *,
    loss: Loss | None = None,
    forward: Forward = call,
    device: Any = None,
) -> GapReport:
    r"""Compare what each batch norm remembers with what this batch shows it.

    The batch passes with batch statistics, as in training; each layer's input is compared with
    the layer's memory. A standard error is the sampling error of the batch's own mean (variance),
    from its examples as the independent draws; positions of one example are not independent. If the
    running statistics are right, the errors of a fresh batch are about ±1. Layers that remember
    domains, time steps or covariances are compared by each of those.

    Args:
        model: with torch's layers, ours, or subclasses of either.
        batch: one batch, 30 examples or more for the errors to mean something.
        loss: ``loss(output, batch)``: then the model's loss is measured with batch statistics, with
            running ones, and with each layer alone on running ones (a forward per layer).
        forward: ``forward(model, batch)``; by default as for ``recalibrate``.
        device: that the batch is moved to; None: where the first layer is.

    Returns:
        Per layer and in all; ``print()`` shows a table, ``.plot()`` a chart.

    Raises:
        ValueError: no layer to look at, none was reached, or fewer than two examples.

    Only batch norms change mode: dropout is off everywhere, so that nothing else differs. The
    model is left as it was.

    Example:
        >>> layer = torch.nn.BatchNorm1d(2)
        >>> report = train_eval_gap(layer, torch.randn(64, 2) + 5)
        >>> report.layers[0].share
        1.0
    """
    inner = innermost(model)
    found = find_layers(inner, "train_eval_gap")
    odd = {path: why_no_sight(layer) for path, layer in found.layers.items()}
    layers = {path: layer for path, layer in found.layers.items() if not odd[path]}
    left = found.left | {path: reason for path, reason in odd.items() if reason}
    if not layers:
        raise ValueError(_nothing(f"only {', '.join(left)}"))

    saved = Saved(layers.values())
    moved = mover(next(iter(layers.values())).running_mean, device)(batch)
    try:
        with torch.no_grad(), eager():
            return _Comparison(inner, layers, left, moved, loss, forward).report()
    finally:
        saved.restore()


class _Comparison:
    """The forwards of one report."""

    def __init__(
        self,
        model: nn.Module,
        layers: dict[str, Any],
        left: dict[str, str],
        batch: Any,
        loss: Loss | None,
        forward: Forward,
    ) -> None:
        self.model, self.layers, self.left, self.batch = model, layers, left, batch
        self.loss, self.forward = loss, forward

    def report(self) -> GapReport:
        seen = {path: comparison(layer) for path, layer in self.layers.items()}
        by_id = {id(layer): seen[path] for path, layer in self.layers.items()}

        with sighted(self.layers.values(), lambda layer, sight: by_id[id(layer)].take(sight)):
            train = self._run(self.layers.values())
        evaluated = self._run([])

        rows = []
        for path, layer in self.layers.items():
            if seen[path].is_empty:
                self.left[path] = "saw no values"
                continue
            others = [other for other in self.layers.values() if other is not layer]
            alone = self._loss(self._run(others)) if self.loss else float("nan")
            rows.append(seen[path].row(path, alone))
        if not rows:
            raise ValueError(_nothing("a forward that reached none of them"))

        return GapReport(
            tuple(rows),
            self.left,
            _apart(evaluated, train),
            self._loss(train),
            self._loss(evaluated),
        )

    def _run(self, by_batch: Iterable[Any]) -> Any:
        """The model's output with these layers on batch statistics, the others on running ones."""
        by_batch = list(by_batch)
        ours = [layer for layer in by_batch if hasattr(layer, "_updates")]
        theirs = [layer for layer in by_batch if not hasattr(layer, "_updates")]
        with (
            modes(self.model, by_batch),
            borrowed(ours, _updates=False),
            borrowed(theirs, momentum=0.0),
        ):
            return self.forward(self.model, self.batch)

    def _loss(self, output: Any) -> float:
        return float("nan") if self.loss is None else float(self.loss(output, self.batch))


def _apart(output: Any, reference: Any) -> float:
    if not (isinstance(output, Tensor) and output.is_floating_point()):
        return float("nan")

    a, b = output.double(), reference.double()

    return float((a - b).square().mean().sqrt() / (b - b.mean()).square().mean().sqrt())


def _nothing(got: str) -> str:
    return explain(
        "train_eval_gap",
        "the batch must reach a batch norm that it can be compared with",
        got,
        "Pass such a model and a batch for it",
    )
