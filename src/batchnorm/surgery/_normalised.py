"""A layer and the norm that was put behind or before it, in the layer's place."""

from collections import OrderedDict
from typing import Any

from torch import Tensor, nn

__all__ = ["Normalised", "NormalisedInput", "NormalisedSequence"]


class Normalised(nn.Sequential):
    """``norm(layer(x))``; attributes of the layer (``weight``, ``in_features``) are found too.

    Checkpoints from before the insertion load: keys of the layer gain ``layer.``, and the norm
    keeps what it has.

    Args:
        layer: what was there.
        norm: what was put behind it.

    Example:
        >>> both = Normalised(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
        >>> both.in_features, sorted(both.state_dict())[0]
        (3, 'layer.bias')
    """

    layer: nn.Module
    norm: nn.Module

    def __init__(self, layer: nn.Module, norm: nn.Module) -> None:
        super().__init__(OrderedDict(layer=layer, norm=norm))

    def forward(self, input: Any, *args: Any, **kwargs: Any) -> Any:
        """The layer's output, normalised."""
        return self.norm(self.layer(input, *args, **kwargs))

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("_") or "layer" not in self.__dict__.get("_modules", {}):
                raise
            return getattr(self._modules["layer"], name)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Rename keys from before the insertion; children are loaded after this."""
        own = {f"{prefix}{name}" for name in ("layer.", "norm.")}
        foreign = [key for key in state_dict if key.startswith(prefix)]
        if not any(key.startswith(tuple(own)) for key in foreign):
            for key in foreign:
                state_dict[f"{prefix}layer.{key[len(prefix) :]}"] = state_dict.pop(key)
            for name, value in self.norm.state_dict().items():
                state_dict[f"{prefix}norm.{name}"] = value
            self._give_up_bias(state_dict, prefix)

        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _give_up_bias(self, state_dict: dict[str, Any], prefix: str) -> None:
        """A bias that the layer has no more moves into the running mean."""
        key, mean = f"{prefix}layer.bias", f"{prefix}norm.running_mean"
        if getattr(self.layer, "bias", None) is None and isinstance(state_dict.get(key), Tensor):
            bias = state_dict.pop(key)
            if mean in state_dict:  # bias of the norm: 0, or the mean of an identity start
                start = state_dict[f"{prefix}norm.bias"]
                state_dict[mean] = (start - bias.to(start)).to(state_dict[mean])


class NormalisedInput(Normalised):
    """``layer(norm(x))``."""

    def forward(self, input: Any, *args: Any, **kwargs: Any) -> Any:
        """The layer's output for a normalised input."""
        return self.layer(self.norm(input), *args, **kwargs)


class NormalisedSequence(Normalised):
    """``norm`` of a recurrent layer's output; its last state stays as it is."""

    def forward(self, input: Any, *args: Any, **kwargs: Any) -> Any:
        """Normalised output and last state."""
        output, state = self.layer(input, *args, **kwargs)

        return self.norm(output), state
