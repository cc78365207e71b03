"""Keep freed memory in the process, so that large tensors are not paid for page by page."""

import ctypes
import sys

__all__ = ["keep_pages"]

# glibc's mallopt(3): parameter numbers, our values, and glibc's own.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEEP = {_MMAP_THRESHOLD: 1 << 30, _TRIM_THRESHOLD: (1 << 31) - 1}
_GLIBC = {_MMAP_THRESHOLD: 128 << 10, _TRIM_THRESHOLD: 128 << 10}


def keep_pages(enable: bool = True) -> bool:
    """Let glibc reuse memory blocks of up to 1 GiB instead of returning each to the system.

    A fresh block above 32 MiB is otherwise mapped, filled with zeros page by page on first touch
    and unmapped again: for a 100 MB tensor that takes longer than its batch norm.

    Args:
        enable: False brings glibc's first thresholds back, without their later adaption.

    Returns:
        Whether it took effect; False where the C library is not glibc.

    Costs: the process keeps its peak memory, up to 2 GiB of it unused, until it ends.

    Example:
        >>> keep_pages()  # doctest: +SKIP
        True
    """
    if not sys.platform.startswith("linux"):
        return False

    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False

    settings = _KEEP if enable else _GLIBC
    accepted = [library.mallopt(key, value) == 1 for key, value in settings.items()]
    return all(accepted)
