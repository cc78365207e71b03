"""timm's architectures, where timm is installed: sound networks, in their intended use."""

import pytest
import torch

import batchnorm as bn
from batchnorm.doctor import diagnose
from tests.doctor.test_precision import grave
from tests.surgery.test_timm import NAMES, create

# Found rightly: these have convolutions with a bias in front of batch norm.
TRUE = {"hrnet_w18_small": ["BN001"], "rexnet_100": ["BN001"]}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_a_network_of_timm_gets_nothing_above_info(name) -> None:
    side = 224 if name == "levit_128s" else 64
    model = create(name)
    batches = [torch.randn(8, 3, side, side) for _ in range(4)]
    loss_fn = torch.nn.CrossEntropyLoss()

    new = diagnose(model, batches[0], loss_fn=loss_fn, ignore=TRUE.get(name), config={})
    assert grave(new) == [], "new"

    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for batch in batches:
        optimizer.zero_grad()
        loss_fn(model(batch), torch.arange(8)).backward()
        optimizer.step()
    bn.recalibrate(model, batches, progress=False)
    model.eval()
    deployed = diagnose(model, batches[0], ignore=TRUE.get(name), config={})
    assert grave(deployed) == [], "deployed"
