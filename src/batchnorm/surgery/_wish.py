"""What ``convert`` was asked for, applied to one layer at a time."""

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from ..layers import SyncBatchNorm
from ._fuse import Fusions
from ._places import HELD, Places, kind, paths_of
from ._proof import record
from ._report import Change
from ._sources import Source, read
from ._swap import carry_over
from ._targets import build

__all__ = ["Builder", "Wish", "ranks_of"]

Builder = Callable[[nn.Module], nn.Module | None]


@dataclass
class Wish:
    """The arguments of ``convert``, and what was found out for them.

    Args:
        model: that holds the layers.
        to: as it was given; called if ``family`` is None.
        family: name of the target.
        only: chooses by path and layer.
        options: constructor arguments of new layers.
        ranks: of the inputs that were seen to come to layers.
        fusions: what layers are to do beside normalising.
    """

    model: nn.Module
    to: Any
    family: str | None
    only: Callable[[str, nn.Module], bool] | None
    options: dict[str, Any]
    ranks: dict[nn.Module, int]
    fusions: Fusions = field(default_factory=Fusions)

    def __post_init__(self) -> None:
        self.places = Places(self.model)
        self.paths = paths_of(self.model)

    def may_fuse(self, layer: nn.Module) -> bool:
        """Whether a layer is going to be exchanged, and has no activation yet."""
        source = read(layer)

        return (
            isinstance(source, Source)
            and source.activation == "identity"
            and self._left_where_it_is(layer) is None
        )

    def exchange(self, layer: nn.Module) -> tuple[Change, nn.Module | None]:
        """What to say about a layer, and the new one if it is exchanged."""
        path, before = ", ".join(self.paths[layer]), kind(layer)
        made = self._left_where_it_is(layer) or self._make(layer)
        if isinstance(made, str):
            return Change(path, "skipped", before, reason=made), None

        note = self.fusions.notes.get(layer) or _note(layer, made)
        return Change(path, "replaced", before, kind(made), note), made

    def _left_where_it_is(self, layer: nn.Module) -> str | None:
        chosen = self.only is None or any(self.only(path, layer) for path in self.paths[layer])
        if not chosen:
            return "not chosen by only"
        fixed = self.places.fixed(layer)
        if fixed is not None:
            return f"{fixed} {HELD}"

        return None

    def _make(self, layer: nn.Module) -> nn.Module | str:
        """A new layer, or why there is none."""
        if self.family is None:
            return self._make_by_function(layer)
        source = read(layer)
        if isinstance(source, str):
            return source
        fused = self.fusions.activations.get(layer)
        if fused is None and source.family == self.family and not self.options:
            return "it is one already"
        if fused is not None:
            source = dataclasses.replace(source, activation=fused[0], slope=fused[1])

        try:
            new = build(source, self.family, source.rank or self.ranks.get(layer), self.options)
        except ValueError as error:
            if fused is not None:  # what follows the layer would be dropped nevertheless
                raise
            return str(error)
        if isinstance(new, SyncBatchNorm) and "name" not in self.options:
            new.name = self.paths[layer][0]

        return new

    def _make_by_function(self, layer: nn.Module) -> nn.Module | str:
        made: nn.Module | None = self.to(layer)
        if made is None or made is layer:
            return "left by the function"

        carry_over(layer, made)
        return made


def _note(layer: nn.Module, new: nn.Module) -> str:
    """What the user may want to know about an exchange."""
    source = read(layer)
    if isinstance(source, str):
        return ""
    if source.family.startswith("timm.") and source.activation != "identity":
        return f"with its activation {source.activation}"
    lost = source.options.get("on_single", "error") != "error" and not hasattr(new, "on_single")

    return "its on_single policy is lost" if lost else ""


def ranks_of(model: nn.Module, layers: Iterable[nn.Module], sample: Any) -> dict[nn.Module, int]:
    """Ranks (1 for ``(N, C)`` and ``(N, C, L)``, 2, 3) of what comes to layers from a sample."""
    ranks: dict[nn.Module, int] = {}
    if sample is None:
        return ranks

    def see(module: nn.Module, args: Any) -> None:
        if args and isinstance(args[0], Tensor):
            ranks[module] = max(args[0].ndim - 2, 1)

    handles = [layer.register_forward_pre_hook(see) for layer in layers]
    try:
        record(model, sample, gradients=False)
    finally:
        for handle in handles:
            handle.remove()

    return ranks
