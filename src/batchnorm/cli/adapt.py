"""``batchnorm adapt``."""

from typing import Any, Literal

from .. import stats
from ._guard import guarded
from ._model import make_loader
from ._options import NOWHERE, Output, Source
from ._recipe import loading_plainly
from ._work import open_model

__all__ = ["adapt"]

_WHO = "batchnorm adapt"


@guarded
def adapt(
    *,
    source: Source,
    loader: str,
    method: Literal["adabn", "mix", "tent"] = "adabn",
    prior: float = 16.0,
    epochs: int = 1,
    reliable: float | None = None,
    progress: bool | None = None,
    output: Output = NOWHERE,
) -> None:
    """Adapt a trained model to data from elsewhere, without labels.

    Args:
        source: Which model.
        loader: Function that makes the batches: pkg.mod:name.
        method: New statistics, a mixture with the old ones, or entropy minimisation.
        prior: What the old statistics are worth, in examples. For mix.
        epochs: Passes of learning. For tent.
        reliable: Leave out predictions with more entropy than this share of the most. For tent.
        progress: Show a bar; by default if someone looks.
        output: Where the results go.
    """
    own: dict[str, dict[str, Any]] = {
        "mix": {"prior": prior},
        "tent": {"epochs": epochs, "reliable": reliable},
    }
    given = {"loader": loader, "method": method, **own.get(method, {})}
    work = open_model(_WHO, source, output, given)
    report = stats.adapt(
        work.model,
        make_loader(_WHO, loader),
        method,
        prior=prior,
        epochs=epochs,
        reliable=reliable,
        progress=progress,
    )
    work.finish(report, work.model, loading_plainly(source.model, output.out))
