"""SequenceBatchNorm: explicit channels, lengths, packed sequences; padding never counts."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import (
    PackedSequence,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
)

import batchnorm as bn
from tests.layers.pairs import assert_unchanged, snapshot

F64 = torch.float64
CLOSE = {"rtol": 1e-11, "atol": 1e-11}
N, L, C = 4, 6, 5
LENGTHS = [3, 6, 1, 4]
AXES = [1, 2, -1]


def make(axis=-1, **options):
    torch.manual_seed(0)
    layer = bn.SequenceBatchNorm(C, channel_axis=axis, **options).double()
    with torch.no_grad():
        layer.weight.normal_()
        layer.bias.normal_()
    return layer


def placed(x, axis):
    """``(N, L, C)`` with its channels where the layer expects them."""
    return x.transpose(1, 2) if axis == 1 else x


def written_out(x, lengths, layer, r=None):
    """Output of the training formula on the real positions alone, zeros elsewhere; (N, L, C)."""
    real = torch.arange(L) < torch.tensor(lengths)[:, None]
    rows = x[real]
    mean = rows.mean(0)
    var = (rows - mean).square().mean(0)
    y = (rows - mean) / (var + layer.eps).sqrt() * layer.weight + layer.bias
    y = y if r is None else y + r[real]
    return torch.zeros_like(x).masked_scatter(real.unsqueeze(-1), y.relu()), mean, rows.var(0)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("how", ["lengths", "mask", "list"])
@pytest.mark.parametrize("axis", AXES)
def test_padded_input_equals_the_formula_on_real_positions(axis, how, residual):
    layer = make(axis, activation="relu")
    x, r, g = torch.randn(3, N, L, C, dtype=F64)
    x, r = x.requires_grad_(), r.requires_grad_() if residual else None
    lengths = torch.tensor(LENGTHS)
    padding = {
        "lengths": {"lengths": lengths},
        "list": {"lengths": LENGTHS},
        "mask": {"mask": torch.arange(L) < lengths[:, None]},
    }[how]
    y = placed(layer(placed(x, axis), None if r is None else placed(r, axis), **padding), axis)
    want, mean, var = written_out(x, LENGTHS, layer, r)
    torch.testing.assert_close(y, want, **CLOSE)
    torch.testing.assert_close(layer.running_mean, 0.1 * mean, **CLOSE)
    torch.testing.assert_close(layer.running_var, 0.9 + 0.1 * var, **CLOSE)

    leaves = [x, layer.weight, layer.bias, *([r] if residual else [])]
    got = torch.autograd.grad(y, leaves, g)
    for a, b in zip(got, torch.autograd.grad(want, leaves, g), strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("enforce_sorted", [True, False])
def test_packed_equals_padded(enforce_sorted, training):
    lengths = sorted(LENGTHS, reverse=True) if enforce_sorted else LENGTHS
    one, two = make(activation="silu").train(training), make(activation="silu").train(training)
    x, r = torch.randn(2, N, L, C, dtype=F64)
    packed, packed_r = (
        pack_padded_sequence(t, lengths, batch_first=True, enforce_sorted=enforce_sorted)
        for t in (x, r)
    )
    y = one(packed, packed_r)
    assert isinstance(y, PackedSequence)
    assert torch.equal(y.batch_sizes, packed.batch_sizes)
    want = two(x, r, lengths=lengths)
    got, _ = pad_packed_sequence(y, batch_first=True)
    torch.testing.assert_close(got, want, **CLOSE)
    for name, value in two.state_dict().items():
        torch.testing.assert_close(one.state_dict()[name], value, msg=name, **CLOSE)


@pytest.mark.parametrize("axis", AXES)
def test_channels_are_where_they_were_said_to_be_even_when_sizes_agree(axis):
    # nn.BatchNorm1d takes (N, L, C) for (N, C, L) without a word when L == C (pytorch#76613).
    layer = bn.SequenceBatchNorm(3, channel_axis=axis, momentum=1.0).double()
    x = torch.randn(4, 3, 3, dtype=F64)
    layer(x)
    over = (0, 2) if axis == 1 else (0, 1)
    torch.testing.assert_close(layer.running_mean, x.mean(over), **CLOSE)


@pytest.mark.parametrize("axis", AXES)
def test_wrong_axis_is_refused_in_the_inputs_own_words(axis):
    layer = make(axis)
    shape = (N, L, C) if axis == 1 else (N, C, L)
    with pytest.raises(ValueError, match=rf"5 channels in dimension {axis}.*\({N}, {shape[1]}"):
        layer(torch.randn(shape, dtype=F64))


def test_channel_axis_has_no_default():
    with pytest.raises(TypeError, match="channel_axis"):
        bn.SequenceBatchNorm(3)


@pytest.mark.parametrize("axis", [0, 3, -2, True, None, "last"])
def test_other_axes_are_refused(axis):
    with pytest.raises(ValueError, match="channel_axis must be"):
        bn.SequenceBatchNorm(3, channel_axis=axis)


@pytest.mark.parametrize("training", [True, False])
def test_channels_last_input_is_neither_copied_nor_turned_round(training):
    # The kernels are given the memory as it lies: the output has its layout too.
    x = torch.randn(N, L, C, dtype=F64)
    y = make().train(training)(x)
    assert y.is_contiguous()
    seen = []
    layer = make().train(training)
    whole = bn.layers._batchnorm._BatchNorm.forward

    def spy(self, input, *args, **kwargs):
        seen.append(input.data_ptr() == x.data_ptr())
        return whole(self, input, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bn.layers._batchnorm._BatchNorm, "forward", spy)
        layer(x)
    assert seen == [True]


def test_padding_may_hold_nan_and_receives_no_gradient():
    layer = make(activation="gelu")
    x = torch.randn(N, L, C, dtype=F64)
    real = torch.arange(L) < torch.tensor(LENGTHS)[:, None]
    x = x.masked_fill(~real.unsqueeze(-1), float("nan")).requires_grad_()
    y = layer(x, lengths=LENGTHS)
    y.backward(torch.randn_like(y))
    assert (y[~real] == 0).all()
    assert (x.grad[~real] == 0).all()
    assert x.grad.isfinite().all()
    assert layer.running_mean.isfinite().all()


def test_padding_changes_nothing():
    # How long the neighbours are must not matter: torch's layer counts their padding.
    sequences = [torch.randn(n, C, dtype=F64) for n in LENGTHS]
    results = []
    for extra in (0, 7):
        layer = make()
        x = torch.zeros(N, L + extra, C, dtype=F64)
        for i, s in enumerate(sequences):
            x[i, : len(s)] = s
        results.append((layer(x, lengths=LENGTHS)[:, :L], layer.running_var))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


def test_rows_of_real_positions():
    layer, rows = make(), torch.randn(14, C, dtype=F64)
    want = nn.BatchNorm1d(C).double()
    want.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(rows), want(rows), **CLOSE)


def test_checkpoints_of_torchs_layer_load_both_ways():
    layer, theirs = make(), nn.BatchNorm1d(C).double()
    theirs.load_state_dict(layer.state_dict())
    layer.load_state_dict(theirs.state_dict())
    x = torch.randn(N, L, C, dtype=F64)
    torch.testing.assert_close(layer(x), theirs(x.transpose(1, 2)).transpose(1, 2), **CLOSE)


@pytest.mark.parametrize(
    ("lengths", "error", "words"),
    [
        ([3, 6, 1], ValueError, r"one value per sequence, shape \(4,\)"),
        ([3, 7, 1, 4], ValueError, "between 0 and the padded length 6"),
        ([3, -1, 1, 4], ValueError, "between 0 and the padded length 6"),
        ([3.0, 6.0, 1.0, 4.0], TypeError, "lengths must be integers"),
    ],
)
def test_wrong_lengths_are_refused(lengths, error, words):
    layer = make()
    before = snapshot(layer)
    with pytest.raises(error, match=words):
        layer(torch.randn(N, L, C, dtype=F64), lengths=lengths)
    assert_unchanged(layer, before)


def test_wrong_combinations_are_refused():
    layer, x = make(), torch.randn(N, L, C, dtype=F64)
    packed = pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False)
    other = pack_padded_sequence(x, [1, 6, 3, 4], batch_first=True, enforce_sorted=False)
    mask = torch.ones(N, L, dtype=torch.bool)
    with pytest.raises(ValueError, match="lengths and a mask"):
        layer(x, mask=mask, lengths=LENGTHS)
    with pytest.raises(ValueError, match="lengths are for padded input"):
        layer(x[0], lengths=LENGTHS)
    with pytest.raises(ValueError, match="packed sequences have no padding"):
        layer(packed, lengths=LENGTHS)
    with pytest.raises(TypeError, match="residual of a PackedSequence"):
        layer(packed, packed.data)
    with pytest.raises(ValueError, match="packed as the input is"):
        layer(packed, other)
    one, two = (pack_padded_sequence(x[:2], size, batch_first=True) for size in ([4, 2], [3, 3]))
    with pytest.raises(ValueError, match="packed as the input is"):
        layer(one, two)


def test_sequences_of_length_zero_are_padding():
    layer, x = make(momentum=1.0), torch.randn(3, L, C, dtype=F64)
    y = layer(x, lengths=[0, 2, 0])
    assert (y[[0, 2]] == 0).all()
    torch.testing.assert_close(layer.running_mean, x[1, :2].mean(0), **CLOSE)


@pytest.mark.parametrize("policy", ["running", "skip"])
def test_a_single_real_position_follows_on_single(policy):
    x, layer = torch.randn(3, L, C, dtype=F64), make()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        layer(x, lengths=[0, 1, 0])
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        layer(pack_sequence([x[0, :1]]))
    layer = make(on_single=policy)
    before = snapshot(layer)
    y = layer(x, lengths=[0, 1, 0])[1, 0]
    normal = x[1, 0] / (1 + layer.eps) ** 0.5 * layer.weight if policy == "running" else 0
    torch.testing.assert_close(y, normal + layer.bias, **CLOSE)
    assert_unchanged(layer, before)


def test_weight_and_bias_of_a_call_for_each_sequence():
    layer = bn.SequenceBatchNorm(C, channel_axis=-1, affine=False).double()
    x, w, b = torch.randn(N, L, C, dtype=F64), *torch.randn(2, N, C, dtype=F64)
    y = layer(x, weight=w, bias=b)
    plain = bn.SequenceBatchNorm(C, channel_axis=-1, affine=False).double()(x)
    torch.testing.assert_close(y, plain * w.unsqueeze(1) + b.unsqueeze(1), **CLOSE)


@pytest.mark.parametrize("training", [True, False])
def test_fullgraph_compile_equals_eager(training):
    torch._dynamo.reset()
    one, two = make(activation="relu").train(training), make(activation="relu").train(training)
    compiled = torch.compile(one, backend="aot_eager", fullgraph=True)
    x, lengths = torch.randn(N, L, C, dtype=F64), torch.tensor(LENGTHS)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    got, want = compiled(a, lengths=lengths), two(b, lengths=lengths)
    g = torch.randn_like(x)
    got.backward(g)
    want.backward(g)
    torch.testing.assert_close(got, want, **CLOSE)
    torch.testing.assert_close(a.grad, b.grad, **CLOSE)
    torch.testing.assert_close(one.running_var, two.running_var, **CLOSE)
    torch._dynamo.reset()


def test_exported_program_needs_no_library_of_ours():
    layer, x = make(activation="relu").eval(), torch.randn(N, L, C, dtype=F64)
    program = torch.export.export(layer, (x,), {"lengths": torch.tensor(LENGTHS)})
    assert not [n for n in program.graph.nodes if "batchnorm." in str(n.target)]
    lengths = torch.tensor([1, 2, 3, 4])
    torch.testing.assert_close(program.module()(x, lengths=lengths), layer(x, lengths=lengths))


@pytest.mark.parametrize("axis", [1, -1])
def test_gradcheck(axis):
    layer = make(axis, activation="tanh")
    x = placed(torch.randn(N, L, C, dtype=F64), axis).requires_grad_()

    def run(x, w, b):
        state = {"weight": w, "bias": b}
        return torch.func.functional_call(layer, state, (x,), {"lengths": torch.tensor(LENGTHS)})

    bn.set_updates(layer, False)
    args = (x, layer.weight, layer.bias)
    assert torch.autograd.gradcheck(run, args)
    assert torch.autograd.gradgradcheck(run, args)


def test_text_says_where_the_channels_are():
    assert "channel_axis=-1" in repr(make())
