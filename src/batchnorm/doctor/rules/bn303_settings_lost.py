"""BN303: eps or momentum of a layer is not what is computed with."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from .._context import Context
from .._finding import Finding
from .._live import Mode
from .._rule import Rule

__all__ = ["SettingsLost"]

# In the order of the arguments.
_NAMES: dict[Any, tuple[str, ...]] = {
    torch.batch_norm: (
        *("input", "weight", "bias", "running_mean", "running_var"),
        *("training", "momentum", "eps", "cudnn_enabled"),
    ),
    functional.batch_norm: (
        *("input", "running_mean", "running_var", "weight", "bias"),
        *("training", "momentum", "eps"),
    ),
}
_DEFAULTS = {"training": False, "momentum": 0.1, "eps": 1e-5}


class SettingsLost(Rule):
    """A forward calls `batch_norm` with a layer's statistics, and with another eps or momentum.

    Checks: calls of `torch.nn.functional.batch_norm`, while the model runs, that are given the
    running statistics of one of its layers: their eps must be the layer's (*error*), and their
    momentum too if they train (*warning*; not for `momentum=None`).

    Why it hurts: everything that reads `layer.eps`, from folding to exporters and converters,
    computes another function than the model. The layer's text says one thing and does another.

    Example: `F.batch_norm(x, bn.running_mean, bn.running_var, bn.weight, bn.bias, bn.training)`,
    which falls back to momentum 0.1 and eps 1e-5.

    Instead: call the layer; or pass `bn.momentum` and `bn.eps`.

    Is the fix safe: there is none; a trained model may rely on what is computed.

    Source: pytorch issue 18525; onnxruntime issue 16867.
    """

    code = "BN303"
    name = "settings-lost"
    severity = "error"
    depth = "live"

    def check(self, context: Context) -> Iterator[Finding]:
        """Layers whose settings are passed over."""
        live = context.live
        assert live is not None
        with _Listener(context) as listener:
            mode: Mode = "train" if live.runs("train") else "eval"
            live.outputs(mode, context.batches[:1])
        for (path, setting), used in listener.other.items():
            own = getattr(context.layers[path], setting)
            yield self.finding(
                path,
                f"{setting}={own}, and batch_norm is called with {used}",
                f"Pass {setting}, or call the layer",
                severity="error" if setting == "eps" else "warning",
                setting=setting,
                own=own,
                used=used,
            )


class _Listener(TorchFunctionMode):
    """Notes calls of batch norm whose settings are not their layer's."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self.layers = context.layers
        self.other: dict[tuple[str, str], Any] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _NAMES:
            named = dict(zip(_NAMES[func], args, strict=False))
            self._compare(_DEFAULTS | named | kwargs)

        return func(*args, **kwargs)

    def _compare(self, call: dict[str, Any]) -> None:
        mean = call.get("running_mean")
        path = next((p for p, m in self.layers.items() if m.running_mean is mean), None)
        if mean is None or path is None:
            return
        layer = self.layers[path]
        if call["eps"] != layer.eps:
            self.other[path, "eps"] = call["eps"]
        if call["training"] and layer.momentum is not None and call["momentum"] != layer.momentum:
            self.other[path, "momentum"] = call["momentum"]
