"""Write docs/results/ from what the lab found: a table of all claims, a page per experiment.

batchnorm lab run --data DATA --out out/lab && python docs/make_results.py out/lab
"""

import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from batchnorm.lab._chart import Chart
from batchnorm.lab._files import load, write_tables
from batchnorm.lab._record import StudyRecord
from batchnorm.lab._registry import every
from batchnorm.lab.claims import Claim
from batchnorm.lab.renderers._table import Table
from batchnorm.lab.renderers.console import MARKS
from batchnorm.lab.renderers.report import report
from batchnorm.lab.renderers.report._page import pieces
from batchnorm.lab.renderers.report._tables import intervals, means

FOLDER = Path(__file__).parent / "results"
SPECIAL = {"<": "&lt;", ">": "&gt;", "&": "&amp;"} | {mark: f"\\{mark}" for mark in "\\`*_[]|"}


def pages(records: Sequence[StudyRecord]) -> dict[str, str]:
    """File name → text."""
    return {"index.md": index(records)} | {f"{r.experiment}.md": page(r) for r in records}


def index(records: Sequence[StudyRecord]) -> str:
    """Every claim with its verdict."""
    claims = [claim for record in records for claim in record.claims]
    counts = ", ".join(
        f"{sum(claim.verdict == verdict for claim in claims)} {words}"
        for verdict, words in (("holds", "hold"), ("fails", "fail"), ("undecided", "undecided"))
    )
    lines = [
        "# What the lab found",
        "",
        f"{len(claims)} claims from {len(records)} experiments: {counts}.",
        "[results.json](results.json) has the same for programs. The numbers behind a verdict,",
        "its rule and its source are on the experiment's page. A verdict speaks about these",
        "networks on these data.",
        "",
        "```console",
        *(f"$ {line}" for line in commands(records)),
        "```",
    ]
    for record in records:
        rows = [
            [mark(claim), claim.statement, claim.evidence, claim.published]
            for claim in record.claims
        ]
        title = f"[{escaped(record.title)}]({record.experiment}.md)"
        lines += ["", f"## {title}", "", *table(["verdict", "claim", "here", "published"], rows)]

    return "\n".join(lines) + "\n"


def commands(records: Iterable[StudyRecord]) -> list[str]:
    """What made the numbers, a line for each budget."""
    by_budget: dict[str, list[str]] = {}
    for record in records:
        by_budget.setdefault(record.budget, []).append(record.experiment)
    if [set(names) for names in by_budget.values()] == [set(every())]:
        return [f"batchnorm lab run --budget {budget} --data ~/data" for budget in by_budget]

    return [
        f"batchnorm lab run {' '.join(names)} --budget {budget} --data ~/data"
        for budget, names in by_budget.items()
    ]


def page(record: StudyRecord) -> str:
    """One experiment: picture, claims, numbers, and how they were made."""
    found = record.environment
    lines = [f"# {escaped(record.title)}", "", escaped(record.about)]
    if chart := first_chart(record):
        lines += ["", f"![{escaped(chart.title)}]({record.experiment}.svg)"]
        lines += ["", f"{escaped(chart.title)}: {escaped(chart.caption)}"]
    for claim in record.claims:
        lines += ["", *asked(claim, record)]
    for dataset in record.datasets:
        numbers = means(record, dataset)
        lines += ["", f"## {escaped(numbers.caption)}", "", *table(numbers.head, numbers.rows)]
    lines += ["", "## How", ""]
    lines += [f"- {name}: {escaped(meaning)}" for name, meaning in record.measured.items()]
    lines += [
        f"- budget `{record.budget}`, {record.seeds} seeds, {len(record.trials)} trials",
        f"- {escaped(found.machine)}; Python {found.python}, torch {found.packages['torch']}, "
        f"code {found.code}, {found.date}",
    ]

    return "\n".join(lines) + "\n"


def asked(claim: Claim, record: StudyRecord) -> list[str]:
    """A claim with everything that its verdict rests on."""
    found: Table = intervals(claim, dict(record.datasets))
    published = [f"Published: {escaped(claim.published)}.", ""] if claim.published else []

    return [
        f"## {mark(claim)}: {escaped(claim.statement)}",
        "",
        escaped(claim.evidence),
        "",
        *published,
        f"Rule: {escaped(claim.rule)}. Source: {escaped(claim.source)}.",
        "",
        *table(found.head, found.rows),
    ]


def mark(claim: Claim) -> str:
    """The verdict."""
    return f"{MARKS[claim.verdict]} {claim.verdict}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = [head, ["---"] * len(head), *([escaped(cell) for cell in row] for row in rows)]

    return [f"| {' | '.join(line)} |" for line in lines]


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, its web addresses as links."""
    shown = (
        f"<{piece}>" if is_address else piece.translate(str.maketrans(SPECIAL))
        for piece, is_address in pieces(" ".join(text.split()))
    )

    return "".join(shown)


def main(found: Path, folder: Path = FOLDER) -> None:
    """Write all pages and pictures, and remove those of experiments that are gone."""
    records = load(found)
    _, summary = write_tables(records, found)
    report(found, found / "report.html")
    texts = pages(records)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    numbers = without_folders(summary.read_text(encoding="utf-8"))
    (folder / "results.json").write_text(numbers, encoding="utf-8")
    for record in records:
        if chart := first_chart(record):
            drawn = found / "report" / f"{record.experiment}-{chart.key}.svg"
            shutil.copy(drawn, folder / f"{record.experiment}.svg")


def without_folders(text: str) -> str:
    """The same without where the native library and the data lay: that is nobody's business."""
    text = re.sub(r"(native library: )[^\s\"]*/", r"\1", text)

    return re.sub(r"Got '/[^']*' without them", "Got a folder without them", text)


def first_chart(record: StudyRecord) -> Chart | None:
    """The one that stands for the experiment."""
    return next((picture.chart for picture in record.charts if picture.panels), None)


if __name__ == "__main__":
    main(Path(sys.argv[1] if sys.argv[1:] else "out/lab"))
