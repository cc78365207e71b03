"""Draw which entries share statistics, asked of the layers: ``python docs/images/make_norms.py``.

Each layer gets a tensor of 4 samples and 6 channels. Then one entry after the other is changed:
the entries whose output changes with it share its mean and variance, and get one number.
"""

from collections.abc import Callable
from pathlib import Path

import altair as alt
import torch
from torch import Tensor, nn

import batchnorm as bn

HERE = Path(__file__).parent
SAMPLES, CHANNELS, POSITIONS = 4, 6, 5
LAYERS: dict[str, Callable[[Tensor], Tensor]] = {
    "batch norm": bn.BatchNorm1d(CHANNELS),
    "ghost batch norm, 2": bn.GhostBatchNorm1d(CHANNELS, ghost_batch_size=2),
    "instance norm": nn.InstanceNorm1d(CHANNELS),
    "group norm, 2 groups": nn.GroupNorm(2, CHANNELS),
    "layer norm": nn.LayerNorm([CHANNELS, POSITIONS]),
}


def sharing(layer: Callable[[Tensor], Tensor]) -> list[list[int]]:
    """A number for every (sample, channel): equal where the statistics are shared."""
    x = torch.randn(SAMPLES, CHANNELS, POSITIONS, generator=torch.Generator().manual_seed(0))
    before = layer(x)
    numbers = torch.full((SAMPLES, CHANNELS), -1)
    for sample in range(SAMPLES):
        for channel in range(CHANNELS):
            if numbers[sample, channel] < 0:
                changed = x.clone()
                changed[sample, channel, 0] += 10
                moved = (layer(changed) - before).abs().amax(2) > 1e-4
                numbers[moved] = numbers.max() + 1

    return numbers.tolist()


def chart() -> alt.FacetChart:
    """One grid a layer: samples down, channels across, a number and a colour for each set."""
    cells = [
        {"layer": name, "sample": sample, "channel": channel, "set": number}
        for name, layer in LAYERS.items()
        for sample, row in enumerate(sharing(layer))
        for channel, number in enumerate(row)
    ]
    axis = alt.Axis(labels=False, ticks=False, domain=False)
    grid = alt.Chart().encode(
        x=alt.X("channel:O", title="C", axis=axis), y=alt.Y("sample:O", title="N", axis=axis)
    )
    colour = alt.Color("set:Q", legend=None, scale=alt.Scale(scheme="turbo", domain=[-2, 26]))
    squares = grid.mark_rect(stroke="white", strokeWidth=2, opacity=0.75).encode(color=colour)
    numbers = grid.mark_text(fontSize=10).encode(text="set:Q")
    return (
        alt.layer(squares, numbers)
        .properties(width=132, height=88)
        .facet(
            data=alt.Data(values=cells), column=alt.Column("layer:N", title=None, sort=list(LAYERS))
        )
        .configure(background="white")
    )


if __name__ == "__main__":
    chart().save(HERE / "norms.svg")
