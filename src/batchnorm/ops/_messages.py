"""What ranks tell each other: statistics and count with a header, and a first greeting.

A message is int32 so that no conversion can touch its bits: mean, var, count, header. Message
sizes must agree before anything is sent, for gloo aborts the process on a longer one and reads
garbage from a shorter one; the greeting has one size for every layer.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .._errors import explain
from ._collectives import Seat, gather

__all__ = ["Header", "check_headers", "greet", "introduce", "name_of", "pack", "unpack"]

_NAME_BYTES = 120
_WORD = torch.int32
_CODES = {torch.float32: 0, torch.float64: 1}
_names: dict[tuple[str, int], str] = {}


class Header(NamedTuple):
    """Which layer a message is about: packed into one int64."""

    slot: int
    channels: int

    @property
    def code(self) -> int:
        """A positive int64."""
        return (self.slot % 2**30) << 33 | (self.channels % 2**32) << 1 | 1

    @classmethod
    def decode(cls, code: int) -> "Header":
        """The inverse of ``code``."""
        return cls(code >> 33, code >> 1 & (2**32 - 1))

    def __str__(self) -> str:
        return f"layer {self.slot} with {self.channels} channels"


def pack(mean: Tensor, var: Tensor, count: Tensor, header: Tensor) -> Tensor:
    """``(L,)`` int32: the message of one rank; ``header`` is what ``introduce`` gave."""
    parts = (mean, var, count.reshape(1), header)

    return torch.cat([part.view(_WORD) for part in parts])


def unpack(everyone: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Means and variances ``(ranks, 2·C)``, counts and header codes ``(ranks, 1)``; all views."""
    numbers = everyone.view(torch.int64)
    ends = 2 * torch.int64.itemsize // dtype.itemsize

    return everyone.view(dtype)[:, :-ends], numbers[:, -2:-1], numbers[:, -1:]


def check_headers(seat: Seat, codes: list[int]) -> None:
    """Everyone's message is about the same layer.

    Raises:
        RuntimeError: it is not.
    """
    if len(set(codes)) == 1:
        return

    said = [f"{Header.decode(code)} from {_ranks(codes, code)}" for code in dict.fromkeys(codes)]
    raise RuntimeError(
        explain(
            seat.place,
            "all ranks must call the same layers in the same order",
            "; ".join(said),
            "Look for a branch that only some ranks take",
        )
    )


def introduce(seat: Seat, channels: int, device: torch.device) -> Tensor:
    """The header of the layer's messages, ``(1,)``; from now on ``name_of`` knows the layer."""
    _names[seat.group_name, seat.slot] = seat.who

    return torch.tensor([Header(seat.slot, channels).code], device=device)


def name_of(group_name: str, code: int) -> str:
    """The layer that a header is about, in this process's words."""
    return _names.get((group_name, Header.decode(code).slot), "SyncBatchNorm")


def greet(seat: Seat, name: str, channels: int, dtype: torch.dtype, device: torch.device) -> None:
    """Meet for the first time: everyone says which layer it brings.

    Raises:
        RuntimeError: the layers differ in name, channels or dtype.
    """
    text = name.encode()[-_NAME_BYTES:].ljust(_NAME_BYTES, b"\0")
    numbers = [channels, _CODES[dtype], seat.slot]
    message = torch.tensor([*text, *(v >> s & 255 for v in numbers for s in (0, 8, 16, 24))])
    everyone = gather(seat, message.to(device, torch.uint8))

    said = [_describe(row) for row in everyone.tolist()]
    if len(set(said)) == 1:
        return

    raise RuntimeError(
        explain(
            seat.place,
            "all ranks must bring the same layer, with the same channels and dtype",
            "; ".join(f"{what} from {_ranks(said, what)}" for what in dict.fromkeys(said)),
            "Build the same model on every rank, and call its layers in the same order",
        )
    )


def _describe(row: list[int]) -> str:
    name = bytes(row[:_NAME_BYTES]).rstrip(b"\0").decode(errors="replace")
    channels, dtype_code, slot = (
        int.from_bytes(bytes(row[at : at + 4]), "little")
        for at in range(_NAME_BYTES, _NAME_BYTES + 12, 4)
    )
    dtype = "float64" if dtype_code == 1 else "float32"

    return f"layer {slot}{f' {name!r}' if name else ''} with {channels} channels in {dtype}"


def _ranks(said: Sequence[object], what: object) -> str:
    ranks = [str(rank) for rank, other in enumerate(said) if other == what]

    return f"rank{'s' * (len(ranks) > 1)} {', '.join(ranks)}"
