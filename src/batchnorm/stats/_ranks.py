"""Ranks agree on what they measured, also when they saw different numbers of batches."""

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from .._errors import explain

__all__ = ["Alone", "Group", "ranks"]

_OK, _FAILED = 0, 1


class Alone:
    """One process: nothing to agree on."""

    size = 1

    def exchange(self, values: Tensor, done: bool, key: int) -> tuple[list[Tensor], bool]:
        """What every rank has, in rank order, and whether all are done."""
        return [values], done

    def fail(self) -> None:
        """Tell the others that this rank gives up."""


class Group(Alone):
    """The ranks of a process group. Each call is a collective that all of them make.

    Args:
        who: the function, for messages.
        group: None: the default group.
        device: where tensors of the collectives live.
    """

    def __init__(self, who: str, group: Any, device: torch.device) -> None:
        self._who, self._group, self._device = who, group, device
        self.size = dist.get_world_size(group)

    def exchange(self, values: Tensor, done: bool, key: int) -> tuple[list[Tensor], bool]:
        """What every rank has, in rank order, and whether all are done.

        Raises:
            RuntimeError: a rank has failed, or has another model.
        """
        head = torch.tensor([_OK, int(done), values.numel(), key])
        heads = torch.stack(self._gather(head)).cpu()
        failed = heads[:, 0].nonzero().flatten().tolist()
        if failed:
            raise RuntimeError(
                explain(
                    self._who,
                    "all ranks must come through",
                    f"an error on rank {', '.join(map(str, failed))}",
                    "See the message there; this rank's model is as it was",
                )
            )
        if (heads[:, 2:] != heads[0, 2:]).any():
            raise RuntimeError(
                explain(
                    self._who,
                    "all ranks must measure the same layers in the same order",
                    f"sizes and layers {heads[:, 2:].tolist()}",
                    "Pass the same model on every rank",
                )
            )

        parts = self._gather(values.to(self._device))

        return [part.to(values.device) for part in parts], bool(heads[:, 1].all())

    def fail(self) -> None:
        """Tell the others that this rank gives up."""
        self._gather(torch.tensor([_FAILED, 1, 0, 0]))

    def _gather(self, values: Tensor) -> list[Tensor]:
        values = values.contiguous().to(self._device)
        parts = [torch.empty_like(values) for _ in range(self.size)]
        dist.all_gather(parts, values, group=self._group)

        return parts


def ranks(who: str, group: Any, across: bool, device: torch.device) -> Alone:
    """The ranks to agree with: none without an initialised process group."""
    if not across or not dist.is_available() or not dist.is_initialized():
        return Alone()

    nccl = "nccl" in dist.get_backend(group)

    return Group(who, group, device if nccl else torch.device("cpu"))
