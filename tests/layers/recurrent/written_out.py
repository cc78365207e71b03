"""Recurrent batch norm from the papers' equations: lists of sequences, loops, no code of ours."""

import torch
from torch import Tensor


def normalise(rows: Tensor, weight: Tensor, eps: float, memory=None) -> tuple[Tensor, Tensor]:
    """γ(x - mean)/sqrt(var + eps) of ``(n, C)``, and what the batch would leave: mean, var."""
    mean = rows.mean(0)
    var = ((rows - mean) ** 2).mean(0)
    seen = torch.stack([mean, var * len(rows) / max(len(rows) - 1, 1)]).detach()
    if memory is not None:
        mean, var = memory
    return (rows - mean) / (var + eps).sqrt() * weight, seen


class Norms:
    """The norms of one layer and direction, by name, step by step."""

    def __init__(self, params: dict[str, Tensor], suffix: str, eps: float, training: bool):
        self.params, self.suffix, self.eps, self.training = params, suffix, eps, training
        self.seen: dict[tuple[str, int], Tensor] = {}

    def __call__(self, name: str, t: int, rows: Tensor) -> Tensor:
        key = f"norm_{name}_{self.suffix}."
        weight, by_memory = self.params[key + "weight"], not self.training or len(rows) == 1
        memory = None
        if by_memory:
            means, variances = (self.params[key + f"running_{part}"] for part in ("mean", "var"))
            at = min(t, len(means) - 1)
            memory = means[at], variances[at]
        y, seen = normalise(rows, weight, self.eps, memory)
        if not by_memory:
            self.seen[key, t] = seen
        bias = self.params.get(key + "bias")
        return y if bias is None else y + bias


def lstm_step(params, suffix, norms, t, x, state):
    h, c = state
    w_ih, w_hh = params[f"weight_ih_{suffix}"], params[f"weight_hh_{suffix}"]
    b = params[f"bias_ih_{suffix}"] + params[f"bias_hh_{suffix}"]
    gates = norms("ih", t, x @ w_ih.T) + norms("hh", t, h @ w_hh.T) + b
    i, f, g, o = gates.split(h.shape[1], 1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(norms("c", t, c)), c


def gru_step(params, suffix, norms, t, x, state):
    (h,) = state
    w_ih, w_hh = params[f"weight_ih_{suffix}"], params[f"weight_hh_{suffix}"]
    a = norms("ih", t, x @ w_ih.T) + params[f"bias_ih_{suffix}"]
    u = norms("hh", t, h @ w_hh.T) + params[f"bias_hh_{suffix}"]
    (a_r, a_z, a_n), (u_r, u_z, u_n) = a.split(h.shape[1], 1), u.split(h.shape[1], 1)
    r, z = torch.sigmoid(a_r + u_r), torch.sigmoid(a_z + u_z)
    n = torch.tanh(a_n + r * u_n)
    return ((1 - z) * n + z * h,)


def one_direction(step, params, suffix, sequences, firsts, eps, training):
    """Outputs and last states of sequences that are all read from their first item on."""
    norms = Norms(params, suffix, eps, training)
    states = [tuple(part[i] for part in firsts) for i in range(len(sequences))]
    outputs: list[list[Tensor]] = [[] for _ in sequences]
    for t in range(max(len(s) for s in sequences)):
        here = [i for i, s in enumerate(sequences) if len(s) > t]
        x = torch.stack([sequences[i][t] for i in here])
        before = tuple(torch.stack(part) for part in zip(*(states[i] for i in here), strict=True))
        after = step(params, suffix, norms, t, x, before)
        for row, i in enumerate(here):
            states[i] = tuple(part[row] for part in after)
            outputs[i].append(states[i][0])
    return [torch.stack(o) for o in outputs], states, norms.seen


def network(step, params, sequences, firsts, layers, directions, eps, training):
    """Outputs per sequence, last states ``(layers·directions, N, H)`` each, and what was seen."""
    lasts, seen = [], {}
    for layer in range(layers):
        sides = []
        for direction in range(directions):
            suffix = f"l{layer}" + "_reverse" * direction
            read = [s.flip(0) for s in sequences] if direction else sequences
            first = tuple(part[layer * directions + direction] for part in firsts)
            out, last, new = one_direction(step, params, suffix, read, first, eps, training)
            sides.append([o.flip(0) for o in out] if direction else out)
            lasts.append([torch.stack(part) for part in zip(*last, strict=True)])
            seen.update(new)
        sequences = [torch.cat(pair, 1) for pair in zip(*sides, strict=True)]
    return sequences, [torch.stack(part) for part in zip(*lasts, strict=True)], seen
