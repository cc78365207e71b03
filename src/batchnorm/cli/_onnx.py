"""A model as an ONNX file."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from .._errors import explain
from ._atomic import replacing

__all__ = ["check_onnx", "write_onnx"]


def check_onnx(who: str) -> None:
    """The packages that torch's exporter needs are there.

    Raises:
        RuntimeError: they are not.
    """
    absent = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if absent:
        rule, cure = "torch's exporter needs onnx and onnxscript", "pip install onnx onnxscript"
        raise RuntimeError(explain(who, rule, f"no {' and no '.join(absent)}", cure))


def write_onnx(model: nn.Module, sample: Any, path: Path) -> None:
    """Export; the first size of inputs may vary where the sample's is more than 1.

    Args:
        model: in eval mode.
        sample: a tensor, a tuple of arguments or a dict of named ones.
        path: of one file, with the weights.
    """
    args = () if isinstance(sample, Mapping) else sample
    args = args if isinstance(args, tuple) else (args,)
    kwargs = dict(sample) if isinstance(sample, Mapping) else None
    sizes = _pytree.tree_map(_sizes, args if kwargs is None else kwargs)
    with _quiet():
        program = torch.onnx.export(
            model, args, kwargs=kwargs, dynamo=True, dynamic_shapes=sizes, verbose=False
        )
    assert program is not None
    with replacing(path) as part:
        program.save(part, external_data=False)


def _sizes(leaf: Any) -> Any:
    if not isinstance(leaf, Tensor):
        return None

    return {0: torch.export.Dim.AUTO} if leaf.ndim and len(leaf) > 1 else {}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's own warnings, of packages that it does not need."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
