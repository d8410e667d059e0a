"""The comparison with training from scratch: paired, and without selection on the test set."""

import pytest
import torch

from headway.downstream.classifier import load_classifier
from headway.downstream.finetuning.model_selection import num_trainings, select_config
from headway.downstream.finetuning.supervised_workers import MeasuredWorkers
from headway.downstream.head_swap import swap_head
from headway.downstream.heads import frozen
from headway.downstream.heads.recipes import FINE_TUNE, FROM_SCRATCH
from headway.downstream.heads.registry import HEADS
from headway.downstream.labeled_images import LabeledImages
from headway.downstream.labeled_split import LabeledSplit
from headway.downstream.transfer import train_classifier
from headway.evaluation.demo import time_budget
from headway.evaluation.demo.scratch_comparison import (
    FINE_TUNED,
    MIN_DRAWS,
    ROW_NAMES,
    TUNING_FOLDS,
    compare_to_scratch,
)
from headway.evaluation.evaluator import Evaluator
from headway.evaluation.methods import SCRATCH_HEAD, draw_labels, with_steps
from headway.rng import seeded
from headway.train.engine.workers import Workers
from tests.small import SIDE, make_images, quick_head, small_backbone, small_train_module

ONE = Workers(1, 1)
QUICK_HEADS = (with_steps(SCRATCH_HEAD, 2), quick_head("finetune", 2))


def make_split(test_labels, groups=None, test_groups=None):
    labels, hashes = torch.arange(24) % 2, torch.arange(len(test_labels))
    images, test_images = make_images(24), make_images(len(test_labels), seed=1)
    return LabeledSplit(images, labels, test_images, test_labels, ("a", "b"), False, [], hashes, groups, test_groups)


def make_backbone():
    with seeded(0):
        return small_backbone()


def run_comparison(split, draws=2, **options):
    network = make_backbone()
    drawn = [draw_labels(split.labels, 6, 0, draw) for draw in range(draws)]
    evaluator = Evaluator(split, folds=TUNING_FOLDS)
    return compare_to_scratch(evaluator, network, network, draws=drawn, seed=0, heads=QUICK_HEADS, **options)


def labeled(images, labels, classes=("a", "b")):
    return LabeledImages(images, labels, classes, SIDE)


def test_permuted_test_labels_change_numbers_and_no_selection():
    labels = torch.arange(30) % 2
    rows, gain, classifier, selections, num_draws = run_comparison(make_split(labels))
    others, other_gain, _, other_selections, *_ = run_comparison(make_split(1 - labels))
    assert [row.name for row in rows] == list(ROW_NAMES) and gain.method == other_gain.method
    assert selections == other_selections and num_draws == 2
    assert classifier.kind == ("finetune" if selections[FINE_TUNED].stop_index else "linear")
    for row, other in zip(rows, others, strict=True):  # two classes: what was correct is now wrong
        assert row.accuracy == pytest.approx(100 - other.accuracy) and row.low <= row.accuracy <= row.high
    accuracies = {row.name: row.accuracy for row in rows}
    assert gain.points == pytest.approx(accuracies[gain.method] - accuracies["from scratch"])


def test_both_trained_methods_have_as_many_trials(monkeypatch):
    calls = []

    def counted(backbone, *given, **options):
        calls.append((options["from_probe"], options["folds"], options["base_config"]))
        return select_config(backbone, *given, **options)

    monkeypatch.setattr("headway.downstream.transfer.select_config", counted)
    run_comparison(make_split(torch.arange(30) % 2))
    scratch, finetune = QUICK_HEADS
    assert calls == [(False, TUNING_FOLDS, scratch.recipe), (True, TUNING_FOLDS, finetune.recipe)]


def test_the_least_number_of_draws_is_used_where_time_runs_out():
    comparison = run_comparison(make_split(torch.arange(30) % 2), draws=4, remaining_seconds=lambda: 0.0)
    assert comparison.num_draws == MIN_DRAWS
    assert comparison.gain.low <= comparison.gain.points <= comparison.gain.high


def test_transfer_does_not_change_the_backbone():
    network, images, labels = small_backbone(), make_images(12), torch.arange(12) % 2
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    tuned, _ = train_classifier(network, labeled(images, labels), quick_head("finetune", 2))
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert any(not torch.equal(before[name], tensor) for name, tensor in tuned.backbone.state_dict().items())


def test_a_loaded_classifier_predicts_what_the_saved_one_did(tmp_path):
    network, images, labels = small_backbone(), make_images(12), torch.arange(12) % 3
    for head in ("knn", "linear"):
        classifier, _ = train_classifier(network, labeled(images, labels, ("a", "b", "c")), HEADS[head])
        classifier.save(tmp_path / head)
        again = load_classifier(tmp_path / head)
        assert again.classes == ("a", "b", "c") and again.size == SIDE and again.kind == head
        assert torch.equal(classifier.predict_proba(images), again.predict_proba(images))


def test_a_head_swap_describes_what_was_removed_kept_and_added():
    module = small_train_module("simclr")
    head = torch.nn.Linear(16, 3)
    swapped = swap_head(module, head)
    assert swapped.backbone is module.backbone and swapped.head is head
    removed = sum(tensor.numel() for tensor in module.task.state_dict().values())
    assert f"{removed:,} parameters  task.projector" in str(swapped)
    assert "51 parameters  head.bias, head.weight" in str(swapped)


def fit_time_budget(split, seconds, **options):
    return time_budget.fit_time_budget(
        make_backbone(), split, labels_per_class=6, num_draws=2, remaining_seconds=seconds, seed=0, **options
    )


def measured(monkeypatch, scratch, finetune, workers=ONE):
    """Let a step from scratch and one of fine-tuning take so many seconds."""
    monkeypatch.setattr(time_budget, "measure_workers", lambda *_: MeasuredWorkers(workers, scratch, scratch))
    timed = []
    monkeypatch.setattr(
        time_budget, "measure_step", lambda module, images, plan, *_, **__: timed.append(plan) or finetune
    )
    return timed


def test_both_sides_are_planned_with_the_same_workers(monkeypatch):
    split = make_split(torch.arange(30) % 2)
    for workers in (ONE, Workers(2, 1), Workers(1, 4)):
        timed = measured(monkeypatch, 0.01, 0.01, workers)
        found = fit_time_budget(split, 8.0)
        assert found.workers == workers == Workers(timed[0].processes, timed[0].threads)
        more = fit_time_budget(split, 16.0)
        assert (
            time_budget.MIN_SCRATCH_EPOCHS < found.scratch_epochs < more.scratch_epochs < time_budget.MAX_SCRATCH_EPOCHS
        )
        assert found.finetune_epochs == found.scratch_epochs // time_budget.SCRATCH_EPOCHS_RATIO


def test_several_processes_come_into_question_only_where_they_are_allowed(monkeypatch):
    asked = []
    monkeypatch.setattr(
        time_budget, "supervised_options", lambda plan, processes, threads: asked.append((processes, threads)) or [ONE]
    )
    measured(monkeypatch, 0.01, 0.01)
    for allowed in ({}, {"processes": 0}):
        fit_time_budget(make_split(torch.arange(30) % 2), 8.0, **allowed)
    assert asked == [(1, 0), (0, 0)]


def test_steps_from_scratch_are_planned_with_their_own_time(monkeypatch):
    split = make_split(torch.arange(30) % 2)

    def epochs(factor):
        measured(monkeypatch, 0.004 * factor, 0.004)
        return fit_time_budget(split, 10.0).scratch_epochs

    equal, thrice = epochs(1), epochs(3)
    assert time_budget.MIN_SCRATCH_EPOCHS < thrice < equal < time_budget.MAX_SCRATCH_EPOCHS
    assert thrice / equal == pytest.approx(
        (time_budget.SCRATCH_EPOCHS_RATIO + 1) / (3 * time_budget.SCRATCH_EPOCHS_RATIO + 1), rel=0.05
    )


def test_the_planned_trainings_take_the_remaining_time(monkeypatch):
    split, draws, second = make_split(torch.arange(30) % 2), 2, 0.004
    measured(monkeypatch, second, second)
    found = fit_time_budget(split, 10.0)
    taken = []
    for head in found.heads():
        taken += [head.num_steps(6)] * num_trainings(12, TUNING_FOLDS) + [head.num_steps(12)] * draws
    assert 7.0 < second * sum(taken) <= 10.0


def test_the_demo_keeps_the_learning_rate_in_small_batches():
    heads = time_budget.TrainingBudget(8, 8, Workers(2, 1)).heads()
    for recipe, head in zip((FROM_SCRATCH, FINE_TUNE), heads, strict=True):
        short = head.recipe
        assert (short.processes, short.threads) == (2, 1)
        assert short.optim.peak_lr(time_budget.LABEL_BATCH_SIZE) == pytest.approx(
            recipe.optim.peak_lr(recipe.batch_size)
        )
        assert short.batch_size == time_budget.LABEL_BATCH_SIZE
        assert head.num_steps(120) == 60 and head.num_steps(60) == 30


def test_folds_of_the_demo_separate_no_group(monkeypatch):
    seen, fit_probe = [], frozen.fit_probe

    def recorded(*given, groups, **options):
        seen.append(groups)
        return fit_probe(*given, groups=groups, **options)

    monkeypatch.setattr(frozen, "fit_probe", recorded)
    run_comparison(make_split(torch.arange(30) % 2, torch.arange(24) // 2 % 6, torch.arange(30) // 2))
    assert seen and all(groups is not None and len(groups.unique()) <= 6 for groups in seen)
