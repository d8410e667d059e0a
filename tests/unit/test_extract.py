"""Features are computed in several Python threads, with the bits of one."""

import threading

import pytest
import torch
from torch import nn

from headway.backbones.extract import CPU_BATCH_SIZE, extract_features, forward_batched
from headway.data.dataset.subset import subset
from headway.errors import HeadwayError
from headway.rng import seeded
from headway.utils.threads import torch_threads
from tests.errors import raises
from tests.small import SIDE, make_images, small_backbone

COUNT = 3 * CPU_BATCH_SIZE + 5


@pytest.fixture(scope="module")
def backbone():
    with seeded(0):
        return small_backbone()


@pytest.fixture
def three_cores(monkeypatch):
    monkeypatch.setattr("headway.backbones.extract.available_threads", lambda: 3)


def test_the_bits_and_the_order_of_one_thread(backbone, monkeypatch):
    images, found = make_images(COUNT), {}
    for threads in (1, 2, 3):
        monkeypatch.setattr("headway.backbones.extract.available_threads", lambda threads=threads: threads)
        with torch_threads(2):
            found[threads] = extract_features(backbone, images, SIDE)
            assert torch.get_num_threads() == 2
    assert found[1].shape == (COUNT, backbone.embed_dim) and found[1].dtype == torch.float32
    assert torch.equal(found[1], found[2]) and torch.equal(found[1], found[3])
    rows = torch.tensor([COUNT - 1, 0, 40])
    assert torch.equal(extract_features(backbone, subset(images, rows), SIDE), found[1][rows]), (
        "the order of the images"
    )


def test_each_batch_has_one_torch_thread_and_no_gradient(backbone, three_cores):
    seen, both = [], threading.Barrier(2, timeout=20)

    def output(features):
        if len(seen) < 2:
            both.wait()  # fails unless two batches are computed at once
        seen.append((torch.get_num_threads(), torch.is_grad_enabled(), len(features.pooled)))
        return features.pooled

    with torch_threads(2), torch.enable_grad():
        rows = forward_batched(backbone, output, make_images(2 * CPU_BATCH_SIZE), SIDE)
    assert seen == [(1, False, CPU_BATCH_SIZE)] * 2 and not rows.requires_grad


def test_autocast_reaches_the_threads(backbone, three_cores):
    dtypes = []

    def output(features):
        dtypes.append(nn.functional.linear(features.pooled, torch.eye(backbone.embed_dim)).dtype)
        return features.pooled

    images = make_images(CPU_BATCH_SIZE + 1)
    forward_batched(backbone, output, images, SIDE)
    with torch.autocast("cpu", torch.bfloat16):
        rows = forward_batched(backbone, output, images, SIDE)
    assert dtypes == [torch.float32] * 2 + [torch.bfloat16] * 2 and rows.dtype == torch.float32


def test_an_error_in_a_thread_reaches_the_caller_and_training_mode_is_restored(backbone, three_cores):
    def output(features):
        raise HeadwayError("unknown-name", "no such features")

    backbone.train()
    with raises("unknown-name"):
        forward_batched(backbone, output, make_images(COUNT), SIDE)
    assert backbone.training
    extract_features(backbone, make_images(3), SIDE)
    assert backbone.training
    backbone.eval()
