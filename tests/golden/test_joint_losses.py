"""Losses that bring views together (MoCo v3, BYOL, SimSiam, Barlow Twins, VICReg, SwAV, DIET), each against loops."""

import math

import pytest
import torch

from headway.draws import Draws
from headway.nn.heads import cosines
from headway.nn.numerics import unit
from headway.pretext.barlow_twins import cross_correlation, twin_terms
from headway.pretext.byol import bootstrap
from headway.pretext.diet import index_loss
from headway.pretext.moco_v3 import contrast
from headway.pretext.simclr import nt_xent
from headway.pretext.simsiam import apart
from headway.pretext.vicreg import regularity
from headway.protocol import Batch, Clock
from tests.small import pictures, small_learner

PICTURES, WIDTH = 6, 5


def two(seed=0, count=PICTURES):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, WIDTH, generator=generator, dtype=torch.float64) * 2 + 0.3 for _ in range(2)]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def cosine(a, b):
    return dot(a, b) / math.sqrt(dot(a, a) * dot(b, b))


def dealt(task, **choices):
    learner = small_learner(task, **choices).double()
    places = torch.arange(PICTURES)
    return learner, learner.task.views(Batch(pictures(PICTURES), places), Draws(0, places))


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_moco_contrasts_with_every_key(temperature):
    queries, keys = two()
    total, nearest = 0.0, 0
    for i, query in enumerate(queries.tolist()):
        scores = [cosine(query, key) / temperature for key in keys.tolist()]
        total -= math.log(math.exp(scores[i]) / sum(map(math.exp, scores)))
        nearest += max(range(PICTURES), key=scores.__getitem__) == i
    loss, agreement = contrast(queries, keys, temperature)
    assert float(loss) == pytest.approx(2 * temperature * total / PICTURES, abs=1e-12)
    assert float(agreement) == pytest.approx(nearest / PICTURES)


def test_byol_is_the_squared_distance_of_directions():
    predictions, targets = two(1)
    total = 0.0
    for p, t in zip(predictions.tolist(), targets.tolist(), strict=True):
        p, t = [x / math.sqrt(dot(p, p)) for x in p], [x / math.sqrt(dot(t, t)) for x in t]
        total += sum((x - y) ** 2 for x, y in zip(p, t, strict=True))
    assert float(bootstrap(predictions, targets)) == pytest.approx(total / PICTURES, abs=1e-12)


def test_simsiam_pulls_predictions_alone():
    predictions, projections = (x.requires_grad_() for x in two(2))
    loss = apart(predictions, projections)
    expected = sum(cosine(p, z) for p, z in zip(predictions.tolist(), projections.tolist(), strict=True)) / PICTURES
    assert float(loss.detach()) == pytest.approx(-expected, abs=1e-12)
    loss.backward()
    assert projections.grad is None and predictions.grad.abs().sum() > 0


@pytest.mark.parametrize("loss", [nt_xent, contrast])
def test_a_picture_that_is_there_twice_is_no_stranger_to_itself(loss):
    first, second = two(7)
    second[4] = first[1]  # a view that would be the nearest stranger of all
    index = torch.tensor([7, 3, 9, 0, 3, 5])  # rows 1 and 4 are one picture
    total = 0.0
    for i in range(PICTURES):
        strangers = [k for k in range(PICTURES) if index[k] != index[i]]
        for mine, other in ((first, second), (second, first)) if loss is nt_xent else ((first, second),):
            rows = [other[i], *other[strangers]] + ([*mine[strangers]] if loss is nt_xent else [])
            scores = [cosine(mine[i].tolist(), row.tolist()) / 0.5 for row in rows]
            total += math.log(sum(map(math.exp, scores))) - scores[0]
    expected = total / (2 * PICTURES) if loss is nt_xent else 2 * 0.5 * total / PICTURES
    assert float(loss(first, second, 0.5, index)[0]) == pytest.approx(expected, abs=1e-12)
    others = torch.arange(PICTURES)
    assert torch.equal(loss(first, second, 0.5, others)[0], loss(first, second, 0.5)[0])
    assert math.isfinite(loss(first, second, 0.5, torch.zeros(PICTURES, dtype=torch.int64))[0])


@pytest.mark.parametrize("task", ["byol", "moco_v3"])
def test_each_view_asks_the_teacher_about_the_other(task):
    learner, views = dealt(task)
    game, backbone = learner.task, learner.backbone
    total = 0.0
    for asking, answering in ((0, 1), (1, 0)):
        mine, other = (views.images.chunk(2)[which].double() for which in (asking, answering))
        guess = game.predictor(game.projector(backbone(mine).pooled))
        answer = game.teacher_projector(game.teacher(other).pooled)
        part = bootstrap(guess, answer) if task == "byol" else contrast(guess, answer, game.config.temperature)[0]
        total += float(part.detach())
    found = game(backbone, views._replace(images=views.images.double()), Clock(0, 10, 0.0)).loss
    assert float(found.detach()) == pytest.approx(total, abs=1e-9)


def test_simsiam_asks_each_view_about_the_other():
    learner, views = dealt("simsiam")
    game, images = learner.task, views.images.double()
    first, second = (game.projector(learner.backbone(view).pooled) for view in images.chunk(2))
    total = 0.0
    for asking, answering in ((first, second), (second, first)):
        for p, z in zip(game.predictor(asking).tolist(), answering.tolist(), strict=True):
            total -= cosine(p, z)
    found = game(learner.backbone, views._replace(images=images), Clock(0, 10, 0.0)).loss
    assert float(found.detach()) == pytest.approx(total / (2 * PICTURES), abs=1e-9)


def test_simclr_and_diet_play_with_what_they_dealt():
    learner, views = dealt("simclr")
    images = views.images.double()
    first, second = learner.task.projector(learner.backbone(images).pooled).chunk(2)
    found = learner.task(learner.backbone, views._replace(images=images), Clock(9, 10, 0.0)).loss
    assert torch.allclose(found, nt_xent(first, second, learner.task.temperature)[0], atol=1e-12)
    learner, views = dealt("diet")
    images = views.images.double()
    logits = learner.backbone(images).pooled @ learner.task.head.weight.T
    expected = torch.nn.functional.cross_entropy(logits, torch.arange(PICTURES), label_smoothing=learner.task.smoothing)
    found = learner.task(learner.backbone, views._replace(images=images), Clock(0, 10, 0.0)).loss
    assert torch.allclose(found, expected, atol=1e-9)


def test_barlow_twins_weighs_what_repeats():
    learner, views = dealt("barlow_twins")
    images, game = views.images.double(), learner.task
    first, second = (game.projector(learner.backbone(view).pooled) for view in images.chunk(2))
    same, repeated = twin_terms(cross_correlation(first, second))
    found = game(learner.backbone, views._replace(images=images), Clock(0, 10, 0.0)).loss
    assert game.redundancy == pytest.approx(0.0051 * 8192 / 16)  # the paper's, for its width of 8192
    assert float(found.detach()) == pytest.approx(float((same + game.redundancy * repeated).detach()), abs=1e-9)


def test_barlow_twins_coordinate_by_coordinate():
    first, second = two(3)

    def standard(column):
        mean = sum(column) / PICTURES
        variance = sum((x - mean) ** 2 for x in column) / PICTURES
        return [(x - mean) / math.sqrt(variance + 1e-5) for x in column]

    one, other = ([standard(column) for column in z.T.tolist()] for z in (first, second))
    table = [[dot(a, b) / PICTURES for b in other] for a in one]
    correlation = cross_correlation(first, second)
    assert torch.allclose(correlation, torch.tensor(table, dtype=torch.float64), atol=1e-12)
    same, repeated = twin_terms(correlation)
    assert float(same) == pytest.approx(sum((1 - table[i][i]) ** 2 for i in range(WIDTH)) / WIDTH)
    others = sum(table[i][j] ** 2 for i in range(WIDTH) for j in range(WIDTH) if i != j)
    assert float(repeated) == pytest.approx(others / WIDTH)


def test_vicreg_varies_and_does_not_repeat():
    z, _ = two(4)
    z = z * torch.tensor([0.1, 0.2, 1.0, 2.0, 0.4], dtype=torch.float64)  # the small ones must cost
    columns = [[x - sum(column) / PICTURES for x in column] for column in z.T.tolist()]
    table = [[dot(a, b) / (PICTURES - 1) for b in columns] for a in columns]
    found = regularity(z)
    variance = sum(max(0.0, 1 - math.sqrt(table[i][i] + 1e-4)) for i in range(WIDTH)) / WIDTH
    covariance = sum(table[i][j] ** 2 for i in range(WIDTH) for j in range(WIDTH) if i != j) / WIDTH
    assert float(found.variance) == pytest.approx(variance) and variance > 0
    assert float(found.covariance) == pytest.approx(covariance)
    assert float(found.deviation) == pytest.approx(sum(math.sqrt(table[i][i] + 1e-4) for i in range(WIDTH)) / WIDTH)


def test_vicreg_adds_its_terms_with_their_weights():
    learner, views = dealt("vicreg")
    images = views.images.double()
    first, second = (learner.task.projector(learner.backbone(view).pooled) for view in images.chunk(2))
    one, other = regularity(first), regularity(second)
    expected = 25 * (first - second).square().mean() + 12.5 * (one.variance + other.variance)
    expected = expected + one.covariance + other.covariance
    found = learner.task(learner.backbone, views._replace(images=images), Clock(0, 10, 0.0)).loss
    assert float(found.detach()) == pytest.approx(float(expected.detach()), abs=1e-9)


def slow_codes(scores, epsilon, rounds):
    """Scale columns and rows in turn, on plain numbers."""
    shares = [[math.exp(score / epsilon) for score in row] for row in scores]
    for _ in range(rounds):
        for k in range(len(shares[0])):
            total = sum(row[k] for row in shares)
            for row in shares:
                row[k] /= total
        shares = [[share / sum(row) for share in row] for row in shares]
    return shares


def test_swav_sorts_large_crops_and_asks_all_others():
    learner, views = dealt("swav")
    views = views._replace(large=views.large.double(), small=views.small.double())
    game, backbone = learner.task, learner.backbone
    config = game.config
    pooled = torch.cat([backbone(views.large).pooled, backbone(views.small).pooled])
    with torch.no_grad():
        scores = unit(game.projector(pooled)) @ unit(game.prototypes).T
    crops = scores.unflatten(0, (-1, PICTURES)).tolist()  # crops pictures prototypes
    codes = [slow_codes(crop, config.epsilon, config.iterations) for crop in crops[:2]]
    total, pairs = 0.0, 0
    for asked in range(2):
        for answering in range(len(crops)):
            if answering == asked:
                continue
            pairs += PICTURES
            for code, row in zip(codes[asked], crops[answering], strict=True):
                normaliser = math.log(sum(math.exp(score / config.temperature) for score in row))
                total -= sum(q * (score / config.temperature - normaliser) for q, score in zip(code, row, strict=True))
    found = game(backbone, views, Clock(0, 10, 0.0)).loss
    assert float(found.detach()) == pytest.approx(total / pairs, abs=1e-6)


def test_swavs_queue_holds_the_newest_and_counts_when_it_is_full():
    learner, views = dealt("swav")
    game = learner.task
    views = views._replace(large=views.large.double(), small=views.small.double())
    before = game.queue.clone()
    outcome = game(learner.backbone, views, Clock(0, 10, 0.0))
    game.after_step(learner.backbone, [outcome.carry], Clock(1, 10, 0.0))
    assert torch.equal(game.queue[:, :PICTURES], outcome.carry.transpose(0, 1))
    assert torch.equal(game.queue[:, PICTURES:], before[:, :-PICTURES])
    assert torch.equal(*(game(learner.backbone, views, Clock(step, 10, 0.0)).loss for step in (0, 9))), "not full yet"
    waiting = torch.randn(game.queue.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    game.queue.copy_(unit(waiting))
    assert torch.equal(game(learner.backbone, views, Clock(0, 10, 0.0)).loss, outcome.loss), "too early"

    prototypes, config = unit(game.prototypes.detach()), game.config
    pooled = torch.cat([learner.backbone(views.large).pooled, learner.backbone(views.small).pooled]).detach()
    scores = (unit(game.projector(pooled)) @ prototypes.T).detach().unflatten(0, (-1, PICTURES))  # crops B K
    total, pairs = 0.0, 0
    for asked in range(2):
        rows = torch.cat([scores[asked], game.queue[asked] @ prototypes.T]).tolist()
        codes = slow_codes(rows, config.epsilon, config.iterations)[:PICTURES]
        for answering in range(len(scores)):
            if answering != asked:
                pairs += PICTURES
                answers = (scores[answering] / config.temperature).log_softmax(-1)
                total -= float((torch.tensor(codes, dtype=torch.float64) * answers).sum())
    found = game(learner.backbone, views, Clock(9, 10, 0.0)).loss
    assert float(found.detach()) == pytest.approx(total / pairs, abs=1e-6)


@pytest.mark.parametrize("cells", [1 << 20, 2 * PICTURES, PICTURES])
def test_diet_is_smoothed_cross_entropy_however_it_is_sliced(cells):
    features, _ = two(5)
    weight = torch.randn(9, WIDTH, generator=torch.Generator().manual_seed(6), dtype=torch.float64).requires_grad_()
    index, smoothing = torch.tensor([3, 0, 8, 8, 1, 5]), 0.3
    total, right = 0.0, 0
    for row, own in zip(features.tolist(), index.tolist(), strict=True):
        logits = [dot(row, w) for w in weight.tolist()]
        log_p = [z - math.log(sum(map(math.exp, logits))) for z in logits]
        total += -(1 - smoothing) * log_p[own] - smoothing / 9 * sum(log_p)
        right += max(range(9), key=logits.__getitem__) == own
    loss, accuracy = index_loss(features, weight, index, smoothing, cells)
    assert float(loss.detach()) == pytest.approx(total / PICTURES) and float(accuracy) == pytest.approx(right / 6)
    plain = torch.nn.functional.cross_entropy(features @ weight.T, index, label_smoothing=smoothing)
    assert torch.allclose(*(torch.autograd.grad(value, weight)[0] for value in (loss, plain)), atol=1e-12)


def test_losses_are_not_rounded_by_autocast():
    first, second = (x.float() for x in two(8, 12))
    index = torch.arange(12)
    losses = {
        "contrast": lambda: contrast(first, second, 0.2)[0],
        "cross_correlation": lambda: cross_correlation(first, second),
        "regularity": lambda: torch.stack(regularity(first)),
        "cosines": lambda: cosines(first, second),
        "index_loss": lambda: index_loss(first, second.repeat(2, 1), index, 0.1)[0],
        "bootstrap": lambda: bootstrap(first, second),
        "apart": lambda: apart(first, second),
    }
    for name, loss in losses.items():
        with torch.autocast("cpu", torch.bfloat16):
            rounded = loss()
        assert torch.equal(rounded, loss()), name
