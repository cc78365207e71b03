"""torch.compile without a graph break: train, eval, dynamic shapes, every form."""

import pytest
import torch
from torch import nn

import batchnorm as bn
from tests.tolerance import ulp

BOUND = {"rtol": 256 * ulp(torch.float32), "atol": 256 * ulp(torch.float32)}
EAGER = {"backend": "aot_eager", "fullgraph": True}


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Block(nn.Module):
    """One batch norm with everything it can take."""

    def __init__(self, **options):
        super().__init__()
        self.norm = bn.BatchNorm2d(4, **options)

    def forward(self, x, residual=None, mask=None):
        return self.norm(x * 1.0, residual=residual, mask=mask) * 2.0


def both(module, inputs, steps=2, **how):
    """Run a module eagerly and compiled on the same inputs: outputs, gradients, buffers."""
    import copy

    twin = copy.deepcopy(module)
    compiled = torch.compile(twin, **how)
    for args in inputs[:steps]:
        results = []
        for fn in (module, compiled):
            leaves = [None if a is None else a.clone() for a in args]
            floats = [a.requires_grad_() for a in leaves if a is not None and a.is_floating_point()]
            y = fn(*leaves)
            torch.manual_seed(0)
            if y.requires_grad:
                y.backward(torch.randn_like(y))
            results.append([y.detach(), *[a.grad for a in floats]])
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(b, a, **BOUND)
    for (name, p), q in zip(module.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad, msg=name, **BOUND)
    for (name, p), q in zip(module.named_buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(q, p, msg=name, **BOUND)
    return compiled


def form_inputs(form, n=6):
    x = torch.randn(n, 4, 5, 5)
    r = torch.randn(n, 4, 5, 5) if "residual" in form else None
    m = torch.rand(n, 5, 5) < 0.7 if "mask" in form else None
    return [(x + i, r, m) for i in range(2)]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("form", ["plain", "act", "residual_act", "mask"])
def test_fullgraph_equals_eager(form, training):
    act = "relu" if "act" in form else "identity"
    both(Block(activation=act).train(training), form_inputs(form), **EAGER)


@pytest.mark.parametrize("options", [{"momentum": None}, {"affine": False}], ids=str)
def test_fullgraph_with_other_options(options):
    both(Block(**options), form_inputs("plain"), **EAGER)


def test_without_running_statistics():
    both(Block(track_running_stats=False), form_inputs("plain"), **EAGER)


def test_dynamic_batch_size_compiles_once():
    module = Block(activation="relu")
    frames = torch._dynamo.utils.counters
    torch._dynamo.reset()
    frames.clear()
    inputs = [(torch.randn(n, 4, 5, 5), None, None) for n in (6, 7, 9)]
    both(module, inputs, steps=3, dynamic=True, **EAGER)
    assert frames["stats"]["unique_graphs"] <= 1


def test_non_finite_batch_is_skipped_in_the_graph_too():
    module = Block()
    x = torch.randn(6, 4, 5, 5)
    x[0, 1] = float("nan")
    compiled = torch.compile(module, **EAGER)
    compiled(x)
    assert module.norm.running_mean[1] == 0
    assert module.norm.running_mean[0] != 0
    assert module.norm.num_nonfinite.tolist() == [0, 1, 0, 0]


def test_channels_last_stays():
    module = bn.BatchNorm2d(4, activation="relu")
    x = torch.randn(6, 4, 5, 5).contiguous(memory_format=torch.channels_last)
    y = torch.compile(module, **EAGER)(x)
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_functional_in_a_graph():
    def step(x, mean, var):
        y, stats = bn.functional.batch_norm(x, activation="gelu")
        mean, var = bn.functional.update_running(mean, var, stats, 0.1)
        return y, mean, var

    args = torch.randn(6, 4), torch.zeros(4), torch.ones(4)
    got = torch.compile(step, **EAGER)(*args)
    for a, b in zip(got, step(*args), strict=True):
        torch.testing.assert_close(a, b, **BOUND)


def test_switches_of_updates_reach_a_compiled_model():
    module = Block()
    compiled = torch.compile(module, **EAGER)
    x = torch.randn(6, 4, 5, 5)
    compiled(x)
    bn.set_updates(module, False)
    compiled(x)
    assert module.norm.num_batches_tracked.item() == 1
    bn.set_updates(module, True)
    compiled(x)
    assert module.norm.num_batches_tracked.item() == 2


@pytest.mark.slow
def test_inductor_with_dynamic_shapes():
    inputs = [(torch.randn(n, 4, 5, 5), None, None) for n in (6, 7, 9)]
    both(Block(activation="relu"), inputs, steps=3, dynamic=True, fullgraph=True)


@pytest.mark.timeout(280)
def test_inductor_trains():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), bn.BatchNorm2d(4, activation="relu"))
    both(module, [(torch.randn(6, 3, 8, 8),) for _ in range(2)], fullgraph=True)


def test_checkpoint_inside_a_compiled_step_counts_once():
    layer = bn.BatchNorm1d(3)

    def step(x):
        return torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=False).square().sum()

    torch.compile(step, backend="aot_eager")(torch.randn(8, 3, requires_grad=True)).backward()
    assert layer.num_batches_tracked.item() == 1


@pytest.mark.parametrize("reentrant", [True, False])
def test_compiled_layer_inside_a_checkpoint_counts_once(reentrant):
    layer = bn.BatchNorm1d(3)
    compiled = torch.compile(layer, backend="aot_eager")
    x = torch.randn(8, 3, requires_grad=True)

    y = torch.utils.checkpoint.checkpoint(compiled, x, use_reentrant=reentrant)
    y.square().sum().backward()

    assert layer.num_batches_tracked.item() == 1
