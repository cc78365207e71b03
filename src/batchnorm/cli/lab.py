"""``batchnorm lab``."""

import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter
from cyclopts.validators import Number
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ._extras import missing_extra
from ._guard import FAILED, message_of
from ._model import Named
from .lab_data import lab_data

if TYPE_CHECKING:
    from ..lab import Experiment, Study

__all__ = ["lab"]

INTERRUPTED = 130
Positive = Annotated[int, Parameter(validator=Number(gte=1))]
SEVERAL = Parameter(consume_multiple=True)
NormName = Literal["batch", "group", "layer", "instance", "renorm", "none"]
PlacementName = Literal["given", "before", "after"]
lab = App(
    name="lab",
    group="This package",
    help="Experiments on real data that check what people claim for batch norm.",
)
lab.command(lab_data, name="data")


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

    Writes NAME/trials.parquet, NAME/verdicts.parquet and NAME/result.json, and what "lab report"
    writes. A run that was stopped goes on where it was.

    Args:
        names: Experiments; all of them by default.
        data: Folder with datasets; else the environment variable BATCHNORM_DATA.
        budget: How much to spend: about a minute, twelve minutes or hours for the whole set.
        seeds: How many, instead of the budget's.
        out: Folder to write to.
        jobs: Processes; all cores by default.
        backend: Processes of this machine, or a Ray cluster (RAY_ADDRESS, or one started here).
        resume: Keep trials that an earlier run finished with the same settings and code.
    """
    if message := missing_extra("lab", "batchnorm lab"):
        print(message, file=sys.stderr)
        return FAILED
    from ..lab import overview
    from ..lab import run as run_experiments
    from ..lab.data import data_folder

    console = Console()
    with _Bar(console) as bar:

        def work() -> "list[Study]":
            return run_experiments(
                names or tuple(overview()["name"]),
                budget=budget,
                data=data_folder(data),
                seeds=seeds,
                out=out,
                jobs=jobs,
                backend=backend,
                resume=resume,
                started=bar.started,
                done=bar.done,
            )

        studies = _guarded("batchnorm lab", work, out)
    if isinstance(studies, int):
        return studies
    _finish(studies, out, console)

    return report(out=out)


@lab.command
def report(
    *,
    out: Path = Path("out/lab"),
    open_it: Annotated[bool, Parameter(name="--open", negative=())] = False,
) -> int:
    """Write one HTML file with every claim and chart of all runs in a folder.

    Writes report.html, which opens without a network, its charts as report/*.svg and *.png, all
    numbers as results.parquet and all verdicts as results.json.

    Args:
        out: Folder that "lab run" wrote to.
        open_it: Open it in the browser.
    """
    who = "batchnorm lab report"
    if message := missing_extra("lab", who):
        print(message, file=sys.stderr)
        return FAILED
    from ..lab import report as write_report
    from ..lab._files import load, write_tables

    page = out / "report.html"
    try:
        write_tables(load(out), out)
        write_report(out, page)
    except (ValueError, OSError) as error:
        print(message_of(who, error), file=sys.stderr)
        return FAILED
    print(f"Open {page}")
    if open_it:
        webbrowser.open(page.resolve().as_uri())

    return 0


@lab.command
def compare(
    *,
    model: str,
    data: str,
    norms: Annotated[tuple[NormName, ...], SEVERAL] = (),
    placements: Annotated[tuple[PlacementName, ...], SEVERAL] = (),
    batch_sizes: Annotated[tuple[Positive, ...], SEVERAL] = (),
    rates: Annotated[tuple[float, ...], SEVERAL] = (0.001, 0.01, 0.1),
    steps: Positive = 200,
    seeds: Positive = 3,
    out: Path = Path("out/compare"),
    jobs: Positive | None = None,
    backend: Literal["joblib", "ray"] = "joblib",
    resume: bool = True,
) -> int:
    """Train your model on your data as it is and with other norms, and say what suits it best.

    Every combination of norm, placement, batch size and rate is trained from every seed. Writes the
    files that "lab run" writes, with a report.

    Args:
        model: pkg.mod:function that makes it.
        data: pkg.mod:function that returns training and test data: batches of input and target.
        norms: By default group, layer, instance and none in place of batch norm, or batch norm in a
            model without any.
        placements: Of the norms: where the model has them (given), before or after activations.
        batch_sizes: Examples put together; by default batches come as they are.
        rates: Learning rates of SGD.
        steps: Minibatches of each training; of another size as many as have the same number of
            examples.
        seeds: How many.
        out: Folder to write to.
        jobs: Processes; all cores by default.
        backend: Processes of this machine, or a Ray cluster.
        resume: Keep trials of an earlier run. Training data and what your functions' files import
            are not looked at: after a change there, use --no-resume.
    """
    who = "batchnorm lab compare"
    if message := missing_extra("lab", who):
        print(message, file=sys.stderr)
        return FAILED
    from ..lab import compare as compare_norms
    from ..lab.renderers.verdicts import show_ranking, show_scores

    console = Console()
    with _Bar(console) as bar:

        def work() -> "list[Study]":
            study = compare_norms(
                Named(who, "--model", model).function(),
                Named(who, "--data", data).function(),
                norms=norms or None,
                placements=placements or None,
                batch_sizes=batch_sizes or None,
                lrs=rates,
                steps=steps,
                seeds=seeds,
                out=out,
                jobs=jobs,
                backend=backend,
                resume=resume,
                started=bar.started,
                done=bar.done,
            )
            return [study]

        studies = _guarded(who, work, out)
    if isinstance(studies, int):
        return studies
    show_scores(studies[0], console)
    _finish(studies, out, console)
    show_ranking(studies[0], console)

    return report(out=out)


def _guarded(who: str, work: "Callable[[], list[Study]]", out: Path) -> "list[Study] | int":
    """What the work returns, when its files are written; or an exit code after a message."""
    from ..lab import save

    try:
        studies = work()
        save(studies, out)
        return studies
    except Exception as error:  # the model and the data are the user's code
        print(message_of(who, error), file=sys.stderr)
        code = FAILED
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        code = INTERRUPTED
    if kept := len(list((out / "trials").glob("*.json"))):
        where = f"{kept} finished trials are kept in {out / 'trials'}"
        print(f"{where}; the same command goes on from there.", file=sys.stderr)

    return code


def _finish(studies: "list[Study]", out: Path, console: Console) -> None:
    """Print the verdicts."""
    from ..lab.renderers.verdicts import show

    for study in studies:
        show(study, console)
    total = sum(len(study.trials) for study in studies)
    reused = sum(study.reused for study in studies)
    seconds = sum(study.seconds for study in studies)
    console.print(
        f"{total} trials ({reused} kept from earlier) in {seconds:.0f} s. Wrote tables and numbers "
        f"to {', '.join(str(out / study.experiment.name) for study in studies)}",
        soft_wrap=True,
        markup=False,
    )


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
