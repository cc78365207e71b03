"""Every activation as torch writes it: the peer that kernels and reference are compared with."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Act:
    """One activation: its operator code, torch's function, and how far it can carry an error.

    ``lipschitz`` bounds |act'|, ``curvature`` bounds |act''| between kinks, ``kinks`` are the
    points where the derivative jumps (an element may fall on either side of them by rounding).
    """

    name: str
    code: int
    call: Callable[[Tensor, float], Tensor]
    slope: float = 0.01
    lipschitz: float = 1.0
    curvature: float = 0.0
    kinks: tuple[float, ...] = ()
    keeps_output: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        return self.call(x, self.slope)

    def __str__(self) -> str:
        return self.name


_ALL = [
    Act("identity", 0, lambda x, s: x),
    Act("relu", 1, lambda x, s: F.relu(x), kinks=(0.0,), keeps_output=True),
    Act("relu6", 2, lambda x, s: F.relu6(x), kinks=(0.0, 6.0), keeps_output=True),
    Act("leaky_relu", 3, F.leaky_relu, slope=0.2, kinks=(0.0,), keeps_output=True),
    Act("silu", 4, lambda x, s: F.silu(x), lipschitz=1.1, curvature=0.5),
    Act("gelu", 5, lambda x, s: F.gelu(x), lipschitz=1.13, curvature=0.8),
    Act(
        "gelu_tanh",
        6,
        lambda x, s: F.gelu(x, approximate="tanh"),
        lipschitz=1.13,
        curvature=0.8,
    ),
    Act(
        "hardswish",
        7,
        lambda x, s: F.hardswish(x),
        lipschitz=1.5,
        curvature=1 / 3,
        kinks=(-3.0, 3.0),
    ),
    Act("elu", 8, F.elu, slope=1.5, lipschitz=1.5, curvature=1.5, kinks=(0.0,)),
    Act("sigmoid", 9, lambda x, s: torch.sigmoid(x), lipschitz=0.25, curvature=0.1),
    Act("tanh", 10, lambda x, s: torch.tanh(x), curvature=0.77),
]

ACTS = {act.name: act for act in _ALL}
