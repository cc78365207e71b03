"""Rows with chosen times, as the benchmark would write them."""

from benchmarks.results import Results

HEADER = {
    "date": "2026-01-01 00:00 UTC",
    "commit": "abc",
    "cpu": "A processor",
    "cores": 2,
    "isa": "AVX512",
    "batchnorm": "0.1.0",
    "kernels": "avx512",
    "torch": "2.13.0",
    "threads": 2,
    "quick": False,
    "compile": True,
}


def times(forward, backward):
    total = [a + b for a, b in zip(forward, backward, strict=True)]
    return {"forward": forward, "backward": backward, "total": total}


def ops_row(shape=(8, 16, 4, 4), *, eager=4.0, compiled=3.0, form="plain", mib=1.0, **facts):
    """Ours takes 1 ms forward and 1 ms backward; the peers that many times as long."""
    rounds = 3
    sides = {"ours": 1.0, "eager": eager, "compile": compiled}
    if form != "plain":
        sides["eager_inplace"] = eager * 0.9
    ms = {side: times([value] * rounds, [value] * rounds) for side, value in sides.items()}
    ms["copy"] = {"total": [0.5] * rounds}
    row = {
        "key": f"{'x'.join(map(str, shape))} contiguous float32 {form}",
        "status": "ok",
        "shape": list(shape),
        "layout": "contiguous",
        "dtype": "float32",
        "form": form,
        "mib": mib,
        "kept": rounds,
        "calm": rounds,
        "rounds": rounds + 1,
        "noisy": False,
        "ms": ms,
    }
    return {**row, **facts}


def results(*rows, part="ops", complete=True):
    return Results({part: HEADER}, {part: list(rows)}, {part: complete})
