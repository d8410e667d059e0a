"""Losses equal those of lightly, where it is installed (it is no dependency: pip install lightly)."""

import pytest
import torch

from headway.losses.distillation import cross_view_entropy, token_cross_entropy
from headway.losses.koleo import koleo_loss

loss = pytest.importorskip("lightly.loss", reason="lightly, with which the losses are compared, is not installed")
NUM_IMAGES, PROTOTYPES, PATCHES = 5, 7, 6


def answers(*shape, seed):
    return torch.randn(*shape, PROTOTYPES, generator=torch.Generator().manual_seed(seed)).clamp(-1, 1)


def test_dino():
    teacher, student = answers(2, NUM_IMAGES, seed=0), answers(4, NUM_IMAGES, seed=1)
    theirs = loss.DINOLoss(output_dim=PROTOTYPES)
    center = answers(seed=2) / 10
    theirs.center.copy_(center)
    expected = theirs(list(teacher), list(student), teacher_temp=0.05)
    found = cross_view_entropy(((teacher - center) / 0.05).softmax(-1), (student / 0.1).log_softmax(-1))
    assert torch.allclose(found, expected, atol=1e-5)


def test_ibot_on_patches():
    mask = torch.arange(PATCHES * PATCHES).view(PATCHES, PATCHES).remainder(3).eq(0).expand(NUM_IMAGES, -1, -1)
    hidden = int(mask.sum())
    teacher, student = answers(hidden, seed=3), answers(hidden, seed=4)
    theirs = loss.IBOTPatchLoss(output_dim=PROTOTYPES)
    center = answers(seed=5) / 10
    theirs.center.value.copy_(center)
    expected = theirs(teacher, student, mask, teacher_temp=0.06)
    found = token_cross_entropy(((teacher - center) / 0.06).softmax(-1), (student / 0.1).log_softmax(-1))
    assert torch.allclose(found, expected, atol=1e-5)


def test_koleo():
    features = torch.randn(9, 16, generator=torch.Generator().manual_seed(6))
    assert torch.allclose(koleo_loss(features), loss.KoLeoLoss()(features), atol=1e-5)
