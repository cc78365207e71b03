"""The door of the doctor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from .._errors import explain
from ._config import Config, read_config
from ._context import Context, Distributed
from ._diagnosis import Diagnosis, Fixed, Skip
from ._examine import examine
from ._fix import cure

__all__ = ["diagnose"]


def diagnose(
    model: nn.Module,
    sample: Any = None,
    *,
    loader: Iterable[Any] | None = None,
    optimizer: Optimizer | None = None,
    loss_fn: Any = None,
    distributed: Distributed | int | None = None,
    select: Iterable[str] | None = None,
    ignore: Iterable[str] | None = None,
    fix: bool = False,
    config: Config | Mapping[str, Any] | str | Path | None = None,
) -> Diagnosis:
    """Look for faults in the use of batch norm: ours, torch's, and every subclass of torch's.

    The model, its mode, its statistics and all random generators stay as they are, unless ``fix``.
    A module, and all below it, is spared by ``module.batchnorm_ignore = {"BN001"}`` or ``"all"``.

    Args:
        model: any module.
        sample: one input: a tensor, a tuple of arguments or a dict of named ones.
        loader: of batches, as for training; it is iterated, so it cannot be an iterator.
        optimizer: of the training.
        loss_fn: of the training: ``loss_fn(output, target)``.
        distributed: processes of the training; None: what the running process group says.
        select: codes, their beginnings or names, instead of all but the noisy ones.
        ignore: codes, their beginnings or names to leave out.
        fix: cure what can safely be cured; the result says what was done, and can undo it.
        config: settings instead of ``[tool.batchnorm.doctor]`` in the ``pyproject.toml`` of this
            folder or above it; ``{}`` for none.

    Raises:
        ValueError: an unknown code or setting; a loader that can be used only once; a ScriptModule
            or a model on the meta device.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8))
        >>> for finding in bn.diagnose(model, select=["BN001"]):
        ...     print(finding)
        0: BN001 a bias of 8 values that batch norm takes away again. Use bias=False.
    """
    settings = read_config(config).updated(select, ignore)
    rules = settings.rules()
    _check_model(model)
    _check_loader(loader)

    def look() -> Context:
        return Context(
            model,
            sample,
            loader=loader,
            optimizer=optimizer,
            loss_fn=loss_fn,
            distributed=distributed,
            batches=settings.batches,
        )

    fixed: list[Fixed] = []
    failures: list[Skip] = []
    if fix:
        fixed, failures = cure(look, rules)
    diagnosis = examine(look(), rules)
    diagnosis.fixed = fixed
    diagnosis.skipped += failures

    return diagnosis


def _check_model(model: nn.Module) -> None:
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        got, cure = "a ScriptModule", "Pass the model that was scripted"
    elif any(t.is_meta for t in (*model.parameters(), *model.buffers())):
        got, cure = "tensors on the meta device", "Load the weights first"
    else:
        return

    raise ValueError(
        explain("diagnose", "the model must be of Python modules that hold values", got, cure)
    )


def _check_loader(loader: Any) -> None:
    if isinstance(loader, Iterator):
        raise ValueError(
            explain(
                "diagnose",
                "the loader is iterated more than once",
                f"an iterator ({type(loader).__name__})",
                "Pass the loader itself, or a list of batches",
            )
        )
