"""Hypothesis strategies that own shapes, strides and hard values."""

import dataclasses
import itertools
import math

import torch
from hypothesis import strategies as st
from torch import Tensor

from tests.activations import ACTS
from tests.cases import DTYPES, FORMS, Case, lay_out, make_case

#: C = 1, below, at and above a vector of 8 or 16, one more than a vector.
CHANNELS = st.sampled_from([1, 2, 3, 7, 8, 10, 16, 17, 24, 33])
SIZES = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 15, 16, 17])
LAYOUTS = st.sampled_from(
    ["contiguous", "channels_last", "sliced", "transposed", "every_other", "expanded"]
)

#: (offset, std) of the input: ordinary, far from zero, nearly constant.
MOMENTS = st.sampled_from([(0.0, 1.0), (1e4, 1.0), (-1e4, 1.0), (0.0, 1e-4), (1.0, 1e-3)])


@st.composite
def shapes(draw, *, min_count: int = 1, empty: bool = False) -> tuple[int, ...]:
    """``(N, C, *spatial)`` with up to three spatial dimensions and at most about 4000 numbers."""
    spatial = tuple(draw(SIZES) for _ in range(draw(st.integers(0, 3))))
    while math.prod(spatial) > 400:
        spatial = (*spatial[:-1], max(1, spatial[-1] // 2)) if spatial[-1] > 1 else spatial[:-1]
    low = max(1, -(-min_count // max(1, math.prod(spatial))))
    batch = draw(st.integers(low, max(low, 9)))
    if empty and draw(st.booleans()):
        batch = 0
    return (batch, draw(CHANNELS), *spatial)


@st.composite
def cases(draw, *, min_count: int = 1, forms=FORMS, dtypes=DTYPES, acts=None) -> Case:
    """A finite case of any shape, strides, dtype, form, activation, offset and spread."""
    shape = draw(shapes(min_count=min_count))
    offset, std = draw(MOMENTS)
    dtype = draw(st.sampled_from(dtypes))
    if dtype in (torch.bfloat16, torch.float16):
        offset = max(-100.0, min(100.0, offset))
    case = make_case(
        shape,
        dtype,
        form=draw(st.sampled_from(forms)),
        act=draw(st.sampled_from(acts or sorted(ACTS))),
        affine=draw(st.sampled_from(["both", "both", "none", "weight", "bias"])),
        offset=offset,
        std=std,
        seed=draw(st.integers(0, 2**16)),
    )
    return relaid(case, draw(LAYOUTS), draw(LAYOUTS), draw(LAYOUTS))


def relaid(case: Case, of_input: str, of_residual: str, of_grad: str) -> Case:
    """Each tensor in a layout of its own: kernels must not assume that they agree."""
    residual = case.residual
    return dataclasses.replace(
        case,
        input=strided(case.input, of_input),
        residual=None if residual is None else strided(residual, of_residual),
        grad=strided(case.grad, of_grad),
    )


def strided(t: Tensor, layout: str) -> Tensor:
    """``lay_out``, and ``expanded``: the last dimension repeats one number (stride 0)."""
    if layout == "expanded":
        return t[..., :1].expand(t.shape) if t.ndim > 2 else t
    return lay_out(t, layout)


@st.composite
def hard_values(draw, shape: tuple[int, ...]) -> Tensor:
    """Float32 of this shape with inf, NaN, huge, tiny and constant channels in places."""
    g = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    x = torch.randn(shape, generator=g)
    for channel in range(shape[1]):
        kind = draw(st.sampled_from(["plain", "plain", "nan", "inf", "huge", "tiny", "constant"]))
        at = x[:, channel]
        if at.numel() == 0 or kind == "plain":
            continue
        if kind in ("nan", "inf"):
            at[0] = float(kind)
        elif kind == "huge":
            at.mul_(1e30)
        elif kind == "tiny":
            at.mul_(1e-30)
        else:
            at.fill_(3.14)
    return x


@st.composite
def splits(draw, total: int) -> list[int]:
    """Sizes of the parts of a batch of ``total``, some of them empty."""
    cuts = sorted(draw(st.lists(st.integers(0, total), max_size=5)))
    edges = [0, *cuts, total]
    return [b - a for a, b in itertools.pairwise(edges)]
