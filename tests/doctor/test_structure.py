"""What the pages of the structure rules say, tried out."""

import pytest
import torch
from torch import nn

import batchnorm as bn
from batchnorm.doctor import Context, diagnose
from batchnorm.doctor._training import covering
from batchnorm.doctor._walk import upstream


def only(code: str, model, sample=None, **facts):
    """The one finding of a rule."""
    (finding,) = diagnose(model, sample, select=[code], config={}, **facts)
    return finding


class TestDropoutBeforeNorm:
    def test_its_ratio_is_how_much_too_small_the_variance_at_inference_is(self) -> None:
        torch.manual_seed(0)
        x = torch.randn(20_000, 4)
        model = nn.Sequential(nn.Dropout(0.3), nn.BatchNorm1d(4, momentum=1.0, affine=False))
        model(x)

        ratio = only("BN005", model, x).measured["ratio"]

        # The standard error of a variance ratio is about sqrt(8 / n): 2 %.
        torch.testing.assert_close(
            model.eval()(x).var(0), torch.full((4,), 1 / ratio), rtol=0.06, atol=0
        )


class TestHalfPrecision:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("momentum", [0.1, 0.01])
    def test_within_the_margin_statistics_are_stuck(self, dtype, momentum) -> None:
        layer = nn.BatchNorm1d(1, momentum=momentum).to(dtype)
        layer.running_mean.fill_(1.5)
        margin = only("BN017", layer).measured["margin"]

        for _ in range(100):
            layer(torch.full((64, 1), 1.5 * (1 + 0.9 * margin), dtype=dtype))
        assert layer.running_mean.item() == 1.5

        layer.float()
        for _ in range(100):
            layer(torch.full((64, 1), 1.5 * (1 + 0.9 * margin)))
        assert layer.running_mean.item() > 1.5

    def test_the_fix_keeps_values_and_moves_the_optimizer_along(self) -> None:
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).bfloat16()
        model[1].weight.data.normal_()
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        optimizer = torch.optim.SGD(model.parameters(), 0.1)

        diagnosis = diagnose(model, optimizer=optimizer, select=["BN017"], config={}, fix=True)

        assert [fixed.finding.path for fixed in diagnosis.fixed] == [""]
        assert model[1].weight.dtype == model[1].running_var.dtype == torch.float32
        assert model[0].weight.dtype == torch.bfloat16
        assert model[1].weight in set(optimizer.param_groups[0]["params"])
        for name, tensor in model.state_dict().items():
            torch.testing.assert_close(tensor.double(), before[name].double(), rtol=0, atol=0)
        model.load_state_dict(before)


class TestLiveStatistics:
    def test_the_fix_survives_training_and_keeps_inference(self) -> None:
        torch.manual_seed(0)
        x = torch.randn(8, 3, 8, 8)
        backbone = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        model = nn.Sequential(backbone.requires_grad_(False), nn.Flatten(), nn.Linear(144, 2))
        expected = model.eval()(x)
        model.train()

        diagnose(model, x, select=["BN012"], config={}, fix=True)
        for _ in range(3):
            model.train()(3 + 5 * x)

        assert model.eval()(x).equal(expected)

    def test_the_fault_is_real(self) -> None:
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).requires_grad_(False)
        x = torch.randn(8, 3)
        before = model.eval()(x)
        model.train()(x)
        assert not model.eval()(x).equal(before)


def test_the_effect_of_the_other_eps_is_the_factor_of_the_output() -> None:
    layer = nn.BatchNorm1d(3, eps=1e-3).eval()
    layer.running_var.copy_(torch.tensor([1.0, 1e-2, 1e-5]))
    x = torch.randn(4, 3)
    before = layer(x)

    effect = only("BN015", layer).measured["effect"]
    layer.eps = 1e-5

    torch.testing.assert_close((layer(x) / before)[:, 2], torch.full((4,), effect))
    assert 7.0 < effect < 7.2


def test_streams_that_differ_are_seen_at_inference_as_the_finding_says() -> None:
    torch.manual_seed(0)

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(2, affine=False, momentum=None)

        def forward(self, x, y):
            return self.norm(x), self.norm(y)

    x, y = torch.randn(500, 2), 6 + torch.randn(500, 2)
    model = Shared()
    finding = only("BN009", model, (x, y))
    model(x, y)

    left, _ = model.eval()(x, y)

    # In training its mean is 0; the running variance lacks the spread between the streams.
    assert left.mean() < -finding.measured["shift"] < -0.9


class TestPaths:
    def test_a_part_is_named_only_if_all_of_it_is_meant(self) -> None:
        part = nn.Sequential(nn.BatchNorm1d(2), nn.Sequential(nn.BatchNorm1d(2), nn.ReLU()))
        context = Context(nn.Sequential(part, nn.BatchNorm1d(2)))

        assert covering(context, ["0.0", "0.1.0"]) == {"0": ["0.0", "0.1.0"]}
        assert covering(context, ["0.1.0", "1"]) == {"0.1": ["0.1.0"], "1": ["1"]}
        assert covering(context, list(context.layers)) == {"": ["0.0", "0.1.0", "1"]}
        assert covering(context, []) == {}

    def test_a_shared_layer_is_named_once(self) -> None:
        norm = nn.BatchNorm1d(2)
        context = Context(nn.Sequential(nn.Sequential(norm), nn.Sequential(norm)))
        assert covering(context, ["0.0"]) == {"": ["0.0"]}


class Opaque(nn.Module):
    """Cannot be traced without a sample."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.block = nn.Sequential(nn.Linear(3, 3), bn.BatchNorm1d(3))

    def forward(self, x):
        x = self.first(x)
        return self.block(x) if x.sum() > 0 else self.block(-x)


def test_upstream_is_all_that_the_input_depends_on_or_else_what_stands_beside() -> None:
    model = Opaque()
    first, beside = list(model.first.parameters()), list(model.block[0].parameters())

    known = upstream(Context(model, torch.ones(4, 3)), "block.1")
    assert {id(p) for p in known} == {id(p) for p in first + beside}

    unknown = upstream(Context(model), "block.1")
    assert {id(p) for p in unknown} == {id(p) for p in beside}
