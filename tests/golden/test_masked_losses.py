"""Losses of the tasks that hide something, each against a slow, obvious one."""

import math
from itertools import pairwise

import pytest
import torch

from headway.draws import Draws
from headway.nn.koleo import koleo
from headway.pretext.lejepa import epps_pulley
from headway.protocol import Batch, Clock
from tests.small import INPUTS, SMALLER, pictures, small_learner

CLOCK = Clock(40, 100, 0.0)
PER_SIDE, PATCH = 4, 4


def played(task, count=3, **changes):
    """A learner in float64, what it was dealt, and its outcome."""
    learner = small_learner(task, **changes).double()
    views = learner.task.views(Batch(pictures(count), torch.arange(count)), Draws(0, torch.arange(count)))
    with torch.no_grad():
        return learner, views, learner.task(learner.backbone, views, CLOCK)


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
def test_simmim_is_the_absolute_error_on_hidden_pixels():
    learner, views, outcome = played("simmim")
    assert views.mask.sum(1).tolist() == [10] * 3
    tokens = learner.backbone(views.images, mask=views.mask, fill=learner.task.mask_token).patches
    painted = learner.task.paint(tokens).tolist()
    errors, plain = [], []
    for picture in range(3):
        for patch in views.mask[picture].nonzero().flatten().tolist():
            top, left = divmod(patch, PER_SIDE)
            for number, guess in enumerate(painted[picture][patch]):
                pixel, channel = divmod(number, 3)
                y, x = divmod(pixel, PATCH)
                value = float(views.images[picture, channel, top * PATCH + y, left * PATCH + x])
                truth = (value - INPUTS.mean[channel]) / INPUTS.std[channel]
                errors.append(abs(guess - truth))
                plain.append(abs(truth))
    assert float(outcome.loss) == pytest.approx(sum(errors) / len(errors), abs=1e-9)
    assert float(outcome.metrics["mean_colour_error"]) == pytest.approx(sum(plain) / len(plain), abs=1e-9)


@torch.no_grad()
@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_data2vec_is_the_smooth_error_to_the_mean_of_normalised_layers(beta, monkeypatch):
    monkeypatch.setitem(SMALLER, "data2vec", {"layers": 2, "beta": beta})
    learner, views, outcome = played("data2vec")
    layers = [layer.tolist() for layer in learner.task.teacher(views.images, layers=(0, 1)).layers]
    tokens = learner.backbone(views.images, mask=views.mask, fill=learner.task.mask_token).patches
    guesses = learner.task.guess(tokens).tolist()
    terms = []
    for picture in range(3):
        for patch in views.mask[picture].nonzero().flatten().tolist():
            first, second = (standard(layer[picture][patch]) for layer in layers)
            for guess, a, b in zip(guesses[picture][patch], first, second, strict=True):
                error = abs(guess - (a + b) / 2)
                terms.append(error**2 / (2 * beta) if error <= beta else error - beta / 2)
    assert len(terms) == 3 * 10 * 16
    assert float(outcome.loss) == pytest.approx(sum(terms) / len(terms), abs=1e-9)


@torch.no_grad()
def test_ijepa_predicts_the_teachers_tokens_of_each_target():
    learner, views, outcome = played("ijepa")
    task, narrow = learner.task, learner.task.predictor
    truth = task.teacher(views.images).patches.tolist()
    terms = []
    for picture in range(3):
        context = views.context[picture : picture + 1]
        seen = narrow.join(learner.backbone(views.images[picture : picture + 1], keep=context).patches)[0]
        for target in views.targets[picture]:
            assert not set(target.tolist()) & set(context[0].tolist())
            rows = [token + narrow.positions[place] for token, place in zip(seen, context[0], strict=True)]
            rows += [narrow.mask_token + narrow.positions[place] for place in target]
            tokens = torch.stack(rows)[None]
            for block in narrow.blocks:
                tokens = block(tokens)
            guesses = narrow.say(narrow.norm(tokens))[0, len(seen) :].tolist()
            for guess, place in zip(guesses, target.tolist(), strict=True):
                terms += [(g - s) ** 2 for g, s in zip(guess, standard(truth[picture][place]), strict=True)]
    assert float(outcome.loss) == pytest.approx(sum(terms) / len(terms), abs=1e-9)


@torch.no_grad()
def test_ibot_whole_loss_and_both_centres():
    learner, views, _ = played("ibot")
    task, generator = learner.task, torch.Generator().manual_seed(1)
    for centre in (task.centre, task.patch_centre):
        centre.copy_(torch.randn(12, generator=generator, dtype=torch.float64) / 10)
    outcome = task(learner.backbone, views, CLOCK)

    seen = task.teacher(views.large)
    answers, patch_answers = task.teacher_head(seen.pooled).tolist(), task.teacher_head(seen.patches).tolist()
    large = learner.backbone(views.large, mask=views.mask, fill=task.mask_token)
    guesses = torch.cat([task.head(large.pooled), task.head(learner.backbone(views.small).pooled)]).tolist()
    patch_guesses = task.head(large.patches).tolist()
    centre, patch_centre = task.centre.tolist(), task.patch_centre.tolist()

    def label(answer, middle, temperature):
        return softmax([(a - c) / temperature for a, c in zip(answer, middle, strict=True)])

    def student(row):
        return [x / 0.1 for x in row]

    crops = [
        entropy(label(answers[t * 3 + b], centre, 0.04), student(guesses[v * 3 + b]))
        for t in range(2) for v in range(4) for b in range(3) if t != v
    ]  # fmt: skip
    hidden = [(row, patch) for row in range(6) for patch in range(16) if views.mask[row, patch]]
    patches = [
        entropy(label(patch_answers[row][patch], patch_centre, 0.07), student(patch_guesses[row][patch]))
        for row, patch in hidden
    ]
    expected = sum(crops) / len(crops) + sum(patches) / len(patches)
    assert float(outcome.loss) == pytest.approx(expected, rel=1e-9)

    task.after_step(learner.backbone, [outcome.carry], Clock(5000, 10_000, 0.0))  # so long a run has the paper's centre
    mean = torch.tensor(answers).double().mean(0)
    patch_mean = torch.tensor([patch_answers[row][patch] for row, patch in hidden]).double().mean(0)
    assert torch.allclose(task.centre, 0.9 * torch.tensor(centre).double() + 0.1 * mean, atol=1e-6)
    assert torch.allclose(task.patch_centre, 0.9 * torch.tensor(patch_centre).double() + 0.1 * patch_mean, atol=1e-6)


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
    learner, views, outcome = played("dinov2")
    task, temperature = learner.task, 0.07  # warmed up
    seen = task.teacher(views.large)
    answers = task.teacher_head(seen.pooled).tolist()
    labels = balanced(answers[:3], temperature) + balanced(answers[3:], temperature)
    large = learner.backbone(views.large, mask=views.mask, fill=task.mask_token)
    guesses = torch.cat([task.head(large.pooled), task.head(learner.backbone(views.small).pooled)]).tolist()
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


def test_koleo_and_equal_pictures():
    rows = torch.randn(7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert float(koleo(rows)) == pytest.approx(slow_koleo(rows.tolist()), abs=1e-9)
    index = torch.tensor([4, 0, 1, 4, 2, 3, 5])  # rows 0 and 3 are one picture: no neighbours
    nearer = rows.clone()
    nearer[3] = rows[0] * 1.01
    unit = torch.nn.functional.normalize(nearer, dim=1).tolist()
    nearest = [min(distance(a, b) for j, b in enumerate(unit) if index[j] != index[i]) for i, a in enumerate(unit)]
    assert float(koleo(nearer, index)) == pytest.approx(-sum(map(math.log, nearest)) / 7, abs=1e-9)
    twins = rows.float()[[0, 0, 1]].requires_grad_()
    koleo(twins).backward()
    assert torch.isfinite(twins.grad).all()


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
    learner, views, outcome = played("lejepa")
    pooled = [learner.backbone(crops).pooled for crops in (views.large, views.small)]
    z = learner.task.projector(torch.cat(pooled)).reshape(4, 3, 8)
    middle = (z[0] + z[1]) / 2
    agree = [(z[v, b, e] - middle[b, e]) ** 2 for v in range(4) for b in range(3) for e in range(8)]
    directions = Draws(views.directions, torch.zeros(1, dtype=torch.int64)).normal(8, 16)[0].double()
    directions = directions / directions.norm(dim=0)
    gauss = [epps_pulley(z[v : v + 1], directions[:, a : a + 1]) for v in range(4) for a in range(16)]
    price = 0.05 * 256 / 3  # T of so few pictures is small beside what it is of 256
    expected = 0.95 * float(sum(agree)) / len(agree) + price * float(sum(gauss)) / len(gauss)
    assert float(outcome.loss) == pytest.approx(expected, rel=1e-6)


def test_losses_are_not_rounded_by_autocast():
    z = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))
    directions = torch.nn.functional.normalize(torch.randn(8, 5), dim=0)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = koleo(z[0]), epps_pulley(z, directions)
    assert torch.equal(rounded[0], koleo(z[0])) and torch.equal(rounded[1], epps_pulley(z, directions))
