"""The two collectives of a synchronised layer, eager and compiled, failing by the layer's name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function

from .._errors import explain

__all__ = ["Seat", "gather", "total"]


@dataclass(frozen=True)
class Seat:
    """Where this process sits in a group, and which of the group's layers calls.

    Compiled code leaves ``who`` and ``slot`` out, so that it serves all layers of one kind.
    """

    group_name: str
    rank: int
    size: int
    who: str = ""
    slot: int = 0

    @property
    def group(self) -> Any:
        """The process group."""
        return dist.distributed_c10d._resolve_process_group(self.group_name)  # type: ignore[arg-type, attr-defined, unused-ignore]

    @property
    def place(self) -> str:
        """Layer and rank: ``SyncBatchNorm at 'layer1.bn' on rank 3 of 8``."""
        return f"{self.who} on rank {self.rank} of {self.size}"


def gather(seat: Seat, message: Tensor) -> Tensor:
    """Everyone's message, ``(ranks, L)`` in rank order.

    Args:
        seat: the caller's.
        message: ``(L,)``, the same length and dtype everywhere.

    Raises:
        RuntimeError: a rank died, or did not come within the group's timeout.
    """
    if torch.compiler.is_compiling():
        from torch.distributed import _functional_collectives as functional

        everyone: Tensor = functional.all_gather_single(message, 0, seat.group_name)  # type: ignore[arg-type]
        return everyone.reshape(seat.size, -1)

    result = message.new_empty(seat.size * message.numel())
    _call(seat, lambda: dist.all_gather_single(result, message, seat.group))

    return result.view(seat.size, -1)


def total(seat: Seat, values: Tensor) -> Tensor:
    """Sum of everyone's ``values``; differentiable, and its own adjoint.

    Args:
        seat: the caller's.
        values: any shape, the same everywhere.

    Raises:
        RuntimeError: a rank died, did not come within the group's timeout, or is elsewhere.
    """
    if torch.compiler.is_compiling():
        from torch.distributed import _functional_collectives as functional

        summed: Tensor = functional.all_reduce(values, "sum", seat.group_name)  # type: ignore[arg-type]
        return summed

    if torch.is_grad_enabled() or torch._C._are_functorch_transforms_active():
        differentiable: Tensor = _Total.apply(seat, values)  # type: ignore[no-untyped-call]
        return differentiable

    return _total(seat, values)


class _Total(Function):
    @staticmethod
    def forward(seat: Seat, values: Tensor) -> Tensor:
        return _total(seat, values)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Seat, Tensor], output: Tensor) -> None:
        ctx.seat = inputs[0]

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[None, Tensor]:
        return None, total(ctx.seat, grad_output)

    @staticmethod
    def jvp(ctx: Any, _: None, tangent: Tensor) -> Tensor:
        return total(ctx.seat, tangent)

    @staticmethod
    def vmap(info: Any, dims: Any, seat: Seat, values: Tensor) -> tuple[Tensor, int | None]:
        # A sum over ranks, element by element: the batch is one more dimension.
        return total(seat, values), dims[1]


def _total(seat: Seat, values: Tensor) -> Tensor:
    result = values.clone(memory_format=torch.contiguous_format)
    _call(seat, lambda: dist.all_reduce(result, group=seat.group))

    return result


def _call(seat: Seat, collective: Callable[[], Any]) -> None:
    """Run a collective; its failure says which layer of which rank was waiting."""
    try:
        collective()
    except RuntimeError as error:
        raise RuntimeError(
            explain(
                seat.place,
                "every rank of the group must take part in every forward and backward",
                f"{type(error).__name__}: {' '.join(str(error).split())}",
                "See why the missing rank stopped; a rank without data must still call the layer, "
                "with an input of N=0",
            )
        ) from error
