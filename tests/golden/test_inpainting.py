"""Inpainting: holes, the weight of their borders, the loss against loops, and the game of painter and critic."""

import math

import pytest
import torch
import torch.nn.functional as F

from headway.backbones.load import build_backbone
from headway.draws import Draws
from headway.errors import HeadwayError
from headway.nn.reversal import reverse_gradient
from headway.pretext.inpainting import MASKS, Inpainting, border_weights, within
from headway.protocol import Batch, Clock, Facts
from tests.small import SIDE, pictures, small_backbone

CLOCK = Clock(0, 1, 0.0)


def game(count=3, backbone=None, size=SIDE, **choices):
    torch.manual_seed(0)
    images = pictures(count, size + 8)
    backbone = backbone or small_backbone()
    task = Inpainting(width=8, **choices).build(backbone, Facts(count, 3, lambda n: images[:n], size))
    views = task.views(Batch(images, torch.arange(count)), Draws(0, torch.arange(count)))
    return task.double(), backbone.double(), views


@pytest.mark.parametrize("mask", MASKS)
def test_every_picture_hides_as_many_patches(mask):
    _, _, views = game(mask=mask)
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
    hidden[1, 0, 6:, :5] = True  # in a corner: the picture's edge is no border
    weights = border_weights(hidden, band, 10.0)
    for picture in range(2):
        assert torch.equal(weights[picture, 0], slow_weights(hidden[picture, 0], band, 10.0))


def test_the_loss_is_of_hidden_pixels_alone_and_per_picture():
    task, backbone, views = game(mask="region")
    outcome = task(backbone, views, CLOCK)
    painted, hidden = task.painted(backbone, views).detach(), task.hidden(views.mask)
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
    assert float(outcome.metrics["mean_colour_error"]) == pytest.approx(sum(flats) / 3, rel=1e-6)


@pytest.mark.parametrize("name", ["vit", "conv", "timm:resnet10t"])
def test_nothing_of_the_hole_is_seen(name):
    if name == "timm:resnet10t":
        backbone, size = build_backbone(name, size=64), 64
    else:
        backbone, size = small_backbone(stem="conv" if name == "conv" else "linear"), SIDE
    task, backbone, views = game(backbone=backbone.eval(), size=size)
    other = torch.where(task.hidden(views.mask), 1 - views.images, views.images)
    assert not torch.equal(other, views.images)
    assert torch.equal(task.painted(backbone, views), task.painted(backbone, views._replace(images=other)))


def test_reversal_turns_the_gradient_alone():
    x = torch.randn(4, dtype=torch.float64, requires_grad=True)
    scale, step = 0.3, 1e-6
    y = reverse_gradient(x, scale)
    assert torch.equal(y, x)
    (gradient,) = torch.autograd.grad(y.sin().sum(), x)
    numeric = ((x + step).sin() - (x - step).sin()) / (2 * step)
    torch.testing.assert_close(gradient, -scale * numeric.detach(), rtol=1e-6, atol=1e-9)


def test_painter_and_critic_play_against_each_other():
    strength = 0.7
    task, backbone, views = game(adversary=strength)
    task(backbone, views, CLOCK).loss.backward()
    joint = {name: p.grad.clone() for name, p in task.named_parameters()}
    task.zero_grad()

    hidden, truth = task.hidden(views.mask), (views.images.double() - 0.5) / 0.25
    painted = task.painted(backbone, views)
    filled = torch.where(hidden, painted, truth)
    value = -sum(
        math.log(1 / (1 + math.exp(-float(real)))) + math.log(1 - 1 / (1 + math.exp(-float(unreal))))
        for real, unreal in zip(task.critic(truth).detach(), task.critic(filled).detach(), strict=True)
    )
    weights = border_weights(hidden, 1, 10.0)
    distance = within((painted - truth).square().mean(1, keepdim=True), weights).mean()
    assert float(task(backbone, views, CLOCK).loss.detach()) == pytest.approx(
        float(distance.detach()) + value / 3, rel=1e-9
    )

    critic = F.softplus(-task.critic(truth)).mean() + F.softplus(task.critic(filled)).mean()
    names = [name for name in joint if name.startswith("critic")]
    own = torch.autograd.grad(critic, [task.get_parameter(name) for name in names], retain_graph=True)
    for name, gradient in zip(names, own, strict=True):  # the critic goes down its own loss, at full weight
        torch.testing.assert_close(joint[name], gradient)
    names = [name for name in joint if not name.startswith("critic")]
    own = torch.autograd.grad(distance - strength * critic, [task.get_parameter(name) for name in names])
    for name, gradient in zip(names, own, strict=True):  # the painter goes up it
        torch.testing.assert_close(joint[name], gradient)


def test_without_its_weight_there_is_no_critic():
    task, _, _ = game()
    assert task.critic is None and not any("critic" in name for name, _ in task.named_parameters())


@pytest.mark.parametrize("choices", [{"mask": "cat"}, {"ratio": 0}, {"overlap": 0}, {"band": 1}, {"adversary": -1}])
def test_choices_without_sense_are_refused(choices):
    with pytest.raises(HeadwayError):
        Inpainting(**choices)


def test_holes_and_pictures_too_small_are_refused():
    with pytest.raises(HeadwayError, match="hide some of 4 x 4 patches"):
        game(ratio=0.01)
    with pytest.raises(HeadwayError, match="16 pixels or more"):
        game(size=8, adversary=0.1)


@pytest.mark.parametrize("size", [48, 64])
def test_a_convolutional_network_paints_too(size):
    task, backbone, views = game(backbone=build_backbone("timm:resnet10t", size=size), size=size, ratio=0.25)
    assert task.mask_token is None and task.hidden(views.mask).float().mean() == pytest.approx(0.25)
    assert task.painted(backbone, views).shape == (3, 3, size, size)


def test_the_critic_learns_to_tell():
    task, backbone, views = game(count=12, adversary=1e-9, mask="central")
    optimizer = torch.optim.Adam(task.critic.parameters(), 1e-2)
    for _ in range(30):
        outcome = task(backbone, views, CLOCK)
        optimizer.zero_grad()
        outcome.loss.backward()
        optimizer.step()
    assert outcome.metrics["critic_accuracy"] > 0.9
