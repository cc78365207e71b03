"""What rules see of a model and of a training set-up."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import batchnorm as bn
from batchnorm.doctor import Context, Distributed, diagnose
from tests.doctor.pictures import assert_same, picture


def net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Dropout(),
        bn.BatchNorm2d(4),
    )


def loader(batches: int = 3) -> list:
    return [(torch.randn(5, 3, 6, 6), torch.zeros(5)) for _ in range(batches)]


class TestLayers:
    def test_are_torchs_and_ours_by_their_first_path(self) -> None:
        model = net()
        model.again = model[1]
        assert list(Context(model).layers) == ["1", "4"]

    def test_are_found_behind_wrappers(self) -> None:
        model = net()
        wrapped = torch.compile(model)
        assert Context(wrapped).model is model

    def test_lazy_ones_are_apart_and_never_run(self) -> None:
        model = nn.Sequential(nn.Linear(3, 4), nn.LazyBatchNorm1d())
        context = Context(model, torch.randn(4, 3))

        assert context.layers == {}
        assert context.lazy == ["1"]
        assert context.graph is None
        assert "1 does not know its size" in context.graph_reason
        assert context.live is None
        assert type(model[1]) is nn.LazyBatchNorm1d


class TestGraph:
    def test_needs_no_sample_where_torch_fx_will_do(self) -> None:
        assert Context(net()).graph.way == "fx"

    def test_a_sample_of_one_is_traced_in_eval_mode(self) -> None:
        class Untraceable(nn.Sequential):
            def forward(self, x):
                return super().forward(x if float(x.sum()) < 1e9 else -x)

        model = Untraceable(nn.Linear(2, 3), nn.BatchNorm1d(3))
        assert Context(model, torch.randn(1, 2)).graph.calls_of(model[1])
        assert model.training
        assert model[1].training

    def test_is_none_with_the_reason_where_the_sample_does_not_run(self) -> None:
        context = Context(nn.Sequential(net(), lambda_layer()), torch.randn(2, 3, 6, 6))
        assert context.graph is None
        assert "only odd batches" in context.graph_reason


def lambda_layer() -> nn.Module:
    class Odd(nn.Module):
        def forward(self, x):
            if len(x) % 2 == 0:
                raise ValueError("only odd batches")
            return x

    return Odd()


class TestLive:
    def test_statistics_are_those_of_the_batch(self) -> None:
        model, batches = net(), loader()

        run = Context(model, loader=batches).live.train

        heard = run.heard["1"]
        x = model[0](batches[1][0])
        assert [h.batch for h in heard] == [0, 1, 2]
        assert heard[1].shape == (5, 4, 4, 4)
        assert int(heard[1].stats.count) == 80
        torch.testing.assert_close(heard[1].stats.mean, x.mean((0, 2, 3)).detach())
        torch.testing.assert_close(heard[1].stats.var, x.var((0, 2, 3), correction=0).detach())
        assert heard[1].draws.batches.tolist() == [5] * 4

    def test_modes_are_what_they_say(self) -> None:
        live = Context(net(), loader=loader()).live
        assert not live.train.outputs[0].equal(live.norms.outputs[0])
        assert not live.eval.outputs[0].equal(live.norms.outputs[0])
        assert live.outputs("norms", live.batches)[0].equal(live.norms.outputs[0])

    def test_a_mask_counts_only_what_is_real(self) -> None:
        class Masked(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.norm = bn.BatchNorm1d(2)

            def forward(self, x, mask):
                return self.norm(x, mask=mask)

        mask = torch.tensor([[True, True, False], [True, False, False]])
        batch = {"x": torch.randn(2, 2, 3), "mask": mask}

        heard = Context(Masked(), loader=[batch]).live.eval.heard["norm"][0]

        assert heard.masked
        assert int(heard.stats.count) == 3

    def test_what_the_model_raises_is_kept(self) -> None:
        model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        live = Context(model, loader=[torch.randn(1, 2)]).live

        assert live.eval.error is None
        assert "more than 1 value per channel" in str(live.train.error)
        assert live.train.heard["1"][0].shape == (1, 3)

    def test_frozen_layers_stay_in_eval_mode(self) -> None:
        model = nn.Sequential(bn.BatchNorm1d(3))
        bn.freeze(model)
        live = Context(model, torch.randn(4, 3)).live

        torch.testing.assert_close(live.norms.outputs[0], live.eval.outputs[0], rtol=0, atol=0)

    def test_takes_only_as_many_batches_as_told(self) -> None:
        assert len(Context(net(), loader=loader(5), batches=2).batches) == 2

    def test_nothing_changes(self) -> None:
        model = net()
        data = DataLoader(TensorDataset(torch.randn(8, 3, 6, 6)), batch_size=4, shuffle=True)
        before = picture(model)

        context = Context(model, loader=data)
        for run in (context.live.train, context.live.eval, context.live.norms):
            assert run.error is None
        context.live.listen("train", context.layers, lambda *call: None)
        assert context.graph is not None

        assert_same(picture(model), before)

    def test_an_input_that_the_model_overwrites_stays_as_it_was(self) -> None:
        model = nn.Sequential(nn.ReLU(inplace=True), nn.BatchNorm1d(3))
        sample = torch.randn(4, 3)
        before = sample.clone()

        assert Context(model, sample).live.eval.error is None

        assert sample.equal(before)


class TestDistributed:
    def test_a_number_is_the_world(self) -> None:
        assert Context(net(), distributed=8).distributed == Distributed(8)

    def test_is_one_process_unless_told(self) -> None:
        context = Context(net())
        assert context.distributed == Distributed(1)
        assert not context.is_distributed_known


def test_an_iterator_is_refused() -> None:
    with pytest.raises(ValueError, match=r"more than once\. Got an iterator \(generator\)"):
        diagnose(net(), loader=(batch for batch in loader()))


def test_a_batch_of_another_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="Got a str"):
        Context(net(), loader=["abc"]).batches
