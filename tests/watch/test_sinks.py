"""What is written can be read again by the programs that it is for."""

import io
import json
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

import batchnorm as bn
from batchnorm.watch import read
from batchnorm.watch._schema import COLUMNS
from batchnorm.watch.sinks import JsonLines, Live, Memory, Parquet, TensorBoard
from tests.watch.nets import net, train


def run(to, model=None, steps=4, **options):
    model = model or net()
    return train(
        model,
        steps,
        lambda o: bn.watch(
            model, to=to, optimizer=o, every=2, on_alert=None, name="a run", **options
        ),
    )


def bare(recording):
    """Without what differs between two runs."""
    return [
        {k: v for k, v in row.items() if k != "seconds"}
        for rows in (recording.layers, recording.scalars, recording.alerts)
        for row in rows
    ]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_files_have_what_memory_has(tmp_path, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    memory, path = Memory(), tmp_path / "deep" / f"run.{suffix}"
    run([memory, path])
    found = read(path)
    assert found.run == memory.recording.run
    assert found.run["name"] == "a run"
    assert bare(found) == bare(memory.recording)
    assert [row["value"] for row in found.scalars if row["name"] == "lr"] == [0.05, 0.05]
    assert {row["name"] for row in found.scalars} == {"lr", "loss"}


def test_parquet_is_a_table_for_data_frames(tmp_path):
    pyarrow = pytest.importorskip("pyarrow.parquet", reason="Parquet needs pyarrow")
    path = tmp_path / "run.parquet"
    run(path)
    table = pyarrow.read_table(path)
    assert table.column_names == list(COLUMNS)
    assert os.listdir(tmp_path) == ["run.parquet"]


def test_parquet_is_written_when_the_training_raises(tmp_path):
    pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    path, model = tmp_path / "run.parquet", net()
    with pytest.raises(ZeroDivisionError):  # noqa: PT012, SIM117
        with bn.watch(model, to=path, every=1, on_alert=None) as watching:
            model(torch.randn(4, 3, 10, 10))
            watching.step()
            1 / 0
    assert read(path).layers


def test_a_killed_process_leaves_what_it_had(tmp_path):
    code = """
import os, signal, sys, torch, batchnorm as bn
model = torch.nn.BatchNorm1d(2)
watching = bn.watch(model, to=sys.argv[1], every=1, on_alert=None).start()
for _ in range(3):
    model(torch.randn(8, 2)); watching.step()
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "run.jsonl")], check=False)
    assert [row["step"] for row in read(tmp_path / "run.jsonl").layers] == [0, 1, 2]


def test_a_line_that_was_cut_off_is_left_out(tmp_path):
    path = tmp_path / "run.jsonl"
    run(path)
    whole = read(path)
    text = path.read_text("utf-8")
    path.write_text(text + text.splitlines()[1][:50], encoding="utf-8")
    assert bare(read(path)) == bare(whole)


def test_numbers_that_are_not_finite_are_null(tmp_path):
    path, layer = tmp_path / "run.jsonl", nn.BatchNorm1d(2)
    with bn.watch(layer, to=path, every=1, on_alert=None) as watching:
        layer(torch.full((4, 2), torch.nan))
        watching.log(loss=torch.inf)
        watching.step()
    for line in path.read_text("utf-8").splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert read(path).layers[0]["in_mean"] is None
    assert read(path).scalars[0]["value"] is None


def test_other_files_are_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"type": "layer"}\n')
    with pytest.raises(ValueError, match="first row is the run's"):
        read(tmp_path / "a.jsonl")
    (tmp_path / "b.jsonl").write_text('{"type": "run", "format": 999}\n')
    with pytest.raises(ValueError, match="formats up to 1.*Got format 999"):
        read(tmp_path / "b.jsonl")
    with pytest.raises(ValueError, match="must name a sink. Got to='run.csv'"):
        bn.watch(net(), to="run.csv")


def test_tensorboard_reads_scalars_and_histograms(tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    memory, writer = Memory(), SummaryWriter(tmp_path)
    run([memory, writer])
    writer.add_scalar("mine", 1.0, 0)  # still open
    writer.close()
    events = EventAccumulator(str(tmp_path), size_guidance={"histograms": 0}).Reload()
    row = next(r for r in memory.recording.layers if r["path"] == "1" and r["step"] == 2)
    found = {e.step: e.value for e in events.Scalars("1/in_std")}
    assert found[2] == pytest.approx(row["in_std"])
    histogram = events.Histograms("1/in")[1].histogram_value
    assert histogram.num == sum(row["in_hist"])
    assert list(histogram.bucket) == row["in_hist"]
    assert "loss" in events.Tags()["scalars"]


def test_a_folder_gets_a_writer_of_its_own(tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    run(TensorBoard(tmp_path))
    assert any("tfevents" in name for name in os.listdir(tmp_path))


def test_the_live_view_shows_layers_and_alerts():
    rich = pytest.importorskip("rich.console", reason="the live view needs rich")
    console = rich.Console(file=io.StringIO(), force_terminal=True, width=120)
    model = nn.Sequential(nn.BatchNorm1d(3), nn.ReLU())
    with bn.watch(model, to=Live(console), every=1, on_alert=None) as watching:
        model(torch.tensor([[torch.nan] * 3] * 4))
        watching.step()
    text = console.file.getvalue()
    assert "in std" in text
    assert "BN501" in text


def test_a_console_nobody_looks_at_stays_empty():
    rich = pytest.importorskip("rich.console", reason="the live view needs rich")
    console = rich.Console(file=io.StringIO())
    run(Live(console))
    assert "in std" not in console.file.getvalue()


def test_wandb_logs_beside_the_users_steps(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    from batchnorm.watch.sinks import WeightsAndBiases

    monkeypatch.setenv("WANDB_SILENT", "true")
    with wandb.init(mode="offline", dir=tmp_path, project="test") as own:
        run(WeightsAndBiases(own))
        assert own.summary["watch/step"] == 2
        assert own.summary["watch/1/in_std"] > 0


def test_mlflow_logs_metrics(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    from batchnorm.watch.sinks import MLflow

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(tmp_path.as_uri())
    mlflow.set_experiment("test")
    with mlflow.start_run() as own:
        run(MLflow())
    metrics = mlflow.get_run(own.info.run_id).data.metrics
    assert metrics["watch/1/in_std"] > 0


@pytest.mark.parametrize("sink", [JsonLines, Parquet])
def test_the_last_recording_is_replaced(tmp_path, sink):
    if sink is Parquet:
        pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    path = tmp_path / f"run.{'parquet' if sink is Parquet else 'jsonl'}"
    for _ in range(2):
        run(sink(path))
    assert [row["step"] for row in read(path).scalars if row["name"] == "lr"] == [0, 2]
