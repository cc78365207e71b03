"""``batchnorm doctor``."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from torch import nn

from ..doctor import Diagnosis, diagnose, place_of_source, read_config
from ..doctor.renderers import render_github, render_json, render_sarif, render_terminal
from ._atomic import check_targets
from ._checkpoint import Checkpoint, check_suffix, load_into, read, write
from ._guard import message_of
from ._model import Named, Sample, build, make_loader, make_sample
from ._recipe import loading
from ._work import device_named, header, version

__all__ = ["doctor"]

_WHO = "batchnorm doctor"
UNUSABLE = 2
Codes = Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)]
Flag = Annotated[bool, Parameter(negative=())]


def doctor(
    model: str,
    *,
    checkpoint: Path | None = None,
    key: str | None = None,
    device: str = "cpu",
    sample: str | None = None,
    loader: str | None = None,
    optimizer: str | None = None,
    loss: str | None = None,
    distributed: int | None = None,
    select: Codes = (),
    ignore: Codes = (),
    config: Path | None = None,
    format: Literal["terminal", "json", "sarif", "github"] = "terminal",
    fix: Flag = False,
    out: Path | None = None,
    force: Flag = False,
) -> int:
    """Look for faults in the use of batch norm.

    Exit codes: 0 nothing graver than info, 1 errors or warnings, 2 the command cannot be used like
    this. Settings come from [tool.batchnorm.doctor] in pyproject.toml, then from the options.

    Args:
        model: Function that makes the model: pkg.mod:name.
        checkpoint: Its weights (.safetensors, .pt); else those that the function gives it.
        key: Name of the weights in a file that holds more.
        device: Where to compute: cpu, cuda.
        sample: Shape (2,3,32,32) or function (pkg.mod:name) of what goes through the model.
        loader: Function that makes the batches of the training: pkg.mod:name.
        optimizer: Function that makes the optimizer of a model: pkg.mod:name.
        loss: Loss of the training: torch.nn:CrossEntropyLoss, or a function of output and target.
        distributed: Processes of the training.
        select: Codes, beginnings of codes or names of the rules to use: BN0,BN101.
        ignore: Likewise, not to use.
        config: Another pyproject.toml.
        format: Of the output.
        fix: Cure in memory what can safely be cured.
        out: File for the weights of the cured model (.safetensors, .pt).
        force: Replace the file if it is there.
    """
    try:
        settings = read_config(config).updated(_split(select), _split(ignore))
        _check_out(out, force)
        place, held = device_named(_WHO, device), _held(checkpoint, key)
        net = _opened(model, held, checkpoint).to(place)
        given = None if sample is None else make_sample(_WHO, sample, net)
        diagnosis = diagnose(
            net,
            None if given is None else given.value,
            loader=None if loader is None else make_loader(_WHO, loader),
            optimizer=_optimizer(optimizer, net),
            loss_fn=_loss(loss),
            distributed=distributed,
            fix=fix,
            config=settings,
        )
        diagnosis.origin = place_of_source(Named(_WHO, "--model", model).load())
        load = "" if out is None else _write(diagnosis, model, given, settings.select, held, out)
        print(_shown(diagnosis, format))
        if out is not None:  # not on stdout, where the report is alone
            print(f"wrote {out}; to load it:\n\n{load}", file=sys.stderr)
    except Exception as error:  # the model, the loader and the sample are the user's code
        print(message_of(_WHO, error), file=sys.stderr)
        return UNUSABLE

    return diagnosis.exit_code


def _split(codes: tuple[str, ...]) -> list[str] | None:
    """``BN1,BN2`` and several options are the same; none leaves what the settings say."""
    entries = [entry for text in codes for entry in text.split(",")]

    return entries or None


def _check_out(out: Path | None, force: bool) -> None:
    if out is not None:
        check_targets(_WHO, [out], force=force)
        check_suffix(_WHO, out)


def _held(path: Path | None, key: str | None) -> Checkpoint:
    if path is None:
        return Checkpoint({})
    held = read(_WHO, path, key)
    if held.note:
        print(f"{path}: {held.note}", file=sys.stderr)

    return held


def _opened(model: str, held: Checkpoint, path: Path | None) -> nn.Module:
    """The model with its weights, in the mode that its function gives it."""
    net = build(_WHO, model)
    if path is not None:
        load_into(_WHO, net, held.state, f"'{path}'")

    return net


def _optimizer(text: str | None, model: nn.Module) -> Any:
    return None if text is None else Named(_WHO, "--optimizer", text).function()(model)


def _loss(text: str | None) -> Any:
    found = None if text is None else Named(_WHO, "--loss", text).load()

    return found() if isinstance(found, type) else found


def _shown(diagnosis: Diagnosis, format: str) -> str:
    if format == "terminal":
        return render_terminal(diagnosis, color=sys.stdout.isatty())
    render = {"json": render_json, "sarif": render_sarif, "github": render_github}[format]

    return render(diagnosis)


def _write(
    diagnosis: Diagnosis,
    model: str,
    given: Sample | None,
    select: tuple[str, ...],
    held: Checkpoint,
    out: Path,
) -> str:
    """Write the weights; the Python that loads them."""
    net = diagnosis.model
    assert net is not None
    options = {"fix": "True", "config": "{}", **({"select": repr(select)} if select else {})}
    load = loading(model, "diagnose", options, given, net, out)
    fixed = [f"{fixed.finding.code} {fixed.finding.path}" for fixed in diagnosis.fixed]
    step = {"command": "doctor", "version": version(), "model": model, "options": {"fixed": fixed}}
    write(_WHO, out, net.state_dict(), header(held, step, load))

    return load
