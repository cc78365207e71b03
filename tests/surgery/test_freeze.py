"""Freezing: what lasts, what is kept for backward, what folding on the fly leaves exactly equal."""

import copy
import io

import pytest
import torch
from torch import nn

import batchnorm as bn
from batchnorm.surgery._folding import FoldedBatchNorm
from batchnorm.surgery._freeze import freeze, thaw
from tests.surgery.folding import EXACT, seen
from tests.tolerance import ulp

LAYERS = {
    "linear": (lambda: nn.Linear(4, 6), (5, 4)),
    "no bias": (lambda: nn.Linear(4, 6, bias=False), (5, 4)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, padding=1), (2, 4, 7)),
    "conv2d": (lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), (2, 4, 7, 7)),
    "depthwise": (lambda: nn.Conv2d(6, 6, 3, groups=6, bias=False), (2, 6, 7, 7)),
    "same": (lambda: nn.Conv2d(4, 6, (2, 3), padding="same", dilation=2), (2, 4, 7, 7)),
    "conv3d": (lambda: nn.Conv3d(4, 6, 3, groups=2), (2, 4, 5, 5, 5)),
    "transposed1d": (lambda: nn.ConvTranspose1d(4, 6, 3, stride=2), (2, 4, 7)),
    "transposed2d": (lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2), (2, 4, 7, 7)),
    "transposed3d": (lambda: nn.ConvTranspose3d(4, 6, 3), (2, 4, 5, 5, 5)),
}
NORM = {2: bn.BatchNorm1d, 3: bn.BatchNorm1d, 4: bn.BatchNorm2d, 5: bn.BatchNorm3d}


def pair(name="conv2d", **options):
    make, shape = LAYERS[name]
    model = seen(nn.Sequential(make(), NORM[len(shape)](6, **options))).train()
    return model, torch.randn(shape)


def gradients(model, x):
    x = x.clone().requires_grad_()
    wanted = {"input": x, **{n: p for n, p in model.named_parameters() if p.requires_grad}}
    y = model(x)
    cotangent = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(0))
    found = torch.autograd.grad(y, list(wanted.values()), cotangent)
    return {"output": y.detach(), **dict(zip(wanted, found, strict=True))}


def kept_bytes(model, x):
    """Bytes that autograd keeps beside parameters and the model's input."""
    known = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers(), x)}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = model(x)
    del y
    return sum(kept.values())


def buffers(model):
    return {name: value.clone() for name, value in model.named_buffers()}


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm1d, bn.BatchNorm1d, bn.BatchRenorm1d, nn.SyncBatchNorm]
)
def test_frozen_statistics_survive_train(norm):
    model = seen(nn.Sequential(nn.Linear(4, 4), norm(4))).train()
    state = list(model.state_dict())
    expected = copy.deepcopy(model).eval()

    freeze(model)
    before, x = buffers(model), torch.randn(8, 4)
    y = model.train()(x)

    torch.testing.assert_close(y, expected(x))
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    assert "frozen=stats" in repr(model)
    assert model[0].training
    assert list(model.state_dict()) == state


@pytest.mark.parametrize(
    ("layer", "args"),
    [
        (lambda: bn.BatchNormLSTM(3, 4), (torch.ones(5, 2, 3),)),
        (lambda: bn.DomainBatchNorm1d(3, num_domains=2), (torch.ones(5, 3), 1)),
        (lambda: bn.WhitenedBatchNorm1d(3), (torch.ones(5, 3),)),
        (lambda: bn.GhostBatchNorm1d(3, ghost_batch_size=2), (torch.ones(6, 3),)),
    ],
    ids=["lstm", "domain", "whitened", "ghost"],
)
def test_variants_freeze(layer, args):
    model = layer()
    freeze(model)
    before = buffers(model)

    model.train()(torch.randn_like(args[0]), *args[1:])

    assert before
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())


def test_layers_of_torch_keep_their_parameters_and_buffers():
    norm = nn.BatchNorm1d(4)
    model = nn.Sequential(norm)

    report = freeze(model)

    assert isinstance(model[0], bn.BatchNorm1d)
    assert model[0].weight is norm.weight
    assert model[0].running_mean is norm.running_mean
    report.undo()
    assert model[0] is norm
    assert norm.training


def test_affine_alone_leaves_the_statistics_learning():
    model = nn.Sequential(bn.BatchNorm1d(4)).train()

    freeze(model, stats=False, affine=True)
    model(torch.randn(8, 4))

    assert model[0].num_batches_tracked == 1
    assert not model[0].weight.requires_grad
    assert "frozen=weight+bias" in repr(model)


def test_thaw_brings_back_what_freeze_took_and_no_more():
    model = nn.Sequential(bn.BatchNorm1d(4), bn.BatchNorm1d(4)).train()
    model[0].bias.requires_grad_(False)

    freeze(model, affine=True)
    freeze(model, affine=True)  # again: nothing new
    report = thaw(model)

    assert model[0].training
    assert model[0].weight.requires_grad
    assert not model[0].bias.requires_grad
    assert "frozen" not in repr(model)
    model(torch.randn(8, 4))
    assert model[0].num_batches_tracked == 1
    report.undo()
    assert "frozen=stats+weight" in repr(model[0])
    assert not model[0].training


def test_a_part_can_be_thawed():
    model = nn.ModuleDict({"backbone": bn.BatchNorm1d(4), "head": bn.BatchNorm1d(4)}).train()

    freeze(model)
    thaw(model["head"])

    assert model["backbone"].frozen
    assert not model["head"].frozen


def test_thawing_in_eval_mode_stays_in_eval_mode():
    model = nn.Sequential(bn.BatchNorm1d(4)).eval()

    freeze(model)
    thaw(model)

    assert not model[0].training
    assert model.train()[0].training


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"stats": False}, "something must be frozen"),
        ({"stats": False, "affine": True, "fold": True}, "only frozen statistics"),
    ],
)
def test_senseless_requests_are_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        freeze(nn.BatchNorm1d(3), **arguments)


def test_nothing_to_freeze_or_thaw_is_an_error():
    with pytest.raises(ValueError, match="Linear without one"):
        freeze(nn.Linear(3, 3))
    with pytest.raises(ValueError, match="must have a frozen layer"):
        thaw(nn.BatchNorm1d(3))


def test_layers_that_cannot_be_frozen_say_why():
    class Own(nn.BatchNorm1d):
        pass

    model = nn.Sequential(bn.BatchNorm1d(3, track_running_stats=False), Own(3), nn.BatchNorm1d(3))

    report = freeze(model)

    assert "no running statistics" in report.skipped[0].reason
    assert "Own" in report.skipped[1].reason
    assert report.done[0].reason == ("it has seen no batch: its statistics are those it was given")


def test_frozen_survives_deepcopy_and_pickle():
    model = nn.Sequential(bn.BatchNorm1d(4))
    freeze(model, affine=True)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)

    for twin in (copy.deepcopy(model), torch.load(file, weights_only=False)):
        assert not twin.train()[0].training
        assert twin[0].frozen == ("stats", "weight", "bias")


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("options", [{}, {"affine": False}, {"activation": "silu"}])
def test_folding_on_the_fly_changes_no_output_and_no_gradient(name, options):
    model, x = pair(name, **options)
    model.double()
    freeze(model)
    expected = gradients(model, x.double())
    thaw(model)

    report = freeze(model, fold=True)
    found = gradients(model.train(), x.double())

    assert "at every call" in report.done[0].reason
    assert isinstance(model[1], FoldedBatchNorm)
    assert list(found) == list(expected)
    for key, value in found.items():
        assert (value - expected[key]).abs().max() <= EXACT * expected[key].abs().max(), key


def test_folding_on_the_fly_follows_what_it_folds():
    model, x = pair()
    freeze(model, fold=True)
    expected = copy.deepcopy(model)
    thaw(expected)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)

    model(x).square().mean().backward()
    optimizer.step()
    expected.load_state_dict(model.state_dict())

    torch.testing.assert_close(model(x), expected.eval()(x))


def test_folding_keeps_residual_and_mask():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv1d(4, 4, 1), bn.BatchNorm1d(4, activation="relu")

        def forward(self, x):
            return self.norm(self.conv(x), residual=x, mask=x[:, 0] > 0)

    model, x = seen(Net()), torch.randn(3, 4, 5)
    before = model(x)

    freeze(model, fold=True)

    assert isinstance(model.norm, FoldedBatchNorm)
    torch.testing.assert_close(model.train()(x), before)


def test_a_frozen_layer_keeps_no_more_than_the_gradient_needs():
    x = torch.randn(4, 6, 8, 8)
    size = x.nbytes

    def measured(norm, **options):
        model = seen(nn.Sequential(nn.Conv2d(6, 6, 1), norm)).train()
        if options:
            freeze(model, **options)
        else:  # what torch offers: eval mode and no gradients
            model[1].eval().requires_grad_(False)
        return kept_bytes(model, x)

    small = size // 4
    assert measured(nn.BatchNorm2d(6)) >= size  # eager torch keeps the whole input
    assert measured(bn.BatchNorm2d(6), affine=True) < small
    assert measured(nn.BatchNorm2d(6), affine=True) < small
    assert measured(bn.BatchNorm2d(6), affine=False) >= size  # for the weight's gradient
    assert measured(bn.BatchNorm2d(6), affine=False, fold=True) < small
    relu = bn.BatchNorm2d(6, activation="relu")
    assert size <= measured(copy.deepcopy(relu), affine=True) < size + small
    assert size <= measured(copy.deepcopy(relu), fold=True) < size + small


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(64, 64), (2, 64)),
        (nn.Conv2d(32, 32, 3, padding=1), (1, 32, 3, 3)),
        (nn.ConvTranspose2d(32, 32, 5), (1, 32, 3, 3)),
    ],
    ids=["linear", "conv", "transposed"],
)
def test_the_scaled_weight_is_not_kept(layer, shape):
    # Weights can be larger than everything that is kept of a small batch.
    norm = NORM[len(shape)](shape[1])
    model = nn.Sequential(copy.deepcopy(layer), norm)
    freeze(model, fold=True)

    # The scale; of a transposed convolution it is laid out as the first two dimensions.
    assert kept_bytes(model, torch.randn(shape)) < layer.weight.nbytes // 4


@pytest.mark.parametrize("name", LAYERS)
def test_folding_on_the_fly_follows_autocast(name):
    model, x = pair(name)
    freeze(model, fold=True)
    expected = model(x)

    with torch.autocast("cpu", torch.bfloat16):
        y = model(x)
    y.backward(torch.randn_like(y))

    assert y.dtype is torch.bfloat16
    # Two roundings: of the weight and of the sum.
    assert (y - expected).abs().max() <= 4 * ulp(torch.bfloat16) * expected.abs().max()
    assert model[0].weight.grad.isfinite().all()


@pytest.mark.parametrize("name", LAYERS)
def test_folding_on_the_fly_has_the_second_derivative(name):
    model, x = pair(name)
    model.double()
    freeze(model, fold=True)
    leaves = [p.detach().clone().requires_grad_() for p in model.parameters()]
    names = [name for name, _ in model.named_parameters()]

    def run(x, *leaves):
        for name, leaf in zip(names, leaves, strict=True):
            owner, _, attribute = name.rpartition(".")
            module = model.get_submodule(owner)
            module._parameters.pop(attribute, None)
            module.__dict__[attribute] = leaf
        return model(x)

    x = x.double()[:1, ..., :5].requires_grad_() if x.ndim > 2 else x.double().requires_grad_()
    assert torch.autograd.gradgradcheck(run, (x, *leaves), fast_mode=True)


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_folded_pairs_survive_copies(how):
    model, x = pair()
    freeze(model, fold=True)
    if how == "deepcopy":
        twin = copy.deepcopy(model)
    else:
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        twin = torch.load(file, weights_only=False)

    with torch.no_grad():
        twin[1].weight.zero_()

    assert twin[0]._norm[0] is twin[1]
    assert twin(x).std((0, 2, 3)).max() < 1e-6
    assert model(x).std((0, 2, 3)).max() > 0.1


def test_folded_pairs_move_and_cast_together():
    model, x = pair()
    freeze(model, fold=True)

    model.to(torch.bfloat16)

    assert model(x.bfloat16()).dtype is torch.bfloat16
    assert model[1].running_mean.dtype is torch.float32


def test_thaw_unfolds():
    model, _ = pair()
    modules, state = list(model), copy.deepcopy(model.state_dict())

    freeze(model, fold=True)
    assert list(model.state_dict()) == list(state)
    thaw(model)

    assert [type(module) for module in model] == [nn.Conv2d, bn.BatchNorm2d]
    assert all(new is old for new, old in zip(model, modules, strict=True))
    assert not any(key in vars(m) for m in model for key in ("_norm", "_layer", "_class"))
    assert repr(model) == repr(pair()[0])


def test_undo_unfolds_too():
    model, _ = pair()
    before = repr(model)

    report = freeze(model, affine=True, fold=True)
    assert repr(model) != before
    report.undo()

    assert repr(model) == before
    assert all(p.requires_grad for p in model.parameters())
    assert all(m.training for m in model.modules())


def test_folding_is_left_where_others_read_the_output():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)

        def forward(self, x):
            y = self.fc(x)
            return self.norm(y) + y

    model = Twice()

    report = freeze(model, fold=True)

    assert "not folded: 'fc' before it is also read by others" in report.done[0].reason
    assert type(model.norm) is bn.BatchNorm1d


def test_one_layer_takes_one_norm():
    model = seen(nn.Sequential(nn.Linear(4, 4), bn.BatchNorm1d(4), bn.BatchNorm1d(4)))
    x = torch.randn(3, 4)
    before = model(x)

    freeze(model, fold=True)

    torch.testing.assert_close(model(x), before)
    assert [isinstance(m, FoldedBatchNorm) for m in model] == [False, True, False]


def test_a_wrong_fold_on_the_fly_is_refused_and_nothing_changed(monkeypatch):
    from batchnorm.surgery import _folding

    model, x = pair()
    before = repr(model)
    right = _folding._Folding._scale_and_bias
    monkeypatch.setattr(
        _folding._Folding, "_scale_and_bias", lambda self: tuple(2 * t for t in right(self))
    )

    with pytest.raises(RuntimeError, match="freeze: the outputs must stay the same"):
        freeze(model, fold=True, sample=x)

    assert repr(model) == before


def test_folded_pairs_compile_and_export():
    model, x = pair(activation="relu")
    freeze(model, fold=True)
    expected = gradients(model, x)

    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    found = gradients(compiled, x)
    program = torch.export.export(model.eval(), (x,))

    torch.testing.assert_close(found["output"], expected["output"])
    torch.testing.assert_close(program.module()(x), expected["output"])
    torch.compiler.reset()


def test_folded_pairs_recompute_under_checkpointing():
    from torch.utils.checkpoint import checkpoint

    model, x = pair(activation="relu")
    freeze(model, fold=True)
    expected = gradients(model, x)

    leaf = x.clone().requires_grad_()
    y = checkpoint(model, leaf, use_reentrant=False)
    cotangent = torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
    (found,) = torch.autograd.grad(y, leaf, cotangent)

    torch.testing.assert_close(found, expected["input"])
