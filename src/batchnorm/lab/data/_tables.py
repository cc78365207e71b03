"""Tables: scikit-learn's, imported where they are asked for, and the housing prices."""

from pathlib import Path

import numpy as np
import polars as pl

from ._npz import read_npz
from ._raw import Array, Parts, Raw, parsing, refused
from ._split import quarter_out

__all__ = ["breast_cancer", "diabetes", "read_housing", "read_housing_csv", "wine"]


def wine() -> Parts:
    """Chemistry of wines by cultivar."""
    from sklearn.datasets import load_wine

    return _classes(*load_wine(return_X_y=True))


def breast_cancer() -> Parts:
    """Cell nuclei by diagnosis."""
    from sklearn.datasets import load_breast_cancer

    return _classes(*load_breast_cancer(return_X_y=True))


def diabetes() -> Parts:
    """Progression of a disease, from raw measurements."""
    from sklearn.datasets import load_diabetes

    return _numbers(*load_diabetes(return_X_y=True, scaled=False))


def read_housing(paths: tuple[Path, ...]) -> Parts:
    """Prices of houses by district."""
    arrays = read_npz(paths[0], ("housing_x", "housing_y"))

    return _housing(paths[0], arrays["housing_x"], arrays["housing_y"])


def read_housing_csv(paths: tuple[Path, ...]) -> Parts:
    """The same from the file that is published; its one column of words is left out."""
    with parsing(paths[0], "table with median_house_value"):
        table = pl.read_csv(paths[0]).select(pl.col(pl.Float64, pl.Int64).cast(pl.Float64))
        prices = table.drop_in_place("median_house_value").to_numpy()

    return _housing(paths[0], table.to_numpy(), prices)


def _housing(path: Path, x: Array, y: Array) -> Parts:
    if x.ndim != 2 or y.shape != x.shape[:1] or {x.dtype, y.dtype} != {np.dtype(np.float64)}:
        rule = "features and prices must be float64 of shape (n, features) and (n,)"
        raise refused(path, rule, f"{x.dtype} {x.shape} and {y.dtype} {y.shape}")
    if not (np.isfinite(x).any(0).all() and np.isfinite(y).all() and np.ptp(y) > 0):
        rule = "no feature may be empty, and every house must have a price"
        raise refused(path, rule, f"{np.isfinite(y).sum()} prices of {len(y)}")

    return _numbers(x, y)


def _classes(x: Array, y: Array) -> Parts:
    return quarter_out(Raw(x, y))


def _numbers(x: Array, y: Array) -> Parts:
    """What is missing becomes the median, and targets are standardised, both by what trains."""
    train, test = quarter_out(Raw(x, y))
    median = np.nanmedian(train.x, axis=0)
    mean, std = train.y.mean(), train.y.std()

    def prepared(raw: Raw) -> Raw:
        return Raw(np.where(np.isnan(raw.x), median, raw.x), (raw.y - mean) / std)

    return prepared(train), prepared(test)
