"""Corrections that depend on memory must not be computed again after memory has changed.

Activation checkpointing of a compiled layer, and a partitioner that saves less, would compute them
again in the backward, from running statistics that already hold the batch.
"""

import torch
from torch import Tensor

from .._errors import explain
from ._lanes import Lane
from ._schemas import LIBRARY, NAMESPACE

__all__ = ["computed_once"]

_NAME = "batch_renorm_once"

LIBRARY.define(
    f"{_NAME}(Tensor r, Tensor d) -> (Tensor r, Tensor d)", tags=(torch.Tag.pt2_compliant_tag,)
)


def computed_once(lane: Lane, r: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """The same values; in a compiled graph nothing behind them is computed again.

    Raises:
        RuntimeError: when a compiled graph does so all the same.
    """
    if lane is not Lane.COMPILED:
        return r, d

    once: tuple[Tensor, Tensor] = getattr(torch.ops, NAMESPACE).batch_renorm_once(r, d)
    return once


def _once(r: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    if torch._C._current_graph_task_id() != -1:
        raise RuntimeError(
            explain(
                "batch renorm",
                "a compiled layer cannot be computed again, for its memory has moved on",
                "activation checkpointing around or inside torch.compile",
                "Leave the layer out of the checkpoint, or out of torch.compile",
            )
        )

    return r.clone(), d.clone()


LIBRARY.impl(_NAME, _once, "CompositeExplicitAutograd")


def _fake_once(r: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(r), torch.empty_like(d)


torch.library.register_fake(f"{NAMESPACE}::{_NAME}", _fake_once, lib=LIBRARY)
