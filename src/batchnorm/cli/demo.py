"""``batchnorm demo``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ._extras import missing_extra

if TYPE_CHECKING:
    from ..lab import Experiment
    from ..lab.demo import Config, Result

__all__ = ["demo"]

Positive = Annotated[int, Parameter(validator=Number(gte=1))]
FAILED, INTERRUPTED = 1, 130


def demo(
    *,
    data: Path | None = None,
    seeds: Positive = 5,
    steps: Positive | None = None,
    out: Path = Path("out/demo"),
    jobs: Positive | None = None,
    resume: bool = True,
) -> int:
    """Train a deep sigmoid network with and without batch norm, and report what it did.

    The network of Ioffe & Szegedy 2015, section 4.1, on scikit-learn's bundled digits, or on MNIST
    when a data folder has it. Prints a table and writes report.html, figure1.png and result.json.
    A run that was stopped goes on where it was.

    Args:
        data: Folder that holds MNIST; else the environment variable BATCHNORM_DATA.
        seeds: How many seeds each network is trained with.
        steps: Minibatches of each training curve; the sweep over learning rates takes a fifth.
        out: Folder to write to.
        jobs: Processes; all cores by default.
        resume: Keep trials that an earlier run finished with the same settings and code.
    """
    if message := missing_extra("lab"):
        print(message, file=sys.stderr)
        return FAILED
    from ..lab.demo import Config

    console = Console()
    try:
        folder, note = _folder(data)
        config = Config("mnist" if folder else "digits", seeds=seeds, steps=steps)
        if note:
            console.print(note, highlight=False, markup=False)
        _render(_run(config, folder, out, jobs, resume, console), out, console)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"batchnorm demo: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        kept = len(list((out / "trials").glob("*.json")))
        print(
            f"\nStopped. {kept} finished trials are kept in {out / 'trials'}; the same command "
            "goes on from there.",
            file=sys.stderr,
        )
        return INTERRUPTED
    return 0


def _folder(option: Path | None) -> tuple[Path | None, str | None]:
    """The folder with MNIST, and what to say if a named folder has none.

    A folder that the option names must have it; one that the environment names may serve others.
    """
    from ..lab.data import DATA_VARIABLE, data_folder, is_there

    folder = data_folder(option)
    if folder is None or option is not None or is_there("mnist", folder):
        return folder, None
    return None, f"{DATA_VARIABLE}={folder} has no MNIST: the digits are used."


def _run(
    config: "Config",
    folder: Path | None,
    out: Path,
    jobs: int | None,
    resume: bool,
    console: Console,
) -> "Result":
    from ..lab.demo import run

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:

        def started(experiment: "Experiment", total: float, already: float) -> None:
            progress.update(progress.add_task(experiment.name, total=total), completed=already)

        def done(steps: float) -> None:
            progress.update(progress.task_ids[-1], advance=steps)

        return run(
            config,
            out,
            folder=folder,
            jobs=jobs,
            resume=resume,
            started=started,
            done=done,
        )


def _render(result: "Result", out: Path, console: Console) -> None:
    from ..lab.renderers import console as terminal
    from ..lab.renderers import html, image, records

    terminal.show(result, console)
    files = {"report.html": html.write_html, "figure1.png": image.write_png}
    for name, write in {**files, "result.json": records.write_json}.items():
        write(result, out / name)
    console.print(
        f"{result.trials} trials ({result.reused} kept from earlier) on {result.dataset.title} in "
        f"{result.seconds:.0f} s. Open {out / 'report.html'}",
        soft_wrap=True,
        markup=False,
    )
