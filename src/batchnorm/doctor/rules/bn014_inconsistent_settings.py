"""BN014: layers that should be alike have another eps or momentum."""

from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any, Literal

from torch import nn

from .._context import Context
from .._finding import Finding
from .._rule import Rule
from .._training import covering, named

__all__ = ["InconsistentSettings"]

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_SETTINGS: tuple[Literal["eps", "momentum"], ...] = ("eps", "momentum")


class InconsistentSettings(Rule):
    """Eps or momentum differ between batch norms that have the same role.

    Checks: layers of one class at the same place in blocks of one class. Where more than half of at
    least three agree, the others are a *warning* each, unless they make up a part of the model that
    is the only one of its kind, as a decoder or a stage, which may have settings of its own. Such
    differences are one *info* with the values.

    Why it hurts: a setting that was changed in some layers only is mostly an oversight: a loop that
    missed a block, a block that was added later, half a conversion. With another momentum, layers
    lag behind the weights by different times; with another eps, channels of small variance are
    scaled otherwise.

    Example: three `Block`s with `nn.BatchNorm2d(16, momentum=0.01)`, one with
    `nn.BatchNorm2d(16)`.

    Instead: one place in the program that makes all batch norms.

    Is the fix safe: there is none; only its author knows which value was meant.

    Source: pytorch/examples issue 289; EfficientNet-PyTorch issue 3.
    """

    code = "BN014"
    name = "inconsistent-settings"
    severity = "warning"
    depth = "tree"

    def check(self, context: Context) -> Iterator[Finding]:
        """Layers that stand out, then what is left of differences."""
        for setting in _SETTINGS:
            odd: dict[str, tuple[Any, int]] = {}
            for paths in _roles(context).values():
                odd.update(_minority(context, paths, setting))
            odd = {path: odd[path] for path in _strays(context, odd)}
            for path, (usual, peers) in odd.items():
                yield self.finding(
                    path,
                    f"{setting}={getattr(context.layers[path], setting)}, and "
                    f"{named(peers, 'layer')} at the same place of other blocks have {usual}",
                    "Give all of them the same",
                    setting=setting,
                    value=getattr(context.layers[path], setting),
                    usual=usual,
                )
            yield from self._other_differences(context, setting, odd)

    def _other_differences(
        self, context: Context, setting: str, odd: Collection[str]
    ) -> Iterator[Finding]:
        kinds: dict[type, Counter[Any]] = {}
        for path, layer in context.layers.items():
            if path not in odd:
                kinds.setdefault(type(layer), Counter())[getattr(layer, setting)] += 1
        for kind, counts in kinds.items():
            if len(counts) > 1:
                values = ", ".join(f"{value} ({n})" for value, n in counts.most_common())
                yield self.finding(
                    "",
                    f"{kind.__name__} layers have {len(counts)} values of {setting}: {values}",
                    "Check that this is meant",
                    severity="info",
                    setting=setting,
                    values=[[value, n] for value, n in counts.most_common()],
                )


def _roles(context: Context) -> dict[tuple[Any, ...], list[str]]:
    """Layers that have the same place in blocks of the same class."""
    roles: dict[tuple[Any, ...], list[str]] = {}
    for path, layer in context.layers.items():
        *above, _ = context.above(path)
        depth = next((i for i in reversed(range(len(above))) if _is_block(above[i])), 0)
        if depth:
            inside = ".".join(path.split(".")[depth:])
            roles.setdefault((type(above[depth]), inside, type(layer)), []).append(path)

    return roles


def _is_block(module: nn.Module) -> bool:
    return not isinstance(module, _CONTAINERS)


def _minority(context: Context, paths: list[str], setting: str) -> dict[str, tuple[Any, int]]:
    """Path of each layer that differs from most → the usual value, how many have it."""
    values = {path: getattr(context.layers[path], setting) for path in paths}
    usual, count = Counter(values.values()).most_common(1)[0]
    if len(paths) < 3 or 2 * count <= len(paths):
        return {}

    return {path: (usual, count) for path, value in values.items() if value != usual}


def _strays(context: Context, odd: Collection[str]) -> list[str]:
    """Those that are not together in a part of the model that is the only one of its kind."""
    parts = covering(context, odd)
    others = {
        type(module)
        for path, module in context.modules.items()
        if not any(_is_inside(path, part) for part in parts)
        and any(_is_inside(layer, path) for layer in context.layers)
    }

    return [
        layer
        for part, layers in parts.items()
        for layer in layers
        if _is_block(context.modules[part]) and type(context.modules[part]) in others
    ]


def _is_inside(path: str, part: str) -> bool:
    return not part or path == part or path.startswith(f"{part}.")
