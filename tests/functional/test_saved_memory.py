"""What each form keeps for the backward: storages of the input's size, by name."""

import pytest
import torch

import batchnorm as bn
from batchnorm import BatchStats
from tests.activations import ACTS

SHAPE = (8, 4, 16, 16)
KEEPS_OUTPUT = [n for n, a in ACTS.items() if a.keeps_output]
KEEPS_RESIDUAL = [n for n, a in ACTS.items() if not a.keeps_output and n != "identity"]


class Saved:
    """Storages saved for backward inside the block, largest first; small ones are not counted."""

    def __enter__(self):
        self.storages = {}
        self.versions = {}

        def pack(t):
            self.storages[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        self.hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t)
        self.hooks.__enter__()
        return self

    def __exit__(self, *exc):
        self.hooks.__exit__(*exc)
        return False

    def big(self) -> set[int]:
        limit = 4 * SHAPE[1] * 8
        return {p for p, n in self.storages.items() if n > limit}


def ptr(t):
    return t.untyped_storage().data_ptr()


def inputs(affine_grad=True):
    x = torch.randn(SHAPE, requires_grad=True)
    r = torch.randn(SHAPE, requires_grad=True)
    w = torch.rand(4).add(0.5).requires_grad_(affine_grad)
    b = torch.randn(4, requires_grad=affine_grad)
    return x, r, w, b


@pytest.mark.parametrize("act", ACTS)
def test_without_residual_only_the_input_is_saved(act):
    x, _, w, b = inputs()
    with Saved() as saved:
        y, _ = bn.functional.batch_norm(x, w, b, activation=act)
    assert saved.big() == {ptr(x)}
    y.backward(torch.randn_like(y))


@pytest.mark.parametrize("act", KEEPS_OUTPUT)
def test_with_residual_the_relu_like_save_input_and_output(act):
    x, r, w, b = inputs()
    with Saved() as saved:
        y, _ = bn.functional.batch_norm(x, w, b, residual=r, activation=act)
    assert saved.big() == {ptr(x), ptr(y)}


@pytest.mark.parametrize("act", KEEPS_RESIDUAL)
def test_with_residual_the_others_save_input_and_residual(act):
    x, r, w, b = inputs()
    with Saved() as saved:
        bn.functional.batch_norm(x, w, b, residual=r, activation=act)
    assert saved.big() == {ptr(x), ptr(r)}


def test_identity_with_residual_saves_the_input_only():
    x, r, w, b = inputs()
    with Saved() as saved:
        bn.functional.batch_norm(x, w, b, residual=r)
    assert saved.big() == {ptr(x)}


def test_leaky_relu_with_negative_slope_keeps_the_residual():
    # With slope <= 0 the sign of y does not tell the sign of its argument.
    x, r, w, b = inputs()
    with Saved() as saved:
        bn.functional.batch_norm(x, w, b, residual=r, activation="leaky_relu", slope=-0.5)
    assert saved.big() == {ptr(x), ptr(r)}


@pytest.mark.parametrize(("act", "slope"), [("identity", None), ("leaky_relu", 0.2)])
def test_in_place_saves_the_output_only(act, slope):
    leaf, _, w, b = inputs()
    x = leaf * 1.0
    with Saved() as saved:
        y, _ = bn.functional.batch_norm(x, w, b, activation=act, slope=slope, inplace=True)
    assert ptr(y) == ptr(x)
    assert saved.big() == {ptr(y)}


def eval_stats():
    return BatchStats(count=torch.tensor(9), mean=torch.randn(4), var=torch.rand(4) + 0.5)


def test_eval_of_frozen_identity_saves_nothing_of_the_input_size():
    # Eager torch keeps its full input alive under a frozen batch norm.
    x, _, w, b = inputs(affine_grad=False)
    with Saved() as saved:
        y, _ = bn.functional.batch_norm(x, w, b, stats=eval_stats())
    assert saved.big() == set()
    y.backward(torch.randn_like(y))
    assert x.grad.abs().max() > 0


@pytest.mark.parametrize("act", ["relu", "relu6", "leaky_relu"])
def test_eval_of_frozen_relu_saves_the_output_only(act):
    x, _, w, b = inputs(affine_grad=False)
    with Saved() as saved:
        y, _ = bn.functional.batch_norm(x, w, b, stats=eval_stats(), activation=act)
    assert saved.big() <= {ptr(y)}


def test_nothing_is_saved_without_grad():
    x, r, w, b = inputs()
    with Saved() as saved, torch.no_grad():
        bn.functional.batch_norm(x, w, b, residual=r, activation="relu")
    assert saved.storages == {}


@pytest.mark.parametrize(
    "layer", [bn.BatchNorm2d(4), bn.BatchNorm2d(4).eval()], ids=["train", "eval"]
)
def test_live_buffers_are_never_saved(layer):
    x = torch.randn(SHAPE, requires_grad=True)
    with Saved() as saved:
        layer(x)
    assert ptr(layer.running_mean) not in saved.storages
    assert ptr(layer.running_var) not in saved.storages


def test_sliced_input_keeps_one_copy():
    x = torch.randn(8, 6, 16, 16, requires_grad=True)
    with Saved() as saved:
        bn.functional.batch_norm(x[:, 1:5], torch.rand(4, requires_grad=True), activation="relu")
    assert len(saved.big()) == 1
