"""What a step does to the parameters: norms of gradients, and of what the optimizer changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .quantities import norms

__all__ = ["Changes"]


class Changes:
    """Two looks at the parameters: before the optimizer's step and after it.

    Args:
        model: its modules' own parameters are taken together, module by module.
    """

    def __init__(self, model: nn.Module) -> None:
        self._own: dict[str, list[nn.Parameter]] = {}
        seen: set[int] = set()
        for path, module in model.named_modules():
            own = [p for p in module._parameters.values() if p is not None and id(p) not in seen]
            seen.update(map(id, own))
            if own:
                self._own[path] = own
        self.forget()

    def forget(self) -> None:
        """Let go of copies."""
        self._copies: list[Tensor] = []
        self._weights: list[Tensor] = []
        self._gradients: dict[int, Tensor] = {}

    @torch.no_grad()
    def before(self) -> None:
        """Take copies and norms of the parameters, if there are none yet."""
        if not self._copies:
            self._copies = [p.detach().clone() for p in self._parameters()]
            self._weights = norms(self._copies)

    @torch.no_grad()
    def gradients(self, optimizer: Any = None) -> None:
        """Take norms of the gradients.

        Args:
            optimizer: of its parameters only; one that unscales gradients itself says by how much.
        """
        parameters = self._parameters()
        if optimizer is not None:
            own = {id(p) for group in optimizer.param_groups for p in group["params"]}
            parameters = [p for p in parameters if id(p) in own]
        there = [p for p in parameters if p.grad is not None]
        scale = getattr(optimizer, "grad_scale", None)
        for p, norm in zip(there, norms([_dense(p.grad) for p in there]), strict=True):
            self._gradients[id(p)] = norm if scale is None else norm / scale

    @torch.no_grad()
    def after(self) -> dict[str, dict[str, float]]:
        """Numbers of each module by its path; without :meth:`before` nothing."""
        if not self._copies:
            return {}
        parameters = self._parameters()
        moved = norms([p.detach() - old for p, old in zip(parameters, self._copies, strict=True)])
        nothing = torch.tensor(torch.nan)
        gradients = [self._gradients.get(id(p), nothing) for p in parameters]
        table = torch.stack([_column(part) for part in (self._weights, gradients, moved)])
        self.forget()

        sizes = [len(own) for own in self._own.values()]
        parts = zip(self._own, table.square().split(sizes, 1), strict=True)

        return {path: _numbers(squares) for path, squares in parts}

    def _parameters(self) -> list[nn.Parameter]:
        return [p for own in self._own.values() for p in own]


def _column(norms: Sequence[Tensor]) -> Tensor:
    """As one vector on the CPU; tensors of one device travel together."""
    if len({norm.device for norm in norms}) > 1:
        norms = [norm.cpu() for norm in norms]

    return torch.stack([norm.double() for norm in norms]).cpu()


def _numbers(squares: Tensor) -> dict[str, float]:
    """Of weights, gradients and changes ``(3, parameters)``; a missing gradient is NaN."""
    there = ~squares.isnan()
    sums = squares.nan_to_num(0.0, posinf=torch.inf).sum(1).sqrt()
    weight, gradient, change = torch.where(there.any(1), sums, torch.nan).tolist()

    return {
        "weight_norm": weight,
        "grad_norm": gradient,
        "grad_ratio": gradient / weight if weight else torch.nan,
        "update_ratio": change / weight if weight else torch.nan,
    }


def _dense(gradient: Any) -> Tensor:
    found: Tensor = gradient.coalesce().values() if gradient.is_sparse else gradient

    return found
