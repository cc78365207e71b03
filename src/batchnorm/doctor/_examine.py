"""Rules over a model, once: which can look, what they find, what is silenced."""

from __future__ import annotations

from collections.abc import Iterable

from ._context import Context
from ._diagnosis import Diagnosis, Skip
from ._finding import Finding
from ._place import place_in
from ._rule import Rule

__all__ = ["IGNORE", "examine"]

IGNORE = "batchnorm_ignore"
"""A module's attribute with codes and names of rules that spare it and all below it."""


def examine(context: Context, rules: Iterable[Rule]) -> Diagnosis:
    """Run these rules once."""
    found: list[Finding] = []
    skipped: list[Skip] = []
    silenced = ran = 0
    for rule in rules:
        reason = _why_not(rule, context)
        if reason:
            skipped.append(Skip(rule.code, rule.name, reason))
            continue
        ran += 1
        try:
            own = list(rule.check(context))
        except Exception as error:
            skipped.append(Skip(rule.code, rule.name, f"it failed: {error!r}", failed=True))
            continue
        heard = [finding for finding in own if not _is_silenced(context, finding)]
        silenced += len(own) - len(heard)
        found += heard

    places = {finding.path: place_in(context, finding.path) for finding in found}

    return Diagnosis(
        found, skipped, suppressed=silenced, rules=ran, places=places, model=context.model
    )


def _why_not(rule: Rule, context: Context) -> str:
    there = {
        "sample": context.sample is not None or context.loader is not None,
        "loader": context.loader is not None,
        "optimizer": context.optimizer is not None,
        "loss_fn": context.loss_fn is not None,
        "distributed": context.is_distributed_known,
    }
    missing: list[str] = [need for need in rule.needs if not there[need]]
    if rule.depth == "live" and not there["sample"]:
        missing.insert(0, "sample or loader")
    if missing:
        return f"needs {' and '.join(missing)}"
    if rule.depth == "trace" and context.graph is None:
        return context.graph_reason
    if rule.depth == "live" and context.live is None:
        return f"{context.lazy[0]} does not know its size yet" if context.lazy else "no batches"
    if rule.depth == "live" and context.live is not None and (error := context.live.eval.error):
        return f"the model cannot run in eval mode: {error!r}"

    return ""


def _is_silenced(context: Context, finding: Finding) -> bool:
    for module in context.above(finding.path):
        codes = getattr(module, IGNORE, ())
        entries = {codes} if isinstance(codes, str) else set(codes)
        if entries & {"all", "ALL", finding.code, finding.name}:
            return True

    return False
