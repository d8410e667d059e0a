"""Colorization: every part of its loss against loops, its bins, its pictures, and that a run stays grey."""

import json
import math

import pytest
import torch

import headway
from headway.backbones.load import build_backbone
from headway.backbones.weights import load_backbone
from headway.draws import Draws
from headway.errors import HeadwayError
from headway.pretext.colorization import (
    Colorization,
    annealed_mean,
    cross_entropy,
    frequencies,
    gamut,
    rebalanced,
    shared,
)
from headway.protocol import Batch, Clock, Facts
from headway.samples import write_folder
from headway.views.lab import rgb_to_lab
from tests.small import pictures, small_backbone, small_learner


def slow_shares(ab, bins, sigma=5.0, neighbours=5):
    """Bin -> share, of one colour."""
    order = sorted(range(len(bins)), key=lambda q: math.dist(ab, bins[q]))[:neighbours]
    weights = [math.exp(-(math.dist(ab, bins[q]) ** 2) / (2 * sigma**2)) for q in order]
    return {q: w / sum(weights) for q, w in zip(order, weights, strict=True)}


def test_bins_are_those_of_srgb():
    bins = gamut(10.0)
    assert len(bins) == 261 and torch.equal(bins, (bins / 10).round() * 10)
    everything = torch.cartesian_prod(*[torch.linspace(0, 1, 33)] * 3).T.reshape(1, 3, 33, -1)
    nearest = (rgb_to_lab(everything)[0, 1:].flatten(1).T / 10).round() * 10  # of the whole cube, not its faces alone
    assert set(map(tuple, nearest.tolist())) <= set(map(tuple, bins.tolist()))
    assert bins.min(0).values.tolist() == [-90, -110] and bins.max(0).values.tolist() == [100, 90]
    assert (bins == torch.tensor([-90.0, 50.0])).all(1).sum() == 0  # in the paper's list, and in no picture


def test_colours_are_shared_among_the_nearest_bins():
    bins = gamut(20.0)
    ab = torch.rand(2, 2, 3, 4, generator=torch.Generator().manual_seed(0)) * 160 - 80
    near, share = shared(ab.double(), bins.double(), 5, 5.0)
    for b in range(2):
        for row in range(3):
            for column in range(4):
                expected = slow_shares(ab[b, :, row, column].tolist(), bins.tolist())
                found = dict(zip(near[b, row, column].tolist(), share[b, row, column].tolist(), strict=True))
                assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1.0])
def test_rare_colours_count_more(uniform):
    bins = gamut(20.0).double()
    counts = torch.randint(0, 50, (len(bins),), generator=torch.Generator().manual_seed(0))
    total, smooth = int(counts.sum()), [0.0] * len(bins)
    for q, centre in enumerate(bins.tolist()):
        spread = [math.exp(-(math.dist(centre, other) ** 2) / 50) for other in bins.tolist()]
        for other, weight in enumerate(spread):
            smooth[other] += int(counts[q]) / total * weight / sum(spread)
    raw = [1 / ((1 - uniform) * p + uniform / len(bins)) for p in smooth]
    scale = sum(p * w for p, w in zip(smooth, raw, strict=True))
    weights = rebalanced(counts.double(), bins, 5.0, uniform)
    assert weights.tolist() == pytest.approx([w / scale for w in raw], rel=1e-9)
    assert sum(p * w for p, w in zip(smooth, weights.tolist(), strict=True)) == pytest.approx(1)


def test_whole_loss():
    learner = small_learner("colorization").double()
    task = learner.task
    views = task.views(Batch(pictures(3), torch.arange(3)), Draws(0, torch.arange(3)))
    outcome = task(learner.backbone, views, Clock(0, 1, 0.0))
    logits = task.logits(learner.backbone, views.images).detach()  # 3 4 4 K: patches of 4 pixels, places of 4
    bins, total, blind = task.bins.tolist(), 0.0, 0.0
    assert logits.shape[:3] == (3, 4, 4)
    for b in range(3):
        for row in range(4):
            for column in range(4):
                ab = views.lab[b, 1:, row * 4 : row * 4 + 4, column * 4 : column * 4 + 4].double().mean((1, 2))
                shares = slow_shares(ab.tolist(), bins)
                row_logits = logits[b, row, column].tolist()
                normal = math.log(sum(math.exp(x) for x in row_logits))
                entropy = -sum(share * (row_logits[q] - normal) for q, share in shares.items())
                weight = float(task.weights[max(shares, key=shares.__getitem__)])
                total += weight * entropy
                blind -= weight * sum(share * math.log(max(float(task.prior[q]), 1e-5)) for q, share in shares.items())
    assert float(outcome.loss.detach()) == pytest.approx(total / 48, rel=1e-6)
    assert float(outcome.metrics["blind_loss"]) == pytest.approx(blind / 48, rel=1e-3)  # its answer adds up to 1 nearly


def test_no_blind_answer_beats_the_prior():
    bins, generator = gamut(20.0).double(), torch.Generator().manual_seed(0)
    ab = torch.randn(50, 2, 2, 2, generator=generator, dtype=torch.float64) * 30
    near, share = shared(ab, bins, 5, 5.0)
    weights = torch.rand(len(bins), generator=generator, dtype=torch.float64) + 0.1
    prior = frequencies(near, share, weights)
    assert float(prior.sum()) == pytest.approx(1)

    def loss(logits):
        return (weights[near[..., 0]] * cross_entropy(logits.expand(*near.shape[:-1], -1), near, share)).mean()

    least = loss(prior.clamp_min(1e-12).log())
    for _ in range(10):
        other = prior.clamp_min(1e-12).log() + 0.1 * torch.randn(len(bins), generator=generator, dtype=torch.float64)
        assert loss(other) > least


def test_cross_entropy_is_not_rounded_by_autocast():
    logits = torch.randn(5, 9, generator=torch.Generator().manual_seed(0))
    near, share = torch.arange(5)[:, None], torch.ones(5, 1)
    exact = torch.nn.functional.cross_entropy(logits, near[:, 0], reduction="none")
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(cross_entropy(logits, near, share), exact)


def test_annealed_mean_lies_between_mean_and_mode():
    bins = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 20.0]])
    probability = torch.tensor([0.2, 0.5, 0.3])
    powers = [p ** (1 / 0.38) for p in probability.tolist()]
    expected = [powers[1] / sum(powers) * 10, powers[2] / sum(powers) * 20]
    assert annealed_mean(probability.log(), bins, 0.38).tolist() == pytest.approx(expected, rel=1e-5)
    assert annealed_mean(probability.log(), bins, 1.0).tolist() == pytest.approx([5, 6], rel=1e-5)
    assert annealed_mean(probability.log(), bins, 0.01).tolist() == pytest.approx([10, 0], abs=1e-3)


def test_nothing_of_the_colours_is_dealt():
    task = small_learner("colorization").task
    views = task.views(Batch(pictures(4), torch.arange(4)), Draws(0, torch.arange(4)))
    assert torch.equal(views.images[:, 0], views.images[:, 1]) and torch.equal(views.images[:, 0], views.images[:, 2])


@pytest.mark.parametrize("kind", ["one channel", "grey", "tinted"])
def test_pictures_without_colours_are_refused(kind):
    grey = pictures(8)[:, :1].float()
    tint = torch.tensor([1.0, 0.999, 0.998]).view(3, 1, 1) if kind == "tinted" else torch.ones(3, 1, 1)
    images = (grey if kind == "one channel" else grey * tint).to(torch.uint8)
    with pytest.raises(HeadwayError, match=r"pictures in colour.*another task"):
        Colorization().build(small_backbone(), Facts(8, images.shape[1], lambda n: images[:n], 16))


@pytest.mark.parametrize("choices", [{"bin": 0}, {"sigma": 0}, {"temperature": 0}, {"uniform": 2}, {"neighbours": 0}])
def test_choices_without_sense_are_refused(choices):
    with pytest.raises(HeadwayError, match="colorization"):
        Colorization(**choices)


@pytest.mark.parametrize("size", [32, 48, 80])
def test_strides_need_not_divide_the_picture(size):
    images = pictures(4, size)
    backbone = build_backbone("timm:resnet10t", size=size)
    task = Colorization(width=8).build(backbone, Facts(4, 3, lambda n: images[:n], size))
    views = task.views(Batch(images, torch.arange(4)), Draws(0, torch.arange(4)))
    outcome = task(backbone, views, Clock(0, 1, 0.0))
    outcome.loss.backward()
    assert torch.isfinite(outcome.loss)
    side = task.logits(backbone, views.images).shape[1]
    assert side == -(-size // 32) * 8


def test_a_run_sees_lightness_alone_ever_after(tmp_path):
    photos = write_folder(tmp_path / "photos", 36, 32)
    run = tmp_path / "run"
    headway.pretrain("colorization", data=photos, out=run, backbone="vit_nano", stem="conv", patch=8, steps=2)
    assert json.loads((run / "run.json").read_text())["architecture"]["inputs"]["grey"] is True
    headway.transfer(run, data=photos, out=tmp_path / "model", head="linear")
    backbone = load_backbone(run)
    model = headway.downstream.classifier.load_classifier(tmp_path / "model")
    colours = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    grey = (colours * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True).expand(-1, 3, -1, -1)
    for network in (backbone, model.backbone):
        assert network.inputs.grey
        with torch.no_grad():
            torch.testing.assert_close(network(colours).pooled, network(grey).pooled, atol=1e-4, rtol=0)
            assert not torch.allclose(network(colours).pooled, network(colours.flip(1)).pooled, atol=1e-3)
