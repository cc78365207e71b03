"""What a report says, and that it says it once."""

import pytest
from torch import nn

from batchnorm.surgery import Change, Proof, SurgeryReport


def a_report(**options):
    changes = [
        Change("layer1.bn1, layer2.bn1", "replaced", "BatchNorm2d", "GroupNorm"),
        Change("head.bn", "skipped", "timm.BatchNormAct2d", reason="has a drop layer"),
    ]
    return SurgeryReport("convert", nn.Identity(), changes, **options)


def test_report_is_a_table_with_reasons_and_counts():
    lines = str(a_report()).splitlines()
    assert lines[0] == "convert: 1 replaced, 1 skipped"
    assert lines[1].split() == ["path", "action", "before", "after", "reason"]
    assert lines[3].startswith("head.bn")
    assert lines[3].endswith("has a drop layer")
    starts = [line.index("replaced" if "replaced" in line else "skipped") for line in lines[2:4]]
    assert starts == [lines[1].index("action")] * 2


def test_report_splits_what_was_done_from_what_was_left():
    report = a_report()
    assert [change.path for change in report.done] == ["layer1.bn1, layer2.bn1"]
    assert [change.path for change in report.skipped] == ["head.bn"]
    assert repr(report) == "<SurgeryReport convert: 1 replaced, 1 skipped>"


def test_report_shows_its_proofs_or_that_there_are_none():
    assert "nothing was compared" in str(a_report())
    text = str(a_report(proofs=[Proof("outputs, eval", 2e-7, 1e-8, "float32")]))
    assert "outputs, eval: max error 2e-07 (1e-08 of the largest value), float32" in text
    assert "nothing was compared" not in text


def test_report_is_undone_once():
    calls = []
    report = a_report(undo=lambda: calls.append(1))
    report.undo()
    with pytest.raises(RuntimeError, match="an operation can be undone once"):
        report.undo()
    assert calls == [1]


def test_a_refused_undo_can_be_tried_again():
    attempts = []

    def undo():
        attempts.append(1)
        if len(attempts) == 1:
            raise RuntimeError("changed since")

    report = a_report(undo=undo)
    with pytest.raises(RuntimeError, match="changed since"):
        report.undo()
    report.undo()
    assert len(attempts) == 2
