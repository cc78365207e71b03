"""What BatchNormLSTM and BatchNormGRU share: parameters, layers, directions, packing."""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from ..._errors import explain
from ...ops import choose_lane
from .._batchnorm import _BatchNorm
from .._policy import OnSingle
from .._sequence import SequenceBatchNorm, repacked
from ._arguments import Mode, check_arguments, check_sequences, check_state
from ._norm import RecurrentBatchNorm
from ._pass import Pass
from ._rows import Rows

__all__: list[str] = []

State = tuple[Tensor, ...]
# One time step: its number, the input's part, the state before; the state after.
Step = Callable[[int, Tensor, State], State]


class _BatchNormRNN(nn.Module):
    """A recurrent network with batch norm; a subclass says what one step does."""

    # Rows of the weights per hidden unit, and tensors of the state.
    _gates: ClassVar[int]
    _states: ClassVar[int]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        mode: Mode = "recurrent",
        max_length: int = 100,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        weight_init: float = 0.1,
        on_single: OnSingle = "running",
    ) -> None:
        super().__init__()
        who = type(self).__name__
        check_arguments(who, input_size, hidden_size, num_layers, dropout, proj_size, mode)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = 0
        self.mode = mode
        self.max_length = max_length

        rows = self._gates * hidden_size
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        shared: dict[str, Any] = {
            **factory, "eps": eps, "momentum": momentum, "on_single": on_single,
        }  # fmt: skip
        for layer, suffix in self._places():
            size = input_size if layer == 0 else hidden_size * (2 if bidirectional else 1)
            self.register_parameter(
                f"weight_ih_{suffix}", nn.Parameter(torch.empty(rows, size, **factory))
            )
            self.register_parameter(
                f"weight_hh_{suffix}", nn.Parameter(torch.empty(rows, hidden_size, **factory))
            )
            for name in ("bias_ih", "bias_hh"):
                value = nn.Parameter(torch.empty(rows, **factory)) if bias else None
                self.register_parameter(f"{name}_{suffix}", value)
            self._add_norms(suffix, shared, weight_init)
        self.reset_parameters()

    def _add_norms(self, suffix: str, shared: dict[str, Any], weight_init: float) -> None:
        """Norms of one layer and direction, without bias: the gates have theirs."""
        rows = self._gates * self.hidden_size
        if self.mode == "sequence":
            norm = SequenceBatchNorm(rows, **shared, channel_axis=-1, bias=False)
            self.add_module(f"norm_ih_{suffix}", norm)
            return

        shared = {**shared, "weight_init": weight_init}
        for name in ("norm_ih", "norm_hh"):
            part = RecurrentBatchNorm(rows, self.max_length, **shared, bias=False)
            self.add_module(f"{name}_{suffix}", part)

    def _places(self) -> list[tuple[int, str]]:
        """Layer and torch's suffix of names, in torch's order."""
        ends = ("", "_reverse") if self.bidirectional else ("",)

        return [(layer, f"l{layer}{end}") for layer in range(self.num_layers) for end in ends]

    def reset_parameters(self) -> None:
        """Weights and biases as torch's, uniform in ±1/sqrt(hidden_size); norms as new."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters(recurse=False):
            nn.init.uniform_(parameter, -bound, bound)
        for norm in self.children():
            assert isinstance(norm, _BatchNorm)
            norm.reset_parameters()

    def flatten_parameters(self) -> None:
        """Nothing: for code that was written for torch's layers."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Run over whole sequences.

        Args:
            input: ``(L, N, input_size)``, ``(N, L, input_size)`` if ``batch_first``,
                ``(L, input_size)``, or a ``PackedSequence``.
            hx: what the sequences start with, as in torch: ``(layers·directions, N, hidden_size)``
                (a pair of them for an LSTM); None: 0.

        Returns:
            As torch's layer: the output of every step of the last layer, as ``input`` is, and the
            last state of every layer and direction.

        Raises:
            ValueError: a wrong dtype.
            RuntimeError: a wrong shape.
        """
        packed = isinstance(input, PackedSequence)
        single = not packed and input.dim() == 2
        data = input.data if packed else input
        who = type(self).__name__
        check_sequences(who, data, packed, self.input_size, next(self.parameters()))
        if not packed:
            data = data.unsqueeze(1) if single else data
            data = data.transpose(0, 1) if self.batch_first and not single else data
        rows = Rows.of_packed(input) if packed else Rows.of_padded(data)
        if not rows.sizes:
            rule, got = "there must be a step", f"shape {tuple(input.shape)}"
            raise RuntimeError(explain(who, rule, got, "Skip empty sequences"))

        order = input.sorted_indices if packed else None
        batch = rows.sizes[0]
        state = self._first_state(hx, data, batch, single, order)
        rows, last = self._run(rows, state)

        if packed:
            back = input.unsorted_indices
            last = last if back is None else tuple(s.index_select(1, back) for s in last)
            return repacked(input, rows.data), self._given_back(last)

        output = rows.data.view(len(rows.sizes), batch, rows.data.shape[1])
        if single:
            return output.squeeze(1), self._given_back(tuple(s.squeeze(1) for s in last))
        return output.transpose(0, 1) if self.batch_first else output, self._given_back(last)

    def _run(self, rows: Rows, first: State) -> tuple[Rows, State]:
        """All layers and directions; the state is ``(layers·directions, N, hidden_size)``."""
        directions = 2 if self.bidirectional else 1
        turned = rows.backwards() if self.bidirectional else None
        lasts: list[State] = []
        for layer in range(self.num_layers):
            outputs = []
            for direction in range(directions):
                suffix = f"l{layer}" + ("_reverse" if direction else "")
                state = tuple(part[layer * directions + direction] for part in first)
                order = turned if direction else None
                output, last = self._run_one(suffix, rows, state, order)
                outputs.append(output)
                lasts.append(last)
            data = torch.cat(outputs, 1) if self.bidirectional else outputs[0]
            if self.dropout and layer < self.num_layers - 1:
                data = F.dropout(data, self.dropout, self.training)
            rows = rows.with_data(data)

        return rows, tuple(torch.stack(parts) for parts in zip(*lasts, strict=True))

    def _run_one(
        self, suffix: str, rows: Rows, state: State, order: Tensor | None
    ) -> tuple[Tensor, State]:
        """One layer in one direction; ``order`` turns every sequence round."""
        if order is not None:
            rows = rows.with_data(rows.data[order])
        weight: Tensor = getattr(self, f"weight_ih_{suffix}")
        rows = rows.with_data(F.linear(rows.data, weight))
        parts, step, passes = self._prepare(suffix, rows)

        hidden: list[Tensor] = []
        ended: list[State] = []
        for t, part in enumerate(parts):
            going = len(part)
            if going < len(state[0]):
                ended.append(tuple(s[going:] for s in state))
                state = tuple(s[:going] for s in state)
            state = step(t, part, state)
            hidden.append(state[0])
        for one in passes:
            one.finish()

        output = torch.cat(hidden)
        last = tuple(torch.cat([s, *ends[::-1]]) for s, *ends in zip(state, *ended, strict=True))
        return (output if order is None else output[order]), last

    def _prepare(self, suffix: str, rows: Rows) -> tuple[list[Tensor], Step, list[Pass]]:
        """The input's part of each step, what a step does, and passes to finish after the last."""
        raise NotImplementedError

    def _pass(self, name: str, suffix: str, rows: Rows, bias: Tensor | None = None) -> Pass:
        norm: RecurrentBatchNorm = getattr(self, f"{name}_{suffix}")

        return Pass(norm, choose_lane(rows.data), 0, len(rows.sizes), bias)

    def _first_state(
        self, hx: Any, data: Tensor, batch: int, single: bool, order: Tensor | None
    ) -> State:
        """What the sequences start with, longest first."""
        count = self.num_layers * (2 if self.bidirectional else 1)
        if hx is None:
            zeros = data.new_zeros(count, batch, self.hidden_size)
            return (zeros,) * self._states

        given: State = (hx,) if self._states == 1 else tuple(hx)
        expected = (count, self.hidden_size) if single else (count, batch, self.hidden_size)
        check_state(type(self).__name__, given, expected)
        if single:
            return tuple(part.unsqueeze(1) for part in given)
        return given if order is None else tuple(part.index_select(1, order) for part in given)

    def _given_back(self, state: State) -> Any:
        return state[0] if self._states == 1 else state

    def extra_repr(self) -> str:
        """The text of torch's layer, and what differs from it."""
        parts = [f"{self.input_size}, {self.hidden_size}"]
        usual = {
            "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0,
            "bidirectional": False, "mode": "recurrent",
        }  # fmt: skip
        parts += [f"{k}={getattr(self, k)!r}" for k, v in usual.items() if getattr(self, k) != v]
        if self.mode == "recurrent":
            parts.append(f"max_length={self.max_length}")

        return ", ".join(parts)
