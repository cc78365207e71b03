"""One recording of all ranks."""

import pytest

from tests.distributed.workers import launch
from tests.watch import workers

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # torch.distributed's own, in the parent
]


def test_one_rank_writes_what_all_have_measured():
    launch(workers.watched, 2)
