"""BatchNormLSTM and BatchNormGRU against the equations written out, and against torch's layers."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import batchnorm as bn
from tests.layers.recurrent.written_out import gru_step, lstm_step, network

F64 = torch.float64
CLOSE = {"rtol": 1e-10, "atol": 1e-11}
KINDS = [(bn.BatchNormLSTM, lstm_step, 2), (bn.BatchNormGRU, gru_step, 1)]
LENGTHS = [4, 6, 1, 6, 3]


def build(kind, layers, directions, **options):
    torch.manual_seed(1)
    layer = kind(3, 4, layers, bidirectional=directions == 2, dtype=F64, max_length=5, **options)
    with torch.no_grad():
        for name, value in layer.named_parameters():
            if "norm" in name:
                value.normal_()
        for module in layer.children():
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.num_batches_tracked.fill_(1)
    return layer


def leaves(layer):
    """Its parameters as fresh leaves, and copies of its buffers."""
    values = {k: v.detach().clone().requires_grad_() for k, v in layer.named_parameters()}
    return values | {k: v.clone() for k, v in layer.named_buffers()}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("lengths", [[5] * 4, LENGTHS], ids=["dense", "packed"])
@pytest.mark.parametrize(("layers", "directions"), [(1, 1), (2, 2)])
@pytest.mark.parametrize(("kind", "step", "states"), KINDS)
def test_equals_the_written_out_network(kind, step, states, layers, directions, lengths, training):
    layer = build(kind, layers, directions).train(training)
    params, n = leaves(layer), len(lengths)
    x = torch.randn(max(lengths), n, 3, dtype=F64)
    firsts = [torch.randn(layers * directions, n, 4, dtype=F64) for _ in range(states)]
    ours = [t.clone().requires_grad_() for t in (x, *firsts)]
    theirs = [t.clone().requires_grad_() for t in (x, *firsts)]

    sequences = [theirs[0][:size, i] for i, size in enumerate(lengths)]
    want, last, seen = network(
        step, params, sequences, theirs[1:], layers, directions, layer.norm_ih_l0.eps, training
    )
    dense = len(set(lengths)) == 1
    given = ours[0] if dense else pack_padded_sequence(ours[0], lengths, enforce_sorted=False)
    got, hidden = layer(given, tuple(ours[1:]) if states == 2 else ours[1])
    got = got if dense else pad_packed_sequence(got)[0]
    hidden = hidden if states == 2 else (hidden,)

    loss = want_loss = torch.zeros((), dtype=F64)
    for i, size in enumerate(lengths):
        torch.testing.assert_close(got[:size, i], want[i], **CLOSE)
        g = torch.randn_like(want[i])
        loss, want_loss = loss + (got[:size, i] * g).sum(), want_loss + (want[i] * g).sum()
    for a, b in zip(hidden, last, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)
        g = torch.randn_like(b)
        loss, want_loss = loss + (a * g).sum(), want_loss + (b * g).sum()

    loss.backward()
    want_loss.backward()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, **CLOSE)
    for name, value in layer.named_parameters():
        torch.testing.assert_close(value.grad, params[name].grad, msg=name, **CLOSE)
    assert_remembers(layer, params, seen)


def assert_remembers(layer, params, seen):
    """Each step that was seen has moved by a tenth; every other is as it was."""
    for name, value in layer.named_buffers():
        if not name.endswith(("running_mean", "running_var")):
            continue
        want, key = params[name].clone(), name[: name.rindex(".") + 1]
        for (of, t), moments in seen.items():
            if of == key and t < len(want):
                want[t] = 0.9 * want[t] + 0.1 * moments[int(name.endswith("var"))]
        torch.testing.assert_close(value, want, msg=name, **CLOSE)


@pytest.mark.parametrize("mode", ["recurrent", "sequence"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("options", [
    {}, {"num_layers": 3}, {"bidirectional": True, "num_layers": 2}, {"bias": False},
    {"batch_first": True},
], ids=str)  # fmt: skip
@pytest.mark.parametrize(
    ("ours", "theirs"), [(bn.BatchNormLSTM, nn.LSTM), (bn.BatchNormGRU, nn.GRU)]
)
def test_with_neutral_norms_it_is_torchs_layer(ours, theirs, options, packed, mode):
    torch.manual_seed(0)
    plain = theirs(3, 4, **options, dtype=F64)
    layer = ours(3, 4, **options, dtype=F64, mode=mode).eval()
    assert not layer.load_state_dict(plain.state_dict(), strict=False).unexpected_keys
    with torch.no_grad():
        for norm in layer.children():
            norm.weight.fill_(1.0)
            norm.running_var.fill_(1 - norm.eps)
    x = torch.randn(6, 6, 3, dtype=F64)
    count = plain.num_layers * (1 + plain.bidirectional)
    h, c = torch.randn(2, count, 6, 4, dtype=F64)
    if packed:
        first = plain.batch_first
        x = pack_padded_sequence(x, [2, 6, 1, 3, 3, 6], enforce_sorted=False, batch_first=first)
    for hx in (None, (h, c) if theirs is nn.LSTM else h):
        got, want = layer(x, hx), plain(x, hx)
        for a, b in zip(tensors(got), tensors(want), strict=True):
            torch.testing.assert_close(a, b, **CLOSE)


def tensors(result):
    """All tensors of a layer's result, in order."""
    if isinstance(result, torch.Tensor):
        return [result]
    return [t for part in result if part is not None for t in tensors(part)]


@pytest.mark.parametrize("mode", ["recurrent", "sequence"])
@pytest.mark.parametrize(
    ("ours", "theirs"), [(bn.BatchNormLSTM, nn.LSTM), (bn.BatchNormGRU, nn.GRU)]
)
def test_one_sequence_without_a_batch_axis(ours, theirs, mode):
    layer, plain = ours(3, 4, mode=mode).eval(), theirs(3, 4)
    x = torch.randn(5, 3)
    for a, b, c in zip(
        tensors(layer(x)), tensors(layer(x.unsqueeze(1))), tensors(plain(x)), strict=True
    ):
        assert a.shape == c.shape
        torch.testing.assert_close(a, b.squeeze(1))


@pytest.mark.parametrize(("kind", "gates"), [(bn.BatchNormLSTM, 4), (bn.BatchNormGRU, 3)])
def test_sequence_mode_normalises_the_input_part_over_all_real_steps(kind, gates):
    # Deep Speech 2: BN(W x) with statistics over the whole minibatch and its time steps.
    layer = kind(3, 4, dtype=F64, mode="sequence")
    x = torch.randn(6, 5, 3, dtype=F64)
    layer(pack_padded_sequence(x, LENGTHS, enforce_sorted=False))
    real = torch.cat([x[:size, i] for i, size in enumerate(LENGTHS)]) @ layer.weight_ih_l0.T
    assert real.shape[1] == gates * 4
    torch.testing.assert_close(layer.norm_ih_l0.running_mean, 0.1 * real.mean(0), **CLOSE)
    torch.testing.assert_close(layer.norm_ih_l0.running_var, 0.9 + 0.1 * real.var(0), **CLOSE)
    assert {name.split(".")[0] for name in layer.state_dict()} == {
        *("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "norm_ih_l0")
    }


@pytest.mark.parametrize("kind", [bn.BatchNormLSTM, bn.BatchNormGRU])
def test_sequence_mode_equals_torchs_layer_with_the_norm_folded_in(kind):
    theirs = nn.LSTM if kind is bn.BatchNormLSTM else nn.GRU
    layer, plain = kind(3, 4, dtype=F64, mode="sequence"), theirs(3, 4, dtype=F64)
    x = torch.randn(6, 5, 3, dtype=F64)
    got = layer(x)[0]
    with torch.no_grad():
        plain.load_state_dict({k: v for k, v in layer.state_dict().items() if "norm" not in k})
        rows = (x @ plain.weight_ih_l0.T).flatten(0, 1)
        scale = (rows.var(0, correction=0) + layer.norm_ih_l0.eps).rsqrt()
        plain.weight_ih_l0 *= scale.unsqueeze(1)
        plain.bias_ih_l0 -= scale * rows.mean(0)
    torch.testing.assert_close(got, plain(x)[0], **CLOSE)
