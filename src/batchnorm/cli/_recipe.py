"""Python that rebuilds a changed model and loads its weights, proved by running it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from torch.fx import GraphModule

from ._checkpoint import load_into
from ._model import Named, Sample

__all__ = ["Recipe", "arguments", "loading", "loading_plainly"]

# Fresh statistics have no shift, which some layers fold by and those with a past do not.
_SHIFTED = """for norm in model.modules():
    if getattr(norm, "running_mean", None) is not None:
        norm.running_mean.fill_(1.0)  # so that the same layers fold as in a trained model"""


@dataclass(frozen=True)
class Recipe:
    """Lines of Python.

    Args:
        imports: modules to import, beside this package.
        lines: that make ``model``.
    """

    imports: tuple[str, ...]
    lines: tuple[str, ...]

    @property
    def code(self) -> str:
        """What makes the model."""
        body = "\n".join(self.lines)
        names = {*self.imports, *(["torch"] if "torch." in body else [])}
        head = [f"import {name}" for name in sorted(names)]
        head += ["import batchnorm as bn"] if "bn." in body else []
        head += ["from fnmatch import fnmatch"] if "fnmatch(" in body else []

        return "\n".join([*head, "", body])

    def text(self, out: Path) -> str:
        """All of it, with the line that loads the weights."""
        if out.suffix == ".safetensors":
            return (
                f"from safetensors.torch import load_file\n{self.code}\n"
                f"model.load_state_dict(load_file({str(out)!r}))"
            )

        start = self.code if "import torch\n" in self.code else f"import torch\n{self.code}"
        return f"{start}\nmodel.load_state_dict(torch.load({str(out)!r}, weights_only=True))"


def arguments(options: Mapping[str, str]) -> str:
    """``model, sample=..., ...``."""
    return ", ".join(["model", *(f"{name}={code}" for name, code in options.items())])


def loading_plainly(model: str, out: Path | None) -> str:
    """Python that loads weights which fit the model as its function makes it."""
    return "" if out is None else _plain(model).text(out)


def loading(
    model: str,
    call: str,
    options: Mapping[str, str],
    sample: Sample | None,
    done: nn.Module,
    out: Path | None,
) -> str:
    """Python that makes a model like ``done`` by the same call again and loads the weights.

    Args:
        model: ``pkg.mod:name``.
        call: ``"fold"``.
        options: arguments of the call, as code.
        sample: that was used.
        done: what must come out.
        out: where its weights will be; None: nothing is needed.

    Returns:
        The simplest that works, or a comment if the call does something else to a model that is
        not trained.
    """
    if out is None:
        return ""
    for recipe in _candidates(model, call, options, sample):
        if _makes(recipe, done):
            return recipe.text(out)

    return (
        f"# bn.{call} changes other layers in a model that is not trained, so these weights fit\n"
        f"# only the model that was made here. Load the former weights and call bn.{call} again."
    )


def _plain(model: str) -> Recipe:
    named = Named("", "--model", model)

    return Recipe((named.module,), (f"model = {named.code}().eval()",))


def _candidates(
    model: str, call: str, options: Mapping[str, str], sample: Sample | None
) -> Iterator[Recipe]:
    start = _plain(model)
    for before in ((), (_SHIFTED,)):
        for given in [None] if sample is None else [None, sample]:
            taken = {**options, **({} if given is None else {"sample": given.code})}
            modules = () if given is None or given.module is None else (given.module,)
            line = f"model = bn.{call}({arguments(taken)}).model"
            yield Recipe((*start.imports, *modules), (*start.lines, *before, line))


def _makes(recipe: Recipe, done: nn.Module) -> bool:
    namespace: dict[str, Any] = {}
    try:
        exec(recipe.code, namespace)
        model: nn.Module = namespace["model"]
        load_into("", model, done.state_dict(), "")
    except Exception:  # whatever it is, this recipe does not do
        return False

    return _shown(model) == _shown(done)


def _shown(model: nn.Module) -> list[tuple[str, ...]]:
    """What every module is; of one whose forward was written anew, that too."""
    kinds = ((path, type(m), m) for path, m in model.named_modules())

    return [
        (path, kind.__module__, kind.__qualname__, m.extra_repr(), _code(m))
        for path, kind, m in kinds
    ]


def _code(module: nn.Module) -> str:
    return str(module.code) if isinstance(module, GraphModule) else ""
