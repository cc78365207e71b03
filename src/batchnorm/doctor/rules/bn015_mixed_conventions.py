"""BN015: eps of one framework with the momentum of another."""

from collections.abc import Iterator
from math import isclose
from typing import Any

from ...surgery import CONVENTIONS
from .._context import Context
from .._finding import Finding
from .._rule import Rule
from .._training import covering, named

__all__ = ["MixedConventions"]

_TORCH, _KERAS = CONVENTIONS["torch"], CONVENTIONS["keras"]
_KERAS_MOMENTUM = 1 - _KERAS.momentum  # in torch's meaning


class MixedConventions(Rule):
    """Half of the settings are Keras's defaults and half torch's.

    Checks: Keras's eps (0.001) with torch's momentum (0.1), or torch's eps (1e-5) with Keras's
    momentum (0.99, which is 0.01 in torch's meaning). One finding per part of the model whose batch
    norms are all like that. *Info*: some published networks are so (Inception v3 in torchvision has
    the first, Flax's defaults are the second). A momentum of 0.99 under torch is a fault of its own
    and has a rule of its own.

    Why it hurts: with weights from the other framework the wrong eps scales every channel whose
    variance is near it: by a factor of 7 at a variance of 1e-5.

    Example: weights of a Keras model in `nn.BatchNorm2d(16, momentum=0.01)`

    Instead: take both from `batchnorm.surgery.convert_options({}, "keras", "torch")`.

    Is the fix safe: there is none; only its author knows where the weights come from.

    Source: EfficientNet-PyTorch issue 3; keras issue 6839.
    """

    code = "BN015"
    name = "mixed-conventions"
    severity = "info"
    depth = "tree"

    def check(self, context: Context) -> Iterator[Finding]:
        """Parts of the model with mixed settings."""
        for eps, momentum, who, other in (
            (_KERAS.eps, _TORCH.momentum, "Keras's eps with torch's momentum", _TORCH.eps),
            (_TORCH.eps, _KERAS_MOMENTUM, "torch's eps with Keras's momentum", _KERAS.eps),
        ):
            paths = [p for p, layer in context.layers.items() if _has(layer, eps, momentum)]
            for path, layers in covering(context, paths).items():
                effect = max(_effect(context.layers[layer], other) for layer in layers)
                yield self.finding(
                    path,
                    f"{named(len(layers), 'batch norm')} with {who} ({eps:g}, {momentum:.3g}); eps "
                    f"{other:g} would scale a channel by {effect:.3g}",
                    "Check both, if the weights come from another framework",
                    eps=eps,
                    momentum=momentum,
                    effect=effect,
                    layers=layers,
                )


def _has(layer: Any, eps: float, momentum: float) -> bool:
    if layer.momentum is None:
        return False

    return isclose(layer.eps, eps, rel_tol=1e-6) and isclose(layer.momentum, momentum, rel_tol=1e-6)


def _effect(layer: Any, eps: float) -> float:
    """The factor by which the other eps scales the channel that it changes most."""
    if layer.running_var is None:
        return 1.0
    var = layer.running_var.detach().double().clamp(min=0)
    factors = ((var + layer.eps) / (var + eps)).sqrt()
    if not bool(factors.isfinite().all()) or not factors.numel():
        return 1.0

    return float(factors.flatten()[factors.log().abs().argmax()])
