"""Domains: our layer, batch norm of each domain's samples, and the same after sorting."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import batchnorm
from benchmarks.trial import Data, Trial, Way
from benchmarks.variants_common import Affine, kind, make_data, module_way, numbers

__all__ = ["trials"]

DOMAINS = 4


def trials() -> list[Trial]:
    """Mixed labels, one label for the call, and a weight and bias of each domain."""
    early, middle, late, flat = (
        (16, 64, 56, 56), (32, 256, 14, 14), (32, 512, 7, 7), (256, 1024),
    )  # fmt: skip
    return [
        *(_mixed(shape) for shape in (early, late, flat)),
        *(_one(shape) for shape in (middle, flat)),
        *(_mixed(shape, own=True) for shape in (middle, flat)),
    ]


def _mixed(shape: tuple[int, ...], *, own: bool = False) -> Trial:
    def layer(data: Data) -> Way:
        return _ours(shape, data, data["labels"], shared_affine=not own)

    return Trial(
        variant="domain, own weights" if own else "domain, mixed",
        shape=shape,
        detail=f"{DOMAINS} domains",
        numbers=numbers(shape) // DOMAINS,
        data=lambda: _data(shape, own),
        ours=layer,
        plain=lambda data: _plain(shape, data),
        public={"index per domain": per_domain, "sort, then split": by_sorting},
    )


def _data(shape: tuple[int, ...], own: bool) -> Data:
    """Labels in equal numbers, in no order."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.randperm(shape[0], generator=generator) % DOMAINS
    data = {**make_data(shape), "labels": labels}
    if own:
        data["weight"] = torch.rand(DOMAINS, shape[1], generator=generator) + 0.5
        data["bias"] = torch.randn(DOMAINS, shape[1], generator=generator) * 0.2
    return data


def _plain(shape: tuple[int, ...], data: Data) -> Way:
    one = {name: values[0] if values.dim() == 2 else values for name, values in data.items()
           if name in ("weight", "bias")}  # fmt: skip
    return module_way(kind(shape, batchnorm)(shape[1]), {**data, **one})


def _ours(shape: tuple[int, ...], data: Data, domain: Tensor | int, **options) -> Way:
    layer = kind(shape, batchnorm, "DomainBatchNorm")(shape[1], num_domains=DOMAINS, **options)
    return module_way(layer, data, lambda layer, x: layer(x, domain))


def per_domain(data: Data) -> Way:
    """Take a domain's samples, normalise them, put them back."""
    a, labels = Affine(data, DOMAINS), data["labels"]
    normalise = _normaliser(a)

    def forward() -> Tensor:
        output = torch.empty_like(a.x)
        for domain in range(DOMAINS):
            index = (labels == domain).nonzero().squeeze(1)
            output.index_copy_(0, index, normalise(a.x.index_select(0, index), domain))
        return output

    return a.way(forward)


def by_sorting(data: Data) -> Way:
    """Sort the samples by domain once, and back once."""
    a, labels = Affine(data, DOMAINS), data["labels"]
    normalise = _normaliser(a)

    def forward() -> Tensor:
        order = labels.argsort()
        parts = a.x.index_select(0, order).split(labels.bincount(minlength=DOMAINS).tolist())
        sorted_output = torch.cat([normalise(part, domain) for domain, part in enumerate(parts)])
        return sorted_output.index_select(0, order.argsort())

    return a.way(forward)


def _normaliser(a: Affine) -> Callable[[Tensor, int], Tensor]:
    def normalise(x: Tensor, domain: int) -> Tensor:
        own = a.weight.dim() == 2
        weight, bias = (a.weight[domain], a.bias[domain]) if own else (a.weight, a.bias)
        return F.batch_norm(x, a.mean[domain], a.var[domain], weight, bias, True)

    return normalise


def _one(shape: tuple[int, ...]) -> Trial:
    def ours(data: Data) -> Way:
        way = _ours(shape, data, 1, shared_affine=True)
        memory = way.memory
        way.memory = lambda: {name: values[1] for name, values in memory().items()}
        return way

    def list_of_layers(data: Data) -> Way:
        """A layer for each domain, chosen by the label."""
        layers = nn.ModuleList(kind(shape, nn)(shape[1]) for _ in range(DOMAINS))
        return module_way(layers[1], data, lambda _, x: layers[1](x))

    return Trial(
        variant="domain, one",
        shape=shape,
        detail=f"of {DOMAINS}",
        numbers=numbers(shape),
        data=lambda: make_data(shape),
        ours=ours,
        plain=lambda data: module_way(kind(shape, batchnorm)(shape[1]), data),
        public={"list of layers": list_of_layers},
    )
