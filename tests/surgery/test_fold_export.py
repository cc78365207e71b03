"""Folded models leave the package: torch.export, ONNX and onnxruntime give the same numbers."""

import copy
import io
import warnings

import pytest
import torch
from torch import nn

import batchnorm as bn
from batchnorm.surgery._fold import fold
from batchnorm.surgery._freeze import freeze
from tests.surgery.folding import seen
from tests.tolerance import ulp


class Net(nn.Module):
    """A residual block of ours, a pre-activation block of torch's, a transposed one, a head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = bn.BatchNorm2d(8, activation="relu")
        self.conv = nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=False)
        self.join = bn.GhostBatchNorm2d(8, ghost_batch_size=2, activation="relu")
        self.pre = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1))
        self.up = nn.Sequential(nn.ConvTranspose2d(8, 4, 2, stride=2), nn.BatchNorm2d(4))
        self.head = nn.Sequential(nn.Linear(4, 6), nn.Dropout(), bn.BatchNorm1d(6))

    def forward(self, x):
        x = self.norm(self.stem(x))
        x = self.join(self.conv(x), residual=x)
        x = self.up(self.pre(x))
        return self.head(x.mean((2, 3)))


@pytest.fixture(scope="module")
def folded():
    torch.manual_seed(0)
    model, x = seen(Net()), torch.randn(4, 3, 8, 8)
    before = copy.deepcopy(model)
    report = fold(model, x)
    return model, before, x, report


def close(found, expected):
    # Some ten layers, each a sum of about a hundred products.
    bound = 1000 * ulp(torch.float32) * expected.abs().max()
    assert (torch.as_tensor(found) - expected).abs().max() <= bound


def onnx_file(model, x):
    pytest.importorskip("onnxscript", reason="needs the dev extra")
    batch = torch.export.Dim("batch", min=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        program = torch.onnx.export(
            model, (x,), dynamo=True, dynamic_shapes=({0: batch},), verbose=False
        )
    file = io.BytesIO()
    program.save(file)
    return file.getvalue()


def run(file, x):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the dev extra")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    (name,) = (value.name for value in session.get_inputs())
    return session.run(None, {name: x.numpy()})[0]


def operators(file):
    onnx = pytest.importorskip("onnx", reason="needs the dev extra")
    return [node.op_type for node in onnx.load_from_string(file).graph.node]


def test_only_the_pre_activation_norm_is_left(folded):
    model, _, _, report = folded

    assert [change.path for change in report.skipped] == ["pre.0"]
    assert report.proofs[0].max_rel < 1000 * ulp(torch.float32)
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert norms == [model.pre[0]]


def test_torch_export_of_a_folded_model(folded):
    model, before, x, _ = folded
    batch = torch.export.Dim("batch", min=2)

    program = torch.export.export(model, (x,), dynamic_shapes=({0: batch},))

    targets = [str(n.target) for n in program.graph.nodes if n.op == "call_function"]
    assert not any("batchnorm." in target for target in targets)
    assert sum("batch_norm" in target for target in targets) == 1
    close(program.module()(x[:3]), before(x[:3]))


def test_onnx_of_a_folded_model_gives_the_same_numbers_in_onnxruntime(folded):
    model, before, x, _ = folded

    file = onnx_file(model, x)

    assert operators(file).count("BatchNormalization") == 1
    close(run(file, x), before(x))
    close(run(file, x[:3]), before(x[:3]))


def test_onnx_of_the_unfolded_model_gives_the_same_numbers_too(folded):
    _, before, x, _ = folded

    close(run(onnx_file(before, x), x), before(x))


def test_onnx_of_a_frozen_model_in_training_mode_is_what_it_computes():
    # torch exports a batch norm in training mode as inference, without a word; a frozen one is.
    model = seen(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())).train()
    freeze(model, fold=True)
    x = torch.randn(4, 3, 8, 8)

    close(run(onnx_file(model, x), x), model.train()(x))
