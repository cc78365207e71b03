"""Activation modules and the names under which our layers know them."""

from torch import nn

from .._types import Activation, ActivationName

__all__ = ["activation_of", "module_of"]

_NAMES: dict[str, ActivationName] = {
    "torch.nn.modules.linear.Identity": "identity",
    "torch.nn.modules.activation.ReLU": "relu",
    "torch.nn.modules.activation.ReLU6": "relu6",
    "torch.nn.modules.activation.SiLU": "silu",
    "torch.nn.modules.activation.Hardswish": "hardswish",
    "torch.nn.modules.activation.Sigmoid": "sigmoid",
    "torch.nn.modules.activation.Tanh": "tanh",
    "timm.layers.activations.Swish": "silu",
    "timm.layers.activations.HardSwish": "hardswish",
    "timm.layers.activations.Sigmoid": "sigmoid",
    "timm.layers.activations.Tanh": "tanh",
    "timm.layers.activations.GELU": "gelu",
    "timm.layers.activations.GELUTanh": "gelu_tanh",
}

_MODULES: dict[ActivationName, type[nn.Module]] = {
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "silu": nn.SiLU,
    "hardswish": nn.Hardswish,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}


def activation_of(module: nn.Module) -> tuple[ActivationName, float] | None:
    """Name and slope of an activation module; None if our layers have none like it.

    By exact type: a subclass may do more. An activation whose hooks must run is not taken either.

    Example:
        >>> activation_of(torch.nn.LeakyReLU(0.2))
        ('leaky_relu', 0.2)
    """
    if module._forward_hooks or module._forward_pre_hooks or "forward" in module.__dict__:
        return None
    if type(module) is nn.LeakyReLU:
        return "leaky_relu", module.negative_slope
    if type(module) is nn.ELU:
        return "elu", module.alpha
    if type(module) is nn.GELU:
        return ("gelu" if module.approximate == "none" else "gelu_tanh"), 0.0

    name = _NAMES.get(f"{type(module).__module__}.{type(module).__qualname__}")
    return None if name is None else (name, Activation.parse(name).default_slope)


def module_of(name: ActivationName, slope: float) -> nn.Module:
    """The module that does what ``activation=name`` does.

    Example:
        >>> module_of("leaky_relu", 0.2)
        LeakyReLU(negative_slope=0.2)
    """
    if name == "leaky_relu":
        return nn.LeakyReLU(slope)
    if name == "elu":
        return nn.ELU(slope)
    if name in ("gelu", "gelu_tanh"):
        return nn.GELU("none" if name == "gelu" else "tanh")

    return _MODULES[name]()
