"""The bodies of ``tests/triton`` on the device, and shapes that no interpreter would finish."""

import pytest
import torch

from tests.cases import make_case
from tests.ops.test_train import LARGE, check_train
from tests.triton.test_interpreted import *  # noqa: F403

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [*LARGE, (256, 128, 28, 28), (256, 256, 7, 7)], ids=str)
def test_large_shapes(whole, shape, dtype, layout):
    check_train(whole, make_case(shape, dtype, layout, "residual_act"))
