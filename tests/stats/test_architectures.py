"""Recalibration on real architectures: at inference every norm sees what it remembers."""

import pytest
import torch
from torch import nn

from batchnorm.stats import recalibrate, train_eval_gap
from tests.lab.test_networks import NORMS, SMALL


def inputs_at_inference(model: nn.Module, data) -> dict[str, torch.Tensor]:
    """Every norm's inputs ``(values, C)`` over the data, in eval mode."""
    seen: dict[str, list[torch.Tensor]] = {}
    norms = {
        n: m for n, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)
    }
    handles = [
        norm.register_forward_pre_hook(
            lambda module, args, name=name: seen.setdefault(name, []).append(
                args[0].movedim(1, -1).flatten(0, -2)
            )
        )
        for name, norm in norms.items()
    ]
    model.eval()
    with torch.no_grad():
        for x in data:
            model(x)
    for handle in handles:
        handle.remove()
    return {name: torch.cat(parts) for name, parts in seen.items()}


@pytest.mark.parametrize("which", [0, 1], ids=["torch", "ours"])
@pytest.mark.parametrize("name", SMALL)
def test_layerwise_recalibration_is_what_inference_shows(name, which):
    model = SMALL[name](NORMS[name][which], seed=0).double()
    g = torch.Generator().manual_seed(0)
    data = [torch.randn(n, 3, 32, 32, generator=g, dtype=torch.float64) for n in (3, 2)]
    report = recalibrate(model, data, order="layerwise")
    seen = inputs_at_inference(model, data)
    assert {layer.path for layer in report.layers} == set(seen)
    for path, inputs in seen.items():
        norm = model.get_submodule(path)
        torch.testing.assert_close(norm.running_mean, inputs.mean(0), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(norm.running_var, inputs.var(0), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", SMALL)
def test_gap_of_the_batch_that_was_measured_is_nothing(name):
    model = SMALL[name](NORMS[name][1], seed=0).double()
    x = torch.randn(8, 3, 32, 32, dtype=torch.float64)
    before = train_eval_gap(model, x)
    recalibrate(model, [x])
    after = train_eval_gap(model, x)
    # Nothing but n/(n-1), the unbiased variance, is left.
    for first, second in zip(before.layers, after.layers, strict=True):
        assert second.mean_size < 1e-6
        assert second.output < min(0.1, first.output)
