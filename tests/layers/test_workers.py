"""Loader workers by fork and spawn, also after the parent has used its threads."""

import multiprocessing

import pytest
import torch
from torch.utils.data import DataLoader

import batchnorm as bn
from tests.layers.loader import Normalised, forked

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_loader_workers_give_what_the_parent_gives(method, training):
    data = Normalised(training)
    torch.set_num_threads(2)
    want = [data[i] for i in range(len(data))]  # the parent has used its thread pool
    loader = DataLoader(data, batch_size=None, num_workers=1, multiprocessing_context=method)
    for a, b in zip(loader, want, strict=True):
        assert torch.equal(a, b)


def test_forked_child_with_one_thread_after_the_parent_used_two():
    torch.set_num_threads(2)
    layer = bn.BatchNorm2d(16)
    x = torch.randn(8, 16, 64, 64)
    y = layer(x)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=forked, args=(queue, layer, x))
    child.start()
    total, tracked = queue.get(timeout=60)
    child.join(60)
    assert child.exitcode == 0
    assert total == pytest.approx(y.sum().item(), rel=1e-3, abs=1.0)
    assert tracked == 2


def test_threads_that_share_a_layer_in_eval_mode():
    from concurrent.futures import ThreadPoolExecutor

    layer = bn.BatchNorm2d(16, activation="relu").eval()
    xs = torch.randn(16, 4, 16, 12, 12)
    want = [layer(x) for x in xs]
    with ThreadPoolExecutor(4) as pool:
        for a, b in zip(pool.map(layer, xs), want, strict=True):
            assert torch.equal(a, b)
