"""``batchnorm lab``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter
from cyclopts.validators import Number
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ._extras import missing_extra
from ._guard import FAILED, message_of

if TYPE_CHECKING:
    from ..lab import Experiment, Study

__all__ = ["lab"]

INTERRUPTED = 130
Positive = Annotated[int, Parameter(validator=Number(gte=1))]
lab = App(
    name="lab",
    group="This package",
    help="Experiments on real data that check what people claim for batch norm.",
)


@lab.command(name="list")
def list_experiments() -> int:
    """List the experiments, their claims, and how long they take."""
    if message := missing_extra("lab", "batchnorm lab"):
        print(message, file=sys.stderr)
        return FAILED
    from ..lab import overview
    from ..lab.renderers.verdicts import show_list

    show_list(overview(), Console())

    return 0


@lab.command
def run(
    *names: str,
    data: Path | None = None,
    budget: Literal["smoke", "default", "full"] = "default",
    seeds: Positive | None = None,
    out: Path = Path("out/lab"),
    jobs: Positive | None = None,
    backend: Literal["joblib", "ray"] = "joblib",
    resume: bool = True,
) -> int:
    """Run experiments and print their verdicts.

    Writes NAME/trials.parquet, NAME/verdicts.parquet and NAME/result.json. A run that was stopped
    goes on where it was.

    Args:
        names: Experiments; all of them by default.
        data: Folder with datasets; else the environment variable BATCHNORM_DATA.
        budget: How much to spend: about a minute, ten minutes or hours for the whole set.
        seeds: How many, instead of the budget's.
        out: Folder to write to.
        jobs: Processes; all cores by default.
        backend: Processes of this machine, or a Ray cluster (RAY_ADDRESS, or one started here).
        resume: Keep trials that an earlier run finished with the same settings and code.
    """
    if message := missing_extra("lab", "batchnorm lab"):
        print(message, file=sys.stderr)
        return FAILED
    from ..lab import overview, save
    from ..lab.data import data_folder
    from ..lab.renderers.verdicts import show

    console = Console()
    try:
        with _Bar(console) as bar:
            chosen = names or tuple(overview()["name"])
            studies = _studies(
                chosen,
                bar,
                budget=budget,
                data=data_folder(data),
                seeds=seeds,
                out=out,
                jobs=jobs,
                backend=backend,
                resume=resume,
            )
        written = save(studies, out)
    except (ValueError, OSError, RuntimeError) as error:
        print(message_of("batchnorm lab", error), file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        kept = len(list((out / "trials").glob("*.json")))
        where = f"{kept} finished trials are kept in {out / 'trials'}"
        print(f"\nStopped. {where}; the same command goes on from there.", file=sys.stderr)
        return INTERRUPTED
    for study in studies:
        show(study, console)
    total = sum(len(study.trials) for study in studies)
    reused = sum(study.reused for study in studies)
    seconds = sum(study.seconds for study in studies)
    console.print(
        f"{total} trials ({reused} kept from earlier) in {seconds:.0f} s. Wrote "
        f"{', '.join(map(str, written))}",
        soft_wrap=True,
    )

    return 0


def _studies(names: tuple[str, ...], bar: "_Bar", **options: object) -> "list[Study]":
    from ..lab import run as run_experiments

    return run_experiments(names, started=bar.started, done=bar.done, **options)  # type: ignore[arg-type]


class _Bar:
    """Progress of one experiment after another."""

    def __init__(self, console: Console) -> None:
        text, share = TextColumn("{task.description}"), TextColumn("{task.percentage:3.0f} %")
        columns = (text, BarColumn(), share, TimeRemainingColumn())
        self._progress = Progress(*columns, console=console, transient=True)

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def started(self, experiment: "Experiment", total: float, already: float) -> None:
        """The next experiment begins."""
        self._task = self._progress.add_task(experiment.name, total=total)
        self.done(already)

    def done(self, work: float) -> None:
        """A trial is there."""
        self._progress.update(self._task, advance=work)
