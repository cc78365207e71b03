"""Statistics of the union of what all ranks have."""

import pytest

from tests.distributed.workers import launch
from tests.stats import workers

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # torch.distributed's own, in the parent
]


def test_recalibration_is_exact_across_ranks():
    launch(workers.recalibrated, 2)
