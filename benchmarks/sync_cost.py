"""What synchronisation costs on paper: messages, bytes and time of a layer and of a network.

A collective of W ranks with messages of m bytes is a ring (the textbook's, and gloo's):

    all-gather   (W - 1) · latency + (W - 1) · m / bandwidth
    all-reduce   2 (W - 1) · latency + 2 (W - 1) / W · m / bandwidth

or a tree of log2(W) rounds (what NCCL takes for small messages between many nodes):

    all-gather   log2(W) · latency + (W - 1) · m / bandwidth
    all-reduce   2 log2(W) · latency + 2 (W - 1) / W · m / bandwidth
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.words import markdown

__all__ = ["DESIGNS", "LINKS", "RESNET50", "Collective", "Design", "Link", "step_rows", "table"]

Shape = Literal["ring", "tree"]
WORLDS = (2, 4, 8, 16, 64, 256, 1024)
# Channels of ResNet-50's 53 batch norms.
RESNET50 = (
    [64]
    + [64, 64, 256] * 3 + [256]
    + [128, 128, 512] * 4 + [512]
    + [256, 256, 1024] * 6 + [1024]
    + [512, 512, 2048] * 3 + [2048]
)  # fmt: skip


@dataclass(frozen=True)
class Link:
    """Latency of a message and bandwidth of a rank."""

    name: str
    microseconds: float
    gigabytes_per_second: float
    shape: Shape


@dataclass(frozen=True)
class Collective:
    """One call: what every rank gives, in bytes."""

    kind: Literal["all-gather", "all-reduce"]
    size: int

    def received(self, ranks: int) -> float:
        """Bytes that each rank receives."""
        if self.kind == "all-gather":
            return (ranks - 1) * self.size
        return 2 * (ranks - 1) / ranks * self.size

    def microseconds(self, ranks: int, link: Link) -> float:
        """Time on the wire, by the formulas above."""
        once = ranks - 1 if link.shape == "ring" else math.ceil(math.log2(ranks))
        rounds = once if self.kind == "all-gather" else 2 * once
        return rounds * link.microseconds + self.received(ranks) / link.gigabytes_per_second / 1e3


@dataclass(frozen=True)
class Design:
    """The collectives of a layer's forward and backward, and its waits of the host."""

    name: str
    sizes: tuple[tuple[Literal["all-gather", "all-reduce"], int, int], ...]
    host_waits: int

    def collectives(self, channels: int) -> list[Collective]:
        """Of a layer with float32 statistics."""
        return [Collective(kind, each * channels + more) for kind, each, more in self.sizes]

    def received(self, channels: int, ranks: int) -> float:
        """Bytes that a rank receives in a forward and a backward."""
        return sum(one.received(ranks) for one in self.collectives(channels))

    def microseconds(self, channels: int, ranks: int, link: Link) -> float:
        """Time of a forward's and a backward's collectives."""
        return sum(one.microseconds(ranks, link) for one in self.collectives(channels))


DESIGNS = (
    Design("ours", (("all-gather", 8, 16), ("all-reduce", 8, 12)), 0),
    Design("torch", (("all-gather", 8, 4), ("all-reduce", 8, 0)), 1),
    Design("Apex", (("all-gather", 4, 0),) * 2 + (("all-reduce", 4, 0),) * 2, 0),
)
LINKS = (
    Link("one node, NVLink", 3.0, 200.0, "ring"),
    Link("InfiniBand, tree", 8.0, 25.0, "tree"),
    Link("10 Gbit Ethernet, ring", 30.0, 1.25, "ring"),
)


def step_rows(channels: Sequence[int] = RESNET50) -> list[tuple[int, Design, Link, float, float]]:
    """Ranks, design, link, MiB received and ms of collectives in one step of a network."""
    return [
        (
            ranks,
            design,
            link,
            sum(design.received(c, ranks) for c in channels) / 2**20,
            sum(design.microseconds(c, ranks, link) for c in channels) / 1e3,
        )
        for ranks in WORLDS
        for design in DESIGNS
        for link in LINKS
    ]


def table() -> str:
    """A step of ResNet-50, as Markdown."""
    found = {(r, d.name, link.name): (mib, ms) for r, d, link, mib, ms in step_rows()}
    head = ["ranks", "MiB received"]
    head += [f"{link.name}: {d.name}, ms" for link in LINKS for d in (DESIGNS[0], DESIGNS[2])]
    body = []
    for ranks in WORLDS:
        line = [str(ranks), f"{found[ranks, 'ours', LINKS[0].name][0]:.2f}"]
        for link in LINKS:
            line += [f"{found[ranks, name, link.name][1]:.1f}" for name in ("ours", "Apex")]
        body.append(line)
    return markdown(head, body, text_columns=0)


def layer_table(channels: int = 256) -> str:
    """Collectives, bytes and waits of one layer, as Markdown."""
    head = ["design", "collectives", "bytes sent", "host waits", "received by each of 8", "of 1024"]
    body = [
        [
            design.name,
            str(len(design.sizes)),
            str(sum(one.size for one in design.collectives(channels))),
            str(design.host_waits),
            f"{design.received(channels, 8) / 1024:.1f} KiB",
            f"{design.received(channels, 1024) / 2**20:.2f} MiB",
        ]
        for design in DESIGNS
    ]
    return markdown(head, body)


if __name__ == "__main__":
    print(layer_table(), table(), sep="\n\n")
