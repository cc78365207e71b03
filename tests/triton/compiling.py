"""Compile the kernels for a GPU that is not there: to the machine code, with no launch.

Run as a program: ``python -m tests.triton.compiling cuda:90`` prints one JSON line per kernel.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import JITFunction, driver

from tests.cases import Case, make_case

CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"


class NoDevice:
    """As much of a driver as compiling asks for."""

    def __init__(self, target: GPUTarget) -> None:
        self.target = target

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def target_of(text: str) -> GPUTarget:
    """``cuda:90`` or ``hip:gfx942``."""
    backend, arch = text.split(":")
    return GPUTarget("cuda", int(arch), 32) if backend == "cuda" else GPUTarget("hip", arch, 64)


def resources(kernel: Any) -> dict[str, int]:
    """Registers per thread, bytes of stack (spills) and shared memory, bits of the widest load.

    NVIDIA only.
    """
    if "cubin" not in kernel.asm:
        return {}
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        command = [CUOBJDUMP, "-res-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.findall(r"(REG|STACK):(\d+)", text)
    loads = re.findall(r"ld\.global(?:\.v(\d))?\.b(\d+)", kernel.asm["ptx"])
    widest = max((int(count or 1) * int(bits) for count, bits in loads), default=0)
    sizes = {name.lower(): int(value) for name, value in found}
    return sizes | {"shared": kernel.metadata.shared, "load_bits": widest}


def compiled(target: str, calls: list[Any]) -> Iterator[dict[str, Any]]:
    """Run launchers whose launches end after the compiler; what each compiled."""
    driver.set_active(NoDevice(target_of(target)))
    run, seen, found = JITFunction.run, set(), []

    def compile_only(self: JITFunction, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        kernel = run(self, *args, grid=grid, warmup=True, **kwargs)
        if id(kernel) not in seen:
            seen.add(id(kernel))
            found.append((self.__name__, kernel))

    JITFunction.run = compile_only
    try:
        for label, call in calls:
            call()
            for name, kernel in found:
                yield {"case": label, "kernel": name, "warps": kernel.metadata.num_warps} | (
                    resources(kernel)
                )
            found.clear()
    finally:
        JITFunction.run = run


def of_case(case: Case) -> list[Any]:
    """Forward and backward of a case, fused and by phases."""
    import batchnorm.triton as kernels
    from tests.calls import backward, evaluate, train
    from tests.calls import wants_grad_residual as wants

    invstd = case.running_var
    stats = case.weight, case.bias, case.running_mean, invstd
    rest = (case.residual, None, case.mask, *case.code)
    y = case.input
    head = (case.grad, case.input, *stats)
    count = torch.tensor(8)
    apply = kernels.batch_norm_backward_apply
    commit = kernels.batch_norm_commit_
    state = (*stats[2:], count, torch.zeros(len(invstd), dtype=torch.int64))
    return [
        lambda: train(kernels, case),
        lambda: backward(kernels, case, case.running_mean, invstd, y),
        lambda: evaluate(kernels, case),
        lambda: backward(kernels, case, case.running_mean, invstd, y, training=False),
        lambda: kernels.batch_norm_stats(case.input, case.mask),
        lambda: kernels.batch_norm_backward_reduce(*head, *rest),
        lambda: apply(*head, invstd, invstd, count, *rest, wants(case)),
        lambda: commit(*state, case.running_mean, invstd, count, 0.1),
    ]


#: One channel on chip, one block read twice, and split; planes and rows.
SHAPES = {"on chip": (128, 256, 7, 7), "cached": (64, 256, 28, 28), "split": (8, 8, 64, 64)}
#: Enough channels, and a number of them that 16 divides, for wide loads along the channels.
SHAPES["wide"] = (64, 64, 14, 14)


def calls(
    dtypes: list[str], forms: list[str], layouts: list[str], shapes: list[str]
) -> Iterator[tuple[str, Any]]:
    for name in shapes:
        for dtype in dtypes:
            for form in forms:
                for layout in layouts:
                    case = make_case(SHAPES[name], getattr(torch, dtype), layout, form)
                    for call in of_case(case):
                        yield f"{name} {dtype} {layout} {form}", call


if __name__ == "__main__":
    for line in compiled(sys.argv[1], list(calls(*(arg.split(",") for arg in sys.argv[2:])))):
        print(json.dumps(line), flush=True)
