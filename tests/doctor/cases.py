"""Fixtures of the rules: ``fixtures/<code>/bad.py`` and ``good.py``, each a few small models.

A file has one or more functions whose names begin with ``build``. Each returns a dict: ``model``
and any argument of ``diagnose`` (``sample``, ``loader``, ``optimizer``, ``loss_fn``,
``distributed``). In ``bad.py`` there is also ``expect``: the paths of the findings, in order (with
``(path, severity)`` where the severity is not the rule's own).
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import torch

from batchnorm.doctor import Rule, all_rules

FOLDER = Path(__file__).parent / "fixtures"
RULES = {rule.code: rule for rule in all_rules()}


@dataclass(frozen=True)
class Case:
    code: str
    kind: str
    name: str

    @property
    def rule(self) -> Rule:
        return RULES[self.code]

    def build(self) -> dict:
        """A new model and what goes with it; the same at every call."""
        torch.manual_seed(0)
        return getattr(_load(self.code, self.kind), self.name)()

    def __str__(self) -> str:
        return f"{self.code}-{self.kind}-{self.name}"


def cases(kind: str) -> list[Case]:
    folders = sorted(folder.name for folder in FOLDER.iterdir() if folder.name[:2] == "BN")
    return [
        Case(code, kind, name)
        for code in folders
        if (FOLDER / code / f"{kind}.py").exists()
        for name in vars(_load(code, kind))
        if name.startswith("build")
    ]


def _load(code: str, kind: str):
    path = FOLDER / code / f"{kind}.py"
    spec = importlib.util.spec_from_file_location(f"fixture_{code}_{kind}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
