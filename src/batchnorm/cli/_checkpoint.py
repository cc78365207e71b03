"""Checkpoints in and out: tensors only, nothing is ever unpickled that could run code."""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .._errors import explain
from ._atomic import replacing

__all__ = ["Checkpoint", "check_state", "check_suffix", "load_into", "read", "write"]

_SAFE = ".safetensors"
_TORCH = (".pt", ".pth", ".bin", ".ckpt", ".tar")
# Where training scripts put the weights beside other things, and what wrappers put before names.
_KEYS = ("state_dict", "model_state_dict", "model")
_WRAPPERS = ("_orig_mod.", "module.", "_orig_mod.")
_AVERAGED = "n_averaged"  # beside the weights in a torch.optim.swa_utils.AveragedModel


@dataclass(frozen=True)
class Checkpoint:
    """Weights, and the words in the file's header.

    Args:
        state: name → tensor.
        metadata: of a safetensors file.
        note: how the weights were found in the file, if not at the top.
    """

    state: dict[str, Any]
    metadata: dict[str, str] = field(default_factory=dict)
    note: str = ""


def read(who: str, path: Path, key: str | None = None) -> Checkpoint:
    """Read weights.

    Args:
        who: the command, for errors.
        path: of a safetensors file, or one of torch.save.
        key: of the weights in a file that holds more; None: one of the usual.

    Raises:
        ValueError: the file is not one, holds more than tensors, or no weights.
        OSError: it cannot be read.
    """
    check_suffix(who, path)
    if not path.is_file():
        rule, cure = "the checkpoint must be a file", "See that the path is right"
        raise FileNotFoundError(explain(who, rule, f"'{path}'", cure))
    held, metadata = _read_safe(who, path) if path.suffix == _SAFE else (_read_torch(who, path), {})
    state, found = _choose(who, path, held, key)
    notes = [f"weights under {found!r}"] if found else []
    for wrapper in _WRAPPERS:
        own = [name for name in state if name != _AVERAGED]
        if own and all(name.startswith(wrapper) for name in own):
            state = {name.removeprefix(wrapper): state[name] for name in own}
            notes.append(f"{wrapper!r} taken from the names")

    return Checkpoint(state, metadata, ", ".join(notes))


def check_suffix(who: str, path: Path) -> None:
    """The name says what is in the file.

    Raises:
        ValueError: it does not.
    """
    if path.suffix not in (_SAFE, *_TORCH):
        rule, cure = "a checkpoint ends in its format", f"Use {_SAFE} or .pt"
        raise ValueError(explain(who, rule, f"'{path}'", cure))


def _read_safe(who: str, path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        rule, cure = "the file must be a whole safetensors file", "Copy or save it again"
        raise ValueError(explain(who, rule, f"'{path}': {error}", cure)) from None


def _read_torch(who: str, path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        rule = "a checkpoint may hold tensors and plain values only, for others can run code"
        cure = "Save model.state_dict() alone, from the program that wrote it"
        raise ValueError(explain(who, rule, f"'{path}' with something else", cure)) from None
    except (EOFError, RuntimeError) as error:
        rule, cure = "the file must be a whole file of torch.save", "Copy or save it again"
        got = f"'{path}': {str(error).splitlines()[0] if str(error) else 'its end too early'}"
        raise ValueError(explain(who, rule, got, cure)) from None


def _choose(who: str, path: Path, held: Any, key: str | None) -> tuple[dict[str, Any], str]:
    """The weights among what the file holds, and their key."""
    if key is None and _is_state(held):
        return dict(held), ""
    keys = list(map(str, held)) if isinstance(held, Mapping) else []
    wanted = [k for k in _KEYS if k in keys and _is_state(held[k])] if key is None else [key]
    if len(wanted) != 1 or wanted[0] not in keys or not _is_state(held[wanted[0]]):
        rule = "the file must hold a state dict" + (f" under {key!r}" if key else "")
        got = f"'{path}' with {_first(keys) or f'a {type(held).__name__}'}"
        raise ValueError(explain(who, rule, got, "Name it by --key"))

    return dict(held[wanted[0]]), wanted[0]


def _is_state(held: Any) -> bool:
    return (
        isinstance(held, Mapping)
        and any(isinstance(value, Tensor) for value in held.values())
        and all(isinstance(name, str) for name in held)
        and all(isinstance(v, Tensor) or n.endswith("_extra_state") for n, v in held.items())
    )


def check_state(who: str, path: Path, state: Mapping[str, Any]) -> None:
    """The format can hold the state.

    Raises:
        ValueError: something else than tensors for a safetensors file.
    """
    other = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if other and path.suffix == _SAFE:
        rule, cure = "a safetensors file holds tensors only", "Name a file that ends in .pt"
        raise ValueError(explain(who, rule, _first(other), cure))


def load_into(who: str, model: nn.Module, state: Mapping[str, Any], what: str) -> None:
    """``load_state_dict``, strict but for tied tensors that the file holds once.

    Raises:
        ValueError: names or shapes differ.
    """
    own = model.state_dict(keep_vars=True)
    held = {id(own[name]) for name in state if name in own}
    missing = [n for n in own if n not in state and id(own[n]) not in held]
    try:
        found = model.load_state_dict(dict(state), strict=False)
    except RuntimeError as error:
        wrong = [line.strip().rstrip(".") for line in str(error).splitlines()[1:]]
        rule, cure = "its tensors must fit the model", "Use the model that it was saved from"
        raise ValueError(explain(who, rule, f"{what}: {_first(wrong)}", cure)) from None
    # Modules may rename or make up for keys of older checkpoints: what is missing to them counts.
    lost = [name for name in found.missing_keys if name in missing]
    if lost or found.unexpected_keys:
        got = [f"{what} without {_first(lost)}"] if lost else []
        got += [f"{what} with {_first(found.unexpected_keys)}"] if found.unexpected_keys else []
        rule, cure = "its names must be the model's", "Use the model that it was saved from"
        raise ValueError(explain(who, rule, "; ".join(got), cure))


def _first(names: list[str]) -> str:
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""

    return ", ".join(names[:3]) + rest


def write(who: str, path: Path, state: Mapping[str, Any], metadata: dict[str, str]) -> None:
    """Write weights in the format of the name; metadata into the header of a safetensors file.

    Tied tensors are written under each name, so that ``load_state_dict`` finds all.

    Raises:
        ValueError: something else than tensors for a safetensors file.
        OSError: it cannot be written; then no file is there, or the former.
    """
    check_state(who, path, state)
    with replacing(path) as part:
        if path.suffix == _SAFE:
            tensors = {n: t.detach().cpu().contiguous().clone() for n, t in state.items()}
            save_file(tensors, part, {"format": "pt", **metadata})
        else:
            torch.save(_plain(state), part)


def _plain(state: Mapping[str, Any]) -> dict[str, Any]:
    return {n: v.detach().cpu() if isinstance(v, Tensor) else v for n, v in state.items()}
