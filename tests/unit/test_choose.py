"""Regularisation, the moment to stop and the temperature are chosen on folds of the training labels, and well."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from headway.downstream import choose as choosing
from headway.downstream.choose import CHECKS, Choice, choose, every
from headway.downstream.transfer import RECIPES, transfer
from headway.downstream.tune import FINE_TUNE, FineTune, calibrated_head
from headway.draws import seeded
from headway.measure.calibration import calibration_error
from tests.small import SIDE, pictures, small_backbone

LABELS = torch.arange(24) % 2
QUICK = replace(FINE_TUNE, epochs=0, least=4)


@pytest.mark.parametrize("head", ["knn", "linear", "attentive", "mlp", "finetune", "lora"])
def test_every_head_is_calibrated_and_repeats_itself(head):
    recipe = replace(RECIPES.get(head, FINE_TUNE), epochs=0, least=4)
    told = []
    with seeded(0):
        network = small_backbone()
    first, second = (
        transfer(
            network, pictures(24), LABELS, ("a", "b"), SIDE, head=head, fine_tune=recipe, folds=2,
            progress=lambda done, of: told.append((done, of)),
        )
        for _ in range(2)
    )  # fmt: skip
    assert first.kind == head and first.temperature == second.temperature != 1.0
    assert torch.equal(first.probabilities(pictures(5)), second.probabilities(pictures(5)))
    assert told == ([] if head in ("knn", "linear") else 2 * [(1, 4), (2, 4), (3, 4), (4, 4)])


def test_what_loses_on_held_out_pictures_is_not_chosen(monkeypatch):
    looked = iter(range(1000))
    right = {0: 1.0, 1: 3.0, 2: 0.2, 3: 0.1, 4: 0.1}  # the first quarter helps, the rest hurts

    def logits_of(backbone, head, images, size):
        sharp = right[next(looked) % (CHECKS + 1)]
        truth = LABELS[images.rows]
        noise = torch.randn(len(truth), 2, generator=torch.Generator().manual_seed(1))
        return sharp * torch.nn.functional.one_hot(truth, 2) + noise

    def supervise(*given, choices, watch, watch_every, **named):
        for _ in range(CHECKS):
            watch(None, None)

    monkeypatch.setattr(choosing, "logits_of", logits_of)
    monkeypatch.setattr(choosing, "supervise", supervise)
    monkeypatch.setattr(choosing, "FEW", 0)
    chosen = choose(
        nn.Identity(), lambda rows: nn.Identity(), pictures(24), LABELS, ("a", "b"), SIDE, recipe=QUICK,
        folds=3, seed=0, from_probe=True,
    )  # fmt: skip
    assert (chosen.name, chosen.check) == ("strong", 1) and chosen.steps(24) == 1 and "after 1/4" in str(chosen)
    right[1] = 0.0
    chosen = choose(
        nn.Identity(), lambda rows: nn.Identity(), pictures(24), LABELS, ("a", "b"), SIDE, recipe=QUICK,
        folds=3, seed=0, from_probe=True,
    )  # fmt: skip
    assert chosen.check == 0 and "keep the linear probe" in str(chosen)


def test_where_nothing_can_be_held_out_the_recipe_stands():
    tuned = transfer(
        small_backbone(), pictures(2), LABELS[:2], ("a", "b"), SIDE, head="finetune", fine_tune=QUICK, folds=3
    )
    assert tuned.temperature == 1.0


def test_folds_start_at_one_scale_of_logits(monkeypatch):
    """Folds that penalise differently are sure to different degrees; one temperature serves them only at one scale."""
    g, starts = torch.Generator().manual_seed(0), []
    features = torch.randn(120, 8, generator=g) + 2.0 * torch.randn(2, 8, generator=g)[LABELS.repeat(5)]
    choice = Choice(QUICK, "strong", 0, 1.0, 0.0)
    monkeypatch.setattr("headway.downstream.transfer.extract", lambda *_: features)
    monkeypatch.setattr(
        "headway.downstream.transfer.choose", lambda _, start, *rest, **words: starts.append(start) or choice
    )
    kept = transfer(
        small_backbone(), pictures(120), LABELS.repeat(5), ("a", "b"), SIDE, head="finetune", fine_tune=QUICK, folds=3
    )
    for rows in (None, torch.arange(80), torch.arange(40, 120)):
        x, y = (features, LABELS.repeat(5)) if rows is None else (features[rows], LABELS.repeat(5)[rows])
        probe, temperature = calibrated_head(x, y, 2, seed=0)
        assert abs(temperature - 1) > 0.02, "or nothing is tested"
        with torch.no_grad():
            torch.testing.assert_close(starts[0](rows)(features), probe(features) / temperature)
    assert torch.equal(kept.head.weight, starts[0](None).weight)


@pytest.mark.parametrize("steps", [1, 3, 4, 13, 150])
def test_moments_to_stop(steps):
    choices = FineTune(epochs=0, least=steps)
    stops = [Choice(choices, "strong", check, 1.0, 0.0).steps(8) for check in range(CHECKS + 1)]
    assert stops[0] == 0 and stops[-1] == steps and stops == sorted(stops) and stops[1] == every(steps)


def test_calibrated_probabilities_mean_more_what_they_say():
    """Weak features and many of them: the probe's own probabilities are too sure or too shy."""
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 4
    features = torch.randn(400, 60, generator=g) + 0.4 * torch.randn(4, 60, generator=g)[labels]
    from headway.downstream.calibrate import knn_temperature
    from headway.downstream.heads import NearestNeighbours

    train, test = torch.arange(200), torch.arange(200, 400)
    temperature = knn_temperature(features[train], labels[train], 4, 5, seed=0)
    logits = NearestNeighbours(features[train], labels[train], 4)(features[test])
    raw = calibration_error(logits.softmax(1), labels[test])
    assert calibration_error((logits / temperature).softmax(1), labels[test]) < raw - 5
