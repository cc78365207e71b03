"""What the pages of the export rules say, tried out."""

import torch
from torch import nn

import batchnorm as bn
from batchnorm.doctor import diagnose
from tests.doctor.test_structure import only


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))


def test_what_can_be_folded_is_what_fold_folds() -> None:
    model = nn.Sequential(net(), nn.MaxPool2d(2), nn.BatchNorm2d(2), nn.ReLU()).eval()

    measured = only("BN301", model).measured
    report = bn.fold(model)

    gone = [c.path for c in report.changes if c.action == "replaced" and "folded into" in c.reason]
    assert measured["folded"] == gone == ["0.1"]
    assert measured["left"] == {c.path: c.reason for c in report.skipped}


def test_looking_for_what_can_be_folded_does_not_disturb_other_rules() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.BatchNorm1d(4)).eval()

    codes = [finding.code for finding in diagnose(model, select=["BN003", "BN301"], config={})]

    assert codes == ["BN003", "BN301"]


def test_a_program_in_training_mode_couples_examples_and_learns() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 6, 6)
    program = torch.export.export(net(), (x,)).module()
    path = only("BN302", program).path
    memory = program.get_submodule(path).running_mean.clone()

    first = program(x)[0]
    second = program(torch.stack([x[0], 5 * x[1]]))[0]

    assert not first.allclose(second)
    assert not program.get_submodule(path).running_mean.equal(memory)


def test_a_layer_left_in_training_mode_is_put_into_eval_mode() -> None:
    model = net().eval()
    model[1].train()
    x = torch.randn(2, 3, 6, 6)

    diagnosis = diagnose(model, x, select=["BN302"], config={}, fix=True)

    assert not model[1].training
    assert not list(diagnosis)
    diagnosis.undo()
    assert model[1].training


def test_a_layer_whose_eps_is_passed_over_computes_another_function_by_itself() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)
            self.norm = nn.BatchNorm2d(4, eps=0.5)

        def forward(self, x):
            n = self.norm
            x = self.conv(x)
            return nn.functional.batch_norm(x, n.running_mean, n.running_var, n.weight, n.bias)

    model, x = Net().eval(), torch.randn(2, 3, 4, 4)

    measured = only("BN303", model, x).measured

    assert (measured["own"], measured["used"]) == (0.5, 1e-5)
    assert not model(x).allclose(model.norm(model.conv(x)))
