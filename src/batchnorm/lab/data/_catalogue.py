"""The datasets: one table."""

from collections.abc import Callable
from dataclasses import dataclass

from . import _digits, _tables
from ._cifar import BATCHES, read_archive, read_batches
from ._idx import read_idx
from ._mat import read_mat
from ._npz import read_four
from ._pictures import read_jpeg
from ._raw import Kind, Parts, Source, Wanted
from ._speech import BANDS, read_recordings, read_waves

__all__ = ["CATALOGUE", "Entry", "Hub"]


@dataclass(frozen=True)
class Hub:
    """Where the Hugging Face Hub has images.

    Args:
        repository: its name.
        place: folder in it; its files begin with ``train`` or ``test``.
        image: column of the images; labels are in ``label``.
        sha256: of all images that train, their labels, and the same of the test, as bytes; empty
            where it is not known.
    """

    repository: str
    place: str = "data"
    image: str = "image"
    sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A dataset.

    Args:
        title: the name as people know it.
        kind: what an example is.
        wanted: what raw examples must be.
        sizes: how many published examples train and test.
        origin: who publishes it.
        licence: what its publishers state.
        preparation: what raw values are, in words.
        made: what comes with scikit-learn.
        sources: how it may lie in a folder; the first that is there counts.
        hub: where it can be downloaded.
        levels: of an image's channel, above 0.
    """

    title: str
    kind: Kind
    wanted: Wanted
    sizes: tuple[int, int]
    origin: str
    licence: str
    preparation: str
    made: Callable[[], Parts] | None = None
    sources: tuple[Source, ...] = ()
    hub: Hub | None = None
    levels: int = 255


def _images(
    title: str,
    shape: tuple[int, ...],
    sizes: tuple[int, int],
    origin: str,
    licence: str,
    hub: Hub,
    *sources: Source,
) -> Entry:
    what = "grey levels" if len(shape) == 2 else "colours, levels"
    return Entry(
        title=title,
        kind="images",
        wanted=Wanted(shape, 10),
        sizes=sizes,
        origin=origin,
        licence=licence,
        preparation=f"{shape[0]}×{shape[1]} {what} {LEVELS}",
        sources=sources,
        hub=hub,
    )


def _table(
    title: str, features: int, classes: int, sizes: tuple[int, int], made: Callable[[], Parts]
) -> Entry:
    return Entry(
        title=title,
        kind="table",
        wanted=Wanted((features,), classes, "float64"),
        sizes=sizes,
        origin=SCIKIT,
        licence=BSD,
        preparation=SPLIT if classes else f"{SPLIT}; {TARGETS}",
        made=made,
    )


def _npz(file: str) -> Source:
    return Source(file, (file,), read_four)


IDX = ("train-images", "train-labels", "t10k-images", "t10k-labels")
FASHION = ("fashion_mnist", "fashion-mnist", "FashionMNIST/raw")
SCIKIT = "https://scikit-learn.org/stable/datasets.html"
BSD = "BSD-3-Clause"
LEVELS = "0 to 255 divided by 255"
SPLIT = "raw features; a random quarter tests"
TARGETS = "targets standardised by the training part"

CATALOGUE = {
    "digits": Entry(
        title="scikit-learn digits",
        kind="images",
        wanted=Wanted((8, 8), 10),
        sizes=(1200, 597),
        origin=SCIKIT,
        licence=BSD,
        preparation="8×8 grey levels 0 to 16 divided by 16; the first 1,200 images train, "
        "the last 597 (later in the file's order, partly by other writers) test",
        made=_digits.digits,
        levels=_digits.LEVELS,
    ),
    "digits_m": Entry(
        title="scikit-learn digits in photographs",
        kind="images",
        wanted=Wanted((8, 8, 3), 10),
        sizes=(1200, 597),
        origin=SCIKIT,
        licence=f"{BSD}, CC BY",
        preparation="the difference between each of scikit-learn's digits and a random patch of "
        f"its two photographs, these at a quarter of their size; 8×8 colours, levels {LEVELS}",
        made=_digits.digits_m,
    ),
    "mnist": _images(
        "MNIST",
        (28, 28),
        (60_000, 10_000),
        "http://yann.lecun.com/exdb/mnist",
        "none stated",
        Hub(
            "ylecun/mnist",
            "mnist",
            sha256="06b0d1f124c4e5fa796686ade41a9b778edacc8622f2195a352ef479ad44fc16",
        ),
        _npz("mnist.npz"),
        Source(
            "train-images-idx3-ubyte and its three companions (.gz or not)",
            tuple(f"{name}[-.]idx?-ubyte*" for name in IDX),
            read_idx,
            places=("", "mnist", "MNIST/raw"),
            sha256=(
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
            of_content=True,
        ),
    ),
    "mnist_m": _images(
        "MNIST-M",
        (32, 32, 3),
        (59_001, 9_001),
        "https://jmlr.org/papers/v17/15-239.html",
        "none stated",
        Hub("Mike0307/MNIST-M"),
        _npz("mnist_m.npz"),
    ),
    "usps": _images(
        "USPS",
        (16, 16),
        (7291, 2007),
        "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass.html",
        "none stated",
        Hub("flwrlabs/usps"),
        _npz("usps.npz"),
    ),
    "fashion_mnist": _images(
        "Fashion-MNIST",
        (28, 28),
        (60_000, 10_000),
        "https://github.com/zalandoresearch/fashion-mnist",
        "MIT",
        Hub("zalando-datasets/fashion_mnist", "fashion_mnist"),
        _npz("fashion_mnist.npz"),
        Source(
            "fashion_mnist/train-images-idx3-ubyte.gz and its three companions",
            tuple(f"{name}-idx?-ubyte.gz" for name in IDX),
            read_idx,
            places=FASHION,
            sha256=(
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
        ),
        Source(
            "the same unpacked",
            tuple(f"{name}[-.]idx?-ubyte" for name in IDX),
            read_idx,
            places=FASHION,
        ),
    ),
    "svhn": _images(
        "SVHN",
        (32, 32, 3),
        (73_257, 26_032),
        "http://ufldl.stanford.edu/housenumbers",
        "non-commercial",
        Hub("ufldl-stanford/svhn", "cropped_digits"),
        _npz("svhn.npz"),
        Source(
            "train_32x32.mat and test_32x32.mat",
            ("train_32x32.mat", "test_32x32.mat"),
            read_mat,
            places=("", "svhn", "SVHN"),
            sha256=(
                "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
                "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
            ),
            slow=True,
        ),
    ),
    "cifar10": _images(
        "CIFAR-10",
        (32, 32, 3),
        (50_000, 10_000),
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        "none stated",
        Hub("uoft-cs/cifar10", "plain_text", "img"),
        _npz("cifar10.npz"),
        Source(
            "cifar-10-binary.tar.gz",
            ("cifar-10-binary.tar.gz",),
            read_archive,
            places=("", "cifar10"),
            sha256=("c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",),
            slow=True,
        ),
        Source(
            "cifar-10-batches-bin/data_batch_1.bin and its five companions",
            BATCHES,
            read_batches,
            places=("cifar-10-batches-bin", "cifar10/cifar-10-batches-bin"),
        ),
        Source("cifar10_jpeg.npz", ("cifar10_jpeg.npz",), read_jpeg, slow=True, decoder="pillow"),
    ),
    "spoken_digits": Entry(
        title="Free Spoken Digit Dataset",
        kind="sequences",
        wanted=Wanted((-1, BANDS), 10, "float32"),
        sizes=(2700, 300),
        origin="https://github.com/Jakobovski/free-spoken-digit-dataset",
        licence="CC BY-SA 4.0",
        preparation=f"logarithm of the power in {BANDS} mel bands, 25 ms windows every 10 ms; "
        "recordings 0 to 4 of every digit and speaker test",
        sources=(
            Source("fsdd.npz", ("fsdd.npz",), read_waves, slow=True, decoder="torch"),
            Source(
                "free-spoken-digit-dataset/recordings/*.wav",
                ("recordings",),
                read_recordings,
                places=("free-spoken-digit-dataset", ""),
                slow=True,
                decoder="torch",
            ),
        ),
    ),
    "wine": _table("Wine", 13, 3, (134, 44), _tables.wine),
    "breast_cancer": _table("Breast cancer", 30, 2, (427, 142), _tables.breast_cancer),
    "diabetes": _table("Diabetes", 10, 0, (332, 110), _tables.diabetes),
    "housing": Entry(
        title="California housing",
        kind="table",
        wanted=Wanted((8,), 0, "float64"),
        sizes=(15_480, 5_160),
        origin="https://github.com/ageron/handson-ml/tree/master/datasets/housing",
        licence="Apache-2.0",
        preparation=f"{SPLIT}; the median where a value is missing; {TARGETS}",
        sources=(
            Source("tabular.npz", ("tabular.npz",), _tables.read_housing),
            Source("housing.csv", ("housing.csv",), _tables.read_housing_csv),
        ),
    ),
}
