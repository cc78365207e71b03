"""What is done to raw values: a choice of steps, the same for every dataset."""

from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..._errors import explain
from ._raw import Array, Kind

__all__ = ["Steps"]


@dataclass(frozen=True)
class Steps:
    """Options of :func:`batchnorm.lab.data.load`."""

    train: int | None
    test: int | None
    size: int | None
    flat: bool
    rows: bool
    standard: bool
    binary: bool

    def check(self, name: str, kind: Kind) -> None:
        """Refuse what makes no sense.

        Raises:
            ValueError: a step for images and other data, no examples, or both ``flat`` and
                ``rows``.
        """
        for option in ("train", "test", "size"):
            value = getattr(self, option)
            if value is not None and value < 1:
                got = f"{option}={value}"
                raise ValueError(explain(name, "counts are positive", got, "Use 1 or more"))
        if self.flat and self.rows:
            rule, cure = "an example has one shape", "Use flat or rows"
            raise ValueError(explain(name, rule, "flat=True, rows=True", cure))
        pictorial = [option for option in ("size", "binary") if getattr(self, option)]
        if self.rows and kind == "table":
            pictorial.append("rows")
        if kind != "images" and pictorial:
            got = f"{', '.join(pictorial)} for a dataset of {kind}"
            raise ValueError(explain(name, "this is for images", got, "Leave it out"))

    def words(self, kind: Kind, shape: tuple[int, ...]) -> str:
        """What is done, for people who know the raw examples' shape."""
        said = {
            f"at most {self.train or 0:,} examples, chosen by chance, train": self.train,
            f"at most {self.test or 0:,} test": self.test,
            f"resized to {self.size}×{self.size}": self.size and self.size != shape[0],
            "made binary (1 where the level is at least half)": self.binary,
            f"standardised by {'channel' if kind == 'images' else 'feature'}": self.standard,
            "its rows as steps in time": self.rows and kind == "images",
            "flattened": self.flat and kind != "table",
        }

        return "".join(f"; {step}" for step, done in said.items() if done)

    def written(self) -> dict[str, object]:
        """For a digest."""
        return asdict(self)

    def images(self, x: Array, levels: int) -> Tensor:
        """``(n, C, H, W)`` in [0, 1] from ``(n, H, W)`` or ``(n, H, W, C)`` in 0 to `levels`."""
        first = x[:, None] if x.ndim == 3 else np.moveaxis(x, -1, 1)
        found = torch.from_numpy(np.array(first, np.float32, order="C")).div_(levels)
        if self.size and self.size != found.shape[-1]:
            found = _resized(found, self.size)

        return found.ge(0.5).float() if self.binary else found

    def shaped(self, x: Tensor, kind: Kind) -> Tensor:
        """The last step: one vector, or one row after another."""
        if self.flat:
            return x.flatten(1)
        if self.rows and kind == "images":
            return x.transpose(1, 2).flatten(2)

        return x


def _resized(x: Tensor, size: int) -> Tensor:
    """Means of areas for smaller images, bilinear for larger ones."""
    if size < x.shape[-1]:
        return functional.adaptive_avg_pool2d(x, size)

    return functional.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)
