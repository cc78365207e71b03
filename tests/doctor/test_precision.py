"""Sound networks in their intended use: nothing above info."""

import pytest
import torch
from torch import nn

import batchnorm as bn
from batchnorm.doctor import diagnose
from tests.lab.test_networks import NORMS, SMALL

CLASSES = 10
LARGE = {"bottleneck", "mobilenet v2", "mobilenet v3", "densenet", "inception"}
STEPS = 48  # after which 0.9 ** 48 = 0.6 % of the initial statistics are left


def grave(diagnosis) -> list[str]:
    assert not [skip for skip in diagnosis.skipped if skip.failed]
    return [f"{finding.severity} {finding}" for finding in diagnosis if finding.severity != "info"]


class Task:
    """Images of classes that differ in their mean pattern; enough to learn something."""

    def __init__(self, model) -> None:
        generator = torch.Generator().manual_seed(0)
        patterns = torch.randn(CLASSES, 3, 32, 32, generator=generator)
        labels = torch.arange(8 * 16) % CLASSES
        images = torch.randn(8 * 16, 3, 32, 32, generator=generator) + patterns[labels]
        order = torch.randperm(8 * 16, generator=generator)
        self.loader = torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(images[order], self.targets(model, labels[order])),
            batch_size=16,
            shuffle=True,
            drop_last=True,
        )
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        free = {p for norm in norms for p in norm.parameters()}
        free |= {p for p in model.parameters() if p.dim() < 2}
        rest = [p for p in model.parameters() if p not in free]
        groups = [{"params": rest, "weight_decay": 1e-4}, {"params": list(free)}]
        self.optimizer = torch.optim.SGD(groups, 0.01, momentum=0.9)
        self.loss_fn = nn.CrossEntropyLoss()

    @staticmethod
    def targets(model, labels):
        with torch.no_grad():
            shape = model.eval()(torch.zeros(1, 3, 32, 32)).shape
        model.train()
        labels = labels % shape[1]
        if len(shape) == 2:
            return labels
        return labels.view(-1, 1, 1).expand(-1, *shape[2:]).contiguous()

    def train(self, model) -> None:
        model.train()
        schedule = torch.optim.lr_scheduler.LinearLR(self.optimizer, 1.0, 0.01, STEPS)
        for _ in range(STEPS // len(self.loader)):
            for images, labels in self.loader:
                self.optimizer.zero_grad()
                self.loss_fn(model(images), labels).backward()
                self.optimizer.step()
                schedule.step()

    def facts(self) -> dict:
        return {"loader": self.loader, "optimizer": self.optimizer, "loss_fn": self.loss_fn}


def networks():
    for name in SMALL:
        for number, norm in enumerate(NORMS[name]):
            marks = [pytest.mark.slow] if number == 0 or name in LARGE else []
            label = f"{name}-{('torch', 'ours')[number]}"
            yield pytest.param(SMALL[name], norm, id=label, marks=marks)


@pytest.mark.parametrize(("make", "norm"), list(networks()))
def test_nothing_above_info_from_the_first_step_to_deployment(make, norm) -> None:
    model = make(norm, seed=0)
    task = Task(model)

    assert grave(diagnose(model, torch.randn(16, 3, 32, 32), config={})) == [], "new"
    assert grave(diagnose(model, **task.facts(), config={})) == [], "about to be trained"

    task.train(model)
    assert grave(diagnose(model, **task.facts(), config={})) == [], "in training"

    bn.recalibrate(model, task.loader, progress=False)
    model.eval()
    images = next(iter(task.loader))[0]
    assert grave(diagnose(model, images, config={})) == [], "deployed"

    bn.fold(model)
    assert grave(diagnose(model, images, config={})) == [], "folded"
