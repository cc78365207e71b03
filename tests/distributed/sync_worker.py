"""Synchronised batch norm on every rank: ``torchrun -m tests.distributed.sync_worker [check]``."""

import copy
import itertools

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

import batchnorm as bn
from tests.calls import oracle_train
from tests.cases import Case, make_case
from tests.distributed.ranks import (
    assert_equal_bits,
    joined,
    last_without,
    own_part,
    run,
    share,
    summed,
    uneven,
)
from tests.peer import peer, preactivation
from tests.tolerance import assert_within, floors, off_kinks, ulp

close = torch.testing.assert_close
FORMS = ("plain", "act", "residual_act", "masked")


def layer_for(case: Case, **options) -> bn.SyncBatchNorm:
    """A layer with the parameters of a case, in the case's accumulation dtype."""
    layer = bn.SyncBatchNorm(
        case.input.shape[1],
        affine=case.weight is not None,
        dtype=case.acc,
        activation=case.act.name,
        **options,
    )
    with torch.no_grad():
        if case.weight is not None:
            layer.weight.copy_(case.weight)
            layer.bias.copy_(case.bias)
    return layer


def step(layer: nn.Module, case: Case) -> tuple[Tensor, Tensor]:
    """Output and input gradient; the others are left in the parameters."""
    x = case.input.clone(memory_format=torch.preserve_format).requires_grad_()
    y = layer(x, residual=case.residual, mask=case.mask)
    y.backward(case.grad)
    return y.detach(), x.grad


def assert_is_one_process(whole: Case, sizes: list[int]) -> None:
    """Everything that a rank has is what one process on the whole batch has."""
    layer = layer_for(whole)
    y, dx = step(layer, own_part(whole, sizes))

    floor, oracle, torchs = floors(whole), oracle_train(whole), peer(whole)
    out, back = oracle.forward, oracle.backward
    assert_within(joined(y, sizes), out.output, torchs.output, floor.output, "output")
    assert_within(joined(dx, sizes), back.grad_input, torchs.grad_input, floor.grad_input, "dx")
    if whole.weight is not None:
        dw, db = summed(layer.weight.grad), summed(layer.bias.grad)
        assert_within(dw, back.grad_weight, torchs.grad_weight, floor.grad_weight, "weight.grad")
        assert_within(db, back.grad_bias, torchs.grad_bias, floor.grad_bias, "bias.grad")
    count = out.count.double()
    unbiased = out.var * (count / (count - 1))
    assert_within(layer.running_mean, out.mean * 0.1, None, floor.mean, "running_mean")
    # A rank's mean is rounded before it is sent, by at most half an ulp; the spread of the ranks'
    # means is of the size of the standard deviation.
    sent = ulp(whole.acc) * (out.mean.abs() * out.var.sqrt() + 1)
    floor_var = floor.var + sent
    assert_within(layer.running_var, 0.9 + 0.1 * unbiased, None, floor_var, "running_var")
    assert layer.num_batches_tracked.item() == 1
    assert_equal_bits(layer.running_mean, "running_mean")
    assert_equal_bits(layer.running_var, "running_var")


def equals_one_process_on_the_whole_batch():
    grid = itertools.product(
        (torch.float32, torch.float64, torch.bfloat16), ("contiguous", "channels_last"), FORMS
    )
    for dtype, layout, form in grid:
        case = make_case((13, 6, 5, 4), dtype, layout, form)
        case = off_kinks(case, preactivation(case))
        assert_is_one_process(case, uneven(13))
        assert_is_one_process(case, last_without(13))


def every_number_of_dimensions_and_no_parameters():
    for shape in ((13, 6), (13, 6, 9), (13, 6, 2, 3, 4)):
        assert_is_one_process(make_case(shape, affine="none"), uneven(13))


def ranks_far_apart_lose_no_accuracy():
    # Means of 1e4 with a spread of 1, and every rank around a mean of its own.
    case = make_case((16, 4, 6), torch.float32, offset=1e4)
    case.input.add_(torch.arange(16.0).view(-1, 1, 1))
    assert_is_one_process(case, uneven(16))


def a_rank_whose_mask_is_all_padding():
    case = make_case((12, 3, 5), torch.float32, form="masked", act="identity")
    sizes = [12 - 4 * (dist.get_world_size() - 1)] + [4] * (dist.get_world_size() - 1)
    case.mask[-4:] = False
    case.input[-4:] = torch.nan
    layer = layer_for(case)
    y, dx = step(layer, own_part(case, sizes))

    real = case.mask.unsqueeze(1)
    want, whole_mean = joined(y, sizes), case.input.movedim(1, -1)[case.mask].mean(0)
    assert want.isfinite().all()
    assert joined(dx, sizes).isfinite().all()
    assert not (want.masked_fill(real, 0.0)).any()
    assert_within(layer.running_mean, whole_mean * 0.1, None, floors(case).mean + 1e-6, "mean")


def all_ranks_empty():
    layer = bn.SyncBatchNorm(3)
    x = torch.empty(0, 3, 4, requires_grad=True)
    layer(x).sum().backward()

    assert x.grad.shape == (0, 3, 4)
    assert not layer.weight.grad.any()
    assert torch.equal(layer.running_var, torch.ones(3))


def one_value_per_rank_is_enough_and_one_in_all_is_not():
    first = dist.get_rank() == 0
    layer = bn.SyncBatchNorm(3)
    x, ones = torch.randn(1, 3) + dist.get_rank(), [1] * dist.get_world_size()
    close(joined(layer(x), ones), bn.BatchNorm1d(3)(joined(x, ones)))
    assert layer.num_batches_tracked.item() == 1

    single = torch.randn(1 if first else 0, 3)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        layer(single)
    for policy in ("skip", "running"):
        layer = bn.SyncBatchNorm(3, on_single=policy)
        y = layer(single)
        assert y.shape == single.shape
        assert layer.num_batches_tracked.item() == 0
        if first and policy == "running":
            close(y, bn.BatchNorm1d(3).eval()(single))


def micro_batches_accumulate_to_one_commit():
    case = make_case((24, 3, 5), torch.float64)
    sizes = uneven(24)
    layer, mine = layer_for(case), share(case.input, sizes)
    with bn.accumulate(layer):
        for part in mine.tensor_split(2):
            layer(part)

    whole = bn.functional.batch_norm_stats(case.input)
    assert layer.num_batches_tracked.item() == 1
    assert_within(layer.running_mean, whole.mean * 0.1, None, floors(case).mean, "running_mean")
    want = 0.9 + 0.1 * whole.var_unbiased
    assert_within(layer.running_var, want, None, floors(case).var + 1e-15, "running_var")
    assert_equal_bits(layer.running_mean, "running_mean")


def cumulative_average_without_momentum():
    layer = bn.SyncBatchNorm(3, momentum=None)
    batches = torch.randn(4, dist.get_world_size() * 2, 3)
    sizes = [2] * dist.get_world_size()
    for batch in batches:
        layer(share(batch, sizes))
    close(layer.running_mean, batches.mean((0, 1)))


def checkpointing_counts_a_batch_once():
    case = make_case((14, 4, 6), torch.float64, form="act")
    sizes = last_without(14)
    for reentrant in (True, False):
        plain, layer = layer_for(case), layer_for(case)
        mine = own_part(case, sizes)
        x = mine.input.clone().requires_grad_()
        checkpoint(layer, x, use_reentrant=reentrant).backward(mine.grad)
        _, want = step(plain, mine)

        assert torch.equal(x.grad, want)
        assert torch.equal(layer.weight.grad, plain.weight.grad)
        assert torch.equal(layer.running_var, plain.running_var)
        assert layer.num_batches_tracked.item() == 1


def evaluation_needs_no_one_else():
    layer = bn.SyncBatchNorm(3).eval()
    if dist.get_rank() == 0:
        x = torch.randn(4, 3)
        close(layer(x), bn.BatchNorm1d(3).eval()(x))


def sub_groups_have_statistics_of_their_own():
    ranks = dist.get_world_size()
    pairs = [list(range(at, min(at + 2, ranks))) for at in range(0, ranks, 2)]
    groups = [dist.new_group(pair) for pair in pairs]
    at = dist.get_rank() // 2
    batches = torch.randn(ranks, 5, 3, dtype=torch.float64)
    mine, whole = batches[dist.get_rank()], batches[pairs[at]].flatten(0, 1)
    layer = bn.SyncBatchNorm(3, process_group=groups[at], dtype=torch.float64)

    twin = copy.deepcopy(layer)
    assert twin.process_group is groups[at]
    for one in (layer, twin):
        close(one(mine), bn.BatchNorm1d(3).double()(whole).chunk(2)[dist.get_rank() % 2])
    assert "process_group of 2" in repr(layer)

    if ranks > 2:
        outsider = bn.SyncBatchNorm(3, process_group=groups[1 - at])
        with pytest.raises(RuntimeError, match=r"SyncBatchNorm\(3\).*must be in its process group"):
            outsider(mine.float())


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), bn.BatchNorm2d(4, activation="relu"), nn.Flatten(), nn.Linear(64, 2)
    ).double()


def synchronised(model: nn.Sequential) -> nn.Sequential:
    model[1] = bn.SyncBatchNorm.from_torch(model[1])
    bn.SyncBatchNorm.name_layers(model)
    return model


def assert_trains_as_one_process(wrap, full) -> None:
    """Three steps with equal shares equal three steps of one process on the whole batch."""
    ranks, rank = dist.get_world_size(), dist.get_rank()
    alone, model = net(), wrap(synchronised(net()))
    xs = torch.randn(3, 2 * ranks, 3, 6, 6, dtype=torch.float64)
    opts = [torch.optim.SGD(m.parameters(), 0.01) for m in (alone, model)]
    for x in xs:
        for one, opt, part in zip((alone, model), opts, (x, x.chunk(ranks)[rank]), strict=True):
            opt.zero_grad()
            one(part).square().mean().backward()
            opt.step()
    for p, q in zip(alone.parameters(), model.parameters(), strict=True):
        close(full(q), p, rtol=1e-9, atol=1e-9)
    for (name, b), c in zip(alone.named_buffers(), model.buffers(), strict=True):
        close(c, b, rtol=1e-9, atol=1e-9, msg=name)


def trains_inside_ddp():
    assert_trains_as_one_process(DistributedDataParallel, lambda p: p)


def trains_inside_fsdp2():
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    assert_trains_as_one_process(
        lambda model: fully_shard(model, mesh=mesh), lambda p: p.full_tensor()
    )


def two_forwards_before_one_backward():
    model = DistributedDataParallel(synchronised(net()))
    x = torch.randn(2, 2, 3, 6, 6, dtype=torch.float64)
    (model(x[0]) - model(x[1])).square().sum().backward()
    assert model.module[1].num_batches_tracked.item() == 2


def compiled_without_a_graph_break():
    for form in FORMS:
        torch._dynamo.reset()
        case = make_case((11, 6, 5, 4), torch.float64, form=form)
        sizes = uneven(11)
        eager, compiled = layer_for(case), layer_for(case)
        fast = torch.compile(compiled, backend="aot_eager", fullgraph=True)
        for _ in range(2):
            mine = own_part(case, sizes)
            for a, b in zip(step(fast, mine), step(eager, mine), strict=True):
                close(a, b, rtol=1e-12, atol=1e-12)
        for (name, p), q in zip(
            itertools.chain(eager.named_parameters(), eager.named_buffers()),
            itertools.chain(compiled.parameters(), compiled.buffers()),
            strict=True,
        ):
            close(q, p, rtol=1e-12, atol=1e-12, msg=name)
            if p.grad is not None:
                close(q.grad, p.grad, rtol=1e-12, atol=1e-12, msg=name)


def compiled_and_eager_ranks_talk_to_each_other():
    torch._dynamo.reset()
    case = make_case((11, 6, 5), torch.float64, form="act")
    layer, plain = layer_for(case), layer_for(case)
    layer(own_part(case, uneven(11)).input)
    one = torch.compile(layer, backend="aot_eager") if dist.get_rank() == 0 else layer
    mine = own_part(case, uneven(11))
    layer.reset_running_stats()
    for a, b in zip(step(one, mine), step(plain, mine), strict=True):
        close(a, b, rtol=1e-12, atol=1e-12)


def second_derivatives_and_transforms():
    ranks = dist.get_world_size()
    for act in ("identity", "silu"):
        case = make_case((2 * ranks + 3, 3, 2), torch.float64, form="residual_act", act=act)
        sizes = uneven(2 * ranks + 3)
        layer, whole_layer, mine = layer_for(case), bn.BatchNorm1d(3, activation=act).double(), None
        whole_layer.load_state_dict(layer.state_dict())
        mine = own_part(case, sizes)

        def twice(layer, part):
            x = part.input.clone().requires_grad_()
            y = layer(x, residual=part.residual)
            params = (x, layer.weight)
            first = torch.autograd.grad(y, params, part.grad, create_graph=True)
            # A penalty on dx alone is a sum over ranks, as a loss is.
            return torch.autograd.grad(first[0].square().sum(), params)

        ours, want = twice(layer, mine), twice(whole_layer, case)
        close(joined(ours[0], sizes), want[0], rtol=1e-9, atol=1e-12)
        close(summed(ours[1]), want[1], rtol=1e-9, atol=1e-12)

        def loss(x, layer, part):
            return (layer(x, residual=part.residual) * part.grad).sum()

        bn.set_updates(layer, False)
        got = torch.func.grad(loss)(mine.input, layer, mine)
        bn.set_updates(whole_layer, False)
        want = torch.func.grad(loss)(case.input, whole_layer, case)
        close(joined(got, sizes), want, rtol=1e-9, atol=1e-12)


def half_precision_keeps_wide_statistics():
    layer = bn.SyncBatchNorm(3).bfloat16()
    y = layer(torch.randn(4, 3, 5).bfloat16() + 100 * dist.get_rank())
    assert y.dtype == torch.bfloat16
    assert layer.running_mean.dtype == torch.float32
    assert_equal_bits(layer.running_mean, "running_mean")


def same_input_gives_the_same_bits():
    x = torch.randn(5, 7, 3, 3)
    layer = bn.SyncBatchNorm(7)
    xs = x.clone().requires_grad_()
    y = layer(xs)
    y.backward(x.flip(0))
    assert_equal_bits(y, "output")
    assert_equal_bits(xs.grad, "grad_input")


def more_threads_on_one_rank_change_no_bit():
    torch.set_num_threads(1 + dist.get_rank() % 2)
    layer = bn.SyncBatchNorm(512)
    layer(torch.randn(64, 512))
    torch.set_num_threads(1)
    assert_equal_bits(layer.running_mean, "running_mean")
    assert_equal_bits(layer.running_var, "running_var")


def both_dtypes_one_after_the_other():
    layer = bn.SyncBatchNorm(3, affine=False, track_running_stats=False)
    for dtype in (torch.float32, torch.float64, torch.float32):
        x, fours = torch.randn(4, 3, dtype=dtype), [4] * dist.get_world_size()
        close(joined(layer(x), fours), bn.BatchNorm1d(3, affine=False)(joined(x, fours)))


def one_message_each_way():
    layer = bn.SyncBatchNorm(8)
    x = torch.randn(4, 8, requires_grad=True)
    layer(x)
    counted: list[tuple[str, int]] = []

    def spy(kind, function, at):
        def wrapped(*args, **kwargs):
            counted.append((kind, args[at].nbytes))
            return function(*args, **kwargs)

        return wrapped

    gather, reduce = dist.all_gather_single, dist.all_reduce
    dist.all_gather_single = spy("gather", gather, 1)
    dist.all_reduce = spy("reduce", reduce, 0)
    try:
        layer(x).sum().backward()
    finally:
        dist.all_gather_single, dist.all_reduce = gather, reduce
    assert counted == [("gather", 8 * 8 + 16), ("reduce", 8 * 8 + 12)], counted


CHECKS = [
    equals_one_process_on_the_whole_batch,
    every_number_of_dimensions_and_no_parameters,
    ranks_far_apart_lose_no_accuracy,
    a_rank_whose_mask_is_all_padding,
    all_ranks_empty,
    one_value_per_rank_is_enough_and_one_in_all_is_not,
    micro_batches_accumulate_to_one_commit,
    cumulative_average_without_momentum,
    checkpointing_counts_a_batch_once,
    evaluation_needs_no_one_else,
    sub_groups_have_statistics_of_their_own,
    trains_inside_ddp,
    trains_inside_fsdp2,
    two_forwards_before_one_backward,
    compiled_without_a_graph_break,
    compiled_and_eager_ranks_talk_to_each_other,
    second_derivatives_and_transforms,
    half_precision_keeps_wide_statistics,
    same_input_gives_the_same_bits,
    more_threads_on_one_rank_change_no_bit,
    both_dtypes_one_after_the_other,
    one_message_each_way,
]

if __name__ == "__main__":
    run(CHECKS, seconds=60)
