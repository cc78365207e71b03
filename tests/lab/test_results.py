"""The results in the documentation are what the lab found."""

import importlib.util
import json
from collections import Counter
from pathlib import Path

import pytest

from batchnorm.lab import save
from tests.lab.studies import experiment, study

DOCS = Path(__file__).parents[2] / "docs"
HARM = "\\|`*_<b>[x](y)"


@pytest.fixture(scope="module")
def make_results():
    spec = importlib.util.spec_from_file_location("make_results", DOCS / "make_results.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(make_results, tmp_path_factory):
    place = tmp_path_factory.mktemp("results")
    save([study(experiment("one", HARM)), study(experiment("two"))], place / "found")
    (place / "docs").mkdir()
    (place / "docs" / "gone.md").write_text("of an experiment that is no more")
    make_results.main(place / "found", place / "docs")
    return place / "docs"


def test_every_experiment_has_a_page_and_a_picture(folder):
    names = {file.name for file in folder.iterdir()}

    assert names == {"index.md", "results.json", "one.md", "one.svg", "two.md", "two.svg"}


def test_index_has_every_claim_and_the_command(folder):
    text = (folder / "index.md").read_text()

    assert "6 claims from 2 experiments: 2 hold, 2 fail, 2 undecided." in text
    assert "$ batchnorm lab run one two --budget smoke --data ~/data" in text
    assert text.count("| ✔ holds | Batch norm helps") == 2
    assert "| ? undecided | Nothing is certain. | Near data (undecided): accuracy 0.5 " in text
    assert "| 0.4 more |" in text


def test_a_page_has_rule_source_intervals_and_numbers(folder):
    text = (folder / "two.md").read_text()

    assert "![Training " in text
    assert "Rule: holds if the difference is above 0.2." in text
    assert "<https://example.org/a?b=1&c=2>." in text
    assert "| Near data | undecided | 0.5 | 0.45 to 0.55 | 0 | 3 |" in text
    assert "| batch norm | 0.01 | 90.0 % ± 2 | 1 ± 0 |" in text.replace("\N{NO-BREAK SPACE}", " ")
    assert "- test accuracy" not in text
    assert "- accuracy: test accuracy" in text


def test_text_is_not_markup(folder):
    for file in folder.glob("*.md"):
        text = file.read_text()
        assert "<b>" not in text
        assert "<img" not in text
    assert "[\\\\\\|\\`\\*\\_&lt;b&gt;\\[x\\](y)](one.md)" in (folder / "index.md").read_text()


def test_the_results_do_not_say_where_the_package_lay(make_results):
    text = '"path": "native library: /home/me/lib/_kernels.so (avx512)\\ncpu: native"'

    assert make_results.without_folders(text) == text.replace("/home/me/lib/", "")
    left_out = "far.npz must be there. Got '/home/me/data' without them."
    assert make_results.without_folders(left_out) == (
        "far.npz must be there. Got a folder without them."
    )
    committed = (DOCS / "results" / "results.json").read_text("utf-8")
    assert make_results.without_folders(committed) == committed


def test_the_documentation_s_index_says_what_its_numbers_say():
    results = DOCS / "results" / "results.json"
    text = (results.parent / "index.md").read_text("utf-8")
    claims = [claim for record in json.loads(results.read_text()) for claim in record["claims"]]

    for verdict, times in Counter(claim["verdict"] for claim in claims).items():
        assert text.count(f" {verdict} |") == times
