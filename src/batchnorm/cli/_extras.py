"""Which optional packages a command needs, and what to say when they are not there."""

from importlib.util import find_spec

__all__ = ["EXTRAS", "missing_extra"]

EXTRAS = {
    "cli": ("cyclopts", "rich", "safetensors"),
    "lab": (
        "PIL",
        "altair",
        "jinja2",
        "joblib",
        "numpy",
        "polars",
        "rich",
        "scipy",
        "sklearn",
        "vl_convert",
    ),
}
NEEDED_BY = {"cli": "batchnorm: the command line", "lab": "batchnorm demo: the laboratory"}


def missing_extra(extra: str, who: str | None = None) -> str | None:
    """A message that names the extra to install, or None if all its packages are there.

    Args:
        extra: its name.
        who: needs it; by default who needs it most.
    """
    absent = [name for name in EXTRAS[extra] if find_spec(name) is None]
    if not absent:
        return None
    return (
        f"{who or NEEDED_BY[extra]} needs the extra '{extra}'. Got no {', '.join(absent)}. "
        f"Install it with: pip install 'batchnorm[{extra}]'"
    )
