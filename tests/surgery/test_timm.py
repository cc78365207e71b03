"""timm's architectures, where timm is installed: converted, fused and folded, function kept."""

import copy

import pytest
import torch
from torch import nn

import batchnorm as bn
from tests.surgery.models import randomise

# torchvision, which timm needs, does not load beside another build of torch without these.
_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
NAMES = [
    "densenet121",
    "dla34",
    "dpn68",
    "ecaresnet26t",
    "efficientnet_b0",
    "efficientnet_lite0",
    "fbnetc_100",
    "ghostnet_100",
    "hardcorenas_a",
    "hrnet_w18_small",
    "lcnet_050",
    "levit_128s",
    "mnasnet_100",
    "mobilenetv2_100",
    "mobilenetv3_large_100",
    "mobilenetv3_small_100",
    "regnetx_002",
    "regnety_002",
    "res2net50_26w_4s",
    "resnet18",
    "resnet50",
    "resnext50_32x4d",
    "rexnet_100",
    "selecsls42",
    "seresnet50",
    "skresnet18",
    "test_resnet",
    "tinynet_a",
    "xception41",
]


def create(name: str) -> nn.Module:
    for op in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, op):
            _LIBRARY.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    timm = pytest.importorskip("timm", reason="timm is an optional peer")
    torch.manual_seed(0)

    return timm.create_model(name, pretrained=False)


def make(name: str) -> nn.Module:
    return randomise(create(name))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_a_network_of_timm_is_converted_fused_and_folded(name):
    side = 224 if name == "levit_128s" else 64
    model, x = make(name), torch.randn(2, 3, side, side)
    twin, keys = copy.deepcopy(model).double().eval(), list(model.state_dict())
    report = bn.convert(model, fuse=True, sample=x)
    assert not report.skipped
    assert list(report.model.state_dict()) == keys
    model = copy.deepcopy(report.model).double().eval()
    want = twin(x.double())
    bound = 1e-8 * float(want.detach().abs().max())
    torch.testing.assert_close(model(x.double()), want, rtol=0, atol=bound)
    folded = bn.fold(model, x.double()).model
    torch.testing.assert_close(folded(x.double()), want, rtol=0, atol=bound)
