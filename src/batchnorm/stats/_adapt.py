"""Adapting a model to a data set that comes from elsewhere, without labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from .._errors import explain
from ._entropy import Optimizer, ResetGuard, ResetReason
from ._feed import Forward, call
from ._layer_memory import count_row, memory_of, rows_by, write_memory
from ._layers import find_layers, innermost
from ._online import Method, OnlineAdapter, adam, check_method
from ._ranks import ranks
from ._recalibrate import recalibrate
from ._reports import RecalibrationReport
from ._restore import Saved

__all__ = ["AdaptReport", "adapt"]


@dataclass(frozen=True)
class AdaptReport:
    """What ``adapt`` did.

    Args:
        method: that was used.
        statistics: of the new data against the old ones.
        examples: of the new data that were read, on all ranks.
        share: weight of the new statistics, 0 to 1.
        entropies: mean entropy of each batch's predictions, in nats; empty unless ``"tent"``.
        resets: after which batches the guard went back, and why.
    """

    method: Method
    statistics: RecalibrationReport
    examples: int
    share: float
    entropies: tuple[float, ...]
    resets: tuple[tuple[int, ResetReason], ...]
    _restore: Callable[[], None] = field(repr=False, compare=False)

    def undo(self) -> None:
        """Give the model the statistics, weights and biases that it had before."""
        self._restore()

    def __str__(self) -> str:
        lines = [f"adapted by {self.method} to {self.examples} examples"]
        if self.share < 1:
            lines[0] += f", which weigh {self.share:.1%}"
        if self.entropies:
            lines.append(f"entropy {self.entropies[0]:.3g} → {self.entropies[-1]:.3g} nats")
        if self.resets:
            lines.append(
                f"{len(self.resets)} resets, last after batch {self.resets[-1][0]}: "
                f"{self.resets[-1][1]}"
            )

        return "\n".join([*lines, str(self.statistics)])


def adapt(
    model: nn.Module,
    loader: Iterable[Any],
    method: Method = "adabn",
    *,
    prior: float = 16.0,
    epochs: int = 1,
    optimizer: Optimizer = adam,
    guard: ResetGuard | None = None,
    reliable: float | None = None,
    logits: Callable[[Any], Tensor] = lambda output: output,
    forward: Forward = call,
    device: Any = None,
    across_ranks: bool = True,
    progress: bool | None = None,
) -> AdaptReport:
    r"""Adapt a trained model to unlabelled data from another source; then use it in eval mode.

    - ``"adabn"``: running statistics become those of this data.
    - ``"mix"``: both, the old ones counting as ``prior`` examples against all examples read.
    - ``"tent"``: γ and β are first learned by lowering the entropy of the predictions, batch by
      batch; then the statistics are measured.

    For a stream, where each batch is predicted when it comes, use :class:`OnlineAdapter`.

    Args:
        model: with torch's layers, ours, or subclasses of either.
        loader: of batches, without labels or with labels that ``forward`` leaves out.
        method: see above.
        prior: what the old statistics are worth, in examples. For ``"mix"``.
        epochs: passes of learning. For ``"tent"``.
        optimizer: makes the optimizer of γ and β. For ``"tent"``.
        guard: when to go back to the first γ and β. For ``"tent"``.
        reliable: leave out predictions with more entropy than this share of ln(classes); None: take
            all. For ``"tent"``.
        logits: ``(N, classes, *)`` from the model's output. For ``"tent"``.
        forward: ``forward(model, batch)``; by default as for ``recalibrate``.
        device: that batches are moved to; None: where the first layer is.
        across_ranks: statistics of the union of all ranks' data; γ and β are learned by one process
            only.
        progress: show a bar; None: if rich is installed and stderr is a terminal.

    Returns:
        What changed; ``.undo()`` goes back.

    Raises:
        ValueError: no layer to adapt, or no batch reached one.
        RuntimeError: ``"tent"`` on several ranks.

    If it raises, the model is as it was.

    Source: Li et al. 2017 (arXiv:1603.04779); Schneider et al. 2020 (arXiv:2006.16971); Wang et al.
        2021 (arXiv:2006.10726).

    Example:
        >>> model = torch.nn.BatchNorm1d(1, affine=False)
        >>> report = adapt(model, [torch.tensor([[9.0], [11.0]])], "mix", prior=2)
        >>> model.running_mean
        tensor([5.])
    """
    check_method("adapt", method, prior)
    inner = innermost(model)
    layers = list(find_layers(inner, "adapt").layers.values())
    affine = [p for layer in layers for p in (layer.weight, layer.bias) if p is not None]
    saved = Saved(layers, affine)
    _check_loader(loader, method)
    try:
        entropies: list[float] = []
        resets: list[tuple[int, ResetReason]] = []
        if method == "tent":
            team = ranks("adapt", None, across_ranks, layers[0].running_mean.device)
            _check_alone(team.size)
            learner = OnlineAdapter(
                inner, method, optimizer=optimizer, guard=guard, reliable=reliable,
                logits=logits, forward=forward, device=device,
            )  # fmt: skip
            for _ in range(epochs):
                for batch in loader:
                    learner(batch)
            entropies, resets = learner.entropies, learner.resets

        counter = _Counter(forward)
        statistics = recalibrate(
            inner, loader, forward=counter, device=device, across_ranks=across_ranks,
            progress=progress,
        )  # fmt: skip
        examples = _total(counter.examples, across_ranks, layers[0].running_mean.device)
        share = examples / (prior + examples) if method == "mix" else 1.0
        if share < 1:
            _mix(layers, saved, share)
    except BaseException:
        saved.restore()
        raise

    return AdaptReport(
        method, statistics, examples, share, tuple(entropies), tuple(resets), saved.restore
    )


class _Counter:
    """A forward that counts examples: rows of the batch's first tensor."""

    def __init__(self, forward: Forward) -> None:
        self._forward, self.examples = forward, 0

    def __call__(self, model: nn.Module, batch: Any) -> Any:
        tensors = (leaf for leaf in _pytree.tree_leaves(batch) if isinstance(leaf, Tensor))
        first = next(tensors, None)
        self.examples += 0 if first is None else len(first)

        return self._forward(model, batch)


def _total(examples: int, across: bool, device: torch.device) -> int:
    parts, _ = ranks("adapt", None, across, device).exchange(
        torch.tensor([examples], dtype=torch.float64), True, -2
    )

    return int(sum(float(part) for part in parts))


@torch.no_grad()
def _mix(layers: list[Any], source: Saved, share: float) -> None:
    """Statistics between the source's and those that the layers have now."""
    now = [(memory_of(layer), layer.num_batches_tracked) for layer in layers]
    now = [(memory, None if count is None else count.clone()) for memory, count in now]
    source.restore()
    for layer, (new, count) in zip(layers, now, strict=True):
        old = memory_of(layer)
        mean, var = new.mean, new.var
        known = old.known.unsqueeze(-1) if old.known.dim() else old.known
        mean = torch.where(known, old.mean + share * (mean - old.mean), mean)
        var = torch.where(known, old.var + share * (var - old.var), var)
        if not rows_by(layer):
            write_memory(layer, None, mean, var)
            continue
        for row in (count > 0).nonzero().flatten().tolist():
            write_memory(layer, row, mean[row], var[row])
            count_row(layer, row, old)


def _check_alone(size: int) -> None:
    if size > 1:
        raise RuntimeError(
            explain(
                "adapt",
                "method='tent' runs in one process",
                f"{size} ranks",
                "Pass across_ranks=False, or adapt on one rank and broadcast",
            )
        )


def _check_loader(loader: Iterable[Any], method: Method) -> None:
    if method == "tent" and iter(loader) is loader:
        raise ValueError(
            explain(
                "adapt",
                "method='tent' reads the data more than once",
                f"a {type(loader).__name__} that can be read once",
                "Pass a DataLoader or a list, or use OnlineAdapter",
            )
        )
