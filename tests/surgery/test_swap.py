"""All at once or not at all, everywhere, and back."""

import pytest
import torch
from torch import nn

from batchnorm.surgery._swap import Surgery, carry_over
from tests.surgery.models import (
    Tangled,
    assert_same_optimizer,
    assert_same_picture,
    optimizer_picture,
    picture,
    randomise,
)


def stepped(model, make=torch.optim.AdamW, **options):
    """An optimizer that has state for every parameter."""
    optimizer = make(model.parameters(), lr=1e-3, **options)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    return optimizer


def test_a_shared_layer_is_replaced_wherever_it_is_held():
    model, new = Tangled(), nn.Identity()
    surgery = Surgery("convert", model)
    surgery.replace(model.bn, new)
    surgery.commit()
    assert model.bn is model.nested["again"][0] is model.plain[0] is model.alias is new
    assert not [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]


def test_undo_restores_every_object_and_bit():
    model = randomise(Tangled())
    optimizer = stepped(model)
    before, before_optimizer = picture(model), optimizer_picture(optimizer)
    surgery = Surgery("convert", model, optimizer)
    surgery.replace(model.bn, nn.GroupNorm(2, 4))
    surgery.set_parameter(model.one, "bias", None)
    surgery.write(model.two.weight, torch.zeros(4, 4, 1, 1))
    surgery.set_attribute(model.one, "padding_mode", "reflect")
    surgery.commit()
    assert model.two.weight.abs().max() == 0
    assert model.one.bias is None
    surgery.undo()
    assert_same_picture(picture(model), before)
    assert_same_optimizer(optimizer_picture(optimizer), before_optimizer)
    assert model.one.padding_mode == "zeros"


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_a_step_that_raises_leaves_model_and_optimizer_untouched(place):
    model = randomise(Tangled())
    optimizer = stepped(model)
    before, before_optimizer = picture(model), optimizer_picture(optimizer)

    def fail():
        raise KeyboardInterrupt

    surgery = Surgery("convert", model, optimizer)
    plans = [
        lambda: surgery.replace(model.bn, nn.GroupNorm(2, 4)),
        lambda: surgery.set_parameter(model.one, "bias", None),
        lambda: surgery.write(model.two.weight, torch.zeros(4, 4, 1, 1)),
    ]
    for plan in [*plans[:place], lambda: surgery.call(fail, fail), *plans[place:]]:
        plan()
    with pytest.raises(KeyboardInterrupt):
        surgery.commit()
    assert_same_picture(picture(model), before)
    assert_same_optimizer(optimizer_picture(optimizer), before_optimizer)


def test_optimizer_follows_exchanged_dropped_and_added_parameters():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    decayed = {"params": [model[0].weight], "weight_decay": 0.1}
    rest = {"params": [model[0].bias, *model[1].parameters()], "weight_decay": 0.0}
    optimizer = torch.optim.AdamW([decayed, rest])
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    moment = optimizer.state[model[1].weight]["exp_avg"].clone()
    bias = model[0].bias

    surgery = Surgery("convert", model, optimizer)
    new = nn.GroupNorm(2, 4)
    new.register_parameter("gain", nn.Parameter(torch.ones(4)))
    surgery.replace(model[1], new)
    surgery.set_parameter(model[0], "bias", None)
    surgery.commit()

    names = {p: n for n, p in model.named_parameters()}
    groups = [[names[p] for p in group["params"]] for group in optimizer.param_groups]
    assert groups == [["0.weight"], ["1.weight", "1.bias", "1.gain"]]
    assert torch.equal(optimizer.state[new.weight]["exp_avg"], moment)
    assert bias not in optimizer.state
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()


def test_names_of_an_optimizer_built_from_named_parameters_follow():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.SGD(list(model.named_parameters()), lr=0.1)
    surgery = Surgery("convert", model, optimizer)
    surgery.set_parameter(model[0], "bias", None)
    surgery.commit()
    assert optimizer.param_groups[0]["param_names"] == ["0.weight", "1.weight", "1.bias"]
    surgery.undo()
    assert optimizer.param_groups[0]["param_names"][1] == "0.bias"


def test_state_of_another_shape_is_dropped_and_comes_back():
    model = nn.Sequential(nn.Linear(3, 4))
    optimizer = stepped(model)
    before = optimizer_picture(optimizer)
    surgery = Surgery("convert", model, optimizer)
    new = nn.Parameter(torch.zeros(5, 3))
    surgery.set_parameter(model[0], "weight", new)
    surgery.commit()
    assert new not in optimizer.state
    surgery.undo()
    assert_same_optimizer(optimizer_picture(optimizer), before)


def test_undo_is_refused_while_a_later_change_stands():
    model = nn.Sequential(nn.BatchNorm1d(4))
    first = Surgery("convert", model)
    first.replace(model[0], nn.Identity())
    first.commit()
    second = Surgery("convert", model)
    second.replace(model[0], nn.ReLU())
    second.commit()
    with pytest.raises(RuntimeError, match="later changes first"):
        first.undo()
    assert isinstance(model[0], nn.ReLU)
    second.undo()
    first.undo()
    assert isinstance(model[0], nn.BatchNorm1d)


def test_what_both_layers_share_survives_training_and_moves_in_between():
    model = nn.Sequential(nn.BatchNorm1d(4))
    old, new = model[0], nn.BatchNorm1d(4)
    new._parameters, new._buffers = dict(old._parameters), dict(old._buffers)
    surgery = Surgery("convert", model)
    surgery.replace(old, new)
    surgery.commit()
    model.double().eval()
    model[0].running_mean.fill_(5.0)
    surgery.undo()
    assert model[0] is old
    assert not old.training
    assert old.running_mean.dtype == torch.float64
    assert old.running_mean.tolist() == [5.0] * 4


def test_hooks_stay_and_their_handles_still_remove_them():
    old, new, seen = nn.BatchNorm1d(3), nn.Identity(), []
    handle = old.register_forward_hook(lambda module, args, output: seen.append(module))
    old.tag = "mine"
    old.eval()
    carry_over(old, new)
    new(torch.randn(2, 3))
    assert seen == [new]
    handle.remove()
    new(torch.randn(2, 3))
    assert len(seen) == 1
    assert new.tag == "mine"
    assert not new.training


def test_a_replaced_root_becomes_the_model():
    model, new = nn.BatchNorm1d(3), nn.Identity()
    surgery = Surgery("convert", model)
    surgery.replace(model, new)
    surgery.commit()
    assert surgery.model is new
    surgery.undo()
    assert surgery.model is model


def test_a_wrapped_model_keeps_its_parameters():
    class Wrapped(nn.parallel.DistributedDataParallel):
        def __init__(self, module):
            nn.Module.__init__(self)
            self.module = module

    model = Wrapped(nn.Sequential(nn.BatchNorm1d(3)))
    surgery = Surgery("convert", model)
    surgery.replace(model.module[0], nn.Identity())
    with pytest.raises(RuntimeError, match="wrap it afterwards"):
        surgery.commit()
    assert isinstance(model.module[0], nn.BatchNorm1d)


def test_lbfgs_with_state_is_refused_before_anything_changes():
    model = nn.Sequential(nn.Linear(3, 1))
    optimizer = torch.optim.LBFGS(model.parameters())
    optimizer.state[model[0].weight] = {"d": torch.zeros(4)}
    surgery = Surgery("convert", model, optimizer)
    surgery.set_parameter(model[0], "bias", None)
    with pytest.raises(RuntimeError, match="LBFGS after its first step"):
        surgery.commit()
    assert model[0].bias is not None


def test_a_tied_parameter_that_is_still_used_stays_with_the_optimizer():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3))
    model[1].weight = model[0].weight
    optimizer = stepped(model)
    before = optimizer_picture(optimizer)
    tied, own = model[0].weight, model[0].bias
    surgery = Surgery("convert", model, optimizer)
    surgery.replace(model[0], nn.Identity())
    surgery.commit()
    held = optimizer.param_groups[0]["params"]
    assert any(p is tied for p in held)
    assert not any(p is own for p in held)
    assert tied in optimizer.state
    surgery.undo()
    assert_same_optimizer(optimizer_picture(optimizer), before)


def test_every_successor_of_a_tied_parameter_joins_the_optimizer():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3))
    model[1].weight = model[0].weight
    optimizer = stepped(model)
    before = optimizer_picture(optimizer)
    surgery = Surgery("convert", model, optimizer)
    for layer in list(model):
        surgery.replace(layer, nn.LayerNorm(3))
    surgery.commit()
    held = sorted(id(p) for p in optimizer.param_groups[0]["params"])
    assert held == sorted(id(p) for p in model.parameters())
    surgery.undo()
    assert_same_optimizer(optimizer_picture(optimizer), before)
