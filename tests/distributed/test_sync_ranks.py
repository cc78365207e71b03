"""Synchronised batch norm by torchrun on 2 and 4 ranks, and what happens when ranks fail."""

from tests.distributed import sync_worker
from tests.distributed.torchrun import torchrun

PACKAGE = "tests.distributed"


def test_two_ranks_are_one_process_on_the_whole_batch():
    said = torchrun(f"{PACKAGE}.sync_worker", 2)

    for check in sync_worker.CHECKS:
        assert f"{check.__name__}: " in said


def test_four_ranks_are_one_process_on_the_whole_batch():
    # Compilers are slow, and compile the same for 2 ranks.
    names = [check.__name__ for check in sync_worker.CHECKS if "compiled" not in check.__name__]
    said = torchrun(f"{PACKAGE}.sync_worker", 4, *names)

    for name in names:
        assert f"{name}: " in said


def test_disagreement_is_told_to_every_rank_by_name():
    said = torchrun(f"{PACKAGE}.sync_faults", 2)

    assert "export_in_training_is_refused" in said


def test_missing_rank_is_an_error_within_the_timeout():
    said = torchrun(f"{PACKAGE}.sync_missing", 2, "hang and die")

    for fault in ("hang forward", "hang backward", "die forward", "die backward"):
        start = f"{fault}: SyncBatchNorm at 'head.bn' on rank 0 of 2: every rank of the group must"
        assert start in said


def test_other_message_sizes_are_told_with_torchs_detailed_checks():
    said = torchrun(f"{PACKAGE}.sync_missing", 2, "size", TORCH_DISTRIBUTED_DEBUG="DETAIL")

    assert "size: SyncBatchNorm at 'narrow' on rank 0 of 2" in said
    assert "size: SyncBatchNorm at 'wide' on rank 1 of 2" in said
