"""torch's own database of modules: every input and error it holds for batch norm, on ours."""

import copy

import pytest
import torch
from torch.testing._internal.common_modules import ModuleErrorEnum, module_db
from torch.testing._internal.common_utils import freeze_rng_state

import batchnorm as bn
from tests.tolerance import ulp

OURS = {"nn.BatchNorm1d": bn.BatchNorm1d, "nn.BatchNorm2d": bn.BatchNorm2d}
OURS["nn.BatchNorm3d"] = bn.BatchNorm3d
INFOS = {info.name: info for info in module_db if info.name in OURS}


def entries(*only):
    for name, info in INFOS.items():
        count = len(inputs(info, torch.float32, True))
        for dtype in only or info.dtypes:
            for training in (True, False):
                for i in range(count):
                    yield pytest.param(
                        name, dtype, training, i, id=f"{name}-{dtype}-{training}-{i}"
                    )


def inputs(info, dtype, training):
    torch.manual_seed(0)
    return info.module_inputs_func(
        info, device="cpu", dtype=dtype, requires_grad=True, training=training
    )


def test_the_database_has_entries_for_all_three():
    assert set(INFOS) == set(OURS)


@pytest.mark.parametrize(("name", "dtype", "training", "i"), list(entries()))
def test_entry(name, dtype, training, i):
    info = INFOS[name]
    entry = inputs(info, dtype, training)[i]
    args, kwargs = entry.constructor_input.args, entry.constructor_input.kwargs
    forward = entry.forward_input
    mine = OURS[name](*args, **kwargs).to(dtype).train(training)
    theirs = info.module_cls(*args, **kwargs).to(dtype).train(training)
    assert repr(mine) == repr(theirs)
    mine.load_state_dict(theirs.state_dict())
    results = []
    for layer in (mine, theirs):
        leaves = copy.deepcopy(forward.args)
        with freeze_rng_state():
            y = layer(*leaves, **forward.kwargs)
        torch.manual_seed(1)
        y.backward(torch.randn_like(y))
        params = [p.grad for p in layer.parameters()]
        results.append([y.detach(), leaves[0].grad, *params, *layer.state_dict().values()])
    for a, b in zip(*results, strict=True):
        bound = 64 * ulp(dtype)
        torch.testing.assert_close(a, b, rtol=bound, atol=bound)
    if entry.reference_fn is not None:
        want = entry.reference_fn(mine, *forward.args, **forward.kwargs)
        torch.testing.assert_close(results[0][0], want)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", OURS)
def test_error_entries(name, training):
    info = INFOS[name]
    errors = info.module_error_inputs_func(
        info, device="cpu", dtype=torch.float32, requires_grad=False, training=True
    )
    assert errors
    for case in errors:
        build, call = (
            case.module_error_input.constructor_input,
            case.module_error_input.forward_input,
        )
        assert case.error_on == ModuleErrorEnum.FORWARD_ERROR
        if not training and build.kwargs["eps"] == 0.0:
            # Allowed by torch and by us: folded networks divide by the variance itself.
            OURS[name](*build.args, **build.kwargs).eval()(*call.args)
            continue

        def run(build=build, call=call):
            OURS[name](*build.args, **build.kwargs).train(training)(*call.args)

        with pytest.raises(case.error_type, match=case.error_regex if training else "eps"):
            run()


@pytest.mark.parametrize(("name", "dtype", "training", "i"), list(entries(torch.float64)))
def test_entry_gradients(name, dtype, training, i):
    """Database entries through gradcheck and gradgradcheck, as torch's test_modules does."""
    entry = inputs(INFOS[name], dtype, training)[i]
    build = entry.constructor_input
    layer = OURS[name](*build.args, **build.kwargs).to(dtype).train(training)
    (x,) = entry.forward_input.args
    params = dict(layer.named_parameters())

    def run(x, *values):
        fresh = {k: v.clone() for k, v in layer.named_buffers()}
        state = {**dict(zip(params, values, strict=True)), **fresh}
        return torch.func.functional_call(layer, state, (x,))

    tensors = (x.detach().requires_grad_(), *params.values())
    assert torch.autograd.gradcheck(run, tensors, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, tensors, fast_mode=True, atol=1e-4)
