"""What runs here: version, native library, instruction set, and what serves each device."""

from dataclasses import dataclass

import torch

from .ops import FLOAT_DTYPES, NATIVE, cuda_route

__all__ = ["Info", "info"]


@dataclass(frozen=True)
class Info:
    """What ``info()`` found; printed, it is a short report.

    Args:
        version: of this package.
        torch_version: of torch.
        library: path of the native library; empty without one.
        reason: why there is none; empty with one.
        instruction_set: what the kernels use on this processor; empty without a library.
        routes: what serves which device and dtypes, most specific first.
    """

    version: str
    torch_version: str
    library: str
    reason: str
    instruction_set: str
    routes: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        native = f"{self.library} ({self.instruction_set})" if self.library else "none"
        lines = [
            f"batchnorm {self.version}, torch {self.torch_version}",
            f"native library: {native}{self.reason and ': ' + self.reason}",
            *(f"{where}: {what}" for where, what in self.routes),
        ]

        return "\n".join(lines)


def info() -> Info:
    """Which path serves what in this process, and why.

    Example:
        >>> print(info())  # doctest: +SKIP
        batchnorm 0.1.0, torch 2.13.0+cpu
        native library: /.../batchnorm/_kernels.so (avx512)
        cpu (float32, bfloat16, float16, float64): native kernels
        cuda: plain torch operators: triton is not installed (pip install "batchnorm[gpu]")
        any other device: plain torch operators
    """
    from . import __version__

    dtypes = ", ".join(str(dtype).removeprefix("torch.") for dtype in FLOAT_DTYPES)
    plain = "plain torch operators"

    return Info(
        version=__version__,
        torch_version=torch.__version__,
        library=str(NATIVE.path or ""),
        reason=NATIVE.reason,
        instruction_set=torch.ops.batchnorm.cpu_capability() if NATIVE.loaded else "",
        routes=(
            (f"cpu ({dtypes})", "native kernels" if NATIVE.loaded else plain),
            ("cuda", cuda_route()),
            ("any other device", plain),
            ("torch.func, forward-mode derivatives, torch.export, tensor subclasses", plain),
        ),
    )
