"""The chart is drawn from rows; without any there is none."""

import pytest

from .made_up import ops_row

pytest.importorskip("altair", reason="the chart needs the lab extra")
pytest.importorskip("vl_convert", reason="the chart needs the lab extra")

from benchmarks import chart


def test_chart_names_every_row_peer_and_form(tmp_path):
    path = tmp_path / "images" / "chart.svg"
    rows = [ops_row((8, 16, 32, 32)), ops_row((64, 10), form="relu", eager=0.5)]
    assert chart.save(rows, path)
    text = path.read_text()
    for words in ("(8, 16, 32, 32)", "(64, 10)", "over eager torch", "over torch.compile", "relu"):
        assert words in text


def test_rows_that_were_not_timed_are_not_drawn(tmp_path):
    path = tmp_path / "chart.svg"
    assert not chart.save([ops_row(status="wrong", reason="output")], path)
    assert not path.exists()
