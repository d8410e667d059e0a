"""Inpainting: holes, the weights of their borders, the loss against loops, and the adversarial loss."""

import math

import pytest
import torch
import torch.nn.functional as F

from headway.backbones.build import build_backbone
from headway.errors import HeadwayError
from headway.nn.pixel_heads import reverse_gradient
from headway.pretext.inpainting import MASK_SAMPLERS, Inpainting, border_weights, masked_mean
from headway.protocol import Batch, DataInfo, TrainingClock
from headway.rng import SampleRNG
from tests.errors import raises
from tests.small import SIDE, make_images, small_backbone

CLOCK = TrainingClock(0, 1, 0.0)


def task_and_views(count=3, backbone=None, size=SIDE, **choices):
    torch.manual_seed(0)
    images = make_images(count, size + 8)
    backbone = backbone or small_backbone()
    task = Inpainting(decoder_dim=8, **choices).build(backbone, DataInfo(count, 3, lambda n: images[:n], size))
    views = task.make_views(Batch(images, torch.arange(count)), SampleRNG(0, torch.arange(count)))
    return task.double(), backbone.double(), views


@pytest.mark.parametrize("mask", MASK_SAMPLERS)
def test_every_image_has_equally_many_masked_patches(mask):
    _, _, views = task_and_views(mask_type=mask)
    assert views.mask.sum(1).tolist() == [4] * 3  # a quarter of 4 x 4


def slow_weights(hidden, band, overlap):
    height, width = hidden.shape
    weights = torch.zeros(height, width)
    for y in range(height):
        for x in range(width):
            around = hidden[max(y - band, 0) : y + band + 1, max(x - band, 0) : x + band + 1]
            if hidden[y, x]:
                weights[y, x] = overlap if not around.all() else 1.0
    return weights


@pytest.mark.parametrize("band", [0, 1, 2])
def test_the_border_of_the_hole_weighs_more(band):
    hidden = torch.zeros(2, 1, 12, 12, dtype=torch.bool)
    hidden[0, 0, 3:9, 4:11] = True
    hidden[1, 0, 6:, :5] = True  # in a corner: the image's edge is no border
    weights = border_weights(hidden, band, 10.0)
    for image in range(2):
        assert torch.equal(weights[image, 0], slow_weights(hidden[image, 0], band, 10.0))


def test_the_loss_counts_masked_pixels_per_image():
    task, backbone, views = task_and_views(mask_type="region")
    outcome = task(backbone, views, CLOCK)
    painted, hidden = task.reconstruct(backbone, views).detach(), task.masked_pixels(views.mask)
    losses, errors, flats = [], [], []
    for b in range(3):
        weights = slow_weights(hidden[b, 0], 1, 10.0)
        truth = (views.images[b].double() - 0.5) / 0.25
        seen = [truth[c][~hidden[b, 0]].mean() for c in range(3)]
        total = plain = flat = 0.0
        for y in range(SIDE):
            for x in range(SIDE):
                if hidden[b, 0, y, x]:
                    error = sum(float(painted[b, c, y, x] - truth[c, y, x]) ** 2 for c in range(3)) / 3
                    total, plain = total + float(weights[y, x]) * error, plain + error
                    flat += sum(float(seen[c] - truth[c, y, x]) ** 2 for c in range(3)) / 3
        losses.append(total / float(weights.sum()))
        errors.append(plain / int(hidden[b].sum()))
        flats.append(flat / int(hidden[b].sum()))
    assert float(outcome.loss.detach()) == pytest.approx(sum(losses) / 3, rel=1e-6)
    assert float(outcome.metrics["error"]) == pytest.approx(sum(errors) / 3, rel=1e-6)
    assert float(outcome.metrics["mean_color_error"]) == pytest.approx(sum(flats) / 3, rel=1e-6)


@pytest.mark.parametrize("name", ["vit", "conv", "timm:resnet10t"])
def test_the_network_does_not_see_the_hole(name):
    if name == "timm:resnet10t":
        backbone, size = build_backbone(name, size=64), 64
    else:
        backbone, size = small_backbone(stem="conv" if name == "conv" else "linear"), SIDE
    task, backbone, views = task_and_views(backbone=backbone.eval(), size=size)
    other = torch.where(task.masked_pixels(views.mask), 1 - views.images, views.images)
    assert not torch.equal(other, views.images)
    assert torch.equal(task.reconstruct(backbone, views), task.reconstruct(backbone, views._replace(images=other)))


def test_reversal_changes_only_the_gradient():
    x = torch.randn(4, dtype=torch.float64, requires_grad=True)
    scale, step = 0.3, 1e-6
    y = reverse_gradient(x, scale)
    assert torch.equal(y, x)
    (gradient,) = torch.autograd.grad(y.sin().sum(), x)
    numeric = ((x + step).sin() - (x - step).sin()) / (2 * step)
    torch.testing.assert_close(gradient, -scale * numeric.detach(), rtol=1e-6, atol=1e-9)


def test_decoder_and_discriminator_are_adversaries():
    strength = 0.7
    task, backbone, views = task_and_views(adversarial_weight=strength)
    task(backbone, views, CLOCK).loss.backward()
    joint = {name: p.grad.clone() for name, p in task.named_parameters()}
    task.zero_grad()

    hidden, truth = task.masked_pixels(views.mask), (views.images.double() - 0.5) / 0.25
    painted = task.reconstruct(backbone, views)
    filled = torch.where(hidden, painted, truth)
    value = -sum(
        math.log(1 / (1 + math.exp(-float(real)))) + math.log(1 - 1 / (1 + math.exp(-float(unreal))))
        for real, unreal in zip(task.discriminator(truth).detach(), task.discriminator(filled).detach(), strict=True)
    )
    weights = border_weights(hidden, 1, 10.0)
    distance = masked_mean((painted - truth).square().mean(1, keepdim=True), weights).mean()
    assert float(task(backbone, views, CLOCK).loss.detach()) == pytest.approx(
        float(distance.detach()) + value / 3, rel=1e-9
    )

    adversarial = F.softplus(-task.discriminator(truth)).mean() + F.softplus(task.discriminator(filled)).mean()
    names = [name for name in joint if name.startswith("discriminator")]
    own = torch.autograd.grad(adversarial, [task.get_parameter(name) for name in names], retain_graph=True)
    for name, gradient in zip(names, own, strict=True):  # the discriminator minimizes its own loss, at full weight
        torch.testing.assert_close(joint[name], gradient)
    names = [name for name in joint if not name.startswith("discriminator")]
    own = torch.autograd.grad(distance - strength * adversarial, [task.get_parameter(name) for name in names])
    for name, gradient in zip(names, own, strict=True):  # the decoder maximizes it
        torch.testing.assert_close(joint[name], gradient)


def test_without_its_weight_there_is_no_discriminator():
    task, _, _ = task_and_views()
    assert task.discriminator is None and not any("discriminator" in name for name, _ in task.named_parameters())


@pytest.mark.parametrize(
    "choices",
    [{"mask_type": "cat"}, {"mask_ratio": 0}, {"border_weight": 0}, {"border_width": 1}, {"adversarial_weight": -1}],
)
def test_invalid_configurations_are_refused(choices):
    with pytest.raises(HeadwayError):
        Inpainting(**choices)


def test_too_small_holes_and_images_are_refused():
    with raises("value-out-of-range"):
        task_and_views(mask_ratio=0.01)
    with raises("image-size", "16"):
        task_and_views(size=8, adversarial_weight=0.1)


@pytest.mark.parametrize("size", [48, 64])
def test_a_convolutional_network_is_supported(size):
    task, backbone, views = task_and_views(
        backbone=build_backbone("timm:resnet10t", size=size), size=size, mask_ratio=0.25
    )
    assert task.mask_token is None and task.masked_pixels(views.mask).float().mean() == pytest.approx(0.25)
    assert task.reconstruct(backbone, views).shape == (3, 3, size, size)


def test_the_discriminator_learns():
    task, backbone, views = task_and_views(count=12, adversarial_weight=1e-9, mask_type="central")
    optimizer = torch.optim.Adam(task.discriminator.parameters(), 1e-2)
    for _ in range(30):
        outcome = task(backbone, views, CLOCK)
        optimizer.zero_grad()
        outcome.loss.backward()
        optimizer.step()
    assert outcome.metrics["discriminator_accuracy"] > 0.9
