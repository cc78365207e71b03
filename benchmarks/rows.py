"""One row of a results file: from a Timing to plain JSON, and from JSON to ratios."""

from collections.abc import Callable

from benchmarks.runner import Quartiles, Timing, quartiles

__all__ = ["failed_row", "guarded", "milliseconds", "ratio", "sides", "timed_row", "wrong_row"]

Row = dict[str, object]


def timed_row(key: str, facts: Row, timing: Timing) -> Row:
    """All kept rounds in milliseconds per call, and how calm the machine was."""
    times = {
        side: {
            phase: [_short(value * 1e3) for value in timing.values(side, phase)]
            for phase in timing.phases(side)
        }
        for side in timing.sides()
    }
    return {
        "key": key,
        "status": "ok",
        **facts,
        "kept": len(timing.rounds),
        "calm": timing.calm,
        "rounds": timing.total,
        "noisy": timing.noisy,
        "calls": timing.calls,
        "ms": times,
    }


def wrong_row(key: str, facts: Row, reason: str) -> Row:
    """A row whose results are not right: its times would mean nothing."""
    return {"key": key, "status": "wrong", **facts, "reason": reason}


def failed_row(key: str, facts: Row, error: BaseException | str) -> Row:
    """A row that raised."""
    text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    return {"key": key, "status": "failed", **facts, "reason": text.strip()[-2000:]}


def guarded(key: str, facts: Row, make: Callable[[], Row]) -> Row:
    """The row that ``make`` returns, or the reason why there is none."""
    try:
        return make()
    except Exception as error:  # one broken row must not cost the others
        return failed_row(key, facts, error)


def sides(row: Row) -> list[str]:
    return list(row.get("ms", {}))


def milliseconds(row: Row, side: str, phase: str = "total") -> Quartiles:
    """Median and quartiles of a side's time per call."""
    return quartiles(row["ms"][side][phase])


def ratio(row: Row, over: str, under: str, phase: str = "total", against: str = "") -> Quartiles:
    """Quartiles of ``over / under``, taken round by round."""
    tops = row["ms"][over][phase]
    bottoms = row["ms"][under][against or phase]
    return quartiles([top / bottom for top, bottom in zip(tops, bottoms, strict=True)])


def _short(value: float) -> float:
    return float(f"{value:.4g}")
