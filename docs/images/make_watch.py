"""Draw ``watch.png`` from a watch report in Chromium: ``python docs/images/make_watch.py``.

Trains eight layers of sigmoids on scikit-learn's digits, with and without batch norm, for half a
minute. Needs the extras ``lab`` and ``browser``, and Chromium.
"""

import os
import shutil
import tempfile
from pathlib import Path

import torch
from playwright.sync_api import sync_playwright
from sklearn.datasets import load_digits
from torch import nn

import batchnorm as bn
from batchnorm.lab.renderers.watch import write_html
from batchnorm.watch import Recording

HERE = Path(__file__).parent
STEPS, EVERY, BATCH, DEPTH, WIDTH = 600, 10, 64, 8, 64
RUNS = {"with batch norm": True, "without batch norm": False}
ONLY = """() => {
  const kept = ["ridge-run1", "grad_norm-run1"].map(
    (key) => document.getElementById(key).closest(".pair"));
  document.querySelectorAll("figcaption, details").forEach((part) => part.remove());
  document.body.replaceChildren(...kept);
  document.body.style.padding = "0.5rem 1rem";
}"""


def network(norm: bool) -> nn.Module:
    """Eight layers, each with a bias or a batch norm."""
    torch.manual_seed(0)
    layers, width = [], 64
    for _ in range(DEPTH):
        linear = nn.Linear(width, WIDTH, bias=not norm)
        nn.init.normal_(linear.weight, std=0.3)
        norms = [bn.BatchNorm1d(WIDTH)] if norm else []
        layers.append(nn.Sequential(linear, *norms, nn.Sigmoid()))
        width = WIDTH
    return nn.Sequential(*layers, nn.Linear(width, 10))


def train(name: str, norm: bool) -> tuple[str, Recording]:
    """Both networks see the same batches."""
    images, labels = (torch.tensor(part) for part in load_digits(return_X_y=True))
    images = images.float() / 16
    model = network(norm)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    order = torch.Generator().manual_seed(0)
    with bn.watch(model, optimizer=optimizer, every=EVERY, name=name, on_alert=None) as watching:
        for _ in range(STEPS):
            batch = torch.randint(len(images), (BATCH,), generator=order)
            loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            watching.log(loss=loss)
            optimizer.step()
    print(f"{name}: loss {loss.item():.3f}")
    return name, watching.recording


def picture(page: Path, to: Path) -> None:
    """The ridges and the heat maps of the gradient, without their texts."""
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as found, found.chromium.launch(executable_path=program) as browser:
        shown = browser.new_page(viewport={"width": 960, "height": 800}, device_scale_factor=1.5)
        shown.goto(page.as_uri())
        shown.wait_for_selector("#chart-grad_norm-run2 canvas")
        shown.evaluate(ONLY)
        shown.locator("body").screenshot(path=to)


if __name__ == "__main__":
    recordings = [train(name, norm) for name, norm in RUNS.items()]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.html"
        write_html(recordings, report)
        picture(report, HERE / "watch.png")
