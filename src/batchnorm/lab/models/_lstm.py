"""A recurrent network with a norm between its layers."""

from torch import Tensor, nn

from ._parts import Norm, building, start

__all__ = ["LstmNet"]


class LstmNet(nn.Module):
    """LSTM layers over a sequence, a norm over all positions before each, and a classifier.

    The norm sees ``(N, C, L)``. Nothing is normalised from one time step to the next.

    Args:
        features: numbers per time step.
        norm: makes a norm layer, or None.
        seed: of the starting weights.
        hidden: width of each layer.
        depth: number of layers.
        classes: outputs, from the last time step.

    Source: Amodei et al. 2016, section 3.2, sequence-wise normalization (arXiv:1512.02595).

    Example:
        >>> net = LstmNet(6, torch.nn.BatchNorm1d, seed=0, hidden=8)
        >>> net(torch.randn(4, 11, 6)).shape
        torch.Size([4, 2])
    """

    def __init__(
        self,
        features: int,
        norm: Norm | None,
        *,
        seed: int,
        hidden: int = 64,
        depth: int = 2,
        classes: int = 2,
    ) -> None:
        super().__init__()
        widths = [features, *[hidden] * depth]
        with building():
            self.norms = nn.ModuleList(norm(w) if norm else nn.Identity() for w in widths)
            self.layers = nn.ModuleList(nn.LSTM(w, hidden, batch_first=True) for w in widths[:-1])
            self.head = nn.Linear(hidden, classes)
        start(self, seed)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(N, classes)`` of sequences ``(N, L, features)``."""
        for norm, layer in zip(self.norms, self.layers, strict=False):
            x, _ = layer(norm(x.transpose(1, 2)).transpose(1, 2))
        last = self.norms[-1](x.transpose(1, 2))[..., -1]
        logits: Tensor = self.head(last)

        return logits
