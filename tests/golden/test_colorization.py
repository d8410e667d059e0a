"""Colorization: every part of its loss against loops, its bins, its images, and that a run stays gray."""

import json
import math

import pytest
import torch

import headway
from headway.backbones.build import build_backbone
from headway.backbones.weights import load_backbone
from headway.pretext.colorization import (
    Colorization,
    ab_gamut_bins,
    annealed_mean,
    rebalanced_prior,
    rebalancing_weights,
    soft_cross_entropy,
    soft_encode,
)
from headway.protocol import Batch, DataInfo, TrainingClock
from headway.rng import SampleRNG
from headway.synthetic import write_folder
from headway.transforms.lab import rgb_to_lab
from tests.errors import raises
from tests.small import make_images, small_backbone, small_train_module


def slow_shares(ab, bins, sigma=5.0, neighbors=5):
    """Bin -> share, of one color."""
    order = sorted(range(len(bins)), key=lambda q: math.dist(ab, bins[q]))[:neighbors]
    weights = [math.exp(-(math.dist(ab, bins[q]) ** 2) / (2 * sigma**2)) for q in order]
    return {q: w / sum(weights) for q, w in zip(order, weights, strict=True)}


def test_bins_are_those_of_srgb():
    bins = ab_gamut_bins(10.0)
    assert len(bins) == 261 and torch.equal(bins, (bins / 10).round() * 10)
    everything = torch.cartesian_prod(*[torch.linspace(0, 1, 33)] * 3).T.reshape(1, 3, 33, -1)
    nearest = (rgb_to_lab(everything)[0, 1:].flatten(1).T / 10).round() * 10  # of the whole cube, not only of its faces
    assert set(map(tuple, nearest.tolist())) <= set(map(tuple, bins.tolist()))
    assert bins.min(0).values.tolist() == [-90, -110] and bins.max(0).values.tolist() == [100, 90]
    assert (bins == torch.tensor([-90.0, 50.0])).all(1).sum() == 0  # in the paper's list, and in no image


def test_colors_are_shared_among_the_nearest_bins():
    bins = ab_gamut_bins(20.0)
    ab = torch.rand(2, 2, 3, 4, generator=torch.Generator().manual_seed(0)) * 160 - 80
    near, share = soft_encode(ab.double(), bins.double(), 5, 5.0)
    for b in range(2):
        for row in range(3):
            for column in range(4):
                expected = slow_shares(ab[b, :, row, column].tolist(), bins.tolist())
                found = dict(zip(near[b, row, column].tolist(), share[b, row, column].tolist(), strict=True))
                assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1.0])
def test_rare_colors_have_larger_weights(uniform):
    bins = ab_gamut_bins(20.0).double()
    counts = torch.randint(0, 50, (len(bins),), generator=torch.Generator().manual_seed(0))
    total, smooth = int(counts.sum()), [0.0] * len(bins)
    for q, center in enumerate(bins.tolist()):
        spread = [math.exp(-(math.dist(center, other) ** 2) / 50) for other in bins.tolist()]
        for other, weight in enumerate(spread):
            smooth[other] += int(counts[q]) / total * weight / sum(spread)
    raw = [1 / ((1 - uniform) * p + uniform / len(bins)) for p in smooth]
    scale = sum(p * w for p, w in zip(smooth, raw, strict=True))
    weights = rebalancing_weights(counts.double(), bins, 5.0, uniform)
    assert weights.tolist() == pytest.approx([w / scale for w in raw], rel=1e-9)
    assert sum(p * w for p, w in zip(smooth, weights.tolist(), strict=True)) == pytest.approx(1)


def test_whole_loss():
    module = small_train_module("colorization").double()
    task = module.task
    views = task.make_views(Batch(make_images(3), torch.arange(3)), SampleRNG(0, torch.arange(3)))
    outcome = task(module.backbone, views, TrainingClock(0, 1, 0.0))
    logits = task.logits(module.backbone, views.images).detach()  # 3 4 4 K: patches of 4 pixels, places of 4
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
                weight = float(task.bin_weights[max(shares, key=shares.__getitem__)])
                total += weight * entropy
                blind -= weight * sum(share * math.log(max(float(task.prior[q]), 1e-5)) for q, share in shares.items())
    assert float(outcome.loss.detach()) == pytest.approx(total / 48, rel=1e-6)
    assert float(outcome.metrics["prior_loss"]) == pytest.approx(
        blind / 48, rel=1e-3
    )  # the clamped prior sums to 1 only nearly


def test_no_constant_prediction_beats_the_prior():
    bins, generator = ab_gamut_bins(20.0).double(), torch.Generator().manual_seed(0)
    ab = torch.randn(50, 2, 2, 2, generator=generator, dtype=torch.float64) * 30
    near, share = soft_encode(ab, bins, 5, 5.0)
    weights = torch.rand(len(bins), generator=generator, dtype=torch.float64) + 0.1
    prior = rebalanced_prior(near, share, weights)
    assert float(prior.sum()) == pytest.approx(1)

    def loss(logits):
        return (weights[near[..., 0]] * soft_cross_entropy(logits.expand(*near.shape[:-1], -1), near, share)).mean()

    least = loss(prior.clamp_min(1e-12).log())
    for _ in range(10):
        other = prior.clamp_min(1e-12).log() + 0.1 * torch.randn(len(bins), generator=generator, dtype=torch.float64)
        assert loss(other) > least


def test_cross_entropy_is_not_rounded_by_autocast():
    logits = torch.randn(5, 9, generator=torch.Generator().manual_seed(0))
    near, share = torch.arange(5)[:, None], torch.ones(5, 1)
    exact = torch.nn.functional.cross_entropy(logits, near[:, 0], reduction="none")
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(soft_cross_entropy(logits, near, share), exact)


def test_annealed_mean_lies_between_mean_and_mode():
    bins = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 20.0]])
    probability = torch.tensor([0.2, 0.5, 0.3])
    powers = [p ** (1 / 0.38) for p in probability.tolist()]
    expected = [powers[1] / sum(powers) * 10, powers[2] / sum(powers) * 20]
    assert annealed_mean(probability.log(), bins, 0.38).tolist() == pytest.approx(expected, rel=1e-5)
    assert annealed_mean(probability.log(), bins, 1.0).tolist() == pytest.approx([5, 6], rel=1e-5)
    assert annealed_mean(probability.log(), bins, 0.01).tolist() == pytest.approx([10, 0], abs=1e-3)


def test_inputs_contain_no_color():
    task = small_train_module("colorization").task
    views = task.make_views(Batch(make_images(4), torch.arange(4)), SampleRNG(0, torch.arange(4)))
    assert torch.equal(views.images[:, 0], views.images[:, 1]) and torch.equal(views.images[:, 0], views.images[:, 2])


@pytest.mark.parametrize("kind", ["one channel", "gray", "tinted"])
def test_images_without_colors_are_refused(kind):
    gray = make_images(8)[:, :1].float()
    tint = torch.tensor([1.0, 0.999, 0.998]).view(3, 1, 1) if kind == "tinted" else torch.ones(3, 1, 1)
    images = (gray if kind == "one channel" else gray * tint).to(torch.uint8)
    with raises("image-format"):
        Colorization().build(small_backbone(), DataInfo(8, images.shape[1], lambda n: images[:n], 16))


@pytest.mark.parametrize(
    "choices", [{"bin_size": 0}, {"sigma": 0}, {"temperature": 0}, {"uniform_weight": 2}, {"num_neighbors": 0}]
)
def test_invalid_configurations_are_refused(choices):
    with raises("value-out-of-range"):
        Colorization(**choices)


@pytest.mark.parametrize("size", [32, 48, 80])
def test_strides_need_not_divide_the_image(size):
    images = make_images(4, size)
    backbone = build_backbone("timm:resnet10t", size=size)
    task = Colorization(decoder_dim=8).build(backbone, DataInfo(4, 3, lambda n: images[:n], size))
    views = task.make_views(Batch(images, torch.arange(4)), SampleRNG(0, torch.arange(4)))
    outcome = task(backbone, views, TrainingClock(0, 1, 0.0))
    outcome.loss.backward()
    assert torch.isfinite(outcome.loss)
    side = task.logits(backbone, views.images).shape[1]
    assert side == -(-size // 32) * 8


def test_a_run_and_its_classifiers_see_gray_images(tmp_path):
    photos = write_folder(tmp_path / "photos", 36, 32)
    run = tmp_path / "run"
    headway.pretrain("colorization", data=photos, out=run, backbone="vit_nano", stem="conv", patch=8, steps=2)
    assert json.loads((run / "run.json").read_text())["architecture"]["input_spec"]["grayscale"] is True
    headway.transfer(run, data=photos, out=tmp_path / "model", head="linear")
    backbone = load_backbone(run)
    model = headway.downstream.classifier.load_classifier(tmp_path / "model")
    colors = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    gray = (colors * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True).expand(-1, 3, -1, -1)
    for network in (backbone, model.backbone):
        assert network.input_spec.grayscale
        with torch.no_grad():
            torch.testing.assert_close(network(colors).pooled, network(gray).pooled, atol=1e-4, rtol=0)
            assert not torch.allclose(network(colors).pooled, network(colors.flip(1)).pooled, atol=1e-3)
