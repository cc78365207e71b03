"""Reading Linux's pressure file."""

from benchmarks.pressure import parse_some_total, pressure_reader

TEXT = """some avg10=0.38 avg60=0.51 avg300=0.22 total=4490029
full avg10=0.00 avg60=0.00 avg300=0.00 total=17
"""


def test_total_of_some_is_read_and_not_that_of_full():
    assert parse_some_total(TEXT) == 4490029
    assert parse_some_total("full avg10=0.00 total=17\n") is None
    assert parse_some_total("") is None


def test_missing_file_reads_as_none(tmp_path):
    assert pressure_reader(tmp_path / "cpu")() is None


def test_counter_is_read_again_each_time(tmp_path):
    path = tmp_path / "cpu"
    read = pressure_reader(path)
    path.write_text("some total=5")
    first = read()
    path.write_text("some total=9")
    assert (first, read()) == (5, 9)
