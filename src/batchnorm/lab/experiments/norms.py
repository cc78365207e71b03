"""Six norms over batch sizes: which of them need a large batch."""

from collections.abc import Callable, Mapping

import polars as pl

from .._chart import Axis, Chart
from .._experiment import Experiment, Grid, Question
from .._fit import accuracy, final, fit
from .._norms import NORMS, ghost
from .._rules import above, at_best, below, differences, values
from .._small_images import load_small
from .._trial import Trial, Value
from ..claims import Finding
from ..data import Dataset
from ..models import ConvNet
from ..summary import Estimate, difference
from ..words import points

__all__ = ["EXPERIMENT", "measure"]

USUAL = 32
USUALLY, SMALLEST, LARGEST = pl.lit(USUAL), pl.col("batch").min(), pl.col("batch").max()
GHOST = 16
MOMENTUM = 0.9
POINT = 0.01
HE = "Wu & He 2018, {}, https://arxiv.org/abs/1803.08494"
CURVE = "section 4.1, table 2 and figure 5"


def measure(trial: Trial, data: Dataset) -> dict[str, float]:
    """Train one network; its rate grows with the batch."""
    norm = ghost(GHOST) if trial.arm == "ghost" else NORMS[trial.arm]
    net = ConvNet(norm, seed=trial.seed, channels=data.shape[0], classes=data.classes)
    batch = trial["batch"]
    steps = max(trial["examples"] // batch, trial["steps"])
    losses = fit(
        net,
        data,
        lr=trial["rate"] * batch / USUAL,
        steps=steps,
        seed=trial.seed,
        batch_size=batch,
        momentum=MOMENTUM,
        schedule=_falling,
    )

    return {"accuracy": accuracy(net, data), "loss": final(losses, steps)}


def _falling(done: float) -> float:
    return 1 - done


def _keep(arm: str, settings: Mapping[str, Value]) -> bool:
    """A ghost batch that is no part of the batch is batch norm again."""
    batch = settings["batch"]
    assert isinstance(batch, int)

    return arm != "ghost" or batch > GHOST


def _best(frame: pl.DataFrame) -> pl.DataFrame:
    return at_best(frame, "rate", "loss", per=("batch",))


def _ahead(arm: str, other: str, batch: pl.Expr) -> Callable[[pl.DataFrame], Finding]:
    """Whether `arm` is the more accurate at one batch size."""

    def judge(frame: pl.DataFrame) -> Finding:
        size = frame.select(batch).item()
        found = differences(_best(frame), "accuracy", arm, other, batch=size)

        return above(found, 0.0, f"{{}} points at batch {size}", points)

    return judge


def _lost(frame: pl.DataFrame, arm: str) -> tuple[Estimate, str]:
    """Accuracy at the usual batch minus that at the smallest; in words, where that is."""
    best, smallest = _best(frame), frame.select(SMALLEST).item()
    usual, small = (values(best, "accuracy", arm, batch=size) for size in (USUAL, smallest))
    lost = difference(usual, small)

    return lost, f"{{}} points from batch {smallest} to batch {USUAL}"


def _needs_batches(frame: pl.DataFrame) -> Finding:
    lost, text = _lost(frame, "batch")

    return above(lost, POINT, text, points)


def _needs_none(frame: pl.DataFrame) -> Finding:
    lost, text = _lost(frame, "group")

    return below(lost, POINT, text, points)


def _grid(
    seeds: int, examples: int, steps: int, seconds: float, **batches: tuple[int, ...]
) -> Grid:
    """A grid with batch sizes of its own for each dataset."""
    settings: dict[str, tuple[Value, ...]] = {
        "batch": (USUAL,),
        "rate": (0.1, 0.4, 1.6),
        "examples": (examples,),
        "steps": (steps,),
    }
    own = {name: {"batch": sizes} for name, sizes in batches.items()}

    return Grid(seeds, tuple(batches), settings, seconds, by_dataset=own)


POWERS = tuple(2**power for power in range(9))

EXPERIMENT = Experiment(
    name="norms",
    title="Norms over batch sizes",
    about="A convolutional network of three layers with one of six norms, or none, trained by SGD "
    "with momentum 0.9 at a rate in proportion to the batch, which falls to zero. Up to batch 32 "
    "every network sees the same number of examples; with larger batches it takes a least number "
    "of steps instead. Each norm at each batch size has that of three rates with the lowest "
    "training loss. On 8×8 digits the last maps are 2×2: instance norm leaves little there for the "
    "mean that follows. At batch 1 batch norm measures the positions of a single image: in "
    "training it is instance norm, at the test it has moving averages. Where a channel has one "
    "value, which is a 1×1 map at batch 1, it refuses.",
    arms={
        "batch": "batch norm",
        "none": "no norm",
        "layer": "layer norm",
        "instance": "instance norm",
        "group": "group norm",
        "renorm": "batch renorm",
        "ghost": f"ghost batch norm of {GHOST}",
    },
    budgets={
        "smoke": _grid(2, 64, 2, 3, digits=(4, USUAL)),
        "default": _grid(3, 1280, 40, 70, digits=(1, 8, USUAL, 256), mnist=(1, 8, USUAL, 64)),
        "full": _grid(10, 60_000, 1000, 40_000, digits=POWERS, mnist=POWERS, cifar10=POWERS),
    },
    measure=measure,
    measured={
        "accuracy": "test accuracy at the end",
        "loss": "training loss (nats), mean of the last tenth of the steps; inf if it diverged",
    },
    questions=(
        Question(
            "Batch norm loses accuracy when the batch is small.",
            HE.format(CURVE),
            "holds if accuracy at batch 32 is more than one point above that at the smallest batch",
            _needs_batches,
            published="top-1 error 23.6 % at 32 images per GPU, 34.7 % at 2 (ResNet-50, ImageNet)",
        ),
        Question(
            "Group norm loses no accuracy when the batch is small.",
            HE.format(CURVE),
            "holds if accuracy at batch 32 is less than one point above that at the smallest batch",
            _needs_none,
            published="top-1 error 24.1 % at 32 images per GPU, 24.1 % at 2",
        ),
        Question(
            "At the smallest batch group norm is more accurate than batch norm.",
            HE.format(CURVE),
            "holds if the difference is above zero",
            _ahead("group", "batch", SMALLEST),
            published="10.6 points at 2 images per GPU",
        ),
        Question(
            "At a usual batch batch norm is more accurate than layer norm.",
            HE.format("section 4.1, table 1"),
            "holds if the difference at batch 32 is above zero",
            _ahead("batch", "layer", USUALLY),
            published="1.7 points (error 23.6 % against 25.3 %)",
        ),
        Question(
            "At a usual batch batch norm is more accurate than instance norm.",
            HE.format("section 4.1, table 1"),
            "holds if the difference at batch 32 is above zero",
            _ahead("batch", "instance", USUALLY),
            published="4.8 points (error 23.6 % against 28.4 %)",
        ),
        Question(
            "At a usual batch batch norm is more accurate than no norm.",
            "Ioffe & Szegedy 2015, section 4.2, https://arxiv.org/abs/1502.03167",
            "holds if the difference at batch 32 is above zero",
            _ahead("batch", "none", USUALLY),
        ),
        Question(
            "At the smallest batch batch renorm is more accurate than batch norm.",
            "Ioffe 2017, section 4, https://arxiv.org/abs/1702.03275",
            "holds if the difference is above zero",
            _ahead("renorm", "batch", SMALLEST),
        ),
        Question(
            "With a large batch, statistics of parts of it (ghost batch norm) are more accurate.",
            "Hoffer et al. 2017, section 4, https://arxiv.org/abs/1705.08741",
            "holds if the difference from batch norm at the largest batch is above zero",
            _ahead("ghost", "batch", LARGEST),
        ),
    ),
    charts=(
        Chart(
            key="accuracy",
            title="Accuracy over batch size",
            caption="Test accuracy of each norm, at the better rate of each batch size. Batches "
            "above 32 take more examples.",
            mark="lines",
            x=Axis("batch", "examples per batch", scale="log"),
            y=Axis("accuracy", "test accuracy", format=".0%"),
            rows=_best,
        ),
        Chart(
            key="loss",
            title="Training loss over batch size",
            caption="Training loss at the end: what a norm does to learning, apart from what its "
            "statistics do to the test.",
            mark="lines",
            x=Axis("batch", "examples per batch", scale="log"),
            y=Axis("loss", "training loss (nats)"),
            rows=_best,
        ),
    ),
    keep=_keep,
    load=load_small,
)
