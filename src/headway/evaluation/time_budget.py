"""How many epochs supervised training may take, so that a comparison ends in time: steps are measured before it."""

from dataclasses import replace
from typing import Any, NamedTuple

from headway.downstream.features.extract import FORWARD_BATCH_SIZE
from headway.downstream.finetuning.finetune import FINE_TUNE, FROM_SCRATCH
from headway.downstream.finetuning.model_selection import NUM_STOP_CANDIDATES
from headway.downstream.finetuning.supervised import SupervisedTask
from headway.downstream.finetuning.supervised_workers import MEASURE_S, measure_workers, supervised_options
from headway.downstream.heads import fresh_head
from headway.evaluation.frozen_probes import ComparisonSetup
from headway.evaluation.scratch_comparison import TUNING_FOLDS, num_trials
from headway.protocol import TrainModule
from headway.train.config import Plan
from headway.train.engine.timing import measure_step
from headway.train.engine.workers import Workers

LABEL_BATCH_SIZE = 16
"""Images per step: many small steps learn more from so few labels in the same time."""
SCRATCH_EPOCHS_RATIO, MIN_SCRATCH_EPOCHS, MAX_SCRATCH_EPOCHS = 10, 5, 400
"""Epochs from scratch / epochs of fine-tuning (which starts close to a solution), and bounds on the former."""
PLANNED_TIME_FRACTION = 0.85
"""Fraction of the remaining time that is planned; the rest is a margin."""


class TrainingBudget(NamedTuple):
    """The trainings that fit into the time.

    Attributes:
        scratch_epochs: Passes over the labeled images from scratch.
        finetune_epochs: Passes of fine-tuning.
        workers: Processes and threads with which a step takes the least time; both sides use them.
    """

    scratch_epochs: int
    finetune_epochs: int
    workers: Workers


def fit_time_budget(
    setup: ComparisonSetup, labels_per_class: int, num_draws: int, remaining_seconds: float, seed: int,
    processes: int = 1,
) -> TrainingBudget:  # fmt: skip
    """The number of epochs with which ``compare_to_scratch``, tuning included, takes the remaining time.

    Args:
        setup: Backbones and images.
        labels_per_class: Labels of each class in a draw.
        num_draws: How many draws.
        remaining_seconds: The time.
        seed: Of the steps that are measured.
        processes: The only number of processes that comes into question; 0: any.
    """
    backbone: Any = setup.pretrained
    head = fresh_head("linear", backbone.embed_dim, len(setup.classes), seed)
    num_labels = labels_per_class * len(setup.classes)
    batch_size = min(LABEL_BATCH_SIZE, num_labels)
    task = SupervisedTask(head, setup.labels, setup.size, FINE_TUNE.task)
    plan, module = Plan(steps=10, batch_size=batch_size, seed=seed), TrainModule(setup.untrained, task)

    options = supervised_options(plan, processes, threads=0)
    workers, scratch_seconds, _ = measure_workers(module, setup.images, plan, FROM_SCRATCH.optim, options)
    plan = replace(plan, **workers._asdict())
    finetune_seconds = measure_step(module, setup.images, plan, FINE_TUNE.optim, time_limit_s=MEASURE_S)
    # the time of a step from scratch, together with its share of a step of fine-tuning
    step_seconds = scratch_seconds + finetune_seconds / SCRATCH_EPOCHS_RATIO
    trials = num_trials(num_labels)
    evaluated = trials * NUM_STOP_CANDIDATES * (num_labels // TUNING_FOLDS + FORWARD_BATCH_SIZE)
    evaluated = 2 * (evaluated + num_draws * len(setup.test_images))
    remaining_seconds -= evaluated * finetune_seconds / batch_size / 3  # an evaluation has no backward pass
    trial_labels = num_labels * (TUNING_FOLDS - 1) / TUNING_FOLDS  # images that a trial learns from
    # steps in which every training makes one epoch
    epoch_steps = num_draws * num_labels / batch_size + trials * trial_labels / min(LABEL_BATCH_SIZE, trial_labels)
    epochs = PLANNED_TIME_FRACTION * remaining_seconds / epoch_steps / step_seconds
    epochs = int(min(max(epochs, MIN_SCRATCH_EPOCHS), MAX_SCRATCH_EPOCHS))
    return TrainingBudget(epochs, max(epochs // SCRATCH_EPOCHS_RATIO, 1), workers)
