"""The rows of the operator benchmark: shapes, layouts, dtypes and forms, and their tensors."""

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn

__all__ = ["FORMS", "QUICK_SHAPES", "SHAPES", "Case", "Tensors", "cases", "make_tensors"]

SHAPES = (
    (32, 64, 56, 56),
    (32, 256, 56, 56),
    (32, 256, 14, 14),
    (32, 512, 7, 7),
    (8, 16, 32, 32),
    (256, 1024),
    (64, 128, 400),
    (2, 32, 16, 64, 64),
    (1, 3, 224, 224),
    (64, 10),
)
QUICK_SHAPES = ((32, 64, 56, 56), (32, 512, 7, 7), (8, 16, 32, 32), (64, 10))
FORMS = ("plain", "relu", "residual_relu")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


@dataclass(frozen=True)
class Case:
    """One row. ``layout`` is ``contiguous`` or ``channels_last`` (for 2d input there is one)."""

    shape: tuple[int, ...]
    layout: str
    dtype: str
    form: str

    @property
    def key(self) -> str:
        return f"{'x'.join(map(str, self.shape))} {self.layout} {self.dtype} {self.form}"

    @property
    def facts(self) -> dict[str, object]:
        return {
            "shape": list(self.shape),
            "layout": self.layout,
            "dtype": self.dtype,
            "form": self.form,
            "mib": self.bytes / 2**20,
        }

    @property
    def bytes(self) -> int:
        """Size of the input."""
        return torch.Size(self.shape).numel() * DTYPES[self.dtype].itemsize

    @property
    def torch_layer(self) -> type[nn.Module]:
        return getattr(nn, self.layer_name)

    @property
    def layer_name(self) -> str:
        return {4: "BatchNorm2d", 5: "BatchNorm3d"}.get(len(self.shape), "BatchNorm1d")


def cases(*, quick: bool = False) -> list[Case]:
    """All rows; the quick ones are a few shapes in float32."""
    shapes = QUICK_SHAPES if quick else SHAPES
    dtypes = ("float32",) if quick else tuple(DTYPES)
    return [
        Case(shape, layout, dtype, form)
        for shape, dtype in product(shapes, dtypes)
        for layout in ("contiguous", "channels_last")[: 2 if len(shape) in LAST else 1]
        for form in FORMS
    ]


@dataclass
class Tensors:
    """What every side of a row works on."""

    x: Tensor
    residual: Tensor | None
    grad: Tensor
    weight: Tensor
    bias: Tensor

    @property
    def inputs(self) -> list[Tensor]:
        return [self.x] if self.residual is None else [self.x, self.residual]


def make_tensors(case: Case, seed: int = 0) -> Tensors:
    """Data of mean 0.5 and standard deviation 1.5, a random cotangent, float32 parameters."""
    generator = torch.Generator().manual_seed(seed)

    def random() -> Tensor:
        return torch.randn(case.shape, generator=generator)

    def placed(values: Tensor) -> Tensor:
        values = values.to(DTYPES[case.dtype])
        if case.layout == "channels_last":
            return values.contiguous(memory_format=LAST[len(case.shape)])
        return values

    channels = case.shape[1]
    residual = placed(random()).requires_grad_() if case.form == "residual_relu" else None
    return Tensors(
        x=placed(random() * 1.5 + 0.5).requires_grad_(),
        residual=residual,
        grad=placed(random()),
        weight=torch.rand(channels, generator=generator) + 0.5,
        bias=torch.randn(channels, generator=generator) * 0.2,
    )
