"""A layer that meets the same layer of other ranks: its group, its place there, its name."""

import copy
import weakref
from typing import Any, Self

import torch
import torch.distributed as dist
from torch import Tensor

from .._errors import explain
from ..ops import Lane
from ..ops._collectives import Seat
from ..ops._messages import greet, introduce
from ..reference import accumulation_dtype
from ._batchnorm import _BatchNorm

__all__: list[str] = []

# How many layers have met in each group: ranks that meet together count alike.
_slots: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()


class _GroupMember(_BatchNorm):
    """Who shares this layer's statistics, and what they have agreed to call it."""

    process_group: Any
    name: str | None

    _group: "weakref.ref[Any] | None"
    _place: tuple[str, int, int]
    _slot: int
    _greeted: frozenset[torch.dtype]
    _header: Tensor

    def _synchronises(self) -> bool:
        """Whether there are others to agree with in this forward."""
        return (
            self.training
            and dist.is_available()
            and dist.is_initialized()
            and dist.get_world_size(self.process_group) != 1
        )

    def _take_seat(self, lane: Lane, input: Tensor) -> Seat:
        """The group, this rank, and in eager mode the layer."""
        self._meet(accumulation_dtype(input.dtype), input.device)
        if lane is Lane.COMPILED:
            return Seat(*self._place)

        return Seat(*self._place, self._who, self._slot)

    def _meet(self, dtype: torch.dtype, device: torch.device) -> None:
        """Take a place; at the first time in a group, compare the layers that the ranks bring.

        Raises:
            RuntimeError: this process is not in the group, or the ranks bring different layers.
        """
        group: Any = dist.group.WORLD if self.process_group is None else self.process_group
        if self._group is None or self._group() is not group:
            self._leave()
        if dtype in self._greeted and self._header.device == device:
            return

        if dist.get_rank(group) < 0:
            self._refuse_stranger()
        slot = self._slot or _slots.get(group, 0) + 1
        place = (group.group_name, dist.get_rank(group), dist.get_world_size(group))
        seat = Seat(*place, self._who, slot)
        with torch.utils._python_dispatch._disable_current_modes(), torch.no_grad():
            if dtype not in self._greeted:
                greet(seat, self.name or "", self.num_features, dtype, device)
            self._header = introduce(seat, self.num_features, device)
        _slots[group] = max(slot, _slots.get(group, 0))
        self._group, self._place, self._slot = weakref.ref(group), place, slot
        self._greeted = self._greeted | {dtype}

    # torch.compiler.assume_constant_result, which would import the compiler: tracing does not look
    # into the function, it calls it, once, on every rank.
    _meet._dynamo_marked_constant = True  # type: ignore[attr-defined]

    def _leave(self) -> None:
        """Forget what was agreed in a group."""
        self._group, self._place, self._slot = None, ("", 0, 1), 0
        self._greeted = frozenset()
        self._header = torch.zeros(1, dtype=torch.int64)

    @property
    def _who(self) -> str:
        """The layer in messages."""
        kind = type(self).__name__
        return f"{kind} at {self.name!r}" if self.name else f"{kind}({self.num_features})"

    def _refuse_stranger(self) -> None:
        raise RuntimeError(
            explain(
                self._who,
                "a process that runs the layer must be in its process group",
                f"rank {dist.get_rank()} of all, which is not in it",
                "Give each rank the group that it belongs to",
            )
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A copy that shares the process group, which cannot be copied."""
        memo[id(self.process_group)] = self.process_group
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))

        return twin

    def __getstate__(self) -> dict[str, Any]:
        """What pickle keeps: everything but the acquaintance with a group.

        Raises:
            TypeError: there is a process group, which belongs to this process.
        """
        if self.process_group is not None:
            raise TypeError(
                explain(
                    self._who,
                    "a process group cannot be pickled",
                    "a layer with process_group set",
                    "Save the state_dict, or set process_group to None first",
                )
            )

        return self.__dict__ | {"_group": None}
