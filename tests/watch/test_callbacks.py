"""Recording from other libraries' loops, where they are installed."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from batchnorm.watch import read
from tests.watch.nets import batches, hooks, net

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # theirs
]


def data():
    x, y = zip(*batches(6), strict=True)
    return TensorDataset(torch.cat(x), torch.cat(y))


def test_lightning_records_and_ends_with_the_training(tmp_path):
    lightning = pytest.importorskip("lightning.pytorch", reason="Lightning is not installed")
    from batchnorm.watch.callbacks.lightning import WatchCallback

    class Module(lightning.LightningModule):
        def __init__(self, breaks=False):
            super().__init__()
            self.model, self.breaks = net(), breaks

        def training_step(self, batch, index):
            if self.breaks and index == 3:
                raise ZeroDivisionError
            loss = nn.functional.cross_entropy(self.model(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.05)

    def fit(module, *callbacks):
        lightning.seed_everything(0, verbose=False)
        trainer = lightning.Trainer(
            max_epochs=1, accelerator="cpu", callbacks=list(callbacks), logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(module, DataLoader(data(), batch_size=12))

    alone, watched = Module(), Module()
    fit(alone)
    callback = WatchCallback(to=tmp_path / "run.jsonl", every=2, on_alert=None)
    fit(watched, callback)
    for a, b in zip(alone.state_dict().values(), watched.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    found = read(tmp_path / "run.jsonl")
    assert [r["step"] for r in found.layers if r["path"] == "model.1"] == [0, 2, 4]
    assert all(r["grad_norm"] for r in found.layers if r["path"] == "model.1")
    assert "lr" in {row["name"] for row in found.scalars}
    assert hooks(watched) == 0

    broken = Module(breaks=True)
    with pytest.raises(ZeroDivisionError):
        fit(broken, WatchCallback(to=tmp_path / "two.jsonl", every=1, on_alert=None))
    assert hooks(broken) == 0
    assert len({row["step"] for row in read(tmp_path / "two.jsonl").layers}) == 3


def test_the_trainer_of_transformers_records(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    from batchnorm.watch.callbacks.huggingface import WatchCallback

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = net()

        def forward(self, x, labels):
            logits = self.model(x)
            return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

    def fit(model, *callbacks):
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path), max_steps=5, per_device_train_batch_size=12, use_cpu=True,
            report_to=[], logging_steps=1, disable_tqdm=True, save_strategy="no",
        )  # fmt: skip
        rows = [{"x": x, "labels": y} for x, y in data()]
        trainer = transformers.Trainer(model, arguments, train_dataset=rows)
        for callback in callbacks:
            trainer.add_callback(callback)
        trainer.train()

    alone, watched = Model(), Model()
    fit(alone)
    with WatchCallback(to=tmp_path / "run.jsonl", every=2, on_alert=None) as callback:
        fit(watched, callback)
    for a, b in zip(alone.state_dict().values(), watched.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    found = read(tmp_path / "run.jsonl")
    rows = [r for r in found.layers if r["path"] == "model.1"]
    assert [r["step"] for r in rows] == [0, 2, 4]
    assert all(r["update_ratio"] for r in rows)
    assert hooks(watched) == 0


@pytest.mark.parametrize("name", ["lightning", "huggingface"])
def test_a_missing_library_is_named(name, monkeypatch):
    import importlib

    module = importlib.import_module(f"batchnorm.watch.callbacks.{name}")
    monkeypatch.setattr(module, "Callback" if name == "lightning" else "TrainerCallback", None)
    with pytest.raises(RuntimeError, match="pip install"):
        module.WatchCallback()
