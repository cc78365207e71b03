"""The datasets: one table."""

from collections.abc import Callable
from dataclasses import dataclass

from . import _digits, _tables
from ._jpeg import read_jpeg
from ._npz import read_four
from ._raw import Kind, Parts, Source, Wanted
from ._speech import BANDS, read_waves

__all__ = ["CATALOGUE", "Entry"]


@dataclass(frozen=True)
class Entry:
    """A dataset.

    Args:
        title: the name as people know it.
        kind: what an example is.
        wanted: what raw examples must be.
        licence: what is known of it.
        preparation: what raw values are, in words.
        made: what comes with scikit-learn.
        sources: where it may lie in a folder; the first that is there counts.
        levels: of an image's channel, above 0.
    """

    title: str
    kind: Kind
    wanted: Wanted
    licence: str
    preparation: str
    made: Callable[[], Parts] | None = None
    sources: tuple[Source, ...] = ()
    levels: int = 255


def _npz(file: str, sha256: str | None = None, read: Callable[..., Parts] = read_four) -> Source:
    return Source((file,), read, {file: sha256} if sha256 else {})


def _table(title: str, features: int, classes: int, made: Callable[[], Parts]) -> Entry:
    return Entry(
        title,
        "table",
        Wanted((features,), classes, "float64"),
        "BSD-3-Clause, with scikit-learn",
        QUARTER if classes else f"{QUARTER}; {TARGETS}",
        made,
    )


LEVELS = "levels 0 to 255 divided by 255"
QUARTER = "raw features; a random quarter tests"
TARGETS = "targets standardised by the training part"

CATALOGUE = {
    "digits": Entry(
        "scikit-learn digits",
        "images",
        Wanted((8, 8), 10),
        "BSD-3-Clause, with scikit-learn",
        "8×8 grey levels 0 to 16 divided by 16; the first 1,200 images train, "
        "the last 597 (later in the file's order, partly by other writers) test",
        _digits.digits,
        levels=_digits.LEVELS,
    ),
    "digits_m": Entry(
        "scikit-learn digits in photographs",
        "images",
        Wanted((8, 8, 3), 10),
        "BSD-3-Clause, with scikit-learn; its photographs are CC BY",
        "8×8 colours: the difference between each of the digits and a random patch of "
        f"scikit-learn's two photographs, at a quarter of their size; {LEVELS}",
        _digits.digits_m,
    ),
    "mnist": Entry(
        "MNIST",
        "images",
        Wanted((28, 28), 10),
        "none stated by its authors",
        f"28×28 grey {LEVELS}",
        sources=(_npz("mnist.npz"),),
    ),
    "mnist_m": Entry(
        "MNIST-M",
        "images",
        Wanted((32, 32, 3), 10),
        "none stated; from MNIST and BSDS500",
        f"32×32 colours, {LEVELS}",
        sources=(_npz("mnist_m.npz"),),
    ),
    "usps": Entry(
        "USPS",
        "images",
        Wanted((16, 16), 10),
        "none stated",
        f"16×16 grey {LEVELS}",
        sources=(_npz("usps.npz"),),
    ),
    "fashion_mnist": Entry(
        "Fashion-MNIST",
        "images",
        Wanted((28, 28), 10),
        "MIT",
        f"28×28 grey {LEVELS}",
        sources=(_npz("fashion_mnist.npz"),),
    ),
    "svhn": Entry(
        "SVHN",
        "images",
        Wanted((32, 32, 3), 10),
        "for non-commercial use",
        f"32×32 colours, {LEVELS}",
        sources=(_npz("svhn.npz"),),
    ),
    "cifar10": Entry(
        "CIFAR-10",
        "images",
        Wanted((32, 32, 3), 10),
        "none stated",
        f"32×32 colours, {LEVELS}",
        sources=(_npz("cifar10_jpeg.npz", read=read_jpeg),),
    ),
    "spoken_digits": Entry(
        "Free Spoken Digit Dataset",
        "sequences",
        Wanted((-1, BANDS), 10, "float32"),
        "CC BY-SA 4.0",
        f"logarithm of the power in {BANDS} mel bands, 25 ms windows every 10 ms",
        sources=(_npz("fsdd.npz", read=read_waves),),
    ),
    "wine": _table("Wine", 13, 3, _tables.wine),
    "breast_cancer": _table("Breast cancer", 30, 2, _tables.breast_cancer),
    "diabetes": _table("Diabetes", 10, 0, _tables.diabetes),
    "housing": Entry(
        "California housing",
        "table",
        Wanted((8,), 0, "float64"),
        "Apache-2.0, from ageron/handson-ml",
        f"{QUARTER}; the median where a value is missing; {TARGETS}",
        sources=(_npz("tabular.npz", read=_tables.read_housing),),
    ),
}
