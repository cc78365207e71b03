"""``python -m benchmarks.gpu``: our layer on a GPU against torch, torch.compile and a copy.

Equality with float64 is checked first, then all sides are timed in alternating rounds by the
device's own clock, each after a flush of the caches. Rows are kept as they finish.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

import batchnorm
from benchmarks import gpu_net, gpu_table
from benchmarks.cases import DTYPES, FORMS, LAST, Case
from benchmarks.gpu_clock import Clock
from benchmarks.gpu_rows import measure_case
from benchmarks.machine import ROOT, header

__all__ = ["SHAPES", "cases", "main"]

SHAPES = (
    (256, 64, 56, 56),
    (256, 256, 56, 56),
    (256, 512, 28, 28),
    (256, 1024, 14, 14),
    (256, 2048, 7, 7),
    (1024, 16, 32, 32),
    (65536, 1024),
    (32, 128, 16000),
)
TINY = ((8, 4, 6, 6), (16, 8))
RESULTS = ROOT / "benchmarks" / "results" / "gpu.json"


def cases(shapes: tuple[tuple[int, ...], ...]) -> Iterator[Case]:
    """Every shape in its layouts, bf16 first, in three forms."""
    for shape in shapes:
        for dtype in reversed(DTYPES):
            for layout in ("contiguous", "channels_last")[: 2 if len(shape) in LAST else 1]:
                for form in FORMS:
                    yield Case(shape, layout, dtype, form)


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.split("\n")[0]


def _head(device: torch.device) -> dict[str, object]:
    facts = header(threads=torch.get_num_threads())
    facts["serves"] = dict(batchnorm.info().routes).get(device.type, "native kernels")
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts["gpu"] = properties.name
        facts["gpu_memory_gib"] = round(properties.total_memory / 2**30, 1)
        facts["driver"] = _driver()
        facts["cuda"] = torch.version.cuda or f"hip {torch.version.hip}"
        facts["cudnn"] = torch.backends.cudnn.version()
    return facts


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, or 1 when a row was wrong or failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    add = parser.add_argument
    add("--device", default="cuda", help="cpu: a rehearsal on tiny tensors, numbers mean nothing")
    add("--filter", default="", metavar="WORDS", help="only rows whose key has all these words")
    add("--seconds", type=float, default=330, help="rows that would start later are left out")
    add("--compile-seconds", type=float, default=200, help="the same for torch.compile's column")
    add("--out", type=Path, help=f"by default {RESULTS.relative_to(ROOT)}")
    add("--render", action="store_true", help="only write the table from --out")
    options = parser.parse_args(arguments)
    rehearsal = options.device == "cpu"
    out = options.out or (ROOT / "out" / "bench" / "gpu.json" if rehearsal else RESULTS)
    if not options.render:
        if not rehearsal and not torch.cuda.is_available():
            print("benchmarks.gpu: a GPU is needed. Got none. Use --device cpu to rehearse.")
            return 1
        _measure(options, torch.device(options.device), out)
    found = json.loads(out.read_text("utf-8"))
    print("\n".join(gpu_table.summary(found)))
    if not rehearsal and not options.filter:
        print(f"wrote {gpu_table.write(found).relative_to(ROOT)}")
    return 1 if any(row["status"] in ("wrong", "failed") for row in found["rows"]) else 0


def _measure(options: argparse.Namespace, device: torch.device, out: Path) -> None:
    start = time.monotonic()
    rehearsal = device.type == "cpu"
    found = {"header": _head(device), "copy_gb_s": None, "nets": [], "rows": []}
    clock = Clock(device)
    words = options.filter.split()
    todo = [c for c in cases(TINY if rehearsal else SHAPES) if all(w in c.key for w in words)]
    if not words:
        found["nets"] = _guarded("net", lambda: gpu_net.measure(clock, tiny=rehearsal)) or []
    for case in todo:
        gone = time.monotonic() - start
        if gone > options.seconds:
            row = {"key": case.key, **case.facts, "status": "left out: no time"}
        else:
            compiled = gone < options.compile_seconds
            row = _guarded(case.key, lambda c=case, k=compiled: measure_case(c, clock, compiled=k))
            row = row or {"key": case.key, **case.facts, "status": "failed"}
        found["rows"].append(row)
        print(gpu_table.line(row), flush=True)
        _save(out, found)
    _save(out, found)


def _guarded(key: str, make):
    """A failing row is told and kept as one; the others go on."""
    try:
        return make()
    except Exception as error:
        print(f"{key}: {type(error).__name__}: {error}", file=sys.stderr)
        return None
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _save(out: Path, found: dict[str, object]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    new = out.with_suffix(".new")
    new.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    new.replace(out)


if __name__ == "__main__":
    sys.exit(main())
