r"""The inverse square root of covariances, :math:`(\Sigma + \epsilon I)^{-1/2}`, two ways.

By eigenvectors (ZCA), with the derivative in closed form: for :math:`f(x) = x^{-1/2}`, eigenvalues
:math:`s_i^2` and a direction H in the eigenvectors' coordinates, the derivative is
:math:`f_{ij} H_{ij}` and the second one :math:`\sum_k f_{ikj} (H_{ik} G_{kj} + G_{ik} H_{kj})` with
the divided differences

.. math:: f_{ij} = \frac{-1}{s_i s_j (s_i + s_j)} \qquad f_{ikj} =
    \frac{s_i + s_j + s_k}{s_i s_j s_k (s_i + s_j)(s_i + s_k)(s_j + s_k)}

Nothing is subtracted, so equal eigenvalues, where autograd through ``eigh`` divides by 0, are as
exact as all others.

By Newton's iterations, in matrix products alone; autograd's own derivative.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from .._errors import explain

__all__ = ["newton_root", "zca_root"]


def zca_root(covariance: Tensor, eps: float) -> Tensor:
    r""":math:`(\Sigma + \epsilon I)^{-1/2}`, symmetric, exact.

    Args:
        covariance: ``(G, d, d)``, symmetric, float32 or float64.
        eps: added to the diagonal; eigenvalues that rounding made negative count as 0 before.

    Returns:
        ``(G, d, d)``; NaN for a group that is not finite.

    Source: Huang et al. 2018, "Decorrelated Batch Normalization" (arXiv:1804.08450); the derivative
        is Daleckii & Krein's, Higham 2008, "Functions of Matrices", theorem 3.11.

    Example:
        >>> zca_root(torch.diag(torch.tensor([4.0, 25.0]))[None], 0.0).diagonal(0, 1, 2)
        tensor([[0.5000, 0.2000]])
    """
    # Dynamo cannot read a jvp.
    function: Any = _Root if torch.compiler.is_compiling() else _RootWithTangent
    root: Tensor
    root, _, _ = function.apply(_symmetric(covariance), eps)

    return root


def newton_root(covariance: Tensor, eps: float, iterations: int) -> Tensor:
    r"""About :math:`(\Sigma + \epsilon I)^{-1/2}`: directions of small variance grow less.

    Args:
        covariance: ``(G, d, d)``, symmetric, float32 or float64.
        eps: added to the diagonal.
        iterations: of Newton; each at most multiplies a direction by 3/2.

    Returns:
        ``(G, d, d)``; NaN for a group that is not finite.

    Source: Huang et al. 2019, "Iterative Normalization" (arXiv:1904.03441), Alg. 1.

    Example:
        >>> newton_root(torch.diag(torch.tensor([4.0, 25.0]))[None], 0.0, 9).diagonal(0, 1, 2)
        tensor([[0.5000, 0.2000]])
    """
    identity = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    regular = covariance + eps * identity
    trace = regular.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    unit = regular / trace

    # The paper's root (3 - root² unit) / 2 in exact arithmetic; its own form loses, by rounding,
    # that root and unit commute, and diverges after some iterations (Higham 2008, section 6.4).
    root, rest = identity.expand_as(unit), unit
    for _ in range(iterations):
        step = 1.5 * identity - 0.5 * (root @ rest)
        root, rest = step @ root, rest @ step

    return root * trace.rsqrt()


class _Root(Function):
    """The root; also the eigenvalues' square roots and the eigenvectors, for the derivative."""

    generate_vmap_rule = True

    @staticmethod
    def forward(covariance: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        finite = covariance.isfinite().all(-1).all(-1)[..., None, None]
        identity = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
        # eigh raises on what is not finite.
        values, vectors = torch.linalg.eigh(torch.where(finite, covariance, identity))
        stds = (values.clamp(min=0) + eps).sqrt()
        root = (vectors / stds[..., None, :]) @ vectors.mT

        return torch.where(finite, root, torch.nan), stds, vectors

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _, stds, vectors = output
        ctx.mark_non_differentiable(stds, vectors)
        ctx.save_for_backward(inputs[0], stds, vectors)
        ctx.save_for_forward(inputs[0], stds, vectors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor, None]:
        return _derivative(_symmetric(grad), *ctx.saved_tensors), None


class _RootWithTangent(_Root):
    """The same with a forward-mode derivative."""

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor, None]:
        return _derivative_with_tangent(_symmetric(grad), *ctx.saved_tensors), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> tuple[Tensor, None, None]:
        return _derivative(tangent, *ctx.saved_tensors), None, None


class _Derivative(Function):
    """The root's derivative in a symmetric direction, which is its own adjoint.

    The covariance is an argument for its gradient alone; its eigenvectors are constants here.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(direction: Tensor, covariance: Tensor, stds: Tensor, vectors: Tensor) -> Tensor:
        rows, columns = stds[..., :, None], stds[..., None, :]
        change = -(vectors.mT @ direction @ vectors) / (rows * columns * (rows + columns))

        return vectors @ change @ vectors.mT

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        direction, *of_root = ctx.saved_tensors
        grad = _symmetric(grad)

        along = _derivative(grad, *of_root)
        across = _second_derivative(direction, grad, *of_root)

        return along, across, None, None


class _DerivativeWithTangent(_Derivative):
    """The same with a forward-mode derivative."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def jvp(ctx: Any, along: Tensor, across: Tensor, *_: Any) -> Tensor:
        direction, *of_root = ctx.saved_tensors
        one: Tensor = _derivative(along, *of_root)
        other: Tensor = _second_derivative(direction, across, *of_root)

        return one + other


class _SecondDerivative(Function):
    """The root's second derivative in two symmetric directions; ``d³`` numbers per group."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        one: Tensor, other: Tensor, covariance: Tensor, stds: Tensor, vectors: Tensor
    ) -> Tensor:
        one, other = (vectors.mT @ direction @ vectors for direction in (one, other))
        i, k, j = stds[..., :, None, None], stds[..., None, :, None], stds[..., None, None, :]
        shares = (i + j + k) / (i * j * k * (i + j) * (i + k) * (j + k))

        change = torch.einsum("...ikj,...ik,...kj->...ij", shares, one, other)

        return vectors @ (change + change.mT) @ vectors.mT

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        # once_differentiable would not do: torch.autograd.grad passes by its error.
        raise RuntimeError(
            explain(
                "zca_root",
                "there is no third derivative",
                "a backward through a double backward",
                'Use method="newton"',
            )
        )


_derivative: Any = _Derivative.apply
_derivative_with_tangent: Any = _DerivativeWithTangent.apply
_second_derivative: Any = _SecondDerivative.apply


def _symmetric(matrix: Tensor) -> Tensor:
    return (matrix + matrix.mT) / 2
