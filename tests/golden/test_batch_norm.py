"""Our batch norm equals torch's on one process, and on several processes torch's on the whole batch."""

import copy

import pytest
import torch
from torch import nn

from headway.distributed import rank
from headway.nn.batch_norm import BatchNorm, convert_sync_batch_norm
from tests.processes import run_in_team

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


def normalize_part(x, bounds, weights, affine):
    """What this process computes from its rows: output, gradients, and statistics after two batches."""
    begin, end = bounds[rank()], bounds[rank() + 1]
    norm = BatchNorm(x.shape[1], affine=affine).to(torch.float64 if x.dtype == torch.float64 else torch.float32)
    if affine:
        norm.load_state_dict({**norm.state_dict(), **weights})
    norm(x[begin:end].flip(1))  # so that the statistics are of more than one batch
    part = x[begin:end].clone(memory_format=torch.preserve_format).requires_grad_()
    y = norm(part)
    y.to(norm.running_var.dtype).pow(3).sum().backward()
    own = [weight.grad for weight in (norm.weight, norm.bias)] if affine else []
    return y.detach(), part.grad, own, [buffer.clone() for buffer in norm.buffers()]


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(
    ("shape", "bounds", "layout"),
    [
        ((6, 4), (0, 1, 6), torch.contiguous_format),
        ((3, 4, 5, 2), (0, 2, 3), torch.contiguous_format),
        ((3, 4, 5, 2), (0, 2, 3), torch.channels_last),
        ((7, 3, 1, 1), (0, 1, 3, 7), torch.contiguous_format),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_processes_with_uneven_batches_equal_one(shape, bounds, layout, affine, dtype):
    exact = dtype == torch.float64
    tolerance = {"rtol": 1e-10, "atol": 1e-10} if exact else {"rtol": 0.03, "atol": 0.03}
    x = data(shape).to(dtype).contiguous(memory_format=layout)
    theirs = torch_norm(shape, affine=affine)
    if affine:
        theirs.weight.data.uniform_(0.5, 1.5)
        theirs.bias.data.uniform_(-0.5, 0.5)
    weights = {name: tensor.detach().clone() for name, tensor in theirs.named_parameters()}
    theirs(x.double().flip(1))
    whole = x.double().clone().requires_grad_()
    y = theirs(whole)
    y.pow(3).sum().backward()
    parts = run_in_team(len(bounds) - 1, normalize_part, x, bounds, weights, affine)
    assert all(part.dtype == dtype and gradient.dtype == dtype for part, gradient, _, _ in parts)
    torch.testing.assert_close(torch.cat([part.double() for part, *_ in parts]), y, **tolerance)
    gradients = torch.cat([gradient.double() for _, gradient, *_ in parts])
    scale = 1.0 if exact else float(whole.grad.abs().max())
    torch.testing.assert_close(gradients / scale, whole.grad / scale, **tolerance)
    for number, weight in enumerate([theirs.weight, theirs.bias] if affine else []):
        total = torch.stack([own[number].double() for _, _, own, _ in parts]).sum(0)
        scale = 1.0 if exact else float(weight.grad.abs().max())
        torch.testing.assert_close(total / scale, weight.grad / scale, **tolerance)
    for _, _, _, buffers in parts:
        for ours, buffer in zip(buffers, theirs.buffers(), strict=True):
            torch.testing.assert_close(ours.double(), buffer.double(), **tolerance)


def single_rows(rows):
    try:
        BatchNorm(4)(torch.ones(rows[rank()], 4))
    except ValueError as error:
        return str(error)
    return None


def test_a_single_value_of_each_process_is_enough_where_there_are_several():
    assert run_in_team(2, single_rows, [1, 1]) == [None, None]
