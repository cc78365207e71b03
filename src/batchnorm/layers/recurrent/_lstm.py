"""LSTM with batch norm."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ._base import State, Step, _BatchNormRNN
from ._norm import RecurrentBatchNorm
from ._pass import Pass
from ._rows import Rows

__all__ = ["BatchNormLSTM"]


class BatchNormLSTM(_BatchNormRNN):
    r"""Long short-term memory with batch norm in gates and cell, in place of ``nn.LSTM``.

    .. math::
        (i, f, g, o) = \mathrm{BN}_t(W_{hh} h_{t-1}) + \mathrm{BN}_t(W_{ih} x_t) + b

    .. math::
        c_t = \sigma(f)\,c_{t-1} + \sigma(i) \tanh(g) \qquad
        h_t = \sigma(o) \tanh(\mathrm{BN}_t(c_t))

    Args:
        input_size: features of a step.
        hidden_size: features of the state.
        num_layers: layers on top of each other.
        bias: whether the gates have ``bias_ih`` and ``bias_hh``, whose sum is b.
        batch_first: whether input and output are ``(N, L, C)``, not ``(L, N, C)``.
        dropout: share of a layer's outputs that are dropped before the next.
        bidirectional: whether a second set of layers runs from each sequence's end.
        proj_size: must be 0.
        device: of parameters and buffers.
        dtype: of the parameters.
        mode: ``"recurrent"`` as above, with statistics of each time step; ``"sequence"``: only
            :math:`W_{ih} x` is normalised, by statistics over all steps.
        max_length: time steps that are remembered, in mode ``"recurrent"``; later ones use the
            last.
        eps: added to the variances.
        momentum: torch's weight of the new batch in the running statistics; None: the average.
        weight_init: what the norms' weights start with, in mode ``"recurrent"``.
        on_single: in training when one sequence is left at a step: ``"running"``, ``"error"`` or
            ``"skip"``.

    Parameters have torch's names and shapes (``weight_ih_l0``, ``bias_hh_l1_reverse``, …), beside
    ``norm_ih_l0``, ``norm_hh_l0`` and ``norm_c_l0``; those of an ``nn.LSTM`` load by
    ``load_state_dict(lstm.state_dict(), strict=False)``.

    Source: Cooijmans et al. 2017, Recurrent Batch Normalization (arXiv:1603.09025); mode
        ``"sequence"``: Amodei et al. 2016, Deep Speech 2 (arXiv:1512.02595).

    Example:
        >>> layer = BatchNormLSTM(8, 16, num_layers=2, bidirectional=True, max_length=20)
        >>> output, (h, c) = layer(torch.randn(5, 3, 8))
        >>> output.shape, h.shape, c.shape
        (torch.Size([5, 3, 32]), torch.Size([4, 3, 16]), torch.Size([4, 3, 16]))
    """

    _gates = 4
    _states = 2

    def _add_norms(self, suffix: str, shared: dict[str, Any], weight_init: float) -> None:
        super()._add_norms(suffix, shared, weight_init)
        if self.mode == "recurrent":
            cell = RecurrentBatchNorm(
                *(self.hidden_size, self.max_length),
                **shared,
                weight_init=weight_init,
                activation="tanh",
            )
            self.add_module(f"norm_c_{suffix}", cell)

    def _prepare(self, suffix: str, rows: Rows) -> tuple[list[Tensor], Step, list[Pass]]:
        weight: Tensor = getattr(self, f"weight_hh_{suffix}")
        bias: Tensor | None = None
        if self.bias:
            bias = getattr(self, f"bias_ih_{suffix}") + getattr(self, f"bias_hh_{suffix}")
        if self.mode == "sequence":
            norm = getattr(self, f"norm_ih_{suffix}")
            parts = list(rows.with_data(norm(rows.data)).steps())
            return parts, lambda t, x, state: _plain_step(x, state, weight, bias), []

        by_input = self._pass("norm_ih", suffix, rows)
        by_hidden = self._pass("norm_hh", suffix, rows, bias)
        by_cell = self._pass("norm_c", suffix, rows)

        def step(t: int, x: Tensor, state: State) -> State:
            h, c = state
            out, c = _cell(by_hidden(t, F.linear(h, weight), residual=x), c)
            return out * by_cell(t, c), c

        return by_input.over(rows.data, rows.sizes), step, [by_input, by_hidden, by_cell]


def _cell(gates: Tensor, c: Tensor) -> State:
    """The output gate and the new cell."""
    i, f, g, o = gates.chunk(4, 1)

    return o.sigmoid(), f.sigmoid() * c + i.sigmoid() * g.tanh()


def _plain_step(x: Tensor, state: State, weight: Tensor, bias: Tensor | None) -> State:
    """A step of torch's LSTM, whose input's part is known."""
    h, c = state
    out, c = _cell(F.linear(h, weight, bias) + x, c)

    return out * torch.tanh(c), c
