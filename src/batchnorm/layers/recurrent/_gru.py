"""GRU with batch norm."""

from torch import Tensor
from torch.nn import functional as F

from ._base import State, Step, _BatchNormRNN
from ._pass import Pass
from ._rows import Rows

__all__ = ["BatchNormGRU"]


class BatchNormGRU(_BatchNormRNN):
    r"""Gated recurrent units with batch norm in the gates, in place of ``nn.GRU``.

    .. math::
        a = \mathrm{BN}_t(W_{ih} x_t) + b_{ih} \qquad u = \mathrm{BN}_t(W_{hh} h_{t-1}) + b_{hh}

    .. math::
        r = \sigma(a_r + u_r) \qquad z = \sigma(a_z + u_z) \qquad
        h_t = (1 - z) \tanh(a_n + r\,u_n) + z\,h_{t-1}

    Args:
        input_size: features of a step.
        hidden_size: features of the state.
        num_layers: layers on top of each other.
        bias: whether the gates have ``bias_ih`` and ``bias_hh``.
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

    Parameters have torch's names and shapes, beside ``norm_ih_l0`` and ``norm_hh_l0``; those of an
    ``nn.GRU`` load by ``load_state_dict(gru.state_dict(), strict=False)``.

    Source: Cooijmans et al. 2017 (arXiv:1603.09025), whose recurrent transformation is applied to
        the gates here; mode ``"sequence"``: Amodei et al. 2016, Deep Speech 2 (arXiv:1512.02595).

    Example:
        >>> layer = BatchNormGRU(8, 16, batch_first=True, mode="sequence")
        >>> output, h = layer(torch.randn(3, 5, 8))
        >>> output.shape, h.shape
        (torch.Size([3, 5, 16]), torch.Size([1, 3, 16]))
    """

    _gates = 3
    _states = 1

    def _prepare(self, suffix: str, rows: Rows) -> tuple[list[Tensor], Step, list[Pass]]:
        weight: Tensor = getattr(self, f"weight_hh_{suffix}")
        of_input: Tensor | None = getattr(self, f"bias_ih_{suffix}")
        of_hidden: Tensor | None = getattr(self, f"bias_hh_{suffix}")
        if self.mode == "sequence":
            data = getattr(self, f"norm_ih_{suffix}")(rows.data)
            data = data if of_input is None else data + of_input

            def plain(t: int, x: Tensor, state: State) -> State:
                return _cell(x, F.linear(state[0], weight, of_hidden), state[0])

            return list(rows.with_data(data).steps()), plain, []

        by_input = self._pass("norm_ih", suffix, rows, of_input)
        by_hidden = self._pass("norm_hh", suffix, rows, of_hidden)

        def step(t: int, x: Tensor, state: State) -> State:
            return _cell(x, by_hidden(t, F.linear(state[0], weight)), state[0])

        return by_input.over(rows.data, rows.sizes), step, [by_input, by_hidden]


def _cell(x: Tensor, u: Tensor, h: Tensor) -> State:
    """The new state, from the input's part, the hidden part and the old state."""
    x_r, x_z, x_n = x.chunk(3, 1)
    u_r, u_z, u_n = u.chunk(3, 1)
    r, z = (x_r + u_r).sigmoid(), (x_z + u_z).sigmoid()
    n = (x_n + r * u_n).tanh()

    return (n + z * (h - n),)
