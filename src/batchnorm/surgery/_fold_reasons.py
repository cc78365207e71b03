"""Why a batch norm has no layer to be folded into, in words."""

from ._fold_into import is_target
from ._graph import Call, Graph

__all__ = ["why_no_partner"]


def why_no_partner(graph: Graph, calls: list[Call], verb: str) -> str:
    """What feeds it (``verb="fed"``) instead of a convolution or linear layer."""
    if len(calls) > 1:
        return f"it is called {len(calls)} times, not always {verb} by the same layer"
    source = calls[0].first
    while source is not None and graph._passes(source):
        source = source.first
    if source is None:
        return "what feeds it is not known"
    if source.module is not None and is_target(source.module):
        return f"{source.target!r} before it is also read by others, or has other channels"

    return f"{verb} by {_described(source)}, not by a convolution or linear layer"


def _described(call: Call) -> str:
    if call.module is not None:
        return f"{type(call.module).__name__} {call.target!r}"

    return {"input": "the model's input", "attribute": "a parameter"}.get(call.kind, call.target)
