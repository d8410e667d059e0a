"""Joint-embedding losses (MoCo v3, BYOL, SimSiam, Barlow Twins, VICReg, SwAV, DIET) equal loops."""

import math

import pytest
import torch

from headway.losses.contrastive import info_nce, nt_xent
from headway.nn.numerics import l2_normalize
from headway.nn.projection_heads import pairwise_cosine_similarity
from headway.pretext.barlow_twins import cross_correlation, on_off_diagonal
from headway.pretext.byol import byol_loss
from headway.pretext.diet import chunked_cross_entropy
from headway.pretext.simsiam import negative_cosine
from headway.pretext.vicreg import variance_covariance
from headway.protocol import Batch, TrainingClock
from headway.rng import SampleRNG
from tests.small import make_images, small_train_module

NUM_IMAGES, DIM = 6, 5


def two(seed=0, count=NUM_IMAGES):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, DIM, generator=generator, dtype=torch.float64) * 2 + 0.3 for _ in range(2)]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def cosine(a, b):
    return dot(a, b) / math.sqrt(dot(a, a) * dot(b, b))


def module_and_views(task, **choices):
    module = small_train_module(task, **choices).double()
    places = torch.arange(NUM_IMAGES)
    return module, module.task.make_views(Batch(make_images(NUM_IMAGES), places), SampleRNG(0, places))


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_info_nce_contrasts_with_every_key(temperature):
    queries, keys = two()
    total, nearest = 0.0, 0
    for i, query in enumerate(queries.tolist()):
        scores = [cosine(query, key) / temperature for key in keys.tolist()]
        total -= math.log(math.exp(scores[i]) / sum(map(math.exp, scores)))
        nearest += max(range(NUM_IMAGES), key=scores.__getitem__) == i
    loss, top1 = info_nce(queries, keys, temperature)
    assert float(loss) == pytest.approx(2 * temperature * total / NUM_IMAGES, abs=1e-12)
    assert float(top1) == pytest.approx(nearest / NUM_IMAGES)


def test_byol_loss_is_the_squared_distance_of_directions():
    predictions, targets = two(1)
    total = 0.0
    for p, t in zip(predictions.tolist(), targets.tolist(), strict=True):
        p, t = [x / math.sqrt(dot(p, p)) for x in p], [x / math.sqrt(dot(t, t)) for x in t]
        total += sum((x - y) ** 2 for x, y in zip(p, t, strict=True))
    assert float(byol_loss(predictions, targets)) == pytest.approx(total / NUM_IMAGES, abs=1e-12)


def test_negative_cosine_moves_predictions_only():
    predictions, projections = (x.requires_grad_() for x in two(2))
    loss = negative_cosine(predictions, projections)
    expected = sum(cosine(p, z) for p, z in zip(predictions.tolist(), projections.tolist(), strict=True)) / NUM_IMAGES
    assert float(loss.detach()) == pytest.approx(-expected, abs=1e-12)
    loss.backward()
    assert projections.grad is None and predictions.grad.abs().sum() > 0


@pytest.mark.parametrize("loss", [nt_xent, info_nce])
def test_an_image_that_occurs_twice_is_no_negative_of_itself(loss):
    first, second = two(7)
    second[4] = first[1]  # a view that would be the nearest negative
    index = torch.tensor([7, 3, 9, 0, 3, 5])  # rows 1 and 4 are one image
    total = 0.0
    for i in range(NUM_IMAGES):
        negatives = [k for k in range(NUM_IMAGES) if index[k] != index[i]]
        for mine, other in ((first, second), (second, first)) if loss is nt_xent else ((first, second),):
            rows = [other[i], *other[negatives]] + ([*mine[negatives]] if loss is nt_xent else [])
            scores = [cosine(mine[i].tolist(), row.tolist()) / 0.5 for row in rows]
            total += math.log(sum(map(math.exp, scores))) - scores[0]
    expected = total / (2 * NUM_IMAGES) if loss is nt_xent else 2 * 0.5 * total / NUM_IMAGES
    assert float(loss(first, second, 0.5, index)[0]) == pytest.approx(expected, abs=1e-12)
    others = torch.arange(NUM_IMAGES)
    assert torch.equal(loss(first, second, 0.5, others)[0], loss(first, second, 0.5)[0])
    assert math.isfinite(loss(first, second, 0.5, torch.zeros(NUM_IMAGES, dtype=torch.int64))[0])


@pytest.mark.parametrize("task", ["byol", "moco_v3"])
def test_each_view_predicts_the_teachers_other_view(task):
    module, views = module_and_views(task)
    pretext_task, backbone = module.task, module.backbone
    total = 0.0
    for asking, answering in ((0, 1), (1, 0)):
        mine, other = (views.images.chunk(2)[which].double() for which in (asking, answering))
        guess = pretext_task.predictor(pretext_task.projector(backbone(mine).pooled))
        answer = pretext_task.teacher_projector(pretext_task.teacher(other).pooled)
        part = (
            byol_loss(guess, answer) if task == "byol" else info_nce(guess, answer, pretext_task.config.temperature)[0]
        )
        total += float(part.detach())
    found = pretext_task(backbone, views._replace(images=views.images.double()), TrainingClock(0, 10, 0.0)).loss
    assert float(found.detach()) == pytest.approx(total, abs=1e-9)


def test_simsiam_predicts_each_view_from_the_other():
    module, views = module_and_views("simsiam")
    pretext_task, images = module.task, views.images.double()
    first, second = (pretext_task.projector(module.backbone(view).pooled) for view in images.chunk(2))
    total = 0.0
    for asking, answering in ((first, second), (second, first)):
        for p, z in zip(pretext_task.predictor(asking).tolist(), answering.tolist(), strict=True):
            total -= cosine(p, z)
    found = pretext_task(module.backbone, views._replace(images=images), TrainingClock(0, 10, 0.0)).loss
    assert float(found.detach()) == pytest.approx(total / (2 * NUM_IMAGES), abs=1e-9)


def test_simclr_and_diet_use_their_views():
    module, views = module_and_views("simclr")
    images = views.images.double()
    first, second = module.task.projector(module.backbone(images).pooled).chunk(2)
    found = module.task(module.backbone, views._replace(images=images), TrainingClock(9, 10, 0.0)).loss
    assert torch.allclose(found, nt_xent(first, second, module.task.temperature)[0], atol=1e-12)
    module, views = module_and_views("diet")
    images = views.images.double()
    logits = module.backbone(images).pooled @ module.task.head.weight.T
    expected = torch.nn.functional.cross_entropy(
        logits, torch.arange(NUM_IMAGES), label_smoothing=module.task.label_smoothing
    )
    found = module.task(module.backbone, views._replace(images=images), TrainingClock(0, 10, 0.0)).loss
    assert torch.allclose(found, expected, atol=1e-9)


def test_barlow_twins_weighs_redundancy():
    module, views = module_and_views("barlow_twins")
    images, pretext_task = views.images.double(), module.task
    first, second = (pretext_task.projector(module.backbone(view).pooled) for view in images.chunk(2))
    same, repeated = on_off_diagonal(cross_correlation(first, second))
    found = pretext_task(module.backbone, views._replace(images=images), TrainingClock(0, 10, 0.0)).loss
    assert pretext_task.redundancy_weight == pytest.approx(0.0051 * 8192 / 16)  # the paper's, for its D of 8192
    assert float(found.detach()) == pytest.approx(
        float((same + pretext_task.redundancy_weight * repeated).detach()), abs=1e-9
    )


def test_barlow_twins_coordinate_by_coordinate():
    first, second = two(3)

    def standard(column):
        mean = sum(column) / NUM_IMAGES
        variance = sum((x - mean) ** 2 for x in column) / NUM_IMAGES
        return [(x - mean) / math.sqrt(variance + 1e-5) for x in column]

    one, other = ([standard(column) for column in z.T.tolist()] for z in (first, second))
    table = [[dot(a, b) / NUM_IMAGES for b in other] for a in one]
    correlation = cross_correlation(first, second)
    assert torch.allclose(correlation, torch.tensor(table, dtype=torch.float64), atol=1e-12)
    same, repeated = on_off_diagonal(correlation)
    assert float(same) == pytest.approx(sum((1 - table[i][i]) ** 2 for i in range(DIM)) / DIM)
    others = sum(table[i][j] ** 2 for i in range(DIM) for j in range(DIM) if i != j)
    assert float(repeated) == pytest.approx(others / DIM)


def test_vicreg_terms():
    z, _ = two(4)
    z = z * torch.tensor(
        [0.1, 0.2, 1.0, 2.0, 0.4], dtype=torch.float64
    )  # coordinates with a small variance must be penalized
    columns = [[x - sum(column) / NUM_IMAGES for x in column] for column in z.T.tolist()]
    table = [[dot(a, b) / (NUM_IMAGES - 1) for b in columns] for a in columns]
    found = variance_covariance(z)
    variance = sum(max(0.0, 1 - math.sqrt(table[i][i] + 1e-4)) for i in range(DIM)) / DIM
    covariance = sum(table[i][j] ** 2 for i in range(DIM) for j in range(DIM) if i != j) / DIM
    assert float(found.variance) == pytest.approx(variance) and variance > 0
    assert float(found.covariance) == pytest.approx(covariance)
    assert float(found.coordinate_std) == pytest.approx(sum(math.sqrt(table[i][i] + 1e-4) for i in range(DIM)) / DIM)


def test_vicreg_adds_its_terms_with_their_weights():
    module, views = module_and_views("vicreg")
    images = views.images.double()
    first, second = (module.task.projector(module.backbone(view).pooled) for view in images.chunk(2))
    one, other = variance_covariance(first), variance_covariance(second)
    expected = 25 * (first - second).square().mean() + 12.5 * (one.variance + other.variance)
    expected = expected + one.covariance + other.covariance
    found = module.task(module.backbone, views._replace(images=images), TrainingClock(0, 10, 0.0)).loss
    assert float(found.detach()) == pytest.approx(float(expected.detach()), abs=1e-9)


def slow_codes(scores, epsilon, rounds):
    """Scale columns and rows in turn, on Python floats."""
    shares = [[math.exp(score / epsilon) for score in row] for row in scores]
    for _ in range(rounds):
        for k in range(len(shares[0])):
            total = sum(row[k] for row in shares)
            for row in shares:
                row[k] /= total
        shares = [[share / sum(row) for share in row] for row in shares]
    return shares


def test_swav_predicts_codes_of_global_crops_from_all_others():
    module, views = module_and_views("swav")
    views = views._replace(global_crops=views.global_crops.double(), local_crops=views.local_crops.double())
    pretext_task, backbone = module.task, module.backbone
    config = pretext_task.config
    pooled = torch.cat([backbone(views.global_crops).pooled, backbone(views.local_crops).pooled])
    with torch.no_grad():
        scores = l2_normalize(pretext_task.projector(pooled)) @ l2_normalize(pretext_task.prototypes).T
    crops = scores.unflatten(0, (-1, NUM_IMAGES)).tolist()  # crops images prototypes
    codes = [slow_codes(crop, config.epsilon, config.sinkhorn_iterations) for crop in crops[:2]]
    total, pairs = 0.0, 0
    for asked in range(2):
        for answering in range(len(crops)):
            if answering == asked:
                continue
            pairs += NUM_IMAGES
            for code, row in zip(codes[asked], crops[answering], strict=True):
                log_normalizer = math.log(sum(math.exp(score / config.temperature) for score in row))
                total -= sum(
                    q * (score / config.temperature - log_normalizer) for q, score in zip(code, row, strict=True)
                )
    found = pretext_task(backbone, views, TrainingClock(0, 10, 0.0)).loss
    assert float(found.detach()) == pytest.approx(total / pairs, abs=1e-6)


def test_swavs_queue_holds_the_newest_and_is_used_when_full():
    module, views = module_and_views("swav")
    pretext_task = module.task
    views = views._replace(global_crops=views.global_crops.double(), local_crops=views.local_crops.double())
    before = pretext_task.queue.clone()
    outcome = pretext_task(module.backbone, views, TrainingClock(0, 10, 0.0))
    pretext_task.after_step(module.backbone, [outcome.step_stats], TrainingClock(1, 10, 0.0))
    assert torch.equal(pretext_task.queue[:, :NUM_IMAGES], outcome.step_stats.transpose(0, 1))
    assert torch.equal(pretext_task.queue[:, NUM_IMAGES:], before[:, :-NUM_IMAGES])
    assert torch.equal(*(pretext_task(module.backbone, views, TrainingClock(step, 10, 0.0)).loss for step in (0, 9))), (
        "not full yet"
    )
    waiting = torch.randn(pretext_task.queue.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    pretext_task.queue.copy_(l2_normalize(waiting))
    assert torch.equal(pretext_task(module.backbone, views, TrainingClock(0, 10, 0.0)).loss, outcome.loss), "too early"

    prototypes, config = l2_normalize(pretext_task.prototypes.detach()), pretext_task.config
    pooled = torch.cat([module.backbone(views.global_crops).pooled, module.backbone(views.local_crops).pooled]).detach()
    scores = (
        (l2_normalize(pretext_task.projector(pooled)) @ prototypes.T).detach().unflatten(0, (-1, NUM_IMAGES))
    )  # crops B K
    total, pairs = 0.0, 0
    for asked in range(2):
        rows = torch.cat([scores[asked], pretext_task.queue[asked] @ prototypes.T]).tolist()
        codes = slow_codes(rows, config.epsilon, config.sinkhorn_iterations)[:NUM_IMAGES]
        for answering in range(len(scores)):
            if answering != asked:
                pairs += NUM_IMAGES
                answers = (scores[answering] / config.temperature).log_softmax(-1)
                total -= float((torch.tensor(codes, dtype=torch.float64) * answers).sum())
    found = pretext_task(module.backbone, views, TrainingClock(9, 10, 0.0)).loss
    assert float(found.detach()) == pytest.approx(total / pairs, abs=1e-6)


@pytest.mark.parametrize("cells", [1 << 20, 2 * NUM_IMAGES, NUM_IMAGES])
def test_diet_is_smoothed_cross_entropy_for_any_slices(cells):
    features, _ = two(5)
    weight = torch.randn(9, DIM, generator=torch.Generator().manual_seed(6), dtype=torch.float64).requires_grad_()
    index, smoothing = torch.tensor([3, 0, 8, 8, 1, 5]), 0.3
    total, right = 0.0, 0
    for row, own in zip(features.tolist(), index.tolist(), strict=True):
        logits = [dot(row, w) for w in weight.tolist()]
        log_p = [z - math.log(sum(map(math.exp, logits))) for z in logits]
        total += -(1 - smoothing) * log_p[own] - smoothing / 9 * sum(log_p)
        right += max(range(9), key=logits.__getitem__) == own
    loss, accuracy = chunked_cross_entropy(features, weight, index, smoothing, cells)
    assert float(loss.detach()) == pytest.approx(total / NUM_IMAGES) and float(accuracy) == pytest.approx(right / 6)
    plain = torch.nn.functional.cross_entropy(features @ weight.T, index, label_smoothing=smoothing)
    assert torch.allclose(*(torch.autograd.grad(value, weight)[0] for value in (loss, plain)), atol=1e-12)


def test_losses_are_not_rounded_by_autocast():
    first, second = (x.float() for x in two(8, 12))
    index = torch.arange(12)
    losses = {
        "info_nce": lambda: info_nce(first, second, 0.2)[0],
        "cross_correlation": lambda: cross_correlation(first, second),
        "variance_covariance": lambda: torch.stack(variance_covariance(first)),
        "pairwise_cosine_similarity": lambda: pairwise_cosine_similarity(first, second),
        "chunked_cross_entropy": lambda: chunked_cross_entropy(first, second.repeat(2, 1), index, 0.1)[0],
        "byol_loss": lambda: byol_loss(first, second),
        "negative_cosine": lambda: negative_cosine(first, second),
    }
    for name, loss in losses.items():
        with torch.autocast("cpu", torch.bfloat16):
            rounded = loss()
        assert torch.equal(rounded, loss()), name
