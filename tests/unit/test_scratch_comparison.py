"""The comparison with training from scratch: paired, and without selection on the test set."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from headway.downstream.classifier import load_classifier
from headway.downstream.finetuning import finetune
from headway.downstream.finetuning.finetune import FINE_TUNE, FROM_SCRATCH, HEAD_CONFIGS, calibrated_linear_head
from headway.downstream.finetuning.model_selection import select_config
from headway.downstream.finetuning.supervised_workers import MeasuredWorkers
from headway.downstream.head_swap import swap_head
from headway.downstream.labeled_images import LabeledImages
from headway.downstream.labeled_split import LabeledSplit
from headway.downstream.transfer import transfer
from headway.evaluation import scratch_comparison, time_budget
from headway.evaluation.frozen_probes import ComparisonSetup, fit_frozen_probes
from headway.evaluation.methods import draw_labels, evaluate_method, frozen_method, raw_pixels, trained_method
from headway.evaluation.scratch_comparison import FINE_TUNED, MIN_DRAWS, ROW_NAMES, compare_to_scratch
from headway.rng import seeded
from headway.train.engine.workers import Workers
from tests.small import SIDE, make_images, small_backbone, small_train_module

ONE = Workers(1, 1)
QUICK = {
    "scratch_config": replace(FROM_SCRATCH, epochs=0, min_steps=2),
    "finetune_config": replace(FINE_TUNE, epochs=0, min_steps=2),
}


def make_setup(test_labels):
    with seeded(0):
        network = small_backbone()
    labels = torch.arange(24) % 2
    images, test_images = make_images(24), make_images(len(test_labels), seed=1)
    return ComparisonSetup(network, network, images, labels, test_images, test_labels, ("a", "b"), SIDE)


def run_comparison(setup, draws=2, **options):
    probes = fit_frozen_probes(setup, labels_per_class=6, num_draws=draws, seed=0)
    return compare_to_scratch(setup, probes, labels_per_class=6, seed=0, **QUICK, **options)


def labeled(images, labels, classes=("a", "b")):
    return LabeledImages(images, labels, classes, SIDE)


def test_permuted_test_labels_change_numbers_and_no_selection():
    labels = torch.arange(30) % 2
    rows, gain, classifier, selections, num_draws = run_comparison(make_setup(labels))
    others, other_gain, _, other_selections, *_ = run_comparison(make_setup(1 - labels))
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

    monkeypatch.setattr(scratch_comparison, "select_config", counted)
    run_comparison(make_setup(torch.arange(30) % 2))
    assert calls == [
        (False, scratch_comparison.TUNING_FOLDS, QUICK["scratch_config"]),
        (True, scratch_comparison.TUNING_FOLDS, QUICK["finetune_config"]),
    ]


def test_the_least_number_of_draws_is_used_where_time_runs_out():
    comparison = run_comparison(make_setup(torch.arange(30) % 2), draws=4, remaining_seconds=lambda: 0.0)
    assert comparison.num_draws == MIN_DRAWS
    assert comparison.gain.low <= comparison.gain.points <= comparison.gain.high


def test_transfer_does_not_change_the_backbone():
    network, images, labels = small_backbone(), make_images(12), torch.arange(12) % 2
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    tuned = transfer(network, labeled(images, labels), head="finetune", config=QUICK["finetune_config"])
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert any(not torch.equal(before[name], tensor) for name, tensor in tuned.backbone.state_dict().items())


def test_a_loaded_classifier_predicts_what_the_saved_one_did(tmp_path):
    network, images, labels = small_backbone(), make_images(12), torch.arange(12) % 3
    for head in ("knn", "linear"):
        classifier = transfer(network, labeled(images, labels, ("a", "b", "c")), head=head)
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


def test_frozen_features_are_computed_once():
    labels = torch.arange(40) % 2
    split = LabeledSplit(make_images(40), labels, make_images(10), labels[:10], ("a", "b"), False, [], labels[:10])
    counts = []
    method = frozen_method(split, lambda images: counts.append(len(images)) or raw_pixels(images))
    draws = [draw_labels(labels, 8, 0, draw) for draw in range(3)]
    scores = [evaluate_method(method, split, indices, 0, cross_validate=True) for indices in draws]
    assert sum(counts) == len(torch.cat(draws).unique()) + 10
    anew = [
        evaluate_method(frozen_method(split, raw_pixels), split, indices, 0, cross_validate=True) for indices in draws
    ]
    assert all(
        torch.equal(a.correct, b.correct) and a.fold_accuracy == b.fold_accuracy
        for a, b in zip(scores, anew, strict=True)
    )


@pytest.mark.parametrize("head", ["finetune", "lora", "attentive", "mlp"])
def test_a_comparison_starts_from_the_head_that_transfer_starts_from(head, monkeypatch):
    initial = []

    def stop_here(backbone, head, *given, **options):
        initial.append(head.state_dict())
        raise StopIteration

    monkeypatch.setattr("headway.downstream.transfer.train_supervised", stop_here)
    monkeypatch.setattr("headway.evaluation.methods.train_supervised", stop_here)
    labels, groups = torch.arange(40) % 2, torch.arange(40) // 4
    split = LabeledSplit(
        make_images(40), labels, make_images(10), labels[:10], ("a", "b"), False, [], labels[:10], groups
    )
    network = small_backbone()
    with pytest.raises(StopIteration):
        transfer(network, split.training_set(SIDE), head=head, seed=3)
    with pytest.raises(StopIteration):
        trained_method(split, lambda seed: network, SIDE, HEAD_CONFIGS[head], head)(torch.arange(40), None, 3)
    assert all(torch.equal(a, b) for a, b in zip(*(state.values() for state in initial), strict=True))


def measured(monkeypatch, scratch, finetune, workers=ONE):
    """Let a step from scratch and one of fine-tuning take so many seconds."""
    monkeypatch.setattr(time_budget, "measure_workers", lambda *_: MeasuredWorkers(workers, scratch, scratch))
    timed = []
    monkeypatch.setattr(
        time_budget, "measure_step", lambda module, images, plan, *_, **__: timed.append(plan) or finetune
    )
    return timed


def test_both_sides_are_planned_with_the_same_workers(monkeypatch):
    setup = make_setup(torch.arange(30) % 2)
    for workers in (ONE, Workers(2, 1), Workers(1, 4)):
        timed = measured(monkeypatch, 0.01, 0.01, workers)
        found = time_budget.fit_time_budget(setup, 6, 2, 8.0, 0)
        assert found.workers == workers == Workers(timed[0].processes, timed[0].threads)
        more = time_budget.fit_time_budget(setup, 6, 2, 16.0, 0)
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
        time_budget.fit_time_budget(make_setup(torch.arange(30) % 2), 6, 2, 8.0, 0, **allowed)
    assert asked == [(1, 0), (0, 0)]


def test_steps_from_scratch_are_planned_with_their_own_time(monkeypatch):
    setup = make_setup(torch.arange(30) % 2)

    def epochs(factor):
        measured(monkeypatch, 0.004 * factor, 0.004)
        return time_budget.fit_time_budget(setup, 6, 2, 10.0, 0).scratch_epochs

    equal, thrice = epochs(1), epochs(3)
    assert time_budget.MIN_SCRATCH_EPOCHS < thrice < equal < time_budget.MAX_SCRATCH_EPOCHS
    assert thrice / equal == pytest.approx(
        (time_budget.SCRATCH_EPOCHS_RATIO + 1) / (3 * time_budget.SCRATCH_EPOCHS_RATIO + 1), rel=0.05
    )


def test_the_planned_trainings_take_the_remaining_time(monkeypatch):
    setup, draws, second = make_setup(torch.arange(30) % 2), 2, 0.004
    measured(monkeypatch, second, second)
    found = time_budget.fit_time_budget(setup, 6, draws, 10.0, 0)
    taken = []
    for recipe, epochs in ((FROM_SCRATCH, found.scratch_epochs), (FINE_TUNE, found.finetune_epochs)):
        config = replace(recipe, epochs=epochs, min_steps=1, batch_size=time_budget.LABEL_BATCH_SIZE)
        taken += [config.num_steps(6)] * scratch_comparison.num_trials(12) + [config.num_steps(12)] * draws
    assert 7.0 < second * sum(taken) <= 10.0


def test_the_demo_keeps_the_learning_rate_in_small_batches():
    from headway.cli.demo import _short_recipe

    for recipe in (FROM_SCRATCH, FINE_TUNE):
        short = _short_recipe(recipe, 8, Workers(2, 1))
        assert (short.processes, short.threads) == (2, 1)
        assert short.optim.peak_lr(time_budget.LABEL_BATCH_SIZE) == pytest.approx(
            recipe.optim.peak_lr(recipe.batch_size)
        )
        assert (
            short.batch_size == time_budget.LABEL_BATCH_SIZE
            and short.num_steps(120) == 60
            and short.num_steps(60) == 30
        )


def test_folds_of_the_demo_separate_no_group(monkeypatch):
    seen = []

    def recorded(features, labels, num_classes, seed, balance_classes=False, groups=None):
        seen.append(groups)
        return calibrated_linear_head(features, labels, num_classes, seed, balance_classes, groups)

    monkeypatch.setattr(finetune, "calibrated_linear_head", recorded)
    pairs = torch.arange(24) // 2 % 6
    run_comparison(make_setup(torch.arange(30) % 2)._replace(groups=pairs, test_groups=np.arange(30) // 2))
    assert seen and all(groups is not None and len(groups.unique()) <= 6 for groups in seen)
