"""What a comparison and a curve judge is what ``headway transfer`` ships: equal bits for equal labels."""

import pytest
import torch
from PIL import Image

import headway
from headway.data.open import open_source
from headway.downstream.classifier import load_classifier
from headway.downstream.heads.registry import HEADS
from headway.downstream.labeled_split import load_labeled_split
from headway.evaluation.comparison.data import load_comparison_data
from headway.evaluation.evaluator import Evaluator
from headway.evaluation.methods import Method, RawPixels, draw_labels, fixed
from headway.metrics.linear_probe import fit_probe
from headway.rng import seeded
from headway.transforms.geometry import center_crop_resize, to_float01
from tests.small import SIDE, make_images, max_difference, quick_head, small_backbone

LARGER = 2 * SIDE
"""Side of the images in pixels: they are stored at one and a half times the view, for crops."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A training and a test folder of images of three classes."""
    made = []
    for name, count, seed in (("train", 27, 1), ("test", 12, 2)):
        folder = tmp_path_factory.mktemp(name)
        for index, image in enumerate(make_images(count, LARGER, seed)):
            (folder / "abc"[index % 3]).mkdir(exist_ok=True)
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / "abc"[index % 3] / f"{index}.png")
        made.append(folder)
    return made


@pytest.fixture(scope="module")
def network():
    with seeded(0):
        return small_backbone().eval()


def unlabeled():
    from headway.data.sources.in_memory import ArraySource

    return ArraySource(make_images(8, LARGER))


@pytest.mark.parametrize("name", [*HEADS, "last-1"])
def test_the_same_head_predicts_the_same_through_transfer_curve_and_compare(name, folders, network, tmp_path):
    head, seed = quick_head(name, 3), 5
    train, test = (open_source(folder, labeled=True) for folder in folders)
    silent = lambda done, total: None  # noqa: E731
    compared = load_comparison_data(
        unlabeled(),
        train,
        test,
        size=SIDE,
        storage_side=LARGER,
        seed=0,
        shuffle_labels=False,
        progress=(silent, silent),
    ).split
    drawn = load_labeled_split(train, test, SIDE, for_crops=True)  # as curve has it
    shipped = load_labeled_split(train, test, SIDE, for_crops=head.recipe is not None)  # as transfer has it
    assert drawn.images.shape[-1] == 24 and drawn.at_view_size.shape[-1] == SIDE
    for indices in (torch.arange(27), draw_labels(drawn.labels, 4, seed, 1)):
        from headway.downstream.transfer import train_classifier

        data = shipped.training_set(SIDE).subset(indices)
        classifier, _ = train_classifier(network, data, head, seed=seed, folds=3)
        classifier.save(tmp_path / f"model-{len(indices)}")
        expected = load_classifier(tmp_path / f"model-{len(indices)}").predict_proba(shipped.test_images)  # n K
        from_files = load_classifier(tmp_path / f"model-{len(indices)}").predict_proba(folders[1])
        assert torch.equal(expected, from_files), "files are decoded to what was tested"
        for split in (drawn, compared):
            evaluator, method = Evaluator(split), Method("row", fixed(network), head, "group")
            trained, _ = evaluator.train(method, indices, seed)
            assert torch.equal(trained.predict_proba(split.test_images), expected)
            score = evaluator.score(method, indices, seed)
            assert torch.equal(score.correct, expected.argmax(1) == shipped.test_labels)
            assert 0 <= score.fold_accuracy <= 1


def test_transfer_by_command_ships_the_classifier_of_the_curve(folders, tmp_path):
    run = tmp_path / "run"
    headway.pretrain("mae", data=unlabeled(), out=run, backbone="vit_nano", stem="conv", patch=8, size=SIDE, steps=1)
    headway.transfer(run, data=folders[0], test=folders[1], out=tmp_path / "model", head="linear", seed=0)
    shipped = load_classifier(tmp_path / "model")
    train, test = (open_source(folder, labeled=True) for folder in folders)
    evaluator = Evaluator(load_labeled_split(train, test, SIDE, for_crops=True))
    method = Method("row", fixed(headway.load_backbone(run).float()), HEADS["linear"])
    trained, _ = evaluator.train(method, torch.arange(27), 0)
    test_images = evaluator.split.test_images
    assert torch.equal(trained.predict_proba(test_images), shipped.predict_proba(test_images))
    state = trained.backbone.state_dict(), shipped.backbone.state_dict()
    assert max_difference(*state) == 0 and trained.temperature == shipped.temperature


def test_frozen_features_are_computed_once(network, monkeypatch):
    from headway.downstream.labeled_split import LabeledSplit
    from headway.evaluation import evaluator as evaluator_module

    labels, counts = torch.arange(40) % 2, []
    split = LabeledSplit(make_images(40), labels, make_images(10), labels[:10], ("a", "b"), False, [], labels[:10])
    extract = evaluator_module.extract_features
    monkeypatch.setattr(
        evaluator_module,
        "extract_features",
        lambda net, images, size: counts.append(len(images)) or extract(net, images, size),
    )
    evaluator, method = Evaluator(split), Method("row", fixed(network), HEADS["linear"], "group")
    draws = [draw_labels(labels, 8, 0, draw) for draw in range(3)]
    scores = [evaluator.score(method, indices, 0) for indices in draws]
    assert sum(counts) == len(torch.cat(draws).unique()) + 10
    for score, indices in zip(scores, draws, strict=True):
        anew = Evaluator(split).score(method, indices, 0)
        assert torch.equal(score.correct, anew.correct) and score.fold_accuracy == anew.fold_accuracy


def test_raw_pixels_are_pixels():
    images = make_images(5, 40)
    features = RawPixels(3)(to_float01(images)).pooled
    assert torch.equal(features, center_crop_resize(to_float01(images), 32).flatten(1))
    from headway.downstream.labeled_split import LabeledSplit

    labels = torch.arange(20) % 2
    split = LabeledSplit(make_images(20), labels, make_images(9), labels[:9], ("a", "b"), False, [], labels[:9])
    pixels = RawPixels(3)
    found = Evaluator(split).score(Method("raw pixels", fixed(pixels), HEADS["linear"]), torch.arange(20), 0)
    x, y = (pixels(to_float01(part)).pooled for part in (split.images, split.test_images))
    assert torch.equal(found.correct, fit_probe(x, labels, 2).probe.logits(y).argmax(1) == split.test_labels)
