"""The laboratory: experiments on real data that check what people claim for batch norm.

``run("bias")`` runs an experiment and returns its numbers and verdicts, ``report`` writes them as
one page, ``overview()`` lists what there is; an ``Experiment`` of your own runs like those of
``batchnorm.lab.experiments``, its trials train by ``fit`` and its claims are judged by ``above``,
``below`` and ``between``. ``data`` loads and checks datasets, ``models`` builds networks,
``training`` is one deterministic run, ``store`` and ``parallel`` run many and keep what is done,
``summary`` and ``claims`` turn numbers over seeds into verdicts, ``renderers`` show a result.
"""

import typing as _typing

if _typing.TYPE_CHECKING:
    from ._chart import Axis as Axis
    from ._chart import Chart as Chart
    from ._compare import compare as compare
    from ._experiment import Experiment as Experiment
    from ._experiment import Grid as Grid
    from ._experiment import Question as Question
    from ._files import save as save
    from ._fit import accuracy as accuracy
    from ._fit import final as final
    from ._fit import fit as fit
    from ._fit import predictions as predictions
    from ._ranking import ranking as ranking
    from ._registry import overview as overview
    from ._rules import above as above
    from ._rules import at_best as at_best
    from ._rules import below as below
    from ._rules import between as between
    from ._rules import differences as differences
    from ._rules import highest as highest
    from ._rules import ratios as ratios
    from ._rules import values as values
    from ._runner import run as run
    from ._study import Study as Study
    from ._together import fit_together as fit_together
    from ._trial import Trial as Trial
    from .renderers.report import report as report

# Imported when they are first asked for: the networks need nothing but torch.
_LATER = {
    "Axis": "_chart",
    "Chart": "_chart",
    "Experiment": "_experiment",
    "Grid": "_experiment",
    "Question": "_experiment",
    "Study": "_study",
    "Trial": "_trial",
    "above": "_rules",
    "at_best": "_rules",
    "accuracy": "_fit",
    "below": "_rules",
    "between": "_rules",
    "compare": "_compare",
    "differences": "_rules",
    "final": "_fit",
    "fit": "_fit",
    "fit_together": "_together",
    "highest": "_rules",
    "overview": "_registry",
    "predictions": "_fit",
    "ranking": "_ranking",
    "ratios": "_rules",
    "report": "renderers.report",
    "run": "_runner",
    "save": "_files",
    "values": "_rules",
}


def __getattr__(name: str) -> _typing.Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_LATER[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LATER])
