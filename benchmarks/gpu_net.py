"""One training step of a ResNet-50 in bf16: time and peak memory, by torch, compiled and by us."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import batchnorm
from batchnorm.lab import models
from benchmarks.gpu_clock import Clock

__all__ = ["measure"]


def measure(clock: Clock, *, tiny: bool = False) -> list[dict[str, object]]:
    """A row per side; ``tiny`` is for rehearsals."""
    batch, size = (2, 32) if tiny else (128, 224)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, size, size, generator=generator).to(clock.device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = (torch.arange(batch) % 10).to(clock.device)
    rows = []
    for name in ("eager", "ours", *(() if tiny else ("compile",))):
        net = _build(name, clock.device, images, tiny=tiny)
        optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)

        def step(net: nn.Module = net, optimizer: torch.optim.Optimizer = optimizer) -> Tensor:
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(clock.device.type, torch.bfloat16):
                loss = F.cross_entropy(net(images), labels)
            loss.backward()
            optimizer.step()
            return loss

        ms = clock.compare({name: (lambda: None, lambda _, s=step: s())}, rounds=10)[name]
        facts = {"net": "resnet50", "batch": batch, "size": size, "dtype": "bfloat16 autocast"}
        rows.append({"side": name, **facts, "ms": ms, "peak_mib": clock.peak(step)})
        del net, optimizer, step
        if clock.on_gpu:
            torch._dynamo.reset()
            torch.cuda.empty_cache()
    return rows


def _build(name: str, device: torch.device, images: Tensor, *, tiny: bool) -> nn.Module:
    if tiny:
        net = models.ResNet(nn.BatchNorm2d, seed=0, depths=(1, 1), bottleneck=True)
    else:
        net = models.resnet50(nn.BatchNorm2d, seed=0, classes=10)
    net = net.to(device).to(memory_format=torch.channels_last)
    if name == "ours":
        batchnorm.convert(net, fuse=True, sample=images[:2])
    return torch.compile(net) if name == "compile" else net
