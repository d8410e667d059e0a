"""The comparison with training from scratch: paired, and blind to the test set where it chooses."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from headway.downstream import tune
from headway.downstream.choose import choose
from headway.downstream.classifier import load_classifier
from headway.downstream.labelled import Labelled
from headway.downstream.swap import swap
from headway.downstream.transfer import FINE_TUNE, FROM_SCRATCH, RECIPES, transfer
from headway.downstream.tune import calibrated_head
from headway.draws import seeded
from headway.verdict import afford, gain
from headway.verdict.contest import Contest, probe_frozen
from headway.verdict.gain import FEWEST, NAMES, TUNED, judge
from headway.verdict.trial import draw_labels, frozen, raw_pixels, score, trained
from tests.small import SIDE, pictures, small_backbone, small_learner

QUICK = {"scratch": replace(FROM_SCRATCH, epochs=0, least=2), "fine_tune": replace(FINE_TUNE, epochs=0, least=2)}


def contest(test_labels):
    with seeded(0):
        network = small_backbone()
    labels = torch.arange(24) % 2
    images, tests = pictures(24), pictures(len(test_labels), seed=1)
    return Contest(network, network, images, labels, tests, test_labels, ("a", "b"), SIDE)


def judged(between, draws=2, **options):
    frozen = probe_frozen(between, per_class_count=6, draws=draws, seed=0)
    return judge(between, frozen, per_class_count=6, seed=0, **QUICK, **options)


def test_permuted_test_labels_change_numbers_and_no_choice():
    labels = torch.arange(30) % 2
    rows, won, classifier, choices, draws = judged(contest(labels))
    others, other_won, _, other_choices, *_ = judged(contest(1 - labels))
    assert [row.name for row in rows] == list(NAMES) and won.contender == other_won.contender
    assert choices == other_choices and draws == 2
    assert classifier.kind == ("finetune" if choices[TUNED].check else "linear")
    for row, other in zip(rows, others, strict=True):  # two classes: who was right is now wrong
        assert row.accuracy == pytest.approx(100 - other.accuracy) and row.low <= row.accuracy <= row.high
    accuracies = {row.name: row.accuracy for row in rows}
    assert won.points == pytest.approx(accuracies[won.contender] - accuracies["from scratch"])


def test_both_sides_have_as_many_trials(monkeypatch):
    asked = []

    def counted(backbone, *given, **options):
        asked.append((options["from_probe"], options["folds"], options["recipe"]))
        return choose(backbone, *given, **options)

    monkeypatch.setattr(gain, "choose", counted)
    judged(contest(torch.arange(30) % 2))
    assert asked == [(False, gain.FOLDS, QUICK["scratch"]), (True, gain.FOLDS, QUICK["fine_tune"])]


def test_where_time_runs_out_the_fewest_draws_remain():
    verdict = judged(contest(torch.arange(30) % 2), draws=4, left=lambda: 0.0)
    assert verdict.draws == FEWEST
    assert verdict.gain.low <= verdict.gain.points <= verdict.gain.high


def test_transfer_leaves_the_backbone_as_it_was():
    network, images, labels = small_backbone(), pictures(12), torch.arange(12) % 2
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    tuned = transfer(network, images, labels, ("a", "b"), SIDE, head="finetune", fine_tune=QUICK["fine_tune"])
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert any(not torch.equal(before[name], tensor) for name, tensor in tuned.backbone.state_dict().items())


def test_a_saved_classifier_is_the_one_in_process(tmp_path):
    network, images, labels = small_backbone(), pictures(12), torch.arange(12) % 3
    for head in ("knn", "linear"):
        classifier = transfer(network, images, labels, ("a", "b", "c"), SIDE, head=head)
        classifier.save(tmp_path / head)
        again = load_classifier(tmp_path / head)
        assert again.classes == ("a", "b", "c") and again.size == SIDE and again.kind == head
        assert torch.equal(classifier.probabilities(images), again.probabilities(images))


def test_swap_says_what_was_cut_kept_and_joined():
    learner = small_learner("simclr")
    head = torch.nn.Linear(16, 3)
    swapped = swap(learner, head)
    assert swapped.backbone is learner.backbone and swapped.head is head
    cut = sum(tensor.numel() for tensor in learner.task.state_dict().values())
    assert f"{cut:,} numbers  task.projector" in str(swapped) and "51 numbers  head.bias, head.weight" in str(swapped)


def test_frozen_features_are_computed_once():
    labels = torch.arange(40) % 2
    held = Labelled(pictures(40), labels, pictures(10), labels[:10], ("a", "b"), False, [], labels[:10])
    seen = []
    trial = frozen(held, lambda images: seen.append(len(images)) or raw_pixels(images))
    draws = [draw_labels(labels, 8, 0, draw) for draw in range(3)]
    scores = [score(trial, held, chosen, 0, by_folds=True) for chosen in draws]
    assert sum(seen) == len(torch.cat(draws).unique()) + 10
    anew = [score(frozen(held, raw_pixels), held, chosen, 0, by_folds=True) for chosen in draws]
    assert all(torch.equal(a.right, b.right) and a.folds == b.folds for a, b in zip(scores, anew, strict=True))


@pytest.mark.parametrize("head", ["finetune", "lora", "attentive", "mlp"])
def test_a_comparison_starts_where_transfer_does(head, monkeypatch):
    began = []

    def stop_here(backbone, first, *rest, **words):
        began.append(first.state_dict())
        raise StopIteration

    monkeypatch.setattr("headway.downstream.transfer.supervise", stop_here)
    monkeypatch.setattr("headway.verdict.trial.supervise", stop_here)
    labels, groups = torch.arange(40) % 2, torch.arange(40) // 4
    held = Labelled(pictures(40), labels, pictures(10), labels[:10], ("a", "b"), False, [], labels[:10], groups)
    network = small_backbone()
    with pytest.raises(StopIteration):
        transfer(network, held.images, labels, held.classes, SIDE, head=head, seed=3, groups=groups)
    with pytest.raises(StopIteration):
        trained(held, lambda seed: network, SIDE, RECIPES[head], head)(torch.arange(40), None, 3)
    assert all(torch.equal(a, b) for a, b in zip(*(state.values() for state in began), strict=True))


def test_time_is_planned_with_the_threads_that_are_quickest(monkeypatch):
    between, before = contest(torch.arange(30) % 2), torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    used = []
    monkeypatch.setattr(torch, "set_num_threads", used.append)
    for quickest, taken in ((1, {1: 0.01, 4: 0.02}), (4, {1: 0.02, 4: 0.01})):
        monkeypatch.setattr(afford, "measure_step", lambda *_, taken=taken, **__: taken[used[-1]])
        found = afford.affordable(between, 6, 2, 8.0, 0)
        assert found.threads == quickest and used[-1] == 4, "the number of before comes back"
        more = afford.affordable(between, 6, 2, 16.0, 0)
        assert afford.LEAST < found.scratch < more.scratch < afford.MOST
        assert found.fine_tune == found.scratch // afford.LONGER
    monkeypatch.undo()
    assert torch.get_num_threads() == before


def test_steps_from_scratch_are_planned_with_what_they_take_themselves(monkeypatch):
    between = contest(torch.arange(30) % 2)

    def passes(dearer):
        monkeypatch.setattr(
            afford, "measure_step", lambda *given, **_: 0.004 * (dearer if given[3].method == "muon" else 1)
        )
        return afford.affordable(between, 6, 2, 10.0, 0).scratch

    alike, thrice = passes(1), passes(3)
    assert afford.LEAST < thrice < alike < afford.MOST
    assert thrice / alike == pytest.approx((afford.LONGER + 1) / (3 * afford.LONGER + 1), rel=0.05)


def test_trainings_that_were_planned_take_the_time_that_remains(monkeypatch):
    between, draws, second = contest(torch.arange(30) % 2), 2, 0.004
    monkeypatch.setattr(afford, "measure_step", lambda *_, **__: second)
    found = afford.affordable(between, 6, draws, 10.0, 0)
    taken = []
    half, whole = pictures(6), pictures(12)
    for recipe, passes in ((FROM_SCRATCH, found.scratch), (FINE_TUNE, found.fine_tune)):
        choices = replace(recipe, epochs=passes, least=1, batch=afford.BATCH)
        taken += [choices.steps(len(half))] * gain.trials(12) + [choices.steps(len(whole))] * draws
    assert 7.0 < second * sum(taken) <= 10.0


def test_the_demo_keeps_the_rate_in_force_in_small_batches():
    from headway.cli.demo import _short

    for recipe in (FROM_SCRATCH, FINE_TUNE):
        short = _short(recipe, 8)
        assert short.optim.peak(afford.BATCH) == pytest.approx(recipe.optim.peak(recipe.batch))
        assert short.batch == afford.BATCH and short.steps(120) == 60 and short.steps(60) == 30


def test_folds_of_the_demo_part_no_group(monkeypatch):
    asked = []

    def noted(features, labels, classes, seed, balance=False, groups=None):
        asked.append(groups)
        return calibrated_head(features, labels, classes, seed, balance, groups)

    monkeypatch.setattr(tune, "calibrated_head", noted)
    pairs = torch.arange(24) // 2 % 6
    judged(contest(torch.arange(30) % 2)._replace(groups=pairs, test_groups=np.arange(30) // 2))
    assert asked and all(groups is not None and len(groups.unique()) <= 6 for groups in asked)
