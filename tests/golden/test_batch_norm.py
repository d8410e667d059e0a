"""Our batch norm equals torch's on one process, and on two processes it equals one process."""

import copy

import pytest
import torch
import torch.multiprocessing as multiprocessing
from torch import nn

from headway.nn.batch_norm import BatchNorm, convert_sync_batch_norm

SHAPES = [(6, 4), (3, 4, 5, 2)]


def torch_norm(shape, **choices):
    kind = nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d
    return kind(shape[1], dtype=torch.float64, **choices)


def data(shape):
    return 3.0 + 2.0 * torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("affine", [True, False])
def test_outputs_gradients_and_statistics(shape, affine):
    theirs = torch_norm(shape, affine=affine)
    ours = convert_sync_batch_norm(copy.deepcopy(theirs))
    assert isinstance(ours, BatchNorm) and ours.state_dict().keys() == theirs.state_dict().keys()
    for training in (True, True, False):
        x, y = data(shape).requires_grad_(), data(shape).requires_grad_()
        out, reference = ours.train(training)(x), theirs.train(training)(y)
        torch.testing.assert_close(out, reference)
        out.pow(3).sum().backward()
        reference.pow(3).sum().backward()
        torch.testing.assert_close(x.grad, y.grad)
    for name, tensor in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], tensor)


def test_converted_network_keeps_keys_weights_and_outputs():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, eps=1e-3), nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4))
    )
    x = torch.rand(2, 3, 8, 8)
    ours = convert_sync_batch_norm(copy.deepcopy(network))
    assert not any(isinstance(part, nn.BatchNorm2d) for part in ours.modules())
    assert list(ours.state_dict()) == list(network.state_dict())
    torch.testing.assert_close(ours(x), network(x))
    torch.testing.assert_close(ours.eval()(x), network.eval()(x))


def test_fused_activation_is_kept():
    from timm.layers import BatchNormAct2d

    theirs = BatchNormAct2d(4)
    x = torch.randn(3, 4, 2, 2)
    expected = theirs(x)
    assert expected.min() == 0
    torch.testing.assert_close(convert_sync_batch_norm(BatchNormAct2d(4))(x), expected)


@pytest.mark.parametrize("shape", [(1, 4), (1, 4, 1, 1)])
def test_single_value_is_refused_in_training_only(shape):
    with pytest.raises(ValueError, match="needs 2 values or more of each channel over all processes, got 1"):
        BatchNorm(4)(torch.rand(shape))
    assert BatchNorm(4).eval()(torch.rand(shape)).shape == shape


def run_rank(rank, file, shape, split, results):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    norm = BatchNorm(shape[1]).double()
    x = (data(shape)[:split] if rank == 0 else data(shape)[split:]).requires_grad_()
    y = norm(x)
    y.pow(3).sum().backward()
    tensors = (y, x.grad, norm.weight.grad, norm.running_mean, norm.running_var)
    results.put((rank, [tensor.detach().numpy() for tensor in tensors]))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(("shape", "split"), [((6, 4), 1), ((3, 4, 5, 2), 2)])
def test_two_processes_with_uneven_batches_equal_one(tmp_path, shape, split):
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    processes = multiprocessing.spawn(run_rank, (tmp_path / "meet", shape, split, results), nprocs=2, join=False)
    parts = dict(results.get() for _ in range(2))
    while not processes.join():
        pass
    first, second = ([torch.from_numpy(array) for array in parts[rank]] for rank in (0, 1))
    norm, x = torch_norm(shape), data(shape).requires_grad_()
    y = norm(x)
    y.pow(3).sum().backward()
    torch.testing.assert_close(torch.cat([first[0], second[0]]), y)
    torch.testing.assert_close(torch.cat([first[1], second[1]]), x.grad)
    torch.testing.assert_close(first[2] + second[2], norm.weight.grad)
    for ours in (first, second):
        torch.testing.assert_close(ours[3], norm.running_mean)
        torch.testing.assert_close(ours[4], norm.running_var)
