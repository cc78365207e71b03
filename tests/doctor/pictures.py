"""Everything of a model that looking at it must not change."""

import random

import torch


def picture(model, optimizer=None) -> dict:
    """Bits of all tensors, versions, identities, modes, hooks, gradients, generators."""
    modules = list(model.modules())
    tensors = [
        (f"{index}.{name}", tensor)
        for index, module in enumerate(modules)
        for name, tensor in (*module._parameters.items(), *module._buffers.items())
        if tensor is not None and not torch.nn.parameter.is_lazy(tensor)
    ]
    return {
        "bits": {name: tensor.detach().clone() for name, tensor in tensors},
        "tensors": [(name, id(tensor), tensor._version) for name, tensor in tensors],
        "grads": {
            name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()
        },
        "attributes": [
            {k: v for k, v in m.__dict__.items() if isinstance(v, (int, float, str, tuple))}
            for m in modules
        ],
        "classes": [(type(m), sorted(m.__dict__)) for m in modules],
        "hooks": [
            (list(m._forward_hooks), list(m._forward_pre_hooks), list(m._backward_hooks))
            for m in modules
        ],
        "torch generator": torch.get_rng_state(),
        "python generator": random.getstate(),
        "grad mode": torch.is_grad_enabled(),
        "optimizer": None if optimizer is None else str(optimizer.state_dict()),
    }


def assert_same(now: dict, before: dict) -> None:
    for key in ("bits", "grads"):
        assert now[key].keys() == before[key].keys()
        for name, tensor in before[key].items():
            other = now[key][name]
            assert (other is None) == (tensor is None), f"{key} of {name}"
            if tensor is not None:
                assert torch.equal(other.nan_to_num(), tensor.nan_to_num()), f"{key} of {name}"
    assert torch.equal(now["torch generator"], before["torch generator"])
    for key in before.keys() - {"bits", "grads", "torch generator"}:
        assert now[key] == before[key], key
