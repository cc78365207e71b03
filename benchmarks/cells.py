"""LSTM and GRU with batch norm as users write them: a loop over time in torch's operators."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.trial import Data, Way
from benchmarks.variants_common import leaf

__all__ = ["CELLS", "Cells", "behind_identity"]


class Cells:
    """Parameters, and a batch norm for each time step, or one for all of the input's part."""

    def __init__(self, data: Data, mode: str):
        self.mode = mode
        self.x = leaf(data["input"])
        names = ["weight_ih", "weight_hh", "bias_ih", "bias_hh", *self._norms(data)]
        self.p = {name: data[name].clone().requires_grad_() for name in names}
        steps = 1 if mode == "sequence" else self.x.shape[0]
        sizes = {name: self.p[name].shape[0] for name in self._norms(data)}
        self.means = {name: self.x.new_zeros(steps, size) for name, size in sizes.items()}
        self.vars = {name: self.x.new_ones(steps, size) for name, size in sizes.items()}

    def _norms(self, data: Data) -> list[str]:
        if self.mode == "sequence":
            return ["norm_ih"]
        lstm = data["weight_hh"].shape[0] == 4 * data["weight_hh"].shape[1]
        return ["norm_ih", "norm_hh", "norm_c"] if lstm else ["norm_ih", "norm_hh"]

    def norm(self, name: str, x: Tensor, step: int = 0, bias: Tensor | None = None) -> Tensor:
        mean, var = self.means[name][step], self.vars[name][step]
        return F.batch_norm(x, mean, var, self.p[name], bias, True)

    def input_part(self, step: int, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """In mode ``"sequence"`` it is normalised already."""
        if self.mode == "sequence":
            return x if bias is None else x + bias
        return self.norm("norm_ih", x, step, bias)

    def hidden_part(self, step: int, h: Tensor, bias: Tensor) -> Tensor:
        if self.mode == "sequence":
            return F.linear(h, self.p["weight_hh"], bias)
        return self.norm("norm_hh", F.linear(h, self.p["weight_hh"]), step, bias)

    def products(self) -> Tensor:
        """The input's part of all steps, ``(L, N, rows)``: one product."""
        parts = F.linear(self.x, self.p["weight_ih"])
        if self.mode == "sequence":
            return self.norm("norm_ih", parts.flatten(0, 1)).view(parts.shape)
        return parts

    def way(self, run: "Callable[[Cells], Tensor]") -> Way:
        """A way by a loop over the steps."""
        return Way(lambda: run(self), {"input": self.x, **self.p}, self.memory, self.forget)

    def memory(self) -> dict[str, Tensor]:
        return {
            "running_mean": torch.cat([mean.flatten() for mean in self.means.values()]),
            "running_var": torch.cat([var.flatten() for var in self.vars.values()]),
        }

    def forget(self) -> None:
        for mean, var in zip(self.means.values(), self.vars.values(), strict=True):
            mean.zero_()
            var.fill_(1)


def lstm(cells: Cells) -> Tensor:
    """Cooijmans et al. 2017; in mode ``"sequence"`` the cell is not normalised."""
    h = c = cells.x.new_zeros(cells.x.shape[1:])
    bias = cells.p["bias_ih"] + cells.p["bias_hh"]
    outputs = []
    for step, x in enumerate(cells.products()):
        gates = cells.input_part(step, x) + cells.hidden_part(step, h, bias)
        i, f, g, o = gates.chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * (c if cells.mode == "sequence" else cells.norm("norm_c", c, step)).tanh()
        outputs.append(h)
    return torch.stack(outputs)


def gru(cells: Cells) -> Tensor:
    h = cells.x.new_zeros(cells.x.shape[1:])
    outputs = []
    for step, x in enumerate(cells.products()):
        x_r, x_z, x_n = cells.input_part(step, x, cells.p["bias_ih"]).chunk(3, 1)
        u_r, u_z, u_n = cells.hidden_part(step, h, cells.p["bias_hh"]).chunk(3, 1)
        r, z = (x_r + u_r).sigmoid(), (x_z + u_z).sigmoid()
        n = (x_n + r * u_n).tanh()
        h = n + z * (h - n)
        outputs.append(h)
    return torch.stack(outputs)


CELLS = {"lstm": lstm, "gru": gru}


def behind_identity(data: Data) -> Way:
    """Torch's LSTM, whose input weights are an identity: the normalised products go straight in."""
    cells = Cells(data, "sequence")
    rows, width = cells.p["weight_hh"].shape
    identity = torch.eye(rows, dtype=cells.x.dtype)
    start = cells.x.new_zeros(1, cells.x.shape[1], width)

    def run(cells: Cells) -> Tensor:
        weights = [identity, *(cells.p[name] for name in ("weight_hh", "bias_ih", "bias_hh"))]
        return torch.lstm(
            cells.products(), (start, start), weights, True, 1, 0.0, True, False, False
        )[0]

    return cells.way(run)
