"""Model selection: regularization, the step to stop at and the temperature are selected on folds of training labels."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from headway.downstream.finetuning import model_selection
from headway.downstream.finetuning.model_selection import NUM_STOP_CANDIDATES, Selection, select_config, stop_interval
from headway.downstream.heads.frozen import LabeledFeatures, fit_knn_head, fit_linear_head
from headway.downstream.heads.recipes import FINE_TUNE, FineTuneConfig
from headway.downstream.heads.registry import HEADS
from headway.downstream.labeled_images import LabeledImages
from headway.downstream.transfer import TransferObservers, train_classifier
from headway.metrics.calibration import calibration_error
from headway.rng import seeded
from tests.small import SIDE, make_images, quick_head, small_backbone

LABELS = torch.arange(24) % 2
QUICK = replace(FINE_TUNE, epochs=0, min_steps=4)


def labeled(count=24, repeats=1):
    return LabeledImages(make_images(count * repeats), LABELS[:count].repeat(repeats), ("a", "b"), SIDE)


@pytest.mark.parametrize("head", HEADS)
def test_every_head_is_calibrated_and_deterministic(head):
    calls = []
    observers = TransferObservers(progress=lambda done, total: calls.append((done, total)))
    with seeded(0):
        network = small_backbone()
    first, second = (
        train_classifier(network, labeled(), quick_head(head), folds=2, observers=observers).classifier
        for _ in range(2)
    )
    assert first.kind == head and first.temperature == second.temperature != 1.0
    assert torch.equal(first.predict_proba(make_images(5)), second.predict_proba(make_images(5)))
    assert calls == (2 * [(1, 4), (2, 4), (3, 4), (4, 4)] if HEADS[head].recipe else [])


def test_the_stop_with_the_lowest_loss_on_held_out_images_is_selected(monkeypatch):
    calls = iter(range(1000))
    sharpness = {0: 1.0, 1: 3.0, 2: 0.2, 3: 0.1, 4: 0.1}  # the first quarter of training helps, the rest hurts

    def predict_logits(backbone, head, images, size):
        sharp = sharpness[next(calls) % (NUM_STOP_CANDIDATES + 1)]
        labels = LABELS[images.rows]
        noise = torch.randn(len(labels), 2, generator=torch.Generator().manual_seed(1))
        return sharp * torch.nn.functional.one_hot(labels, 2) + noise

    def train_supervised(*given, callback, **options):
        for _ in range(NUM_STOP_CANDIDATES):
            callback(None, None)

    def select():
        return select_config(
            nn.Identity(), lambda indices: nn.Identity(), labeled(), base_config=QUICK, folds=3, seed=0,
            from_probe=True,
        )  # fmt: skip

    monkeypatch.setattr(model_selection, "predict_logits", predict_logits)
    monkeypatch.setattr(model_selection, "train_supervised", train_supervised)
    monkeypatch.setattr(model_selection, "REGULARIZATION_MAX_LABELS", 0)
    selected = select()
    assert (selected.candidate, selected.stop_index) == ("strong", 1)
    assert selected.stop_step(24) == 1 and "after 1/4" in str(selected)
    sharpness[1] = 0.0
    selected = select()
    assert selected.stop_index == 0 and "keep the linear probe" in str(selected)


def test_the_default_configuration_is_used_where_nothing_can_be_held_out():
    tuned, selection = train_classifier(small_backbone(), labeled(2), quick_head("finetune"), folds=3)
    assert tuned.temperature == 1.0 and math.isnan(selection.loss) and math.isnan(selection.accuracy)


def test_all_folds_start_at_one_scale_of_logits(monkeypatch):
    """Folds with different penalties have logits of different scale; one temperature fits them only at one scale."""
    g, make_heads = torch.Generator().manual_seed(0), []
    data = labeled(repeats=5)
    features = torch.randn(120, 8, generator=g) + 2.0 * torch.randn(2, 8, generator=g)[data.labels]
    selection = Selection(QUICK, "strong", 0, 1.0, 0.0, 1.0)
    monkeypatch.setattr("headway.downstream.transfer.extract_features", lambda *_: features)
    monkeypatch.setattr(
        "headway.downstream.transfer.select_config",
        lambda _, make_head, *given, **options: make_heads.append(make_head) or selection,
    )
    classifier, _ = train_classifier(small_backbone(), data, quick_head("finetune"), folds=3)
    for rows in (torch.arange(120), torch.arange(80), torch.arange(40, 120)):
        probe, temperature = fit_linear_head(LabeledFeatures(features[rows], data.labels[rows], 2), seed=0)
        assert abs(temperature - 1) > 0.02, "or nothing is tested"
        with torch.no_grad():
            torch.testing.assert_close(make_heads[0](rows)(features), probe(features) / temperature)
    assert torch.equal(classifier.head.weight, make_heads[0](torch.arange(120)).weight)


@pytest.mark.parametrize("steps", [1, 3, 4, 13, 150])
def test_steps_to_stop_at(steps):
    config = FineTuneConfig(epochs=0, min_steps=steps)
    stops = [Selection(config, "strong", index, 1.0, 0.0, 1.0).stop_step(8) for index in range(NUM_STOP_CANDIDATES + 1)]
    assert stops[0] == 0 and stops[-1] == steps and stops == sorted(stops) and stops[1] == stop_interval(steps)


def test_the_temperature_of_knn_lowers_its_calibration_error():
    """Weak features of high dimension: the votes themselves are not calibrated."""
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 4
    features = torch.randn(400, 60, generator=g) + 0.4 * torch.randn(4, 60, generator=g)[labels]
    train, test = torch.arange(200), torch.arange(200, 400)
    layer, temperature = fit_knn_head(LabeledFeatures(features[train], labels[train], 4), seed=0, folds=5)
    logits = layer(features[test])
    raw = calibration_error(logits.softmax(1), labels[test])
    assert calibration_error((logits / temperature).softmax(1), labels[test]) < raw - 5
