"""Gap and adaptation of layers that remember domains, steps and covariances."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import batchnorm as bn
from batchnorm.stats import OnlineAdapter, adapt, recalibrate, train_eval_gap
from tests.stats.nets import F64, assert_state, images, rows, state

N, T, C = 12, 5, 3
LABELS = torch.arange(N) % 2
LENGTHS = torch.tensor([5, 5, 5, 4, 4, 3, 3, 3, 2, 2, 2, 1])
METHODS = ["adabn", "mix", "tent"]


def sequences(seed: int = 0, n: int = N) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, T, C, generator=g, dtype=F64) * 2 + 1


def shaken(model):
    """Statistics as after some training on other data."""
    for layer in model.modules():
        if getattr(layer, "running_mean", None) is not None:
            with torch.no_grad():
                layer.running_mean.normal_()
                layer.running_var.uniform_(0.5, 2)
                layer.num_batches_tracked.fill_(3)
                if getattr(layer, "running_covariance", None) is not None:
                    a = torch.randn_like(layer.running_covariance)
                    layer.running_covariance.copy_(a @ a.mT + torch.eye(a.shape[-1], dtype=F64))
                    layer.running_var.copy_(
                        layer.running_covariance.diagonal(dim1=1, dim2=2).flatten()
                    )
                    layer.running_whitening.copy_(layer._how.root(layer.running_covariance))
    return model


class Net(nn.Module):
    """One kind of layer between linear ones; takes (N, T, C)."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.norm = {
            "domain": lambda: bn.DomainBatchNorm1d(C, num_domains=2),
            "domain, own affine": lambda: bn.DomainBatchNorm1d(
                C, num_domains=2, shared_affine=False
            ),
            "split": lambda: bn.SplitBatchNorm1d(C),
            "sequence": lambda: bn.SequenceBatchNorm(C, channel_axis=-1),
            "packed": lambda: bn.SequenceBatchNorm(C, channel_axis=-1),
            "recurrent": lambda: bn.RecurrentBatchNorm(C, T, weight_init=1.0),
            "lstm": lambda: bn.BatchNormLSTM(C, 4, batch_first=True, max_length=T),
            "lstm by sequence": lambda: bn.BatchNormLSTM(C, 4, batch_first=True, mode="sequence"),
            "gru": lambda: bn.BatchNormGRU(C, 4, batch_first=True, max_length=T),
            "whitened": lambda: bn.WhitenedBatchNorm1d(C),
        }[kind]()
        self.head = nn.Linear(4 if kind in ("lstm", "lstm by sequence", "gru") else C, 4)

    def forward(self, x):
        kind = self.kind
        if kind.startswith("domain"):
            y = self.norm(x.mT, LABELS[: len(x)]).mT
        elif kind in ("split", "whitened"):
            y = self.norm(x.mT).mT
        elif kind == "packed":
            packed = pack_padded_sequence(x, LENGTHS[: len(x)], batch_first=True)
            y = nn.utils.rnn.pad_packed_sequence(self.norm(packed), batch_first=True)[0]
        elif kind in ("sequence", "recurrent"):
            y = self.norm(x, lengths=LENGTHS[: len(x)])
        else:
            y = self.norm(x)[0]
        return self.head(y.mean(1))


KINDS = [
    "domain", "domain, own affine", "split", "sequence", "packed", "recurrent", "lstm",
    "lstm by sequence", "gru", "whitened",
]  # fmt: skip


def build(kind: str) -> Net:
    torch.manual_seed(0)
    return shaken(Net(kind).double())


@pytest.mark.parametrize("kind", KINDS)
def test_every_layer_is_in_the_gap_and_recalibration_closes_it(kind):
    model, x = build(kind), sequences()
    before = state(model)
    first = train_eval_gap(model, x, loss=lambda output, _: output.square().mean())
    assert_state(model, before)
    assert not first.left
    assert all(row.output > 0.05 and row.loss == row.loss for row in first.layers)
    assert str(first)
    recalibrate(model, [x])
    for row in train_eval_gap(model, x).layers:
        assert row.mean_size < 1e-6
        assert row.var_size < 1e-6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_every_layer_adapts_online_and_is_undone(kind, method):
    model = build(kind)
    before = state(model)
    adapter = OnlineAdapter(model, method)
    assert not adapter.left
    outputs = [adapter(sequences(seed)) for seed in range(2)]
    assert all(output.isfinite().all() for output in outputs)
    moved = [
        name
        for name, tensor in model.state_dict().items()
        if not torch.equal(tensor, before[name][1])
    ]
    norms = [path for path, m in model.named_modules() if hasattr(m, "num_batches_tracked")]
    for path in norms:
        wanted = ("weight", "bias") if method == "tent" else ("running_mean",)
        assert any(name in moved for name in (f"{path}.{one}" for one in wanted))
    adapter.undo()
    assert_state(model, before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_every_layer_adapts_offline_and_is_undone(kind, method):
    model = build(kind)
    before = state(model)
    report = adapt(model, [sequences(seed) for seed in range(2)], method)
    assert not report.statistics.left
    report.undo()
    assert_state(model, before)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "by sequence" not in kind])
def test_online_adabn_of_one_batch_is_normalisation_by_it(kind):
    model, x = build(kind), sequences(n=11)  # at the last step two sequences at least
    for layer in model.modules():
        if hasattr(layer, "on_single"):
            layer.eps = 1e-9
    with torch.no_grad(), bn.skip_updates(model):
        want = model.train()(x)
    # The variance that is remembered is the unbiased one: with few values it is another.
    prior_free = OnlineAdapter(model, "mix", prior=0)
    torch.testing.assert_close(prior_free(x), want, rtol=1e-5, atol=1e-5)


def test_gap_of_domains_is_that_of_each_alone():
    layer = shaken(bn.DomainBatchNorm1d(C, num_domains=3).double())
    layer.num_batches_tracked[2] = 0
    x = torch.randn(20, C, dtype=F64)
    labels = torch.arange(20) % 2
    row = train_eval_gap(layer, (x,), forward=lambda m, b: m(b[0], labels)).layers[0]
    assert row.by == "domain"
    assert row.mean_errors[2].isnan().all()
    apart = []
    for domain in range(2):
        alone = nn.BatchNorm1d(C).double()
        alone.running_mean.copy_(layer.running_mean[domain])
        alone.running_var.copy_(layer.running_var[domain])
        want = train_eval_gap(alone, x[labels == domain]).layers[0]
        torch.testing.assert_close(row.mean_errors[domain], want.mean_errors)
        torch.testing.assert_close(row.var_errors[domain], want.var_errors)
        assert row.outputs[domain].item() == pytest.approx(want.output)
        apart.append(want)
    assert row.ratio[1] == pytest.approx(max(want.ratio[1] for want in apart))
    assert row.worst_row == max(range(2), key=lambda d: apart[d].output)
    assert f"domain {row.worst_row}" in str(
        train_eval_gap(layer, (x,), forward=lambda m, b: m(b[0], labels))
    )


def test_gap_of_steps_is_that_of_each_alone_with_real_positions():
    layer = shaken(bn.RecurrentBatchNorm(C, T).double())
    x = sequences()
    row = train_eval_gap(layer, {"input": x, "lengths": LENGTHS}).layers[0]
    assert row.by == "step"
    for step in range(T):
        alone = nn.BatchNorm1d(C).double()
        alone.running_mean.copy_(layer.running_mean[step])
        alone.running_var.copy_(layer.running_var[step])
        want = train_eval_gap(alone, x[step < LENGTHS, step]).layers[0]
        torch.testing.assert_close(row.mean_errors[step], want.mean_errors)
        torch.testing.assert_close(row.var_errors[step], want.var_errors)


@pytest.mark.parametrize("packed", [False, True])
def test_gap_of_sequences_takes_sequences_for_the_draws(packed):
    layer = shaken(bn.SequenceBatchNorm(C, channel_axis=-1).double())
    plain = bn.BatchNorm1d(C).double()
    plain.load_state_dict(layer.state_dict())
    x, mask = sequences(), torch.arange(T) < LENGTHS[:, None]
    batch = {"input": x, "lengths": LENGTHS}
    if packed:
        batch = {"input": pack_padded_sequence(x, LENGTHS, batch_first=True)}
    row = train_eval_gap(layer, batch).layers[0]
    want = train_eval_gap(plain, {"input": x.mT, "mask": mask}).layers[0]
    torch.testing.assert_close(row.mean_errors, want.mean_errors)
    torch.testing.assert_close(row.var_errors, want.var_errors)


def test_gap_of_whitening_is_in_errors_of_covariances():
    layer = bn.WhitenedBatchNorm1d(C, affine=False, eps=1e-9).double()
    x = torch.randn(4000, C, dtype=F64)
    row = train_eval_gap(layer, x).layers[0]
    assert row.var_errors.shape == (1, C, C)
    assert row.mean_size < 3
    assert row.var_size < 3
    # Uncorrelated in memory, correlated in the batch: variances agree, covariances do not.
    mix = torch.tensor([[1.0, 0, 0], [0.8, 0.6, 0], [0, 0, 1]], dtype=F64)
    row = train_eval_gap(layer, x @ mix.T).layers[0]
    assert row.var_errors[0, 0, 1].abs() > 20
    assert row.var_errors.diagonal(dim1=1, dim2=2).abs().max() < 5
    assert row.share > 2 / 9 - 1e-9
    assert row.ratio == pytest.approx((1 / 1.8, 1 / 0.2), rel=0.15)


@pytest.mark.parametrize("method", ["zca", "newton"])
def test_gap_output_of_whitening_is_what_the_layer_does(method):
    layer = bn.WhitenedBatchNorm2d(6, affine=False, group_size=3, method=method).double()
    shaken(layer)
    x = torch.cat([images()[0], images()[1]], 1)
    report = train_eval_gap(layer, x)
    with torch.no_grad(), bn.skip_updates(layer):
        apart = layer.train()(x) - layer.eval()(x)
    assert report.layers[0].output == pytest.approx(apart.square().mean().sqrt().item())


def test_online_mix_weighs_each_domain_by_its_examples():
    layer = shaken(bn.DomainBatchNorm1d(C, num_domains=3).double())
    layer.num_batches_tracked[1] = 0
    old = layer.running_mean.clone()
    x, labels = torch.randn(10, C, dtype=F64), torch.tensor([0] * 6 + [1] * 4)
    adapter = OnlineAdapter(layer, "mix", prior=6, forward=lambda m, b: m(b, labels))
    adapter(x)
    torch.testing.assert_close(layer.running_mean[0], (old[0] + x[:6].mean(0)) / 2)
    torch.testing.assert_close(layer.running_mean[1], x[6:].mean(0))  # nothing to mix with
    assert torch.equal(layer.running_mean[2], old[2])


def test_offline_mix_leaves_out_what_a_domain_never_knew():
    layer = shaken(bn.DomainBatchNorm1d(C, num_domains=3).double())
    layer.num_batches_tracked[1] = 0
    old = layer.running_mean.clone()
    x, labels = torch.randn(10, C, dtype=F64), torch.tensor([0] * 6 + [1] * 4)
    adapt(layer, [x], "mix", prior=10, forward=lambda m, b: m(b, labels))
    torch.testing.assert_close(layer.running_mean[0], (old[0] + x[:6].mean(0)) / 2)
    torch.testing.assert_close(layer.running_mean[1], x[6:].mean(0))
    assert torch.equal(layer.running_mean[2], old[2])
    assert layer.num_batches_tracked.tolist() == [3, 1, 3]


def test_online_adabn_of_whitening_knows_the_covariance_so_far():
    layer = shaken(bn.WhitenedBatchNorm2d(3).double())
    adapter = OnlineAdapter(layer, "adabn")
    for x in images():
        adapter(x)
    whole = torch.cat([rows(x) for x in images()])
    torch.testing.assert_close(layer.running_covariance[0], whole.T.cov())
    torch.testing.assert_close(layer.running_mean, whole.mean(0))
    torch.testing.assert_close(layer.running_var, whole.var(0))


def test_domains_without_new_data_stay_usable():
    layer = shaken(bn.DomainBatchNorm1d(C, num_domains=2).double())
    recalibrate(layer, [torch.randn(8, C, dtype=F64)], forward=lambda m, x: m(x, 0))
    assert layer.num_batches_tracked.tolist() == [1, 3]
    layer.eval()(torch.randn(4, C, dtype=F64), 1)


def test_padded_examples_weigh_nothing_in_a_mixture():
    layer = bn.BatchNorm1d(C).double()
    x, mask = torch.randn(8, C, dtype=F64) + 4, torch.arange(8) < 4
    OnlineAdapter(layer, "mix", prior=4)({"input": x, "mask": mask})
    torch.testing.assert_close(layer.running_mean, x[:4].mean(0) / 2)


def test_layers_with_a_forward_of_their_own_are_named():
    class Odd(bn.BatchNorm1d):
        def forward(self, input):
            return super().forward(input.flip(0))

    model = nn.Sequential(Odd(3), nn.BatchNorm1d(3))
    report = train_eval_gap(model, torch.randn(8, 3))
    assert report.left == {"0": "Odd has a forward of its own"}
    assert OnlineAdapter(model).left == report.left


@pytest.mark.parametrize(
    "tool",
    [
        lambda model, x: recalibrate(model, [x]),
        lambda model, x: adapt(model, [x]),
        lambda model, x: train_eval_gap(model, x),
        lambda model, x: OnlineAdapter(model)(x),
    ],
)
def test_lazy_models_are_refused_and_stay_lazy(tool):
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.BatchNorm2d(4))
    with pytest.raises(ValueError, match="lazy layers must have seen an input"):
        tool(model, torch.randn(2, 3, 6, 6))
    assert type(model[1]) is nn.LazyBatchNorm2d


def test_tent_learns_inside_inference_mode():
    model = build("sequence")
    before = state(model)
    adapter = OnlineAdapter(model, "tent")
    with torch.inference_mode():
        adapter(sequences() + 0)  # a tensor of that mode
    assert not torch.equal(model.norm.weight, before["norm.weight"][1])
    adapter.undo()
    assert_state(model, before)
