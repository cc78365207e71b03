"""Norms of many tensors in few operations."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["norms"]


def norms(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Euclidean norm of each, ``()`` float32 or wider.

    Example:
        >>> norms([torch.tensor([3.0, 4.0])])
        [tensor(5.)]
    """
    wide = [t.float() if t.dtype.itemsize < 4 else t for t in (x.detach() for x in tensors)]
    found = torch._foreach_norm(wide) if wide else ()

    # Of a sharded tensor each rank has a part.
    return [n.full_tensor() if hasattr(n, "full_tensor") else n for n in found]
