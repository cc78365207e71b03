"""Adapting while predicting, batch after batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from .._errors import explain
from ._adaptable import adaptable, affine_of, check_affine
from ._entropy import EntropyStep, Optimizer, ResetGuard, ResetReason
from ._feed import Forward, call, eager, mover
from ._layer_memory import memory_of
from ._layers import innermost
from ._online_layer import Seen, adapt_to
from ._restore import Saved, borrowed, modes
from ._sights import Sight, sighted

__all__ = ["Method", "OnlineAdapter", "adam", "check_method"]

Method = Literal["adabn", "mix", "tent"]
"""``"adabn"``: the new data's statistics instead of the old. ``"mix"``: both, weighted.
``"tent"``: the new data's, and γ and β learned from the predictions' entropy."""


def adam(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Adam with learning rate 1e-3, which TENT used for CIFAR."""
    return torch.optim.Adam(parameters, lr=1e-3)


def check_method(who: str, method: Any, prior: float) -> None:
    """Method and prior are possible.

    Raises:
        ValueError: they are not.
    """
    known = get_args(Method)
    if method not in known:
        raise ValueError(explain(who, f"method must be one of {known}", f"{method!r}", "Use one"))
    if not prior >= 0:
        raise ValueError(explain(who, "prior must not be negative", f"prior={prior}", "Use 16"))


class OnlineAdapter:
    r"""Predicts, and adapts the model to what it sees on the way.

    - ``"adabn"``: running statistics are those of all batches so far, this one included.
    - ``"mix"``: per batch of n examples, source and batch weighed as N to n:

      .. math:: \mu = \tfrac{N}{N+n}\mu_s + \tfrac{n}{N+n}\mu_t \qquad
          \sigma^2 = \tfrac{N}{N+n}\sigma_s^2 + \tfrac{n}{N+n}\sigma_t^2
    - ``"tent"``: normalise by the batch, predict, then one step on γ and β that lowers the
      predictions' entropy.

    Each domain, time step or covariance that a layer remembers adapts by itself; n counts its
    examples, and a domain that was never trained is worth nothing.

    Between calls the model is in its own modes, without hooks; it keeps the adapted statistics and
    weights until ``undo()``. A call that raises changes nothing.

    Args:
        model: with torch's layers, ours, or subclasses of either.
        method: see above.
        prior: N, what the source is worth in examples; 0: nothing. For ``"mix"``.
        optimizer: for γ and β. For ``"tent"``.
        guard: when to go back to the first γ and β. For ``"tent"``.
        reliable: leave out predictions with more entropy than this share of ln(classes); None: take
            all. For ``"tent"``.
        logits: ``(N, classes, *)`` from the model's output. For ``"tent"``.
        forward: ``forward(model, batch)``; by default as for ``recalibrate``.
        device: that batches are moved to; None: where the first layer is.

    Raises:
        ValueError: no layer to adapt.

    Source: Li et al. 2017 (AdaBN, arXiv:1603.04779); Schneider et al. 2020 (mixing,
        arXiv:2006.16971); Wang et al. 2021 (TENT, arXiv:2006.10726); Niu et al. 2022 and 2023
        (reliable predictions, resets: arXiv:2204.02610, arXiv:2302.12400).

    Example:
        >>> model = torch.nn.BatchNorm1d(1, affine=False)
        >>> adapter = OnlineAdapter(model, "mix", prior=2)
        >>> _ = adapter(torch.tensor([[9.0], [11.0]]))
        >>> model.running_mean
        tensor([5.])
    """

    def __init__(
        self,
        model: nn.Module,
        method: Method = "mix",
        *,
        prior: float = 16.0,
        optimizer: Optimizer = adam,
        guard: ResetGuard | None = None,
        reliable: float | None = None,
        logits: Callable[[Any], Tensor] = lambda output: output,
        forward: Forward = call,
        device: Any = None,
    ) -> None:
        check_method("OnlineAdapter", method, prior)
        self.model, self.method, self.prior = innermost(model), method, prior
        self._found = adaptable(self.model)
        self._layers = list(self._found.layers.values())
        self._forward, self._logits = forward, logits
        self._move = mover(self._layers[0].running_mean, device)
        self._source = {id(layer): memory_of(layer) for layer in self._layers}
        self._seen: Seen = {}
        affine = affine_of(self._layers)
        self._saved = Saved(self._layers, affine)
        self._step = None
        if method == "tent":
            check_affine(affine)
            self._step = EntropyStep(affine, optimizer, guard or ResetGuard(), reliable)
        #: Mean entropy of each batch's predictions, in nats. For ``"tent"``.
        self.entropies: list[float] = []

    @property
    def left(self) -> dict[str, str]:
        """Path → why a layer is not adapted."""
        return self._found.left

    @property
    def resets(self) -> list[tuple[int, ResetReason]]:
        """After which batches the guard went back to the first weights, and why."""
        return [] if self._step is None else self._step.resets

    def __call__(self, batch: Any) -> Any:
        """The model's output for this batch, adapted to it."""
        before = Saved(self._layers, affine_of(self._layers))
        seen = dict(self._seen)
        try:
            with eager():
                moved = self._move(batch)
                return self._learn(moved) if self._step else self._predict(moved)
        except BaseException:
            before.restore()
            self._seen = seen
            raise

    @torch.no_grad()
    def _predict(self, batch: Any) -> Any:
        with modes(self.model, []), sighted(self._layers, self._adapt):
            return self._forward(self.model, batch)

    def _adapt(self, layer: Any, sight: Sight) -> None:
        """Before a layer normalises this: its running statistics become those for it."""
        seen = self._seen if self.method == "adabn" else None
        share = 1.0
        if self.method == "mix":
            share = sight.examples / max(self.prior + sight.examples, 1e-30)
        adapt_to(layer, sight, self._source[id(layer)], share, seen)

    def _learn(self, batch: Any) -> Any:
        assert self._step is not None
        statistics = Saved(self._layers)
        with torch.inference_mode(False), torch.enable_grad(), self._by_batch():
            output = self._forward(self.model, _pytree.tree_map_only(Tensor, _learnable, batch))
            logits = self._logits(output)
            self.entropies.append(self._step.take(logits))
        statistics.restore()

        return _detached(output)

    @contextmanager
    def _by_batch(self) -> Iterator[None]:
        """Layers normalise by the batch, remember nothing, and γ and β take gradients."""
        assert self._step is not None
        with ExitStack() as stack:
            stack.enter_context(modes(self.model, self._layers))
            for layer in self._layers:
                silent = {"_updates": False} if hasattr(layer, "_updates") else {"momentum": 0.0}
                stack.enter_context(borrowed([layer], **silent))
            stack.enter_context(borrowed(self._step.parameters, requires_grad=True))
            yield

    def undo(self) -> None:
        """Statistics, γ and β as they were before the first call; forget what was seen."""
        self._saved.restore()
        self._seen.clear()
        self.entropies.clear()
        if self._step is not None:
            self._step.reset()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Undo."""
        self.undo()


def _learnable(tensor: Tensor) -> Tensor:
    """One that may be saved for backward, also if it comes from ``torch.inference_mode``."""
    return tensor.clone() if tensor.is_inference() else tensor


def _detached(output: Any) -> Any:
    return _pytree.tree_map_only(Tensor, Tensor.detach, output)
