"""One sentence for every error message: who, which rule, what came, what to do."""

__all__ = ["DtypeError", "ShapeError", "explain"]


def explain(who: str, rule: str, got: str, cure: str) -> str:
    """The text of an error.

    Args:
        who: the layer or function that refuses.
        rule: what it expects.
        got: the values that broke the rule.
        cure: what the reader can do about it.

    Example:
        >>> explain("batch_norm", "eps must not be negative", "eps=-1.0", "Use eps=1e-5")
        'batch_norm: eps must not be negative. Got eps=-1.0. Use eps=1e-5.'
    """
    return f"{who}: {rule}. Got {got}. {cure}."


class ShapeError(ValueError, RuntimeError):
    """A wrong shape: a ``ValueError``, and a ``RuntimeError`` for those who expect torch's."""


class DtypeError(TypeError, NotImplementedError):
    """A wrong dtype: a ``TypeError``, and the ``NotImplementedError`` that torch raises."""
