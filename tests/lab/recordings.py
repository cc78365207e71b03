"""Recordings made by hand, of nets whose numbers are known."""

import json
import math
import random

from batchnorm.watch import Recording
from batchnorm.watch._schema import LAYER

HOSTILE = "</script><script>window.broken = 1</script><b>bold</b>"


def layer(path, order, step, kind, **numbers):
    """A row; what is not given was not measured."""
    place = {"type": "layer", "step": step, "seconds": step / 10, "path": path, "order": order}
    known = place | {"kind": kind, "channels": 8, "training": True} | numbers
    assert not set(known) - set(LAYER)
    return dict.fromkeys(LAYER) | known


def alert(step, path, code="BN104", severity="error", **texts):
    said = {"name": "nonfinite-statistics", "message": "NaN in the input.", "remedy": "Clip it."}
    place = {"type": "alert", "step": step, "seconds": 1.0, "path": path, "code": code}
    measured = json.dumps({"channels": 3.0})
    return place | said | {"severity": severity, "measured": measured} | texts


def recording(*, norm=True, steps=40, every=10, depth=4, name=None, seed=0):
    """Blocks of linear, batch norm and ReLU; without batch norm the deviation grows with depth."""
    draw = random.Random(seed)
    rows, scalars = [], []
    for step in range(0, steps * every, every):
        done = step / (steps * every)
        scalars.append(_scalar(step, "loss", 2.3 * math.exp(-3 * done) + draw.random() / 20))
        for block in range(depth):
            std = 1 + 0.2 * done if norm else 1.6**block * (1 + 4 * done)
            mean = (block - 1.5) * done * (0.3 if norm else 2)
            about = _distribution(mean, std, draw)
            path, order = f"blocks.{block}", 3 * block
            rows.append(
                layer(f"{path}.linear", order, step, "weights", **_weights(block, done, draw))
            )
            if norm:
                statistics = {
                    "distance_mean": draw.gauss(0, 0.1),
                    "distance_errors": 1.2,
                    "samples": 32.0,
                }
                rows.append(
                    layer(f"{path}.norm", order + 1, step, "batchnorm", **about, **statistics)
                )
            rows.append(layer(f"{path}.relu", order + 2, step, "activation", **about, dead=0.0))
    run = {
        "type": "run",
        "format": 1,
        "name": name or ("with batch norm" if norm else "without batch norm"),
        "started": "2026-01-02T03:04:05+00:00",
        "batchnorm": "0.1.0",
        "torch": "2.13.0",
        "every": every,
        "ranks": 1,
        "model": "Blocks",
    }
    return Recording(run, rows, scalars, [])


def _scalar(step, name, value):
    return {"type": "scalar", "step": step, "seconds": step / 10, "name": name, "value": value}


def _distribution(mean, std, draw):
    noise = draw.gauss(0, 0.03)
    return {
        "in_mean": mean + noise,
        "in_std": std,
        "out_mean": noise + 0.4 * std,
        "out_std": 0.6 * std,
        "in_nonfinite": 0.0,
    }


def _weights(block, done, draw):
    norm = 4 + block + done
    grad = norm * 10 ** (-3 + block + draw.random() / 4)
    return {"weight_norm": norm, "grad_norm": grad, "grad_ratio": grad / norm}
