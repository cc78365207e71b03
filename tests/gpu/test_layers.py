"""Layers on a GPU: what lies above the operators, where a device can make a difference."""

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.library import opcheck

import batchnorm as bn
from tests.cases import make_case
from tests.ops.test_registry import NAMES, sample

pytestmark = pytest.mark.gpu
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def pair(channels: int = 24, **options):
    ours = bn.BatchNorm2d(channels, **options).cuda()
    theirs = nn.BatchNorm2d(channels).cuda()
    with torch.no_grad():
        ours.weight.uniform_(0.5, 2)
        ours.bias.normal_()
    theirs.load_state_dict(ours.state_dict(), strict=False)
    return ours, theirs


def gradients(layer, x, grad, **more):
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = layer(x, **more)
    return y, *torch.autograd.grad(y, [x, layer.weight, layer.bias], grad)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("training", [True, False])
def test_layer_is_torchs(layout, training):
    ours, theirs = pair()
    ours.train(training)
    theirs.train(training)
    x = torch.randn(16, 24, 14, 14, device="cuda").contiguous(memory_format=LAYOUTS[layout])
    grad = torch.randn_like(x)
    for got, want in zip(gradients(ours, x, grad), gradients(theirs, x, grad), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_same_input_gives_the_same_bits(dtype):
    ours, _ = pair(64, activation="relu")
    x = torch.randn(64, 64, 28, 28, device="cuda", dtype=dtype)
    grad = torch.randn_like(x)
    first = gradients(ours, x, grad)
    for _ in range(5):
        again = gradients(ours, x, grad)
        assert all(map(torch.equal, first, again))


def test_a_training_step_does_not_wait_for_the_device():
    ours, _ = pair(activation="relu")
    x = torch.randn(8, 24, 14, 14, device="cuda")
    mask = torch.ones(8, 14, 14, device="cuda", dtype=torch.bool)
    gradients(ours, x, x, mask=mask)
    torch.cuda.set_sync_debug_mode("error")
    try:
        gradients(ours, x, x)
        ours.eval()
        gradients(ours, x, x)
        ours.train()
        gradients(ours, x, x, mask=mask)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_training_step_can_be_captured_in_a_graph():
    ours, _ = pair(activation="relu")
    x = torch.randn(8, 24, 14, 14, device="cuda")
    grad = torch.randn_like(x)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        gradients(ours, x, grad)
    torch.cuda.current_stream().wait_stream(stream)
    before = int(ours.num_batches_tracked)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = gradients(ours, x, grad)
    x.copy_(torch.randn_like(x))
    graph.replay()
    graph.replay()
    assert int(ours.num_batches_tracked) == before + 2
    again = gradients(ours, x, grad)
    assert all(map(torch.equal, captured, again))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_compiled_step_without_graph_break(dtype):
    ours, _ = pair(activation="relu")
    eager = copy.deepcopy(ours)
    x = torch.randn(8, 24, 14, 14, device="cuda", dtype=dtype)
    grad = torch.randn_like(x)
    compiled = torch.compile(ours, fullgraph=True)
    x1, x2 = (x.clone().requires_grad_() for _ in range(2))
    got, want = compiled(x1), eager(x2)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(
        torch.autograd.grad(got, x1, grad)[0], torch.autograd.grad(want, x2, grad)[0]
    )
    torch.testing.assert_close(ours.running_var, eager.running_var)


def test_autocast_and_scaler_train():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, bias=False), bn.BatchNorm2d(16, activation="relu"), nn.Flatten(),
        nn.Linear(16 * 36, 4),
    ).cuda()  # fmt: skip
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    scaler = torch.amp.GradScaler("cuda")
    x, labels = torch.randn(32, 3, 8, 8, device="cuda"), torch.arange(32, device="cuda") % 4
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.float16):
            loss = nn.functional.cross_entropy(net(x), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert net[1].running_mean.dtype == torch.float32


@pytest.mark.parametrize("op", sorted(NAMES - {"batch_renorm_once"}))
def test_opcheck_on_the_gpu(op):
    from tests.gpu.conftest import to_gpu

    arguments = [
        to_gpu(a).requires_grad_(a.requires_grad) if isinstance(a, torch.Tensor) else a
        for a in sample(op, "residual_act", "contiguous", grad=True)
    ]
    opcheck(getattr(torch.ops.batchnorm, op).default, tuple(arguments))


def test_tensors_beyond_two_to_the_31():
    free, _ = torch.cuda.mem_get_info()
    if free < 24 * 2**30:
        pytest.skip(f"needs 24 GiB of free GPU memory, {free / 2**30:.0f} are free")
    x = torch.randn(2**16 + 8, 32, 1024, device="cuda", dtype=torch.bfloat16)
    assert x.numel() > 2**31
    layer = bn.BatchNorm1d(32).cuda()
    y = layer(x)
    for part in (slice(0, 8), slice(-8, None)):
        mean, var = layer.running_mean / 0.1, (layer.running_var - 0.9) / 0.1
        want = (x[part].float() - mean[:, None]) * (var + 1e-5).rsqrt()[:, None]
        torch.testing.assert_close(y[part].float(), want, rtol=2e-2, atol=2e-2)


def test_synchronised_layer_over_nccl_is_the_plain_one_on_one_rank(tmp_path):
    dist.init_process_group(
        "nccl", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    try:
        plain, _ = pair()
        synchronised = bn.SyncBatchNorm(24).cuda()
        synchronised.load_state_dict(plain.state_dict())
        case = make_case((8, 24, 7, 7))
        x, grad = case.input.cuda(), case.grad.cuda()
        for got, want in zip(
            gradients(synchronised, x, grad), gradients(plain, x, grad), strict=True
        ):
            torch.testing.assert_close(got, want)
    finally:
        dist.destroy_process_group()


def test_memory_of_a_fused_layer_is_below_eagers():
    x = torch.randn(64, 64, 56, 56, device="cuda", requires_grad=True)
    residual = torch.randn_like(x)
    ours, theirs = pair(64, activation="relu")

    def kept(call) -> int:
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        y = call()
        torch.cuda.synchronize()
        size = torch.cuda.memory_allocated() - before
        del y
        return size

    ours(x, residual=residual)
    assert kept(lambda: ours(x, residual=residual)) < kept(lambda: torch.relu(theirs(x) + residual))
