"""The model of what synchronisation costs: its numbers, and the page that shows them."""

import pytest

from benchmarks.sync_cost import DESIGNS, LINKS, RESNET50, WORLDS, Collective, Link, step_rows
from benchmarks.sync_docs import PAGE, filled

OURS, _, APEX = DESIGNS
PLAIN = Link("a test's", 10.0, 0.001, "ring")  # 1 byte takes 1 µs


def test_collectives_by_hand():
    gather, reduce = Collective("all-gather", 100), Collective("all-reduce", 100)
    assert (gather.received(4), reduce.received(4)) == (300, 150)
    assert gather.microseconds(4, PLAIN) == pytest.approx(3 * 10 + 300)
    assert reduce.microseconds(4, PLAIN) == pytest.approx(6 * 10 + 150)
    tree = Link("a test's", 10.0, 0.001, "tree")
    assert gather.microseconds(1024, tree) == pytest.approx(10 * 10 + 1023 * 100)


def test_totals_of_resnet50():
    assert (len(RESNET50), sum(RESNET50)) == (53, 26560)


def test_bytes_are_what_the_layer_sends():
    # tests/distributed/sync_worker.py, one_message_each_way, counts them on the wire.
    assert [one.size for one in OURS.collectives(8)] == [8 * 8 + 16, 8 * 8 + 12]


@pytest.mark.parametrize("link", LINKS, ids=lambda link: link.name)
def test_two_messages_are_never_slower_than_four(link):
    for ranks in WORLDS:
        for channels in RESNET50:
            assert OURS.microseconds(channels, ranks, link) < APEX.microseconds(
                channels, ranks, link
            )


def test_torchs_step_costs_what_ours_does():
    found = {(ranks, one.name, link.name): ms for ranks, one, link, _, ms in step_rows()}
    for ranks in WORLDS:
        for link in LINKS:
            ours, torchs = (found[ranks, name, link.name] for name in ("ours", "torch"))
            assert torchs == pytest.approx(ours, rel=0.02)


def test_page_shows_the_model_and_the_results():
    text = PAGE.read_text("utf-8")
    assert filled(text) == text, "python -m benchmarks.sync_docs"
