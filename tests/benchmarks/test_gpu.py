"""The GPU's benchmark, rehearsed on the CPU, and its table."""

import json

import pytest

from benchmarks import gpu, gpu_table


def row(key="1x1 contiguous float32 plain", ours=1.0, eager=2.0, compiled=1.5):
    ms = {"ours": [ours] * 3, "eager": [eager] * 3, "copy": [0.5] * 3}
    if compiled is not None:
        ms["compile"] = [compiled] * 3
    return {
        "key": key,
        "status": "ok",
        "errors": {},
        "ms": dict.fromkeys(gpu_table.PARTS, ms),
        "peak_mib": {"ours": 10.0, "eager": 20.0},
        "passes": {"forward": 2, "backward": 3},
    }


def found(*rows):
    net = {"net": "resnet50", "side": "ours", "ms": [1.0, 2.0, 3.0], "peak_mib": 100.0}
    return {"header": {"gpu": "a GPU"}, "nets": [net], "rows": list(rows)}


def test_speed_up_is_against_the_best_of_torch():
    assert gpu_table.speed_up(row(), "both") == 1.5
    assert gpu_table.speed_up(row(compiled=None), "both") == 2.0


def test_share_of_copy_counts_the_passes_of_each_part():
    # A copy is two passes in 0.5 ms: forward's two would take that, backward's three 0.75.
    assert gpu_table.of_copy(row(), "forward") == pytest.approx(0.5)
    assert gpu_table.of_copy(row(), "backward") == pytest.approx(0.75)
    assert gpu_table.of_copy(row(), "both") == pytest.approx(1.25)


def test_summary_tells_what_is_missing_and_what_is_slowest():
    rows = (
        row("fast", ours=0.5),
        row("slow", compiled=None, ours=4.0),
        {"key": "x", "status": "wrong"},
    )
    text = "\n".join(gpu_table.summary(found(*rows)))
    assert "2 of 3 rows measured" in text
    assert "1 of them without torch.compile" in text
    assert "least 0.50x at slow" in text
    assert "100 MiB" in text


def test_table_replaces_what_is_between_the_markers(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"a\n{gpu_table.BEGIN}\nold\n{gpu_table.END}\nb\n")
    for _ in range(2):
        gpu_table.write(found(row()), page)
    text = page.read_text()
    assert text.startswith("a\n")
    assert text.endswith("\nb\n")
    assert "old" not in text
    assert text.count("1x1 contiguous float32 plain |") == 1


def test_page_without_markers_is_refused(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("nothing")
    with pytest.raises(ValueError, match="the table goes between"):
        gpu_table.write(found(row()), page)


def test_rows_are_those_of_the_specification():
    keys = [case.key for case in gpu.cases(gpu.SHAPES)]
    assert len(keys) == len(set(keys)) == (6 * 2 + 2) * 2 * 3


def test_rehearsal_checks_times_and_writes(tmp_path, capsys):
    out = tmp_path / "gpu.json"
    words = ["--filter", "16x8 float32 residual", "--compile-seconds", "0", "--out", str(out)]
    assert gpu.main(["--device", "cpu", *words]) == 0
    (measured,) = json.loads(out.read_text())["rows"]
    assert measured["status"] == "ok"
    assert set(measured["ms"]["both"]) == {"ours", "eager", "copy"}
    assert "1 of 1 rows measured" in capsys.readouterr().out


def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert gpu.main([]) == 1
    assert "a GPU is needed" in capsys.readouterr().out


def test_wrong_results_are_not_timed(monkeypatch, tmp_path):
    def broken(case, tensors):
        side = real(case, tensors)
        function = side.function
        side.function = lambda *inputs: function(*inputs) * 1.01
        return side

    from benchmarks import gpu_rows

    real = gpu_rows.ours
    monkeypatch.setattr(gpu_rows, "ours", broken)
    out = tmp_path / "gpu.json"
    words = ["--filter", "16x8 float32 plain", "--compile-seconds", "0", "--out", str(out)]
    assert gpu.main(["--device", "cpu", *words]) == 1
    (measured,) = json.loads(out.read_text())["rows"]
    assert measured["status"] == "wrong"
    assert "ms" not in measured
