"""Whitening written out as the papers do, one group at a time: what the layers are compared with.

The exact inverse root comes from the Denman-Beavers iteration instead of eigenvectors, so that
autograd's derivative of it needs no gaps between eigenvalues.
"""

import torch
from torch import Tensor


def denman_beavers(matrix: Tensor, steps: int = 40) -> Tensor:
    """``matrix^(-1/2)`` of one symmetric positive definite matrix."""
    root, inverse = matrix, torch.eye(len(matrix), dtype=matrix.dtype)
    for _ in range(steps):
        root, inverse = (root + inverse.inverse()) / 2, (inverse + root.inverse()) / 2
    return inverse


def iterated(matrix: Tensor, iterations: int) -> Tensor:
    """Algorithm 1 of Iterative Normalization."""
    trace = torch.trace(matrix)
    p = torch.eye(len(matrix), dtype=matrix.dtype)
    for _ in range(iterations):
        p = (3 * p - torch.linalg.matrix_power(p, 3) @ (matrix / trace)) / 2
    return p / trace.sqrt()


def moments(x: Tensor, size: int) -> tuple[Tensor, list[Tensor]]:
    """Mean ``(C,)`` and biased covariance of every group; ``x`` is ``(positions, C)``."""
    return x.mean(0), [torch.cov(part.T, correction=0).reshape(size, size) for part in
                       x.split(size, 1)]  # fmt: skip


def matrices(covariances: list[Tensor], method: str, eps: float, iterations: int = 5):
    regular = [c + eps * torch.eye(len(c), dtype=c.dtype) for c in covariances]
    return [denman_beavers(c) if method == "zca" else iterated(c, iterations) for c in regular]


def whitened(x: Tensor, size: int, method: str, eps: float = 1e-5, iterations: int = 5) -> Tensor:
    """``(positions, C)``, whitened by itself."""
    mean, covariances = moments(x, size)
    parts = (x - mean).split(size, 1)
    roots = matrices(covariances, method, eps, iterations)
    return torch.cat([part @ w for part, w in zip(parts, roots, strict=True)], 1)


def flat(x: Tensor) -> Tensor:
    """``(N, C, *)`` as ``(positions, C)``."""
    return x.movedim(1, -1).reshape(-1, x.shape[1])


def unflat(rows: Tensor, like: Tensor) -> Tensor:
    return rows.reshape(like.movedim(1, -1).shape).movedim(-1, 1)


def mixed(*shape: int, seed: int = 0, dtype=torch.float64, offset: float = 0.0) -> Tensor:
    """Random numbers whose channels depend on each other."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=g, dtype=torch.float64)
    mix = torch.randn(shape[1], shape[1], generator=g, dtype=torch.float64)
    return (torch.einsum("nc...,cd->nd...", x, mix) + offset).to(dtype)
