"""What the commands on a model share: opening the model, writing the results."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .._errors import explain
from ._atomic import check_targets, replacing
from ._checkpoint import Checkpoint, check_state, check_suffix, load_into, read, write
from ._json import as_json
from ._model import build
from ._options import Report, Source

__all__ = ["HISTORY", "LOAD", "Work", "device_named", "header", "open_model", "version"]

HISTORY, LOAD = "batchnorm.history", "batchnorm.load"


@dataclass(frozen=True)
class Work:
    """A command at work on a model.

    Args:
        who: ``"batchnorm fold"``.
        source: of the model.
        output: where results go.
        model: in eval mode, with its weights, on its device.
        checkpoint: that was read, if any.
        options: as given, for the records.
    """

    who: str
    source: Source
    output: Report
    model: nn.Module
    checkpoint: Checkpoint
    options: dict[str, Any]

    def finish(
        self,
        report: Any,
        model: nn.Module | None = None,
        load: str = "",
        wrote: Path | None = None,
    ) -> None:
        """Write the report, then the weights of the model; print all of it.

        Args:
            report: with a text, and fields for JSON.
            model: that has the result; None if there are no weights to write.
            load: Python that loads them.
            wrote: another file that is there already.
        """
        step = {
            "command": self.who.removeprefix("batchnorm "),
            "version": version(),
            "model": self.source.model,
            "checkpoint": str(self.source.checkpoint) if self.source.checkpoint else None,
            "options": self.options,
        }
        if self.output.report is not None:
            content = {**step, "load": load or None, "result": as_json(report)}
            with replacing(self.output.report) as part:
                text = json.dumps(content, indent=1, allow_nan=False)
                part.write_text(f"{text}\n", encoding="utf-8")
        out = getattr(self.output, "out", None)
        if out is not None and model is not None:
            write(self.who, out, model.state_dict(), header(self.checkpoint, step, load))

        # Last, for whoever reads it may stop reading.
        print(report)
        for path in filter(None, (wrote, self.output.report)):
            print(f"wrote {path}")
        if out is not None:
            print(f"wrote {out}; to load it:\n\n{load}")
        elif model is not None:
            print("the weights were not written: name a file by --out")


def header(checkpoint: Checkpoint, step: dict[str, Any], load: str) -> dict[str, str]:
    """What a file says of itself: all that was done before, this step, and how to load it."""
    held = checkpoint.metadata
    history = [*json.loads(held.get(HISTORY, "[]")), step]

    return {**held, HISTORY: json.dumps(history), LOAD: load}


def open_model(
    who: str,
    source: Source,
    output: Report,
    options: dict[str, Any],
    extra: Iterable[Path | None] = (),
) -> Work:
    """Check where results go, then build the model and load its weights.

    Args:
        who: ``"batchnorm fold"``.
        source: of the model.
        output: where results go.
        options: of the command, for the records.
        extra: other files that will be written.

    Raises:
        ValueError: see ``check_targets``, ``build``, ``read`` and ``load_into``.
        OSError: the checkpoint cannot be read, or a result could not be written.
    """
    out = getattr(output, "out", None)
    targets = [path for path in (out, output.report, *extra) if path is not None]
    check_targets(who, targets, force=output.force)
    if out is not None:
        check_suffix(who, out)
    device = device_named(who, source.device)

    checkpoint = Checkpoint({})
    if source.checkpoint is not None:
        checkpoint = read(who, source.checkpoint, source.key)
        if checkpoint.note:
            print(f"{source.checkpoint}: {checkpoint.note}")
    model = build(who, source.model)
    if out is not None:
        check_state(who, out, model.state_dict())
    if source.checkpoint is not None:
        load_into(who, model, checkpoint.state, f"'{source.checkpoint}'")
    kept = {k: str(v) if isinstance(v, Path) else v for k, v in options.items() if v is not None}

    return Work(who, source, output, model.to(device).eval(), checkpoint, kept)


def device_named(who: str, name: str) -> torch.device:
    """The device, which is there.

    Raises:
        RuntimeError: it is not.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        rule, cure = "the device must be there", "Use --device cpu"
        raise RuntimeError(explain(who, rule, f"{name!r} ({reason})", cure)) from None

    return device


def version() -> str:
    """Of this package."""
    import batchnorm

    return batchnorm.__version__
