"""``python -m benchmarks``: measure, keep every finished row, and write tables and chart."""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import chart, memory, nets, ops, overhead, table, variants
from benchmarks.context import Context
from benchmarks.machine import ROOT, header
from benchmarks.report import row_line, summary_lines
from benchmarks.results import Results, read_results
from benchmarks.store import Store

__all__ = ["main"]

PARTS = {module.NAME: module for module in (overhead, ops, memory, nets, variants)}
RESULTS = ROOT / "benchmarks" / "results"
SCRATCH = ROOT / "out" / "bench"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="few rows, few rounds; under two minutes")
    add("--filter", default="", metavar="WORDS", help='only rows whose key has all these words, '
        'e.g. "14x14 float32"')  # fmt: skip
    add("--threads", type=int, default=torch.get_num_threads(), metavar="N")
    add("--out", type=Path, help="folder of the raw results; by default benchmarks/results, "
        "and out/bench with --quick or --filter")  # fmt: skip
    add(
        "--resume",
        action="store_true",
        help="keep the good rows of an earlier run; failed, wrong and noisy ones are new",
    )
    add("--no-compile", action="store_true", help="leave torch.compile out")
    add("--render", action="store_true", help="only write tables and chart from --out")
    for part, module in PARTS.items():
        add(f"--{part}", action="store_true", help=f"only this part: {module.__doc__.strip()}")
    return parser


@dataclass
class Run:
    """One invocation: its options, its console, and what it counted."""

    options: argparse.Namespace
    console: Console
    out: Path
    bad: int = 0

    def part(self, name: str, progress: Progress) -> None:
        """Measure the rows of one part that are not there yet."""
        options = self.options
        head = header(threads=options.threads, quick=options.quick, compiled=not options.no_compile)
        store = Store(self.out / f"{name}.json", head, resume=options.resume)
        if store.differences:
            self.console.print(f"{name}: measured anew, for {', '.join(store.differences)} changed")
        context = Context(options.threads, options.quick, not options.no_compile, _ticker(progress))
        words = options.filter.split()
        rows = [(key, make) for key, make in PARTS[name].rows(context)
                if all(word in f"{name} {key}" for word in words)]  # fmt: skip
        task = progress.add_task(name, total=len(rows), row="")
        for key, make in rows:
            if not store.has(key):
                progress.update(task, row=key, refresh=True)
                row = make()
                store.add(row)
                self.bad += row["status"] != "ok"
                self.console.print(row_line(name, row), highlight=False, soft_wrap=True)
            progress.update(task, advance=1, refresh=True)
        progress.update(task, row="")
        if rows:
            store.finish(complete=not words)


def _ticker(progress: Progress):
    """Draws at most twice a second, between rounds: a drawing thread would disturb the timing."""
    last = 0.0

    def tick() -> None:
        nonlocal last
        if time.monotonic() - last > 0.5:
            last = time.monotonic()
            progress.refresh()

    return tick


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, 1 when a row was wrong or failed, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    partial = options.quick or bool(options.filter)
    out = options.out or (SCRATCH if partial else RESULTS)
    run = Run(options, Console(), out.resolve())
    if not options.render:
        torch.set_num_threads(options.threads)
        try:
            _measure(run)
        except KeyboardInterrupt:
            run.console.print(f"\nInterrupted. Finished rows are in {_shown(run.out)}; "
                              "the same command with --resume goes on.")  # fmt: skip
            return 130
    results = read_results(run.out)
    for line in summary_lines(results):
        run.console.print(line, highlight=False, soft_wrap=True)
    if options.render or not partial:
        _write(run, results)
    return 1 if run.bad else 0


def _measure(run: Run) -> None:
    chosen = [name for name in PARTS if getattr(run.options, name)] or list(PARTS)
    columns = (
        TextColumn("{task.description:9}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("{task.fields[row]}"),
    )  # fmt: skip
    with Progress(*columns, console=run.console, auto_refresh=False) as progress:
        for name in chosen:
            run.part(name, progress)


def _write(run: Run, results: Results) -> None:
    written = table.render(results)
    image = ROOT / "docs" / "images" / "benchmarks.svg"
    if chart.save(results.rows.get("ops", []), image):
        written.append(image)
    for path in written:
        run.console.print(f"wrote {_shown(path)}", highlight=False)


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


if __name__ == "__main__":
    sys.exit(main())
