"""The few numbers that the rows come to."""

from dataclasses import dataclass

from benchmarks.rows import Row, milliseconds, ratio, sides
from benchmarks.words import geometric_mean

__all__ = [
    "BEYOND_CACHE_MIB",
    "Summary",
    "best_public",
    "copies",
    "measured",
    "speed_up",
    "strongest_eager",
    "summarise",
    "trusted",
]

# glibc maps fresh memory for each output above this, and the last-level cache ends about here.
BEYOND_CACHE_MIB = 32


@dataclass(frozen=True)
class Summary:
    """Of the operator rows. Means are geometric; of forward + backward if not said otherwise.

    Rows without enough calm rounds are counted in ``noisy`` and enter nothing else: on a busy
    machine a single row can be a thousand times off, in anybody's favour.
    """

    rows: int
    wrong: list[str]
    failed: list[str]
    over_eager: float
    over_eager_inplace: float
    over_compile: float
    slower_than_eager: list[str]
    slower_than_eager_inplace: list[str]
    slower_than_compile: list[str]
    forward_copies_beyond_cache: float
    backward_copies_beyond_cache: float
    stalled: int
    rounds: int
    noisy: list[str]


def measured(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["status"] == "ok"]


def trusted(rows: list[Row]) -> list[Row]:
    """Measured, in enough calm rounds."""
    return [row for row in measured(rows) if not row["noisy"]]


def speed_up(row: Row, peer: str, phase: str = "total") -> float:
    """Median over the rounds of the peer's time over ours."""
    return ratio(row, peer, "ours", phase).median


def strongest_eager(row: Row) -> str:
    """Torchvision's in-place idiom where there is one."""
    return "eager_inplace" if "eager_inplace" in sides(row) else "eager"


def best_public(row: Row) -> str:
    """The fastest of the ways of a variant that torch alone offers."""
    return min(row["public"], key=lambda side: milliseconds(row, side).median)


def copies(row: Row, phase: str, side: str = "ours") -> float:
    """Time of a phase in units of a preallocated copy of the input."""
    return ratio(row, side, "copy", phase, against="total").median


def summarise(rows: list[Row]) -> Summary:
    """Counts and means; empty means are nan."""
    timed = measured(rows)
    good = trusted(rows)
    large = [row for row in good if row["mib"] > BEYOND_CACHE_MIB]
    with_compile = [row for row in good if "compile" in sides(row)]
    return Summary(
        rows=len(rows),
        wrong=[row["key"] for row in rows if row["status"] == "wrong"],
        failed=[row["key"] for row in rows if row["status"] == "failed"],
        over_eager=geometric_mean(speed_up(row, "eager") for row in good),
        over_eager_inplace=geometric_mean(speed_up(row, strongest_eager(row)) for row in good),
        over_compile=geometric_mean(speed_up(row, "compile") for row in with_compile),
        slower_than_eager=[row["key"] for row in good if speed_up(row, "eager") < 1],
        slower_than_eager_inplace=[
            row["key"] for row in good if speed_up(row, strongest_eager(row)) < 1
        ],
        slower_than_compile=[row["key"] for row in with_compile if speed_up(row, "compile") < 1],
        forward_copies_beyond_cache=geometric_mean(copies(row, "forward") for row in large),
        backward_copies_beyond_cache=geometric_mean(copies(row, "backward") for row in large),
        stalled=sum(row["rounds"] - row["calm"] for row in timed),
        rounds=sum(row["rounds"] for row in timed),
        noisy=[row["key"] for row in timed if row["noisy"]],
    )
