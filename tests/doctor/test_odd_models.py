"""No rule on statistics or the training loop stumbles over unusual layers, models and loaders."""

import warnings

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

import batchnorm as bn
from batchnorm.doctor import Distributed, diagnose


class Labelled(nn.Module):
    def __init__(self, layer) -> None:
        super().__init__()
        self.norm = layer

    def forward(self, x, domain):
        return self.norm(x, domain)


class Steps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = bn.BatchNormLSTM(4, 6, batch_first=True)

    def forward(self, x):
        return self.rnn(x)[0]


class Fails(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x):
        if self.training:
            raise RuntimeError("only for inference")
        return self.norm(x)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(torch.randn(40, 4))


def rows(size=32, number=4):
    return [torch.randn(size, 4) for _ in range(number)]


def trained(model, loader):
    for x in loader:
        model(**x) if isinstance(x, dict) else model(x)
    return model


CASES = {
    "domain": lambda: (
        Labelled(bn.DomainBatchNorm1d(4, num_domains=2)),
        [{"x": x, "domain": torch.arange(32) % 2} for x in rows()],
    ),
    "whitened": lambda: (nn.Sequential(bn.WhitenedBatchNorm1d(4)), rows()),
    "renorm": lambda: (nn.Sequential(bn.BatchRenorm1d(4)), rows()),
    "ghost": lambda: (nn.Sequential(bn.GhostBatchNorm1d(4, ghost_batch_size=8)), rows()),
    "lstm": lambda: (Steps(), [torch.randn(8, 5, 4) for _ in range(4)]),
    "bfloat16": lambda: (
        nn.Sequential(nn.BatchNorm1d(4)).bfloat16(),
        [x.bfloat16() for x in rows()],
    ),
    "no affine": lambda: (nn.Sequential(nn.BatchNorm1d(4, affine=False)), rows()),
    "no statistics": lambda: (
        nn.Sequential(nn.BatchNorm1d(4, track_running_stats=False, momentum=None)),
        rows(),
    ),
    "no batch norm": lambda: (nn.Linear(4, 2), rows()),
    "the layer alone": lambda: (nn.BatchNorm1d(4), rows()),
    "a stream": lambda: (nn.Sequential(nn.BatchNorm1d(4)), DataLoader(Stream(), batch_size=8)),
    "one example": lambda: (nn.Sequential(bn.BatchNorm1d(4, on_single="skip")), rows(1)),
    "no example": lambda: (nn.Sequential(bn.BatchNorm1d(4)), rows(0)),
    "not finite": lambda: (nn.Sequential(nn.BatchNorm1d(4)), [x * torch.nan for x in rows()]),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_rules_look_without_stumbling(name, training) -> None:
    torch.manual_seed(0)
    model, loader = CASES[name]()
    trained(model, loader).train(training)
    parameters = list(model.parameters()) or [nn.Parameter(torch.zeros(1))]

    diagnosis = diagnose(
        model,
        loader=loader,
        optimizer=torch.optim.AdamW(parameters),
        loss_fn=nn.MSELoss(),
        distributed=Distributed(2, "DistributedDataParallel"),
        select=["BN1", "BN2"],
        config={},
    )

    assert not [skip for skip in diagnosis.skipped if skip.failed]


def test_a_model_for_inference_alone_is_looked_at() -> None:
    diagnosis = diagnose(Fails().eval(), loader=rows(), select=["BN1", "BN2"], config={})
    assert not [skip for skip in diagnosis.skipped if skip.failed]


def test_a_models_own_warnings_neither_leak_nor_stop_a_rule():
    class Warns(nn.Sequential):
        def forward(self, x):
            warnings.warn("mine", stacklevel=2)
            return super().forward(x)

    model = Warns(nn.Linear(4, 3), bn.BatchNorm1d(3))  # warnings are errors in these tests
    found = diagnose(model, torch.randn(8, 4))
    assert not [skip for skip in found.skipped if skip.failed or "mine" in skip.reason]
