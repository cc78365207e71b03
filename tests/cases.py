"""Inputs for one call of batch norm: what every operator test is run on."""

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from tests.activations import ACTS, Act

FORMS = ("plain", "act", "residual", "residual_act", "masked")
LAYOUTS = ("contiguous", "channels_last", "sliced", "transposed")
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

#: Every dtype and form in the two layouts that have kernels; the layouts that are copied first add
#: no kernel, so one dtype and two forms do for them.
GRID = [(d, ly, f) for d in DTYPES for ly in LAYOUTS[:2] for f in FORMS]
GRID += [(torch.float32, ly, f) for ly in LAYOUTS[2:] for f in ("plain", "residual_act")]


@dataclass(frozen=True)
class Case:
    """One call: the tensors and options of a batch norm, and a random cotangent."""

    input: Tensor
    weight: Tensor | None
    bias: Tensor | None
    residual: Tensor | None
    mask: Tensor | None
    grad: Tensor
    running_mean: Tensor
    running_var: Tensor
    act: Act
    eps: float = 1e-5

    @property
    def code(self) -> tuple[int, float]:
        return self.act.code, self.act.slope

    @property
    def acc(self) -> torch.dtype:
        return torch.promote_types(self.input.dtype, torch.float32)

    @property
    def full_mask(self) -> Tensor:
        """The mask as booleans of the input's shape without the channel."""
        if self.mask is not None:
            return self.mask
        return torch.ones_like(self.input.select(1, 0), dtype=torch.bool)

    def double(self) -> "Case":
        """The same numbers in float64, contiguous."""

        def widen(t: Tensor | None) -> Tensor | None:
            if t is None or not t.is_floating_point():
                return t
            return t.detach().double().contiguous()

        fields = dataclasses.fields(self)
        wide = {f.name: getattr(self, f.name) for f in fields}
        return Case(**{k: widen(v) if isinstance(v, Tensor) else v for k, v in wide.items()})

    def with_grad(self, grad: Tensor) -> "Case":
        return dataclasses.replace(self, grad=grad)


def lay_out(t: Tensor, layout: str) -> Tensor:
    """The same values in other memory: channels last, a slice of a larger tensor, transposed."""
    if layout == "channels_last":
        return t.movedim(1, -1).contiguous().movedim(-1, 1)
    if layout == "sliced":
        big = t.new_full((t.shape[0], t.shape[1] + 2, *t.shape[2:]), float("nan"))
        big[:, 1:-1] = t
        return big[:, 1:-1]
    if layout == "transposed":
        return t.transpose(0, -1).contiguous().transpose(0, -1)
    if layout == "every_other":
        big = t.new_full((*t.shape[:-1], t.shape[-1] * 2), float("nan"))
        big[..., ::2] = t
        return big[..., ::2]
    return t.contiguous()


def make_case(
    shape: tuple[int, ...],
    dtype: torch.dtype = torch.float32,
    layout: str = "contiguous",
    form: str = "plain",
    act: str | None = None,
    *,
    affine: str = "both",
    offset: float = 0.0,
    std: float = 1.0,
    seed: int = 0,
) -> Case:
    """A random case of ``form``: ``offset`` and ``std`` are those of the input."""
    if act is None:
        act = "relu" if form in ("act", "residual_act", "masked") else "identity"
    g = torch.Generator().manual_seed(seed)
    channels = shape[1]

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=g)

    def uniform(*size: int) -> Tensor:
        return torch.rand(size, generator=g)

    param = torch.promote_types(dtype, torch.float32)
    # An offset and a spread of its own for every channel: a kernel that mixes channels is seen.
    own = offset + normal(channels)
    spread = std * (0.5 + uniform(channels))
    per_channel = (1, channels) + (1,) * (len(shape) - 2)
    x = (normal(*shape) * spread.view(per_channel) + own.view(per_channel)).to(dtype)
    # Wide enough to pass the upper kinks of relu6 and hardswish.
    weight = (normal(channels) * (4.0 if act in ("relu6", "hardswish") else 1.0)).to(param)
    bias = normal(channels).to(param)
    residual = normal(*shape).to(dtype)
    mask = uniform(shape[0], *shape[2:]) < 0.7
    return Case(
        input=lay_out(x, layout),
        weight=weight if affine in ("both", "weight") else None,
        bias=bias if affine in ("both", "bias") else None,
        residual=lay_out(residual, layout) if form.startswith("residual") else None,
        mask=mask if form == "masked" else None,
        grad=lay_out(normal(*shape).to(dtype), layout),
        running_mean=(own + normal(channels) * std).to(param),
        running_var=(spread**2 * (0.5 + uniform(channels))).to(param),
        act=ACTS[act],
    )
