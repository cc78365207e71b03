"""torch.export: programs that run where our package is not installed."""

import pytest
import torch
from torch import nn

import batchnorm as bn
from tests.activations import ACTS

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def layer(**options):
    torch.manual_seed(0)
    norm = bn.BatchNorm2d(4, **options).eval()
    with torch.no_grad():
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        norm.weight.normal_()
        norm.bias.normal_()
    return norm


def targets(program):
    return {str(n.target) for n in program.graph.nodes if n.op == "call_function"}


@pytest.mark.parametrize("act", ACTS)
def test_exported_eval_program_is_plain_torch(act):
    norm, x = layer(activation=act), torch.randn(2, 4, 5, 5)
    program = torch.export.export(norm, (x,))
    assert not any("batchnorm" in t for t in targets(program))
    torch.testing.assert_close(program.module()(x), norm(x), **CLOSE)


def test_exported_eval_program_with_residual():
    norm, (x, r) = layer(activation="relu"), torch.randn(2, 2, 4, 5, 5)
    program = torch.export.export(norm, (x, r))
    assert not any("batchnorm" in t for t in targets(program))
    torch.testing.assert_close(program.module()(x, r), norm(x, r), **CLOSE)


def test_exported_eval_program_with_mask():
    norm, x = layer(activation="relu"), torch.randn(3, 4, 5, 5)
    mask = torch.tensor([True, False, True])
    program = torch.export.export(norm, (x,), {"mask": mask})
    torch.testing.assert_close(program.module()(x, mask=mask), norm(x, mask=mask), **CLOSE)


def test_export_with_a_dynamic_batch():
    norm = nn.Sequential(nn.Conv2d(3, 4, 1), layer(activation="silu"))
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(norm, (torch.randn(3, 3, 5, 5),), dynamic_shapes=({0: batch},))
    x = torch.randn(7, 3, 5, 5)
    torch.testing.assert_close(program.module()(x), norm(x), **CLOSE)


def test_exported_training_program_updates_its_buffers():
    # ONNX export of a train-mode model silently gives inference batch norm: ours keeps both.
    norm, x = bn.BatchNorm2d(4, activation="relu"), torch.randn(6, 4, 5, 5)
    want = bn.BatchNorm2d(4, activation="relu")
    program = torch.export.export(norm, (x,)).module()
    torch.testing.assert_close(program(x), want(x), **CLOSE)
    torch.testing.assert_close(program.running_mean, want.running_mean, **CLOSE)
    torch.testing.assert_close(program.running_var, want.running_var, **CLOSE)
    assert program.num_batches_tracked.item() == 1


def test_export_changes_nothing_in_the_layer():
    norm = bn.BatchNorm2d(4)
    torch.export.export(norm, (torch.randn(6, 4, 5, 5),))
    assert norm.num_batches_tracked.item() == 0
    assert norm.running_mean.tolist() == [0, 0, 0, 0]


def test_exported_program_survives_a_file(tmp_path):
    norm, x = layer(activation="hardswish"), torch.randn(2, 4, 5, 5)
    torch.export.save(torch.export.export(norm, (x,)), tmp_path / "norm.pt2")
    program = torch.export.load(tmp_path / "norm.pt2")
    torch.testing.assert_close(program.module()(x), norm(x), **CLOSE)


def test_symbolic_trace_keeps_the_layer_as_a_leaf():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), layer())

    class Tracer(torch.fx.Tracer):
        def is_leaf_module(self, m, name):
            return isinstance(m, nn.modules.batchnorm._BatchNorm) or super().is_leaf_module(m, name)

    graph = torch.fx.GraphModule(model, Tracer().trace(model))
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(graph(x), model(x), **CLOSE)
