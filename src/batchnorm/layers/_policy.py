"""What a layer does in training when a channel has a single value, whose variance says nothing."""

from typing import Any, Literal, NoReturn, get_args

from torch import Tensor

from .._errors import explain

__all__ = ["OnSingle", "check_on_single", "refuse_single"]

OnSingle = Literal["error", "running", "skip"]
"""``"error"``: raise, as torch does. ``"running"``: normalise by the running statistics.
``"skip"``: normalise by the batch, which gives the bias. None of them commits anything."""


def check_on_single(who: str, on_single: Any, track_running_stats: bool) -> None:
    """``on_single`` is a known policy and can be followed.

    Raises:
        ValueError: it is not.
    """
    known = get_args(OnSingle)
    if on_single not in known:
        raise ValueError(
            explain(who, f"on_single must be one of {known}", f"on_single={on_single!r}", "Use one")
        )
    if on_single == "running" and not track_running_stats:
        raise ValueError(
            explain(
                who,
                "on_single='running' needs running statistics",
                "track_running_stats=False",
                "Use on_single='skip', or track_running_stats=True",
            )
        )


def refuse_single(who: str, input: Tensor, masked: bool) -> NoReturn:
    """Raise torch's error, with the ways out.

    Raises:
        ValueError: always.
    """
    got = f"input size {tuple(input.shape)}"
    raise ValueError(
        explain(
            who,
            "Expected more than 1 value per channel when training",
            f"{got} with one unmasked position" if masked else got,
            "Use a larger batch (drop_last=True in the loader), on_single='running' to normalise "
            "by the running statistics, on_single='skip' to leave them alone, or .eval()",
        )
    )
