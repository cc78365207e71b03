"""Summary, tables and markers, on rows with chosen times."""

import math

import pytest

from benchmarks import table
from benchmarks.report import row_line, summary_lines
from benchmarks.results import Results
from benchmarks.summary import copies, summarise
from benchmarks.table_ops import losing_table, ops_table, summary_table
from benchmarks.table_parts import memory_table, nets_table, overhead_table
from benchmarks.table_readme import readme_table
from benchmarks.table_variants import variants_table
from benchmarks.words import geometric_mean, markdown, milliseconds_text, speed

from .made_up import ops_row, results, times


def test_geometric_mean_of_a_speed_up_and_its_inverse_is_one():
    assert geometric_mean([4.0, 0.25]) == pytest.approx(1)
    assert math.isnan(geometric_mean([]))


def test_losses_are_bold_and_missing_values_are_dashes():
    assert [speed(value) for value in (12.34, 2.0, 0.934, math.nan)] == [
        "12.3×",
        "2.00×",
        "**0.93×**",
        "–",
    ]
    assert [milliseconds_text(value) for value in (0.012345, 1.5, 123.4)] == [
        "0.0123",
        "1.5",
        "123",
    ]


def test_markdown_aligns_numbers_right():
    assert markdown(("a", "b"), [("x", "1")]) == "| a | b |\n| --- | ---: |\n| x | 1 |"


def test_summary_means_and_counts():
    found = summarise(
        [
            ops_row(eager=4.0, compiled=0.5),
            ops_row(eager=1.0, form="relu"),
            ops_row(eager=0.5, mib=40.0),
            ops_row(eager=900.0, mib=40.0, noisy=True),
            ops_row(status="wrong", reason="output: error 1"),
            ops_row(status="failed", reason="ValueError: no"),
        ]
    )
    assert found.over_eager == pytest.approx(2 ** (1 / 3))
    assert found.over_eager_inplace == pytest.approx((4 * 0.9 * 0.5) ** (1 / 3))
    assert (len(found.slower_than_eager), len(found.slower_than_eager_inplace)) == (1, 2)
    assert (len(found.slower_than_compile), len(found.wrong), len(found.failed)) == (1, 1, 1)
    assert found.forward_copies_beyond_cache == pytest.approx(2)
    assert (found.stalled, found.rounds, len(found.noisy)) == (4, 16, 1)


def test_copies_compare_a_phase_with_the_whole_copy():
    row = ops_row()
    assert copies(row, "forward") == pytest.approx(2)
    assert copies(row, "total") == pytest.approx(4)


def test_ratio_is_taken_round_by_round():
    row = ops_row()
    row["ms"]["ours"] = times([1.0, 10.0, 1.0], [1.0, 10.0, 1.0])
    row["ms"]["eager"] = times([3.0, 30.0, 3.0], [3.0, 30.0, 3.0])
    assert "eager 3.00x" in row_line("ops", row)
    assert "3.00× (3.00–3.00)" in ops_table(results(row))


def test_losing_rows_are_listed_with_the_worst_first_and_bad_ones_last():
    text = losing_table(
        results(
            ops_row((1, 2, 3, 4), eager=0.9),
            ops_row((5, 6, 7, 8), compiled=0.5),
            ops_row((9, 9, 9, 9), status="wrong", reason="grad_input: error 3"),
            ops_row((2, 2, 2, 2)),
        )
    )
    lines = text.splitlines()[2:]
    assert [line.split(")")[0][-10:] for line in lines] == [
        "5, 6, 7, 8",
        "1, 2, 3, 4",
        "9, 9, 9, 9",
    ]
    assert "torch.compile" in lines[0]
    assert "grad_input: error 3" in lines[2]
    assert losing_table(results(ops_row())) == "None."


def test_wrong_rows_have_no_times_in_the_table():
    text = ops_table(results(ops_row(status="wrong", reason="output")))
    assert "wrong | – | –" in text


def test_incomplete_run_says_so():
    assert "Not complete" in summary_table(results(ops_row(), complete=False))
    assert "Not complete" not in summary_table(results(ops_row()))


def test_readme_shows_the_mean_and_the_worst_of_the_trusted_rows():
    rows = [ops_row(), ops_row((3, 4), eager=0.8), ops_row((5, 6), eager=0.1, noisy=True)]
    text = readme_table(results(*rows))
    assert "geometric mean of 2 rows | 1.79×" in text
    assert "worst row: (3, 4) float32 plain | **0.80×**" in text
    assert "1 rows had too few calm rounds" in text
    assert "too busy" in readme_table(results(rows[2]))


def test_nothing_measured_is_said_and_not_a_crash():
    tables = (summary_table, losing_table, ops_table, overhead_table, nets_table, memory_table)
    assert {make(Results()) for make in (*tables, readme_table, variants_table)} == {
        "Not measured yet: `make bench`."
    }
    assert list(summary_lines(Results())) == []


def test_overhead_is_in_microseconds():
    row = ops_row(mode="train", form="relu")
    text = overhead_table(results(row, part="overhead"))
    assert "| relu, forward + backward | 2000.0 | 8000.0 | 4.00× (4.00–4.00) |" in text


def test_rows_without_enough_calm_rounds_are_marked_in_every_table():
    row = ops_row(mode="train", net="resnet18", pages="default", noisy=True)
    row["ms"] |= {"none": row["ms"]["ours"], "clone": {"total": [1.0] * 3}}
    row["faults"] = row["peak_mib"] = {"ours": 1, "eager": 1}
    for make, part in (
        (ops_table, "ops"),
        (overhead_table, "overhead"),
        (nets_table, "nets"),
        (memory_table, "memory"),
    ):
        assert "| ~" in make(results(row, part=part))


def test_nets_say_what_share_of_batch_norm_is_gone():
    row = ops_row(net="resnet18", pages="default", layout="channels_last")
    row["ms"]["none"] = times([0.5] * 3, [0.5] * 3)
    row["peak_mib"] = {"eager": 400.4, "ours": 300.0}
    text = nets_table(results(row, part="nets"))
    assert "| resnet18 NHWC | default | 8 | 2 | 1 | 4.00× (4.00–4.00) | 86% | 400 | 300 |" in text


def test_memory_shows_each_side_in_copies():
    row = ops_row(pages="keep_pages", mib=98.0)
    row["ms"] = {"in_place": row["ms"]["ours"], **row["ms"], "clone": {"total": [1.0] * 3}}
    row["faults"] = dict.fromkeys(("ours", "eager", "in_place"), 3)
    row["peak_mib"] = dict.fromkeys(("ours", "eager", "in_place"), 98.0)
    text = memory_table(results(row, part="memory"))
    assert "| NCHW plain, in place | `keep_pages()` | 1 | 1 | 2.00 | 2.00 | 2.00 | 3 | 98 |" in text


def test_only_what_is_between_the_markers_is_replaced():
    text = "a\n<!-- x:start -->\nold\n<!-- x:end -->\nb <!-- y:start --> keep <!-- y:end -->"
    once = table.replace_between(text, "x", "new\n")
    assert once == text.replace("old", "\nnew\n")
    assert table.replace_between(once, "x", "new") == once
    assert table.replace_between(text, "z", "new") == text


def test_render_writes_readme_and_docs_and_says_which_changed(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("# t\n<!-- bench:start -->\n<!-- bench:end -->\nend\n")
    found = results(ops_row())
    assert table.render(found, tmp_path) == [readme]
    assert "geometric mean of 1 rows" in readme.read_text()
    assert readme.read_text().endswith("<!-- bench:end -->\nend\n")
    assert table.render(found, tmp_path) == []


def variant_row(public, *, plain=0.5, **facts):
    """Ours takes 2 ms; ``public`` maps ways in torch to how many times as long they take."""
    row = ops_row((8, 16, 4, 4), variant="ghost", detail="4 samples each", public=list(public))
    ours = row["ms"]["ours"]
    row["ms"] = {"ours": ours, "plain": times([plain] * 3, [plain] * 3)}
    row["ms"] |= {way: times([slow] * 3, [slow] * 3) for way, slow in public.items()}
    row["peak_mib"] = {side: 10.0 * place for place, side in enumerate(row["ms"], 1)}
    return {**row, **facts}


def test_variants_stand_beside_the_fastest_public_way_and_the_plain_layer():
    text = variants_table(results(variant_row({"slow": 9.0, "fast": 3.0}), part="variants"))
    assert "| Variant | Row | Best way in torch | ours ms |" in text
    assert (
        "| ghost | (8, 16, 4, 4) 4 samples each | fast | 2 | 3.00× (3.00–3.00) | 3.00× | 3.00× "
        "| 2.00 | 10 | 40 | 20 |"
    ) in text


def test_variants_count_losses_in_trusted_rows_and_show_the_others():
    rows = [
        variant_row({"a": 8.0}),
        variant_row({"a": 9.0, "b": 0.5}),
        variant_row({"a": 0.1}, noisy=True),
        variant_row({"a": 1.0}, status="wrong", reason="output: error 1"),
    ]
    text = variants_table(results(*rows, part="variants"))
    assert "Geometric mean of 2 rows over the best way in torch: 2.00×" in text
    assert "in which that way is faster: 1." in text
    assert "| **0.50×** (0.50–0.50) |" in text
    assert "| ~ghost |" in text
    assert "| wrong | – |" in text
    lines = " ".join(summary_lines(results(*rows, part="variants")))
    assert "geometric mean: 2.00x" in lines
    assert "rows: 4, slower 1, wrong or failed 1, without enough calm rounds 1" in lines
