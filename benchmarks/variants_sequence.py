"""Padded sequences (N, L, C): our layer, and torch's on the real rows or on a packed sequence."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import batchnorm
from benchmarks.trial import Data, Trial, Way
from benchmarks.variants_common import Affine, make_data, module_way

__all__ = ["trials"]


def trials() -> list[Trial]:
    """Lengths are spread evenly between a quarter and all of L."""
    return [_trial(shape) for shape in ((32, 400, 80), (32, 100, 512), (64, 25, 256))]


def _trial(shape: tuple[int, ...]) -> Trial:
    channels = shape[2]

    def ours(data: Data) -> Way:
        layer = batchnorm.SequenceBatchNorm(channels, channel_axis=-1)
        return module_way(layer, data, lambda layer, x: layer(x, lengths=data["lengths"]))

    def plain(data: Data) -> Way:
        """Padding counted as data."""
        layer = batchnorm.BatchNorm1d(channels)
        return module_way(layer, data, lambda layer, x: layer(x.mT).mT)

    lengths = torch.linspace(shape[1] / 4, shape[1], shape[0]).long()
    return Trial(
        variant="sequence",
        shape=shape,
        detail=f"{lengths.sum().item() / (shape[0] * shape[1]):.0%} real",
        numbers=int(lengths.sum()),
        data=lambda: _data(shape, lengths),
        ours=ours,
        plain=plain,
        public={"real rows": real_rows, "packed": packed},
    )


def _data(shape: tuple[int, ...], lengths: Tensor) -> Data:
    order = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(4))
    return {**make_data(shape, channel=2), "lengths": lengths[order]}


def real_rows(data: Data) -> Way:
    """Take the real rows, normalise them, put them back among zeros."""
    a, lengths = Affine(data), data["lengths"]
    length, channels = a.x.shape[1:]

    def forward() -> Tensor:
        mask = torch.arange(length) < lengths.unsqueeze(1)
        index = mask.view(-1).nonzero().squeeze(1)
        rows = a.x.view(-1, channels)
        normalised = F.batch_norm(rows[index], a.mean, a.var, a.weight, a.bias, True)
        return torch.zeros_like(rows).index_copy(0, index, normalised).view(a.x.shape)

    return a.way(forward)


def packed(data: Data) -> Way:
    """Torch's packing and padding around its layer."""

    def call(layer: nn.Module, x: Tensor) -> Tensor:
        pack = pack_padded_sequence(x, data["lengths"], batch_first=True, enforce_sorted=False)
        rows, *places = pack
        pack = PackedSequence(layer(rows), *places)
        return pad_packed_sequence(pack, batch_first=True, total_length=x.shape[1])[0]

    return module_way(nn.BatchNorm1d(data["input"].shape[2]), data, call)
