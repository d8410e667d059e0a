"""Each loss equals a slow, obvious implementation."""

import math

import pytest
import torch

from headway.losses.contrastive import nt_xent
from headway.losses.distillation import cross_view_entropy
from headway.pretext.mae import normalize_patches
from headway.protocol import Batch, TrainingClock
from headway.rng import SampleRNG
from headway.transforms.patches import patchify
from tests.small import make_images, small_train_module


def cosine(a, b):
    return float(
        sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
    )


def softmax(row):
    top = max(row)
    powers = [math.exp(x - top) for x in row]
    return [p / sum(powers) for p in powers]


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent(temperature):
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(5, 7, generator=generator, dtype=torch.float64) for _ in range(2))
    views = [*first.tolist(), *second.tolist()]
    total, nearest = 0.0, 0
    for i, view in enumerate(views):
        positive = (i + 5) % 10
        others = {k: cosine(view, views[k]) / temperature for k in range(10) if k != i}
        total += -math.log(math.exp(others[positive]) / sum(math.exp(value) for value in others.values()))
        nearest += max(others, key=others.__getitem__) == positive
    loss, top1 = nt_xent(first, second, temperature)
    assert float(loss) == pytest.approx(total / 10, abs=1e-12)
    assert float(top1) == pytest.approx(nearest / 10)


def test_patchify_and_normalized_pixels():
    images = torch.rand(2, 3, 8, 12, dtype=torch.float64)
    patches = patchify(images, 4)
    assert patches.shape == (2, 6, 48)
    for number in range(6):
        row, column = divmod(number, 3)
        tile = images[:, :, row * 4 : row * 4 + 4, column * 4 : column * 4 + 4]
        assert torch.equal(patches[:, number], tile.permute(0, 2, 3, 1).flatten(1))
    flat = normalize_patches(patches)
    assert torch.allclose(flat.mean(-1), torch.zeros(2, 6, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(flat.var(-1), torch.ones(2, 6, dtype=torch.float64), atol=1e-3)


@torch.no_grad()
def test_mae_counts_masked_patches_only():
    module = small_train_module("mae").double()
    batch = Batch(make_images(4), torch.arange(4))
    views = module.task.make_views(batch, SampleRNG(0, torch.arange(4)))
    decoder, terms, blank = module.task.decoder, [], []
    seen = decoder.input_proj(module.backbone(views.images, keep_indices=views.keep_indices).patches)
    for image in range(4):
        keep, hidden = views.keep_indices[image].tolist(), views.masked_indices[image].tolist()
        assert len(hidden) == 12 and sorted(keep + hidden) == list(range(16))
        tokens = [token + decoder.pos_embed[place] for token, place in zip(seen[image], keep, strict=True)]
        tokens += [decoder.mask_token + decoder.pos_embed[place] for place in hidden]
        row = torch.stack(tokens)[None]
        for block in decoder.blocks:
            row = block(row)
        painted = decoder.output_proj(decoder.norm(row))[0, len(keep) :]
        for patch, paint in zip(hidden, painted, strict=True):
            down, across = divmod(patch, 4)
            tile = views.images[image, :, down * 4 : down * 4 + 4, across * 4 : across * 4 + 4].double()
            pixels = tile.permute(1, 2, 0).flatten()
            target = (pixels - pixels.mean()) / (pixels.var() + 1e-6).sqrt()
            terms.append(float((paint - target).square().mean()))
            blank.append(float(target.square().mean()))
    outcome = module.task(module.backbone, views, TrainingClock(0, 1, 0.0))
    assert float(outcome.loss) == pytest.approx(sum(terms) / 48, abs=1e-9)
    assert float(outcome.metrics["mean_color_error"]) == pytest.approx(sum(blank) / 48, abs=1e-9)


def test_mae_encoder_never_sees_masked_patches():
    module = small_train_module("mae").double()
    batch = Batch(make_images(4), torch.arange(4))
    views = module.task.make_views(batch, SampleRNG(0, torch.arange(4)))
    mask = torch.zeros(4, 16, dtype=torch.bool).scatter(1, views.masked_indices, True)
    hidden = mask.reshape(4, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    other = torch.where(hidden, torch.rand_like(views.images), views.images)
    first = module.backbone(views.images, keep_indices=views.keep_indices).patches
    assert torch.equal(first, module.backbone(other, keep_indices=views.keep_indices).patches)


def test_cross_view_entropy():
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64).softmax(-1)
    student = torch.randn(4, 3, 5, generator=generator, dtype=torch.float64).log_softmax(-1)
    terms = [
        -sum(float(teacher[t, b, k]) * float(student[v, b, k]) for k in range(5))
        for t in range(2) for v in range(4) for b in range(3) if t != v
    ]  # fmt: skip
    assert float(cross_view_entropy(teacher, student)) == pytest.approx(sum(terms) / len(terms), abs=1e-12)


def test_dino_loss_center_and_teacher():
    module = small_train_module("dino").double()
    task, backbone = module.task, module.backbone
    task.center.copy_(torch.randn(12, generator=torch.Generator().manual_seed(1), dtype=torch.float64) / 10)
    views = task.make_views(Batch(make_images(3), torch.arange(3)), SampleRNG(0, torch.arange(3)))
    clock = TrainingClock(0, 100, 0.0)
    outcome = task(backbone, views, clock)

    answers = task.teacher_head(task.teacher(views.global_crops).pooled).tolist()
    center = task.center.tolist()
    students = [
        *task.head(backbone(views.global_crops).pooled).tolist(),
        *task.head(backbone(views.local_crops).pooled).tolist(),
    ]
    terms = []
    for t in range(2):
        for v in range(4):
            for b in range(3):
                if t != v:
                    target = softmax([(a - c) / 0.04 for a, c in zip(answers[t * 3 + b], center, strict=True)])
                    guess = softmax([a / 0.1 for a in students[v * 3 + b]])
                    terms.append(-sum(p * math.log(q) for p, q in zip(target, guess, strict=True)))
    assert float(outcome.loss.detach()) == pytest.approx(sum(terms) / len(terms), rel=1e-9)

    weight = task.teacher.network.norm.weight.clone()
    with torch.no_grad():
        backbone.norm.weight.add_(1.0)
        task.after_step(backbone, [outcome.step_stats], TrainingClock(500, 2000, 0.0))
    momentum = 1 - (1 - min(0.996, 1 - 1 / 50)) * (math.cos(math.pi * 0.25) + 1) / 2
    assert torch.allclose(task.teacher.network.norm.weight, weight + (1 - momentum), atol=1e-12)
    mean, keep = torch.tensor(answers, dtype=torch.float64).mean(0), 1 - 25 * (1 - momentum)  # of 0.9 at most
    assert 0.5 < keep < 0.6
    assert torch.allclose(task.center, keep * torch.tensor(center, dtype=torch.float64) + (1 - keep) * mean, atol=1e-9)


def test_rotation_targets_are_the_rotations():
    module = small_train_module("rotation")
    views = module.task.make_views(Batch(make_images(64), torch.arange(64)), SampleRNG(0, torch.arange(64)))
    assert set(views.targets.tolist()) == {0, 1, 2, 3}
    upright = torch.stack(
        [torch.rot90(x, -int(turn), (1, 2)) for x, turn in zip(views.images, views.targets, strict=True)]
    )
    plain = module.task.make_views(Batch(make_images(64), torch.arange(64)), SampleRNG(0, torch.arange(64)))
    again = torch.stack([torch.rot90(x, int(turn), (1, 2)) for x, turn in zip(upright, plain.targets, strict=True)])
    assert torch.equal(again, views.images)
    logits = module.task.head(module.backbone(views.images).pooled).tolist()
    expected = sum(-math.log(softmax(row)[int(turn)]) for row, turn in zip(logits, views.targets, strict=True)) / 64
    assert float(module.task(module.backbone, views, TrainingClock(0, 1, 0.0)).loss.detach()) == pytest.approx(
        expected, rel=1e-5
    )


def test_losses_are_not_rounded_by_autocast():
    first, second = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0)).unbind()
    teacher, student = torch.randn(2, 3, 5).softmax(-1), torch.randn(4, 3, 5).log_softmax(-1)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = nt_xent(first, second, 0.1)[0], cross_view_entropy(teacher, student)
    assert torch.equal(rounded[0], nt_xent(first, second, 0.1)[0])
    assert torch.equal(rounded[1], cross_view_entropy(teacher, student))
