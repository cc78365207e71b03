"""Trials on a Ray cluster, or on a Ray that is started here."""

import os
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from .._errors import explain

__all__ = ["results"]


def results(
    function: Callable[[Any], Any], groups: Sequence[Any], jobs: int
) -> Iterator[tuple[int, Any]]:
    """The number of every group and what `function` made of it, in the order of finishing.

    The cluster is that of ``RAY_ADDRESS``, or else one of this machine with `jobs` processes, which
    ends with the last result. A worker that dies is replaced, three times.

    Raises:
        RuntimeError: Ray is not installed.
    """
    if find_spec("ray") is None:
        rule, cure = "Ray must be installed", "Install it with: pip install 'batchnorm[lab,ray]'"
        raise RuntimeError(explain("lab: the backend 'ray'", rule, "no ray", cure))
    import ray

    ours = not ray.is_initialized()
    if ours and "RAY_ADDRESS" in os.environ:
        ray.init(log_to_driver=False)
    elif ours:
        ray.init(num_cpus=jobs, include_dashboard=False, log_to_driver=False)
    try:
        remote = ray.remote(num_cpus=1, max_retries=3)(lambda group: function(group))
        pending = {remote.remote(group): i for i, group in enumerate(groups)}
        while pending:
            (ready,), _ = ray.wait(list(pending), num_returns=1)
            found = ray.get(ready)
            yield pending.pop(ready), found
    finally:
        if ours:
            ray.shutdown()
