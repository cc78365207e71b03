"""Looks at ReLUs, against networks whose inputs are known."""

import math

import pytest
import torch
from torch import nn

import batchnorm
from batchnorm.lab._looks import BINS, Look, columns, fall, farthest, look

X = torch.tensor([[-6.0], [-1.0], [1.0], [6.0]])


def test_a_look_is_at_what_enters_each_relu():
    double = nn.Linear(1, 1)
    nn.init.constant_(double.weight, 2.0)
    nn.init.constant_(double.bias, 1.0)
    seen = look(nn.Sequential(nn.ReLU(), double, nn.ReLU()), X, 7)

    assert seen.step == 7
    assert seen.mean == [0.0, 4.5]
    assert seen.std == pytest.approx([X.std().item(), torch.tensor([1.0, 1, 3, 13]).std().item()])
    assert seen.silent == 0
    assert [round(4 * share) for share in seen.shares] == [0] * 10 + [2, 0, 0, 0, 1, 1]


def test_outputs_of_zero_are_silent():
    assert look(nn.Sequential(nn.ReLU()), X, 0).silent == 0.5


def test_a_look_leaves_nothing_behind():
    net = nn.Sequential(nn.Linear(1, 2), batchnorm.BatchNorm1d(2), nn.ReLU())
    before = {name: value.clone() for name, value in net.state_dict().items()}
    look(net, X, 0)

    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not net[2]._forward_pre_hooks


def test_batch_norm_is_seen_in_training_mode():
    seen = look(nn.Sequential(batchnorm.BatchNorm1d(1), nn.ReLU()), 50 + 3 * X, 0)

    assert seen.mean == pytest.approx([0.0], abs=1e-5)
    assert seen.std[0] == pytest.approx((4 / 3) ** 0.5, rel=1e-4)


def test_a_fall_is_from_the_highest_value_so_far():
    assert fall(torch.tensor([[1.0, 8.0], [4.0, 8.0], [2.0, 10.0], [3.0, 9.0]])) == 0.5
    assert fall(torch.tensor([[1.0], [2.0], [3.0]])) == 0
    assert fall(torch.tensor([[1.0], [0.0]])) == 1
    assert fall(torch.tensor([[1.0], [math.nan]])) == 1


def test_the_farthest_factor_is_up_or_down():
    assert farthest(torch.tensor([0.5, 1.9])) == pytest.approx(2.0)
    assert farthest(torch.tensor([0.9, 3.0])) == pytest.approx(3.0)


def test_columns_are_two_tables():
    looks = [Look(step, [0.1, 0.2], [1.0, 2.0], 0.0, [1 / BINS] * BINS) for step in (0, 5)]
    table = columns(looks)

    assert table["step"] == [0, 0, 5, 5]
    assert table["layer"] == [1, 2, 1, 2]
    assert table["std"] == [1.0, 2.0, 1.0, 2.0]
    assert table["bin_step"] == [0] * BINS + [5] * BINS
    assert table["bin"][:BINS] == [-3.75 + 0.5 * place for place in range(BINS)]
    assert len(table["share"]) == 2 * BINS
