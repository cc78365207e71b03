"""BN007: a deep network without any normalisation."""

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from .._context import Context
from .._finding import Finding
from .._rule import Rule
from .._training import is_training

__all__ = ["NoNorm"]

# The deepest network that Simonyan & Zisserman could train from random weights has 11 layers.
_DEEP = 11
# The sigmoid network of Ioffe & Szegedy has three hidden layers.
_DEEP_SATURATING = 3
_PLAIN = {
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
}
_SELF_NORMALISING = (nn.SELU, nn.AlphaDropout, nn.FeatureAlphaDropout)
_SATURATING = (nn.Sigmoid, nn.Tanh)


class NoNorm(Rule):
    """Many convolutions and linear layers, and no normalisation of any kind.

    Checks: more than 11 convolutions and linear layers, or at least 3 hidden layers with sigmoid or
    tanh, in a network that is to be trained. No finding with any layer whose name says that it
    normalises, with weight normalisation or another parametrization, with SELU, with convolutions
    of another class, or with scalar parameters (Fixup, ReZero, SkipInit): these do without on
    purpose. *Info*.

    Why it hurts: without it the scale of activations and gradients is a product over all layers.
    Training needs a small learning rate and careful starting weights, and saturating units stop
    learning.

    Example: 12 times `nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()`

    Instead: `batchnorm.insert(model, sample=sample, optimizer=optimizer)`, before training.

    Is the fix safe: there is none by itself; `insert` is a decision about the model.

    Source: Simonyan & Zisserman 2015, section 3.1 (arXiv:1409.1556): 11 layers trained from random
    weights, deeper ones not; Ioffe & Szegedy 2015, section 4.1 (arXiv:1502.03167).
    """

    code = "BN007"
    name = "no-norm"
    severity = "info"
    depth = "tree"

    def check(self, context: Context) -> Iterator[Finding]:
        """At most one, for the whole model."""
        if not is_training(context) or not any(p.requires_grad for p in context.model.parameters()):
            return
        modules = list(context.modules.values())
        if any(map(_does_without, modules)):
            return
        layers = sum(type(module) in _PLAIN for module in modules)
        saturating = sum(isinstance(module, _SATURATING) for module in modules)
        if layers > _DEEP or (layers > _DEEP_SATURATING and saturating >= _DEEP_SATURATING):
            yield self.finding(
                "",
                f"{layers} convolutions and linear layers, and no normalisation",
                "batchnorm.insert(model) puts batch norm in",
                layers=layers,
                saturating=saturating,
            )


def _does_without(module: nn.Module) -> bool:
    """Whether it normalises, or shows that the network is one that needs no normalisation."""
    if isinstance(module, (_ConvNd, nn.Linear)):
        hooked = bool(module._forward_pre_hooks) or parametrize.is_parametrized(module)
        return hooked or type(module) not in _PLAIN
    if "norm" in type(module).__name__.lower() or isinstance(module, _SELF_NORMALISING):
        return True

    return not isinstance(module, nn.PReLU) and any(map(_is_gain, module._parameters.values()))


def _is_gain(parameter: Tensor | None) -> bool:
    return parameter is not None and not nn.parameter.is_lazy(parameter) and parameter.numel() == 1
