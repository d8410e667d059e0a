"""Joint-embedding losses equal those of lightly, where it is installed (pip install lightly)."""

import pytest
import torch

from headway.losses.contrastive import nt_xent
from headway.losses.distillation import cross_view_entropy
from headway.losses.sinkhorn import sinkhorn
from headway.pretext.barlow_twins import cross_correlation, on_off_diagonal
from headway.pretext.simsiam import negative_cosine
from headway.pretext.vicreg import variance_covariance

loss = pytest.importorskip("lightly.loss", reason="lightly, with which the losses are compared, is not installed")


def two(width=8, count=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, width, generator=generator) for _ in range(2)]


def test_nt_xent():
    first, second = two()
    assert torch.allclose(nt_xent(first, second, 0.2)[0], loss.NTXentLoss(temperature=0.2)(first, second), atol=1e-5)


def test_negative_cosine():
    first, second = two(seed=1)
    assert torch.allclose(negative_cosine(first, second), loss.NegativeCosineSimilarity()(first, second), atol=1e-5)


def test_barlow_twins():
    first, second = two(seed=2)
    same, repeated = on_off_diagonal(cross_correlation(first, second))
    theirs = loss.BarlowTwinsLoss(lambda_param=0.0051)(first, second) / first.shape[1]
    assert torch.allclose(same + 0.0051 * repeated, theirs, atol=1e-5)


def test_vicreg():
    first, second = two(seed=3)
    one, other = variance_covariance(first), variance_covariance(second)
    ours = 25 * (first - second).square().mean() + 12.5 * (one.variance + other.variance)
    ours = ours + one.covariance + other.covariance
    assert torch.allclose(ours, loss.VICRegLoss()(first, second), rtol=1e-5)


def test_swav():
    scores = torch.rand(5, 12, 8, generator=torch.Generator().manual_seed(4)) * 2 - 1
    codes = torch.stack([sinkhorn(crop, 0.05, 3) for crop in scores[:2]])
    ours = cross_view_entropy(codes, (scores / 0.1).log_softmax(-1))
    theirs = loss.SwaVLoss(temperature=0.1, sinkhorn_iterations=3, sinkhorn_epsilon=0.05)
    assert torch.allclose(ours, theirs(list(scores[:2]), list(scores[2:])), atol=1e-5)
