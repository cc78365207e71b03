"""What follows batch norm goes into it where that is the same function, and stays where not."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import batchnorm as bn
from batchnorm.surgery import convert
from tests.surgery.models import Block, assert_same_picture, picture, randomise

X = (4, 3, 6, 6)


def small(*tail):
    return randomise(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), *tail))


class Called(nn.Module):
    """Batch norm, and whatever the test does with it."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.conv, self.bn, self.relu = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU()
        for name, part in parts.items():
            setattr(self, name, part)
        self.rule = forward

    def forward(self, x):
        return self.rule(self, x)


def added(x, y):
    x += y
    return x


def overwritten(x, y):
    """An addend that is changed in place, and read by its other name."""
    other = x
    x += y
    return other


def fused(model, shape=X):
    """Convert with fusion; the report, after checking that nothing of the function changed."""
    randomise(model)
    twin, x = copy.deepcopy(model).double(), torch.randn(shape)
    keys = list(model.state_dict())
    report = convert(model, fuse=True, sample=x)
    wide = copy.deepcopy(report.model).double()
    for mode in (True, False):
        want, got = (m.train(mode)(x.double()) for m in (twin, wide))
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)
    assert list(report.model.state_dict()) == keys
    return report


def activations(model):
    return [m.activation for m in model.modules() if isinstance(m, bn.BatchNorm2d)]


@pytest.mark.parametrize(
    ("act", "name", "slope"),
    [
        (nn.ReLU(inplace=True), "relu", 0.0),
        (nn.ReLU6(), "relu6", 0.0),
        (nn.LeakyReLU(0.2), "leaky_relu", 0.2),
        (nn.SiLU(), "silu", 0.0),
        (nn.GELU(), "gelu", 0.0),
        (nn.GELU("tanh"), "gelu_tanh", 0.0),
        (nn.Hardswish(), "hardswish", 0.0),
        (nn.ELU(0.7), "elu", 0.7),
        (nn.Sigmoid(), "sigmoid", 0.0),
        (nn.Tanh(), "tanh", 0.0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_an_activation_behind_goes_in(act, name, slope):
    model = small(act)
    fused(model)
    assert (model[1].activation, model[1].slope) == (name, slope)
    assert type(model[2]) is nn.Identity


def test_an_activation_behind_a_container_goes_in():
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), nn.ReLU())
    fused(model)
    assert activations(model) == ["relu"]


@pytest.mark.parametrize(
    "rule",
    [
        lambda m, x: F.relu(m.bn(m.conv(x)) + x),
        lambda m, x: torch.relu(x + m.bn(m.conv(x))),
        lambda m, x: m.relu(added(m.bn(m.conv(x)), x)),
        lambda m, x: m.bn(m.conv(x)).add_(x).relu_(),
        lambda m, x: F.relu(torch.add(m.bn(m.conv(x)), x), inplace=True),
        lambda m, x: m.relu(m.relu(m.bn(m.conv(x)) + x) * 2),
    ],
)
def test_an_addition_and_an_activation_go_in(rule):
    report = fused(Called(rule))
    assert activations(report.model) == ["relu"]
    assert "residual" in report.model.code
    assert "with the addition and relu" in str(report)


def test_an_addition_alone_goes_in():
    report = fused(Called(lambda m, x: m.bn(m.conv(x)) + x))
    assert activations(report.model) == ["identity"]
    assert "residual" in report.model.code


def test_a_whole_residual_net_keeps_keys_and_shared_relus():
    class Bottleneck(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2)
            self.conv2, self.bn2 = nn.Conv2d(2, 8, 1), nn.BatchNorm2d(8)
            self.relu = nn.ReLU(inplace=True)
            self.down = nn.Sequential(nn.Conv2d(4, 8, 1), nn.BatchNorm2d(8))

        def forward(self, x):
            out = self.relu(self.bn1(self.conv1(x)))
            out = self.bn2(self.conv2(out))
            out += self.down(x)
            return self.relu(out)

    model = small(nn.ReLU(), Bottleneck())
    report = fused(model)
    assert activations(model) == ["relu", "relu", "relu", "identity"]
    assert "residual" in model[3].code
    assert type(model[3]).__name__ == "FusedBottleneck"
    report.undo()
    assert type(model[3]) is Bottleneck


@pytest.mark.parametrize(
    "rule",
    [
        lambda m, x: m.relu(m.bn(m.conv(x)) * 2),  # something between
        lambda m, x: (lambda y: m.relu(y) + y)(m.bn(m.conv(x))),  # read twice
        lambda m, x: m.relu(m.bn(m.bn(x))),  # called twice
        lambda m, x: m.bn(m.conv(x)) + 1.0,  # not a tensor
        lambda m, x: torch.add(m.bn(m.conv(x)), x, alpha=2),
        lambda m, x: overwritten(x * 1, m.bn(m.conv(x))),
        lambda m, x: F.relu(m.bn(m.conv(x))) if m.training else m.bn(m.conv(x)),
        lambda m, x: F.leaky_relu(m.bn(m.conv(x)), 0.3),  # arguments are not read
    ],
)
def test_what_is_another_function_stays_outside(rule):
    report = fused(Called(rule))
    assert activations(report.model) == ["identity"]
    assert "residual" not in getattr(report.model, "code", "")


def test_an_activation_with_hooks_stays():
    model, seen = small(nn.ReLU()), []
    model[2].register_forward_hook(lambda *_: seen.append(1))
    fused(model)
    assert type(model[2]) is nn.ReLU
    assert seen


def test_a_layer_whose_hooks_see_its_output_stays_as_it_was():
    model, seen = small(nn.ReLU()), []
    model[1].register_forward_hook(lambda module, args, out: seen.append(out.min().item()))
    report = convert(model, fuse=True, sample=torch.randn(X))
    assert model[1].activation == "identity"
    assert "hooks see its output" in str(report)
    assert min(seen) < 0


def test_an_activation_that_serves_two_layers_stays():
    act = nn.ReLU()
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), act, nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), act
    )
    fused(model)
    assert model[2] is model[5] is act


def test_untraceable_parts_do_not_hinder_the_others():
    class Branch(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = Block(4, 4)

        def forward(self, x):
            return self.block(x) if float(x.detach().sum()) > -1e9 else x

    model = small(nn.ReLU(), Branch())
    fused(model)
    assert activations(model) == ["relu", "relu"]
    assert "residual" in model[3].block.code


def test_a_residual_of_another_shape_is_taken_back():
    model = Called(lambda m, x: F.relu(m.bn(m.conv(x)) + x.mean((2, 3), keepdim=True)))
    before = picture(model)
    with pytest.raises(ValueError, match="residual"):
        convert(model, fuse=True, sample=torch.randn(X))
    assert_same_picture(picture(model), before)


def test_fused_models_can_be_copied_pickled_and_trained():
    model = small(nn.ReLU(), Block(4, 4))
    fused(model)
    x = torch.randn(X)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        twin(x).square().sum().backward()
        assert twin[3].conv.weight.grad.abs().sum() > 0
        model.eval()
        assert torch.equal(twin.load_state_dict(model.state_dict()) and twin.eval()(x), model(x))
        model.train()


def test_undo_is_exact():
    model = small(nn.ReLU(), Block(4, 4), Block(4, 5))
    before = picture(model)
    convert(model, fuse=True, sample=torch.randn(X)).undo()
    assert_same_picture(picture(model), before)


def test_fusing_needs_a_sample_and_layers_of_ours():
    with pytest.raises(ValueError, match="must be proved"):
        convert(small(nn.ReLU()), fuse=True)
    with pytest.raises(ValueError, match="needs layers of ours"):
        convert(small(nn.ReLU()), "GroupNorm", fuse=True, sample=torch.randn(X))


def test_layers_that_are_ours_already_are_fused_too():
    model = randomise(nn.Sequential(nn.Conv2d(3, 4, 1), bn.BatchNorm2d(4), nn.ReLU()))
    fused(model)
    assert activations(model) == ["relu"]


def test_identities_in_between_do_not_hinder():
    def rule(m, x):
        return m.relu(m.drop(m.bn(m.conv(x))) + x)

    report = fused(Called(rule, drop=nn.Identity()))
    assert activations(report.model) == ["relu"]
    assert "residual" in report.model.code


def test_nothing_is_dropped_behind_a_layer_that_stays():
    model = small(nn.ReLU())
    model.pair = (model[1], 0)
    report = convert(model, fuse=True, sample=torch.randn(X))
    assert not report.done
    assert type(model[2]) is nn.ReLU


def test_an_activation_in_a_tuple_stays():
    model = small(nn.ReLU())
    model.pair = (model[2], 0)
    fused(model)
    assert type(model[2]) is nn.ReLU
    assert activations(model) == ["identity"]


def test_options_that_no_fused_layer_takes_are_an_error():
    model = small(nn.ReLU())
    before = picture(model)
    with pytest.raises(ValueError, match="ghost_batch_size"):
        convert(model, "GhostBatchNorm", ghost_batch_size=0, fuse=True, sample=torch.randn(X))
    assert_same_picture(picture(model), before)


def test_a_branch_that_fx_cannot_see_is_not_baked_in():
    class Optional(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x, shortcut=None):
            if shortcut is None:
                shortcut = x * 2
            return F.relu(self.bn(self.conv(x)) + shortcut)

    model = small(nn.ReLU(), Optional(), Block(4, 4))
    report = fused(model)
    assert type(model[3]) is Optional
    assert activations(model) == ["relu", "identity", "relu"]
    (note,) = (change.reason for change in report.done if change.path == "3.bn")
    assert "another forward than the one that runs" in note


def test_a_branch_on_the_type_of_an_input_is_not_baked_in():
    def rule(m, x):
        x = [x] if torch.is_tensor(x) else list(x)
        return F.relu(m.bn(m.conv(x[0])) + x[0])

    report = fused(Called(rule))
    assert type(report.model) is Called


class Inverted(nn.Module):
    """An addition around a ``nn.Sequential`` that ends in batch norm."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))

    def forward(self, x):
        return x + self.body(x)


def test_an_addition_behind_a_container_goes_in():
    model = small(nn.ReLU(), Inverted())
    fused(model)
    assert "residual" in model[3].code


def test_a_container_whose_hooks_would_not_run_stays():
    model, seen = small(nn.ReLU(), Inverted()), []
    model[3].body.register_forward_hook(lambda *_: seen.append(1))
    fused(model)
    assert type(model[3]) is Inverted


def test_fused_models_compile_without_break_and_export():
    model, x = small(nn.ReLU(), Block(4, 4)), torch.randn(X)
    fused(model)
    model.eval()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert torch.equal(compiled(x), model(x))
    exported = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(exported(x), model(x))
