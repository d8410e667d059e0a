"""Losses of tasks with masks equal slow, obvious implementations."""

import math
from itertools import pairwise

import pytest
import torch

from headway.losses.koleo import koleo_loss
from headway.pretext.lejepa import epps_pulley
from headway.protocol import Batch, TrainingClock
from headway.rng import SampleRNG
from tests.small import INPUTS, SMALL_CONFIGS, make_images, small_train_module

CLOCK = TrainingClock(40, 100, 0.0)
PER_SIDE, PATCH = 4, 4


def run_task(task, count=3, **changes):
    """A module in float64, its views, and its output."""
    module = small_train_module(task, **changes).double()
    views = module.task.make_views(Batch(make_images(count), torch.arange(count)), SampleRNG(0, torch.arange(count)))
    with torch.no_grad():
        return module, views, module.task(module.backbone, views, CLOCK)


def softmax(row):
    powers = [math.exp(x - max(row)) for x in row]
    return [p / sum(powers) for p in powers]


def entropy(target, logits):
    return -sum(p * math.log(q) for p, q in zip(target, softmax(logits), strict=True))


def standard(token):
    mean = sum(token) / len(token)
    variance = sum((x - mean) ** 2 for x in token) / len(token)
    return [(x - mean) / math.sqrt(variance + 1e-5) for x in token]


def distance(a, b):
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))


def along(row, direction):
    return sum(x * y for x, y in zip(row, direction, strict=True))


@torch.no_grad()
def test_simmim_is_the_absolute_error_on_masked_pixels():
    module, views, outcome = run_task("simmim")
    assert views.mask.sum(1).tolist() == [10] * 3
    tokens = module.backbone(views.images, mask=views.mask, mask_value=module.task.mask_token).patches
    painted = module.task.to_pixels(tokens).tolist()
    errors, plain = [], []
    for image in range(3):
        for patch in views.mask[image].nonzero().flatten().tolist():
            top, left = divmod(patch, PER_SIDE)
            for number, guess in enumerate(painted[image][patch]):
                pixel, channel = divmod(number, 3)
                y, x = divmod(pixel, PATCH)
                value = float(views.images[image, channel, top * PATCH + y, left * PATCH + x])
                truth = (value - INPUTS.mean[channel]) / INPUTS.std[channel]
                errors.append(abs(guess - truth))
                plain.append(abs(truth))
    assert float(outcome.loss) == pytest.approx(sum(errors) / len(errors), abs=1e-9)
    assert float(outcome.metrics["mean_color_error"]) == pytest.approx(sum(plain) / len(plain), abs=1e-9)


@torch.no_grad()
@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_data2vec_is_the_smooth_error_to_the_mean_of_normalized_layers(beta, monkeypatch):
    monkeypatch.setitem(SMALL_CONFIGS, "data2vec", {"average_top_k_layers": 2, "beta": beta})
    module, views, outcome = run_task("data2vec")
    layers = [layer.tolist() for layer in module.task.teacher(views.images, return_layers=(0, 1)).layers]
    tokens = module.backbone(views.images, mask=views.mask, mask_value=module.task.mask_token).patches
    guesses = module.task.regression_head(tokens).tolist()
    terms = []
    for image in range(3):
        for patch in views.mask[image].nonzero().flatten().tolist():
            first, second = (standard(layer[image][patch]) for layer in layers)
            for guess, a, b in zip(guesses[image][patch], first, second, strict=True):
                error = abs(guess - (a + b) / 2)
                terms.append(error**2 / (2 * beta) if error <= beta else error - beta / 2)
    assert len(terms) == 3 * 10 * 16
    assert float(outcome.loss) == pytest.approx(sum(terms) / len(terms), abs=1e-9)


@torch.no_grad()
def test_ijepa_predicts_the_teachers_tokens_of_each_target():
    module, views, outcome = run_task("ijepa")
    task, predictor = module.task, module.task.predictor
    truth = task.teacher(views.images).patches.tolist()
    terms = []
    for image in range(3):
        context = views.context_indices[image : image + 1]
        seen = predictor.input_proj(module.backbone(views.images[image : image + 1], keep_indices=context).patches)[0]
        for target in views.target_indices[image]:
            assert not set(target.tolist()) & set(context[0].tolist())
            rows = [token + predictor.pos_embed[place] for token, place in zip(seen, context[0], strict=True)]
            rows += [predictor.mask_token + predictor.pos_embed[place] for place in target]
            tokens = torch.stack(rows)[None]
            for block in predictor.blocks:
                tokens = block(tokens)
            guesses = predictor.output_proj(predictor.norm(tokens))[0, len(seen) :].tolist()
            for guess, place in zip(guesses, target.tolist(), strict=True):
                terms += [(g - s) ** 2 for g, s in zip(guess, standard(truth[image][place]), strict=True)]
    assert float(outcome.loss) == pytest.approx(sum(terms) / len(terms), abs=1e-9)


@torch.no_grad()
def test_ibot_whole_loss_and_both_centers():
    module, views, _ = run_task("ibot")
    task, generator = module.task, torch.Generator().manual_seed(1)
    for center in (task.center, task.patch_center):
        center.copy_(torch.randn(12, generator=generator, dtype=torch.float64) / 10)
    outcome = task(module.backbone, views, CLOCK)

    seen = task.teacher(views.global_crops)
    answers, patch_answers = task.teacher_head(seen.pooled).tolist(), task.teacher_head(seen.patches).tolist()
    large = module.backbone(views.global_crops, mask=views.mask, mask_value=task.mask_token)
    guesses = torch.cat([task.head(large.pooled), task.head(module.backbone(views.local_crops).pooled)]).tolist()
    patch_guesses = task.head(large.patches).tolist()
    center, patch_center = task.center.tolist(), task.patch_center.tolist()

    def label(answer, middle, temperature):
        return softmax([(a - c) / temperature for a, c in zip(answer, middle, strict=True)])

    def student(row):
        return [x / 0.1 for x in row]

    crops = [
        entropy(label(answers[t * 3 + b], center, 0.04), student(guesses[v * 3 + b]))
        for t in range(2) for v in range(4) for b in range(3) if t != v
    ]  # fmt: skip
    hidden = [(row, patch) for row in range(6) for patch in range(16) if views.mask[row, patch]]
    patches = [
        entropy(label(patch_answers[row][patch], patch_center, 0.07), student(patch_guesses[row][patch]))
        for row, patch in hidden
    ]
    expected = sum(crops) / len(crops) + sum(patches) / len(patches)
    assert float(outcome.loss) == pytest.approx(expected, rel=1e-9)

    task.after_step(
        module.backbone, [outcome.step_stats], TrainingClock(5000, 10_000, 0.0)
    )  # in a run of this length center_momentum is the paper's
    mean = torch.tensor(answers).double().mean(0)
    patch_mean = torch.tensor([patch_answers[row][patch] for row, patch in hidden]).double().mean(0)
    assert torch.allclose(task.center, 0.9 * torch.tensor(center).double() + 0.1 * mean, atol=1e-6)
    assert torch.allclose(task.patch_center, 0.9 * torch.tensor(patch_center).double() + 0.1 * patch_mean, atol=1e-6)


def balanced(scores, temperature, rounds=3):
    q = [[math.exp(s / temperature) for s in row] for row in scores]
    for _ in range(rounds):
        columns = [sum(row[k] for row in q) for k in range(len(q[0]))]
        q = [[x / c for x, c in zip(row, columns, strict=True)] for row in q]
        q = [[x / sum(row) for x in row] for row in q]
    return q


def slow_koleo(rows):
    lengths = [math.sqrt(sum(x * x for x in row)) for row in rows]
    unit = [[x / length for x in row] for row, length in zip(rows, lengths, strict=True)]
    nearest = [min(distance(a, b) for j, b in enumerate(unit) if j != i) for i, a in enumerate(unit)]
    return -sum(map(math.log, nearest)) / len(nearest)


@torch.no_grad()
def test_dinov2_whole_loss():
    module, views, outcome = run_task("dinov2")
    task, temperature = module.task, 0.07  # warmed up
    seen = task.teacher(views.global_crops)
    answers = task.teacher_head(seen.pooled).tolist()
    labels = balanced(answers[:3], temperature) + balanced(answers[3:], temperature)
    large = module.backbone(views.global_crops, mask=views.mask, mask_value=task.mask_token)
    guesses = torch.cat([task.head(large.pooled), task.head(module.backbone(views.local_crops).pooled)]).tolist()
    crops = [
        entropy(labels[t * 3 + b], [x / 0.1 for x in guesses[v * 3 + b]])
        for t in range(2) for v in range(4) for b in range(3) if t != v
    ]  # fmt: skip
    patch_labels = balanced(task.teacher_patch_head(seen.patches[views.mask]).tolist(), temperature)
    patch_guesses = task.patch_head(large.patches[views.mask]).tolist()
    patches = [entropy(p, [x / 0.1 for x in q]) for p, q in zip(patch_labels, patch_guesses, strict=True)]
    apart = slow_koleo(large.pooled[:3].tolist())
    expected = sum(crops) / len(crops) + sum(patches) / len(patches) + 0.1 * apart
    assert float(outcome.loss) == pytest.approx(expected, rel=1e-9)


def test_koleo_and_equal_images():
    rows = torch.randn(7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert float(koleo_loss(rows)) == pytest.approx(slow_koleo(rows.tolist()), abs=1e-9)
    index = torch.tensor([4, 0, 1, 4, 2, 3, 5])  # rows 0 and 3 are one image: no neighbors
    nearer = rows.clone()
    nearer[3] = rows[0] * 1.01
    unit = torch.nn.functional.normalize(nearer, dim=1).tolist()
    nearest = [min(distance(a, b) for j, b in enumerate(unit) if index[j] != index[i]) for i, a in enumerate(unit)]
    assert float(koleo_loss(nearer, index)) == pytest.approx(-sum(map(math.log, nearest)) / 7, abs=1e-9)
    duplicates = rows.float()[[0, 0, 1]].requires_grad_()
    koleo_loss(duplicates).backward()
    assert torch.isfinite(duplicates.grad).all()


def test_epps_pulley_by_knots_and_in_closed_form():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(2, 6, 4, generator=generator, dtype=torch.float64)
    directions = torch.nn.functional.normalize(torch.randn(4, 3, generator=generator, dtype=torch.float64), dim=0)
    found = epps_pulley(z, directions).tolist()
    knots = [-5 + 10 * k / 16 for k in range(17)]
    for view in range(2):
        for number in range(3):
            x = [along(row, directions[:, number].tolist()) for row in z[view].tolist()]
            heights = []
            for t in knots:
                wave = sum(complex(math.cos(t * v), math.sin(t * v)) for v in x) / 6
                heights.append(abs(wave - math.exp(-t * t / 2)) ** 2 * math.exp(-t * t))
            slow = 6 * sum((a + b) / 2 * (10 / 16) for a, b in pairwise(heights))
            assert found[view][number] == pytest.approx(slow, abs=1e-9)

            def integral(a, c):  # of cos(a t) exp(-c t^2) over the whole line
                return math.sqrt(math.pi / c) * math.exp(-a * a / (4 * c))

            pairs = sum(integral(a - b, 1.0) for a in x for b in x) / 36
            exact = 6 * (pairs - 2 * sum(integral(a, 1.5) for a in x) / 6 + integral(0.0, 2.0))
            assert found[view][number] == pytest.approx(exact, rel=3e-3), "17 knots come near the integral"


@torch.no_grad()
def test_lejepa_whole_loss():
    module, views, outcome = run_task("lejepa")
    pooled = [module.backbone(crops).pooled for crops in (views.global_crops, views.local_crops)]
    z = module.task.projector(torch.cat(pooled)).reshape(4, 3, 8)
    middle = (z[0] + z[1]) / 2
    agree = [(z[v, b, e] - middle[b, e]) ** 2 for v in range(4) for b in range(3) for e in range(8)]
    directions = (
        SampleRNG(views.directions_seed, torch.zeros(1, dtype=torch.int64)).normal("directions", 8, 16)[0].double()
    )
    directions = directions / directions.norm(dim=0)
    gauss = [epps_pulley(z[v : v + 1], directions[:, a : a + 1]) for v in range(4) for a in range(16)]
    weight = 0.05 * 256 / 3  # T is scaled to that of 256 images
    expected = 0.95 * float(sum(agree)) / len(agree) + weight * float(sum(gauss)) / len(gauss)
    assert float(outcome.loss) == pytest.approx(expected, rel=1e-6)


def test_losses_are_not_rounded_by_autocast():
    z = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))
    directions = torch.nn.functional.normalize(torch.randn(8, 5), dim=0)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = koleo_loss(z[0]), epps_pulley(z, directions)
    assert torch.equal(rounded[0], koleo_loss(z[0])) and torch.equal(rounded[1], epps_pulley(z, directions))
