"""What an operation on a model did, what it left and why, how it was proved, and the way back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from torch import nn

from .._errors import explain

__all__ = ["Action", "Change", "Proof", "SurgeryReport"]

Action = Literal["replaced", "added", "removed", "changed", "skipped"]

_WIDEST = 60


@dataclass(frozen=True)
class Change:
    """One module: what was done to it, or why nothing was.

    Args:
        path: dotted path in the model; a shared module's other paths follow after commas.
        action: what was done; ``"skipped"`` if nothing was.
        before: the module's kind, or a value, before.
        after: the same afterwards; empty if nothing is there.
        reason: why, in words.
    """

    path: str
    action: Action
    before: str
    after: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Proof:
    """How far results on a sample moved.

    Args:
        what: ``"outputs, eval"``, ``"gradients, train"``, ...
        max_abs: largest deviation, in units of the result.
        max_rel: largest deviation over the largest magnitude of its tensor.
        dtype: that the comparison was computed in: ``"float32"``.
    """

    what: str
    max_abs: float
    max_rel: float
    dtype: str

    def __str__(self) -> str:
        return (
            f"{self.what}: max error {self.max_abs:.2g} "
            f"({self.max_rel:.2g} of the largest value), {self.dtype}"
        )


class SurgeryReport:
    """The result of an operation on a model.

    Args:
        verb: ``"convert"``, ``"fold"``, ...
        model: the model to use from now on: the one that was passed, unless it was itself a layer
            that had to be replaced.
        changes: in the order of the model.
        proofs: comparisons of before and after on a sample; empty without one.
        undo: takes everything back.

    Example:
        >>> change = Change("bn1", "replaced", "BatchNorm2d", "Identity")
        >>> print(SurgeryReport("convert", torch.nn.Identity(), [change]))
        convert: 1 replaced
        path  action    before       after     reason
        bn1   replaced  BatchNorm2d  Identity
        no sample was given: nothing was compared
    """

    def __init__(
        self,
        verb: str,
        model: nn.Module,
        changes: Sequence[Change],
        proofs: Sequence[Proof] = (),
        undo: Callable[[], None] | None = None,
    ) -> None:
        self.verb = verb
        self.model = model
        self.changes = list(changes)
        self.proofs = list(proofs)
        self._undo = undo

    @property
    def done(self) -> list[Change]:
        """What was changed."""
        return [change for change in self.changes if change.action != "skipped"]

    @property
    def skipped(self) -> list[Change]:
        """What was left as it was, with reasons."""
        return [change for change in self.changes if change.action == "skipped"]

    def undo(self) -> None:
        """Put the former modules, parameters, buffers and optimizer entries back.

        Tensors that the former modules share with the new ones keep their present values, so
        training in between is not lost.

        Raises:
            RuntimeError: it was undone before, or the model was changed since (undo the later
                change first). Nothing is touched then.
        """
        if self._undo is None:
            raise RuntimeError(
                explain(
                    f"{self.verb}.undo",
                    "an operation can be undone once",
                    "one that was undone or changed nothing",
                    "Call it again to redo it",
                )
            )

        self._undo()
        self._undo = None

    def __str__(self) -> str:
        counts = dict.fromkeys(get_args(Action), 0)
        for change in self.changes:
            counts[change.action] += 1
        summary = ", ".join(f"{count} {action}" for action, count in counts.items() if count)

        lines = [f"{self.verb}: {summary or 'nothing to do'}", *_table(self.changes)]
        if self.proofs:
            lines += [str(proof) for proof in self.proofs]
        else:
            lines.append("no sample was given: nothing was compared")

        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<SurgeryReport {str(self).splitlines()[0]}>"


def _table(changes: Sequence[Change]) -> list[str]:
    """Rows of text with aligned columns."""
    if not changes:
        return []

    head = ("path", "action", "before", "after", "reason")
    rows = [head, *((c.path or ".", c.action, c.before, c.after, c.reason) for c in changes)]
    widths = [min(max(len(row[i]) for row in rows), _WIDEST) for i in range(len(head))]

    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
