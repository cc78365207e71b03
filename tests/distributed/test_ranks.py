"""DDP and FSDP2 over gloo on this machine."""

import pytest

from tests.distributed import workers

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # torch.distributed's own, in the parent
]


def test_ddp_gradients_and_buffers():
    workers.launch(workers.ddp, 2)


def test_ddp_two_forwards_before_one_backward():
    # pytorch#22095, #65907, #73332, #110363: "modified by an inplace operation".
    workers.launch(workers.ddp_two_forwards, 2)


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_fsdp2_trains_as_a_whole_model(ranks):
    workers.launch(workers.fsdp, ranks)
