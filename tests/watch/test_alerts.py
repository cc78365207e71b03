"""Faults while training: seen, told once, and not where there is none."""

import pytest
import torch
from torch import nn

import batchnorm as bn
from batchnorm.doctor import while_training
from batchnorm.watch import AlertWarning, builtin
from tests.watch.nets import batches, net, train


def codes(model, inputs, **options):
    """Codes and steps of the alerts of a training on these inputs."""
    with bn.watch(model, every=1, on_alert=None, **options) as watching:
        for x in inputs:
            model(x)
            watching.step()
    return [(alert.code, alert.step) for alert in watching.alerts], watching


def test_a_sound_training_raises_nothing():
    model = net()
    x = [(torch.randn(64, 3, 10, 10), torch.randint(5, (64,))) for _ in range(60)]
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    rules = [builtin, while_training(every=5)]
    with bn.watch(model, optimizer=optimizer, every=1, rules=rules) as watching:
        for images, labels in x:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
    assert watching.alerts == []


def test_a_fault_is_told_once_until_it_is_gone():
    good, bad = torch.randn(32, 2), torch.full((32, 2), torch.nan)
    found, _ = codes(bn.BatchNorm1d(2), [good, bad, bad, good, bad])
    assert found == [("BN501", 1), ("BN501", 4)]


def test_running_statistics_apart_must_last():
    layer = nn.BatchNorm1d(2, momentum=0.01)
    calm, apart = [torch.randn(64, 2)] * 50, [torch.randn(64, 2) + 9] * 3
    assert codes(layer, calm + apart)[0] == [("BN502", 51)]
    assert not codes(nn.BatchNorm1d(2, momentum=0.01), apart)[0]  # its statistics are new
    assert not codes(nn.BatchNorm1d(2), [torch.randn(64, 2)] * 5)[0]


def test_statistics_that_do_not_move_are_told():
    layer = bn.BatchNorm1d(2)
    bn.set_updates(layer, False)
    assert codes(layer, [torch.randn(64, 2)] * 3)[0] == [("BN503", 1)]
    model = nn.Sequential(bn.BatchNorm1d(2))
    model[0].eval()
    assert not codes(model, [torch.randn(64, 2)] * 3)[0]


def test_a_recomputation_that_counts_is_told():
    from torch.utils.checkpoint import checkpoint

    def alerts(layer):
        x = torch.randn(32, 2, requires_grad=True)
        with bn.watch(layer, every=1, on_alert=None) as watching:
            checkpoint(layer, x, use_reentrant=False).square().sum().backward()
            watching.step()
        return [alert.code for alert in watching.alerts]

    assert alerts(nn.BatchNorm1d(2)) == ["BN504"]
    assert alerts(bn.BatchNorm1d(2)) == []


def test_dead_and_saturated_layers_are_told():
    model = nn.Sequential(nn.ReLU(), nn.Sigmoid())
    assert [c for c, _ in codes(model, [torch.randn(64, 4) - 50])[0]] == ["BN505"]
    assert [c for c, _ in codes(nn.Sigmoid(), [torch.randn(64, 4) * 50])[0]] == ["BN506"]


def test_a_batch_of_few_draws_is_told():
    few = torch.randn(3, 2, 1).expand(3, 2, 50).contiguous()
    found, watching = codes(bn.BatchNorm1d(2), [few])
    assert found == [("BN507", 0)]
    assert watching.alerts[0].severity == "info"
    assert not codes(bn.BatchNorm1d(2), [torch.randn(3, 2, 50)])[0]


def test_alerts_are_warnings_by_default():
    layer = bn.BatchNorm1d(2)
    with bn.watch(layer, every=1) as watching:
        layer(torch.full((9, 2), torch.inf))
        with pytest.warns(AlertWarning, match="step 0, .model.: BN501 2 of 2 input channels"):
            watching.step()


def test_a_callback_may_stop_the_training():
    model = net()

    def stop(alert):
        raise StopIteration(alert.code)

    model[0].weight.data[0] = torch.nan
    with pytest.raises(StopIteration, match="BN501"):
        train(model, watcher=lambda o: bn.watch(model, optimizer=o, every=1, on_alert=stop))
    assert not any(module._forward_hooks for module in model.modules())


def test_the_doctors_rules_see_what_a_training_breaks():
    model = net()
    with bn.watch(model, every=1, rules=[while_training(every=1)], on_alert=None) as watching:
        for x, _ in batches(3, size=40):
            model(x)
            if watching.steps:
                for at in (1, 5):
                    model[at].num_batches_tracked.fill_(1000)
                model[5].running_mean.fill_(1e3)
            watching.step()
    assert {(alert.code, alert.path) for alert in watching.alerts} == {("BN104", "5")}

    model[1].running_var[0] = torch.nan
    found, _ = codes(model, [batches(1)[0][0]], rules=[while_training()])
    assert found == [("BN101", 0)]


def test_alerts_are_in_the_recording():
    _, watching = codes(bn.BatchNorm1d(2), [torch.full((9, 2), torch.nan)])
    row = watching.recording.alerts[0]
    assert (row["code"], row["step"], row["severity"]) == ("BN501", 0, "error")
