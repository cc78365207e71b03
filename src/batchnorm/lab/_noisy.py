"""Batch norm whose outputs are made unsteady again."""

import torch
from torch import Tensor, nn

import batchnorm

__all__ = ["NoisyBatchNorm1d"]

SHIFT, SCALE = 0.5, 1.25
SPREAD = 0.1


class NoisyBatchNorm1d(nn.Module):
    r"""Batch norm, then noise whose mean and scale change from step to step.

    .. math:: y_{ij} \mapsto s_{ij} y_{ij} + m_{ij}, \quad
       m_{ij} \sim \mathcal U(\mu_j \pm 0.1), \quad s_{ij} \sim \mathcal N(\sigma_j, 0.1)

    with :math:`\mu_j \sim \mathcal U(-0.5, 0.5)` and :math:`\sigma_j \sim \mathcal U(1, 1.25)` for
    every unit :math:`j`, new ones after :meth:`redraw`; until then the same input has the same
    noise. In eval mode there is the mean of the factors alone.

    Args:
        num_features: units.
        seed: of the noise.

    Source: Santurkar et al. 2018, appendix A (arXiv:1805.11604).
    """

    def __init__(self, num_features: int, *, seed: int) -> None:
        super().__init__()
        self.norm = batchnorm.BatchNorm1d(num_features)
        self._chance = torch.Generator().manual_seed(seed)
        self.redraw()

    def redraw(self) -> None:
        """Other noise from here on."""
        self._drawn = int(torch.randint(2**62, (), generator=self._chance))

    def forward(self, x: Tensor) -> Tensor:
        """``(N, num_features)`` for ``x`` of that shape."""
        y: Tensor = self.norm(x)
        if not self.training:
            return y * (1 + SCALE) / 2
        chance = torch.Generator().manual_seed(self._drawn)
        mean, share = torch.rand(2, y.shape[1], generator=chance)
        shift = SHIFT * (2 * mean - 1) + SPREAD * (2 * torch.rand(y.shape, generator=chance) - 1)
        scale = 1 + (SCALE - 1) * share + SPREAD * torch.randn(y.shape, generator=chance)
        noisy: Tensor = y * scale + shift

        return noisy
