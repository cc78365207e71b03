"""Ghost batch norm against a loop over the ghost batches, and its laws."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import batchnorm as bn
from tests.layers.pairs import assert_unchanged, snapshot, twins

KINDS = [
    (bn.GhostBatchNorm1d, nn.BatchNorm1d, (5,)),
    (bn.GhostBatchNorm1d, nn.BatchNorm1d, (5, 7)),
    (bn.GhostBatchNorm2d, nn.BatchNorm2d, (5, 4, 3)),
    (bn.GhostBatchNorm3d, nn.BatchNorm3d, (5, 2, 3, 2)),
]
F64 = torch.float64
CLOSE = {"rtol": 1e-10, "atol": 1e-10}
#: (N, B): whole ghost batches, ragged last ones, one ghost batch.
SIZES = [(12, 2), (12, 3), (12, 5), (11, 3), (12, 12), (12, 100)]


def by_loop(x, layer):
    affine = layer.weight, layer.bias
    parts = (
        F.batch_norm(part, None, None, *affine, training=True, eps=layer.eps)
        for part in x.split(layer.ghost_batch_size)
    )
    return torch.cat(list(parts))


@pytest.mark.parametrize(("samples", "size"), SIZES, ids=str)
@pytest.mark.parametrize(("kind", "torchs", "rest"), KINDS, ids=str)
def test_equals_a_loop_over_ghost_batches(kind, torchs, rest, samples, size):
    layer, _ = twins(kind_with(kind, size), torchs, 5)
    layer = layer.double()
    x = torch.randn(samples, *rest, dtype=F64).mul(3).add(2).requires_grad_()
    leaves, g = [x, layer.weight, layer.bias], torch.randn(samples, *rest, dtype=F64)
    y, want = layer(x), by_loop(x, layer)
    torch.testing.assert_close(y, want, **CLOSE)
    got = torch.autograd.grad(y, leaves, g)
    torch.testing.assert_close(got, torch.autograd.grad(want, leaves, g), **CLOSE)


def kind_with(kind, size):
    return lambda *args, **options: kind(*args, ghost_batch_size=size, **options)


@pytest.mark.parametrize("size", [2, 5])
def test_residual_activation_and_mask(size):
    layer = bn.GhostBatchNorm1d(5, ghost_batch_size=size, activation="silu").double()
    x, r = torch.randn(2, 12, 5, 6, dtype=F64)
    mask = torch.rand(12, 6) < 0.7
    y = layer(x, residual=r, mask=mask)
    for i in range(0, 12, size):
        at = slice(i, i + size)
        rows, real = x[at].movedim(1, -1)[mask[at]], r[at].movedim(1, -1)[mask[at]]
        want = F.silu(F.batch_norm(rows, None, None, training=True) + real)
        torch.testing.assert_close(y[at].movedim(1, -1)[mask[at]], want, **CLOSE)
    assert not y.movedim(1, -1)[~mask].any()


@pytest.mark.parametrize("momentum", [0.1, 1.0, None])
@pytest.mark.parametrize(("samples", "size"), SIZES, ids=str)
def test_running_statistics_are_those_of_batch_norm(samples, size, momentum):
    # TabNet's and Composer's decay once per ghost batch, and forget most of the batch.
    ghost = bn.GhostBatchNorm1d(5, momentum=momentum, ghost_batch_size=size).double()
    plain = nn.BatchNorm1d(5, momentum=momentum).double()
    for i in range(3):
        x = torch.randn(samples, 5, 4, dtype=F64) * (i + 1) + 10 * i
        ghost(x), plain(x)
    torch.testing.assert_close(ghost.running_mean, plain.running_mean, **CLOSE)
    torch.testing.assert_close(ghost.running_var, plain.running_var, **CLOSE)
    assert ghost.num_batches_tracked == plain.num_batches_tracked == 3
    x = torch.randn(samples, 5, 4, dtype=F64)
    torch.testing.assert_close(ghost.eval()(x), plain.eval()(x), **CLOSE)


def test_running_statistics_far_from_zero_keep_the_variance():
    layer = bn.GhostBatchNorm1d(3, momentum=1.0, ghost_batch_size=8)
    x = torch.randn(100, 3, 20) + 1e4
    layer(x)
    want = x.double().transpose(0, 1).flatten(1).var(1)
    torch.testing.assert_close(layer.running_var.double(), want, rtol=1e-3, atol=0)


def test_one_ghost_batch_is_batch_norm_bit_for_bit():
    ghost, plain = bn.GhostBatchNorm2d(5, ghost_batch_size=12), bn.BatchNorm2d(5)
    x = torch.randn(12, 5, 4, 3)
    assert torch.equal(ghost(x), plain(x))
    assert torch.equal(ghost.running_var, plain.running_var)


class Calls(TorchDispatchMode):
    """Counts our operators."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "batchnorm":
            self.names.append(func.name().removeprefix("batchnorm::"))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("size", [1, 7, 50])
def test_one_call_whatever_the_number_of_ghost_batches(size):
    layer = bn.GhostBatchNorm1d(4, ghost_batch_size=size)
    with Calls() as calls, torch.no_grad():
        layer(torch.randn(100, 4, 3))
    names = ["batch_norm_groups_train", "batch_norm_groups_merge", "batch_norm_commit_"]
    assert calls.names == names


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_layout_is_kept(layout):
    x = torch.randn(6, 5, 4, 3).contiguous(memory_format=layout)
    assert bn.GhostBatchNorm2d(5, ghost_batch_size=2)(x).is_contiguous(memory_format=layout)


def test_not_finite_ghost_batch_spoils_no_other_and_no_memory():
    layer = bn.GhostBatchNorm1d(2, ghost_batch_size=4)
    x = torch.randn(12, 2)
    clean = bn.GhostBatchNorm1d(2, ghost_batch_size=4)(x)
    x[0, 0] = float("inf")
    y = layer(x)
    assert not y[:4, 0].isfinite().any()
    assert torch.equal(y[4:], clean[4:])
    assert torch.equal(y[:, 1], clean[:, 1])
    assert layer.running_mean[0] == 0
    assert layer.running_mean[1] != 0
    assert layer.num_nonfinite.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("shape", "size", "mask"),
    [
        ((9, 3), 4, None),
        ((9, 3, 1), 4, None),
        ((8, 3), 1, None),
        ((8, 3, 2), 4, torch.tensor([[1, 1]] * 4 + [[1, 0]] + [[0, 0]] * 3).bool()),
    ],
    ids=["ragged", "one position", "ghosts of one", "masked"],
)
def test_ghost_batch_with_one_value_follows_the_policy(shape, size, mask):
    x = torch.randn(shape)
    for policy in ("error", "skip", "running"):
        layer = bn.GhostBatchNorm1d(3, ghost_batch_size=size, on_single=policy)
        nn.init.normal_(layer.bias)
        layer.running_mean.normal_()
        before = snapshot(layer)
        if policy == "error":
            with pytest.raises(ValueError, match=r"more than 1 value per channel.*ghost_batch"):
                layer(x, mask=mask)
        elif policy == "running":
            y = layer(x, mask=mask)
            assert torch.equal(y, layer.eval()(x, mask=mask))
        else:
            alone = layer(x, mask=mask)[(len(x) - 1) // size * size].reshape(3, -1)[:, 0]
            assert torch.equal(alone, layer.bias)
        assert_unchanged(layer, before)


def test_last_ghost_batch_of_two_positions_is_no_single_value():
    layer = bn.GhostBatchNorm1d(3, ghost_batch_size=4)
    assert layer(torch.randn(9, 3, 2)).isfinite().all()
    assert layer.num_batches_tracked == 1


@pytest.mark.parametrize("masked", [False, True])
def test_gradcheck_and_double_backward(masked):
    layer = bn.GhostBatchNorm1d(2, ghost_batch_size=2, activation="tanh").double()
    x, r = torch.randn(2, 5, 2, 2, dtype=F64)
    mask = torch.rand(5, 2) < 0.8 if masked else None
    bn.set_updates(layer, False)

    def f(x, r, *_):
        return layer(x, residual=r, mask=mask)

    inputs = (x.requires_grad_(), r.requires_grad_(), *layer.parameters())
    assert torch.autograd.gradcheck(f, inputs)
    assert torch.autograd.gradgradcheck(f, inputs)


def test_weight_and_bias_of_a_call():
    layer = bn.GhostBatchNorm1d(3, affine=False, ghost_batch_size=4).double()
    x, w, b = torch.randn(3, 10, 3, dtype=F64)
    torch.testing.assert_close(layer(x, weight=w, bias=b), layer(x) * w + b, **CLOSE)
    torch.testing.assert_close(layer(x, weight=w[0]), layer(x) * w[0], **CLOSE)


def test_compiles_once_for_every_batch_size():
    torch._dynamo.reset()
    eager = bn.GhostBatchNorm1d(4, ghost_batch_size=3).double()
    twin = copy.deepcopy(eager)
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(twin, backend=backend, fullgraph=True, dynamic=True)
    for samples in (7, 8, 20, 31):
        x = torch.randn(samples, 4, 2, dtype=F64)
        torch.testing.assert_close(compiled(x), eager(x), **CLOSE)
    torch.testing.assert_close(twin.running_var, eager.running_var, **CLOSE)
    assert len(graphs) == 1
    torch._dynamo.reset()


@pytest.mark.parametrize(("size", "error"), [(0, ValueError), (-3, ValueError), (2.0, TypeError)])
def test_wrong_size_is_refused(size, error):
    with pytest.raises(error, match=f"ghost_batch_size must be .*{size}"):
        bn.GhostBatchNorm1d(3, ghost_batch_size=size)


def test_says_its_size():
    assert "ghost_batch_size=16" in repr(bn.GhostBatchNorm1d(3, ghost_batch_size=16))


def test_a_batch_after_inference_mode_can_be_trained_on():
    layer = bn.GhostBatchNorm1d(3, ghost_batch_size=7)
    with torch.inference_mode():
        layer(torch.randn(27, 3))
    layer(torch.randn(27, 3)).square().sum().backward()
    assert layer.weight.grad.isfinite().all()
