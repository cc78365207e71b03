"""BatchNormLSTM and BatchNormGRU in use: compile, checkpoints, state, dtypes, errors."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint

import batchnorm as bn
from tests.layers.pairs import assert_unchanged, snapshot

F64 = torch.float64
CLOSE = {"rtol": 1e-10, "atol": 1e-11}
KINDS = [bn.BatchNormLSTM, bn.BatchNormGRU]
MODES = ["recurrent", "sequence"]
PEERS = {bn.BatchNormLSTM: nn.LSTM, bn.BatchNormGRU: nn.GRU}
every = pytest.mark.parametrize(
    ("kind", "mode"), [(kind, mode) for kind in KINDS for mode in MODES]
)


def make(kind, mode="recurrent", **options):
    torch.manual_seed(0)
    return kind(3, 4, **{"dtype": F64, "mode": mode, "max_length": 6, **options})


def batch(steps=5, samples=6):
    return torch.randn(steps, samples, 3, dtype=F64)


def assert_same_state(one, two):
    for (name, a), (_, b) in zip(one.named_buffers(), two.named_buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=name, **CLOSE)


# Compiling takes seconds per step and layer: each way once.
@pytest.mark.parametrize(
    ("kind", "mode", "training", "bidirectional"),
    [
        (bn.BatchNormLSTM, "recurrent", True, False),
        (bn.BatchNormLSTM, "recurrent", False, True),
        (bn.BatchNormGRU, "sequence", True, False),
    ],
)
def test_fullgraph_compile_equals_eager(kind, mode, training, bidirectional):
    torch._dynamo.reset()
    one, two = (make(kind, mode, bidirectional=bidirectional).train(training) for _ in range(2))
    compiled = torch.compile(one, backend="aot_eager", fullgraph=True)
    for _ in range(2):
        x = batch(2)
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        got, want = compiled(a)[0], two(b)[0]
        g = torch.randn_like(got)
        got.backward(g)
        want.backward(g)
        torch.testing.assert_close(got, want, **CLOSE)
        torch.testing.assert_close(a.grad, b.grad, **CLOSE)
    assert_same_state(one, two)
    torch._dynamo.reset()


@every
def test_exported_program_needs_no_library_of_ours(kind, mode):
    layer = make(kind, mode, bidirectional=True)
    layer(batch())
    layer.eval()
    x = batch(2)
    program = torch.export.export(layer, (x,))
    assert not [n for n in program.graph.nodes if "batchnorm." in str(n.target)]
    torch.testing.assert_close(program.module()(x)[0], layer(x)[0], **CLOSE)


@every
@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_pass_counts_once(kind, mode, reentrant):
    one, two = make(kind, mode), make(kind, mode)
    x, g = batch().requires_grad_(), torch.randn(5, 6, 4, dtype=F64)
    checkpoint(lambda t: one(t)[0], x, use_reentrant=reentrant).backward(g)
    got, x.grad = x.grad, None
    two(x)[0].backward(g)
    torch.testing.assert_close(got, x.grad, **CLOSE)
    assert_same_state(one, two)


@every
def test_copies_and_checkpoints_behave_alike(kind, mode):
    layer = make(kind, mode, bidirectional=True)
    layer(batch())
    fresh = kind(3, 4, bidirectional=True, dtype=F64, mode=mode, max_length=6)
    fresh.load_state_dict(layer.state_dict())
    x = batch()
    for other in (fresh, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other.eval()(x)[0], layer.eval()(x)[0])
        assert repr(other) == repr(layer)


@every
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}])
def test_state_has_torchs_names_and_shapes(kind, mode, options):
    theirs = PEERS[kind](3, 4, **options).state_dict()
    ours = {k: v for k, v in make(kind, mode, **options).state_dict().items() if "norm" not in k}
    assert list(ours) == list(theirs)
    assert [v.shape for v in ours.values()] == [v.shape for v in theirs.values()]


@pytest.mark.parametrize("kind", KINDS)
def test_norms_start_at_a_tenth_and_weights_as_torchs(kind):
    layer = kind(3, 400)
    for norm in layer.children():
        assert (norm.weight == 0.1).all()
    bound = 400**-0.5
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0"):
        value = getattr(layer, name)
        assert 0.9 * bound < value.abs().max() <= bound
        assert abs(value.mean()) < bound / 10


@pytest.mark.parametrize("kind", KINDS)
def test_weight_init_is_in_force_after_a_reset(kind):
    layer = make(kind, weight_init=0.3)
    layer(batch())
    layer.reset_parameters()
    for norm in layer.children():
        assert norm.weight.tolist() == pytest.approx([0.3] * norm.num_features)
        assert norm.num_batches_tracked.tolist() == [0] * 6


@every
def test_accumulate_and_skip_reach_the_norms(kind, mode):
    layer = make(kind, mode, momentum=1.0)
    before = snapshot(layer)
    with bn.skip_updates(layer):
        layer(batch())
    assert_unchanged(layer, before)
    xs = batch(5, 3), batch(5, 6)
    with bn.accumulate(layer):
        for x in xs:
            layer(x)
    rows = torch.cat(xs, 1) @ layer.weight_ih_l0.T
    rows = rows.flatten(0, 1) if mode == "sequence" else rows.transpose(0, 1)
    got = layer.norm_ih_l0.running_mean
    torch.testing.assert_close(got if mode == "sequence" else got[:5], rows.mean(0), **CLOSE)
    assert int(layer.norm_ih_l0.num_batches_tracked.max()) == 1


@every
def test_packed_batches_may_be_in_any_order(kind, mode):
    layer = make(kind, mode, bidirectional=True, num_layers=2)
    layer(batch())
    bn.set_updates(layer, False)
    lengths, x = [2, 5, 1, 5], batch(5, 4)
    order = [1, 3, 0, 2]
    mixed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    ordered = pack_padded_sequence(x[:, order], [lengths[i] for i in order])
    hidden = torch.randn(2, 4, 4, 4, dtype=F64)
    hidden = tuple(hidden) if kind is bn.BatchNormLSTM else hidden[0]
    turned = tuple(h[:, order] for h in hidden) if kind is bn.BatchNormLSTM else hidden[:, order]
    a, last_a = layer(mixed, hidden)
    b, last_b = layer(ordered, turned)
    torch.testing.assert_close(a.data, b.data, **CLOSE)
    pairs = zip(last_a, last_b, strict=True) if kind is bn.BatchNormLSTM else [(last_a, last_b)]
    for one, two in pairs:
        torch.testing.assert_close(one[:, order], two, **CLOSE)


@every
def test_a_sequence_alone_does_not_feel_its_neighbours_in_evaluation(kind, mode):
    layer = make(kind, mode, bidirectional=True, num_layers=2)
    layer(batch())
    layer.eval()
    x = batch(5, 3)
    packed = pack_padded_sequence(x, [3, 5, 1], enforce_sorted=False)
    out, _ = nn.utils.rnn.pad_packed_sequence(layer(packed)[0])
    for i, size in enumerate([3, 5, 1]):
        torch.testing.assert_close(out[:size, i], layer(x[:size, i])[0], **CLOSE)


@every
def test_dropout_lies_between_layers_and_only_in_training(kind, mode):
    layer = make(kind, mode, num_layers=2, dropout=1.0)
    x = batch()
    with bn.skip_updates(layer):
        y = layer(x)[0]
        other = layer(x + torch.randn_like(x))[0]
    torch.testing.assert_close(y, other, **CLOSE)  # nothing of the input reaches the last layer
    layer.eval()
    assert not torch.allclose(layer(x)[0], layer(x + torch.randn_like(x))[0])


@pytest.mark.parametrize("kind", KINDS)
def test_longer_sequences_than_memory_train_and_evaluate(kind):
    layer = make(kind, max_length=2)
    layer(batch(7))
    x = batch(9)
    layer.eval()
    assert layer(x)[0].isfinite().all()
    assert layer.norm_hh_l0.running_mean.shape == (2, layer.norm_hh_l0.num_features)


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_narrow_dtypes_keep_wide_statistics(kind, mode, dtype):
    layer = make(kind, mode).to(dtype)
    x = batch().to(dtype).requires_grad_()
    y = layer(x)[0]
    y.backward(torch.randn_like(y))
    assert y.dtype == x.grad.dtype == dtype
    assert layer.norm_ih_l0.running_mean.dtype == torch.float32
    assert make(kind, mode, dtype=dtype).norm_ih_l0.running_var.dtype == torch.float32
    wide = make(kind, mode)
    close = {"rtol": 0, "atol": 64 * torch.finfo(dtype).eps}
    torch.testing.assert_close(y.double(), wide(x.double())[0], **close)


@every
def test_autocast(kind, mode):
    layer = make(kind, mode, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(batch().float())[0]
    y.sum().backward()
    assert layer.weight_hh_l0.grad.isfinite().all()
    assert layer.norm_ih_l0.running_mean.dtype == torch.float32


@every
def test_gradients_by_torch_func_equal_autograds(kind, mode):
    layer = make(kind, mode)
    params = dict(layer.named_parameters())
    x, g = batch(3), torch.randn(3, 6, 4, dtype=F64)
    bn.set_updates(layer, False)

    def loss(params):
        return (torch.func.functional_call(layer, params, (x,))[0] * g).sum()

    got = torch.func.grad(loss)({k: v.detach() for k, v in params.items()})
    want = torch.autograd.grad(loss(params), params.values())
    for (name, a), b in zip(got.items(), want, strict=True):
        torch.testing.assert_close(a, b, msg=name, **CLOSE)


@every
def test_an_ensemble_runs_under_vmap(kind, mode):
    layers = [make(kind, mode, bidirectional=True) for _ in range(3)]
    for seed, layer in enumerate(layers):
        torch.manual_seed(seed)
        layer(batch())
        layer.eval()
    params, buffers = torch.func.stack_module_state(layers)
    base, x = copy.deepcopy(layers[0]).to("meta"), batch(3)

    def run(params, buffers):
        return torch.func.functional_call(base, (params, buffers), (x,))[0]

    for got, layer in zip(torch.func.vmap(run)(params, buffers), layers, strict=True):
        torch.testing.assert_close(got, layer(x)[0], **CLOSE)


@every
def test_forward_mode_derivative_equals_the_difference_quotient(kind, mode):
    layer = make(kind, mode)
    bn.set_updates(layer, False)
    x, v = batch(3), batch(3)
    _, got = torch.func.jvp(lambda t: layer(t)[0], (x,), (v,))
    step = torch.finfo(F64).eps ** (1 / 3)
    want = (layer(x + step * v)[0] - layer(x - step * v)[0]) / (2 * step)
    torch.testing.assert_close(got, want, rtol=step, atol=step)


@every
def test_built_without_memory_and_filled_later(kind, mode):
    layer = make(kind, mode, device="meta", bidirectional=True)
    assert all(b.is_meta for b in layer.buffers())
    layer.to_empty(device="cpu").reset_parameters()
    assert layer(batch())[0].isfinite().all()
    assert all(norm.num_nonfinite.sum() == 0 for norm in layer.children())


@pytest.mark.parametrize("kind", KINDS)
def test_parametrized_weights(kind):
    one, two = make(kind), make(kind)
    torch.nn.utils.parametrizations.weight_norm(two, "weight_hh_l0")
    x = batch()
    torch.testing.assert_close(two(x)[0], one(x)[0], **CLOSE)


@every
def test_gradcheck(kind, mode):
    layer = make(kind, mode, bidirectional=True)
    names = [n for n, _ in layer.named_parameters()]
    bn.set_updates(layer, False)
    packed = pack_padded_sequence(batch(3, 4), [3, 1, 3, 2], enforce_sorted=False)

    def run(data, *values):
        given = packed._replace(data=data)
        state = dict(zip(names, values, strict=True))
        return torch.func.functional_call(layer, state, (given,))[0].data

    args = packed.data.clone().requires_grad_(), *layer.parameters()
    assert torch.autograd.gradcheck(run, args, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, args, fast_mode=True)


@every
def test_constant_first_steps_stay_finite(kind, mode):
    # All-black first pixels of sequential MNIST: variance 0 in the first steps.
    layer = make(kind, mode)
    x = batch()
    x[:3] = 0
    x.requires_grad_()
    y = layer(x)[0]
    y.backward(torch.randn_like(y))
    assert y.isfinite().all()
    assert x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


@every
def test_empty_batch(kind, mode):
    layer = make(kind, mode)
    before = snapshot(layer)
    assert layer.eval()(batch(3, 0))[0].shape == (3, 0, 4)
    assert_unchanged(layer, before)


@every
def test_same_input_same_bits(kind, mode):
    x = batch()
    assert torch.equal(make(kind, mode)(x)[0], make(kind, mode)(x)[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"proj_size": 2}, ValueError, "projections are not offered.*proj_size=2"),
        ({"mode": "cell"}, ValueError, "mode must be one of"),
        ({"max_length": 0}, ValueError, "max_length must be positive"),
        ({"hidden_size": 0}, ValueError, "hidden_size must be greater than zero"),
        ({"num_layers": 1.0}, TypeError, "num_layers should be of type int"),
        ({"dropout": 1.5}, ValueError, r"dropout should be a number in range \[0, 1\]"),
        ({"eps": -1.0}, ValueError, "eps must be positive"),
    ],
)
def test_wrong_arguments_are_refused(kind, options, error, words):
    with pytest.raises(error, match=words):
        kind(**{"input_size": 3, "hidden_size": 4, **options})


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_of_a_single_layer_warns_as_torch(kind):
    with pytest.warns(
        UserWarning, match="dropout is applied after every layer but the last"
    ) as seen:
        kind(3, 4, dropout=0.5)
    assert seen[0].filename == __file__


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_input_is_refused_and_changes_nothing(kind):
    layer = make(kind)
    before = snapshot(layer)
    with pytest.raises(RuntimeError, match=r"input must be .*\(5, 6, 2\)"):
        layer(torch.randn(5, 6, 2, dtype=F64))
    with pytest.raises(RuntimeError, match="input must be"):
        layer(torch.randn(5, 6, 2, 3, dtype=F64))
    with pytest.raises(RuntimeError, match="there must be a step"):
        layer(batch(0))
    with pytest.raises(ValueError, match="dtype of the weights.*float32"):
        layer(batch().float())
    wrong = torch.randn(1, 5, 4, dtype=F64)
    with pytest.raises(RuntimeError, match=r"Expected hidden size \(1, 6, 4\)"):
        layer(batch(), (wrong, wrong) if kind is bn.BatchNormLSTM else wrong)
    with pytest.raises(ValueError, match="more than 1 value"):
        make(kind, on_single="error")(batch(4, 1))
    assert_unchanged(layer, before)


def test_flatten_parameters_is_there_for_old_code():
    make(bn.BatchNormLSTM).flatten_parameters()


def test_text_says_what_differs_from_torch():
    text = repr(bn.BatchNormGRU(3, 4, 2, bidirectional=True, mode="sequence"))
    assert "BatchNormGRU(\n  3, 4, num_layers=2, bidirectional=True, mode='sequence'" in text
    assert "max_length=100" in repr(bn.BatchNormLSTM(3, 4))
