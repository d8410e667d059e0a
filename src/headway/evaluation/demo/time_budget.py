"""How many epochs supervised training may take, so that a comparison ends in time: steps are measured before it."""

from dataclasses import replace
from typing import NamedTuple

from headway.backbones.extract import FORWARD_BATCH_SIZE
from headway.downstream.finetuning.model_selection import NUM_STOP_CANDIDATES, num_trainings
from headway.downstream.finetuning.supervised import SupervisedTask
from headway.downstream.finetuning.supervised_workers import MEASURE_S, measure_workers, supervised_options
from headway.downstream.heads.recipes import FINE_TUNE, FROM_SCRATCH, FineTuneConfig
from headway.downstream.heads.registry import HEADS, HeadKind
from headway.downstream.labeled_split import LabeledSplit
from headway.evaluation.demo.scratch_comparison import TUNING_FOLDS
from headway.evaluation.methods import SCRATCH_HEAD, scale_lr
from headway.protocol import Backbone, TrainModule
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

    def heads(self) -> tuple[HeadKind, HeadKind]:
        """The heads of training from scratch and of fine-tuning, with so many epochs."""
        return (
            replace(SCRATCH_HEAD, recipe=self._shortened(FROM_SCRATCH, self.scratch_epochs)),
            replace(HEADS["finetune"], recipe=self._shortened(FINE_TUNE, self.finetune_epochs)),
        )

    def _shortened(self, recipe: FineTuneConfig, epochs: int) -> FineTuneConfig:
        """So many epochs in small batches, at the learning rate of the recipe's own batch size: lower rates need
        longer.
        """
        short = replace(recipe, epochs=epochs, min_steps=1, batch_size=LABEL_BATCH_SIZE, **self.workers._asdict())
        return scale_lr(short, recipe.batch_size / LABEL_BATCH_SIZE)


def fit_time_budget(
    backbone: Backbone,
    split: LabeledSplit,
    *,
    labels_per_class: int,
    num_draws: int,
    remaining_seconds: float,
    seed: int,
    processes: int = 1,
) -> TrainingBudget:
    """The number of epochs with which ``compare_to_scratch``, tuning included, takes the remaining time.

    Args:
        backbone: The backbone, pretrained or not.
        split: Images to learn from and to test on.
        labels_per_class: Labels of each class in a draw.
        num_draws: How many draws.
        remaining_seconds: The time.
        seed: Of the steps that are measured.
        processes: The only number of processes that comes into question; 0: any.
    """
    head = HEADS["linear"].build_seeded(backbone.embed_dim, len(split.classes), seed)
    num_labels, images = labels_per_class * len(split.classes), split.images
    batch_size = min(LABEL_BATCH_SIZE, num_labels)
    task = SupervisedTask(head, split.labels, backbone.image_size, FINE_TUNE.task)
    plan, module = Plan(steps=10, batch_size=batch_size, seed=seed), TrainModule(backbone, task)

    options = supervised_options(plan, processes, threads=0)
    workers, scratch_seconds, _ = measure_workers(module, images, plan, FROM_SCRATCH.optim, options)
    plan = replace(plan, **workers._asdict())
    finetune_seconds = measure_step(module, images, plan, FINE_TUNE.optim, time_limit_s=MEASURE_S)
    # the time of a step from scratch, together with its share of a step of fine-tuning
    step_seconds = scratch_seconds + finetune_seconds / SCRATCH_EPOCHS_RATIO
    trials = num_trainings(num_labels, TUNING_FOLDS)
    evaluated = trials * NUM_STOP_CANDIDATES * (num_labels // TUNING_FOLDS + FORWARD_BATCH_SIZE)
    evaluated = 2 * (evaluated + num_draws * len(split.test_images))
    remaining_seconds -= evaluated * finetune_seconds / batch_size / 3  # an evaluation has no backward pass
    trial_labels = num_labels * (TUNING_FOLDS - 1) / TUNING_FOLDS  # images that a trial learns from
    # steps in which every training makes one epoch
    epoch_steps = num_draws * num_labels / batch_size + trials * trial_labels / min(LABEL_BATCH_SIZE, trial_labels)
    epochs = PLANNED_TIME_FRACTION * remaining_seconds / epoch_steps / step_seconds
    epochs = int(min(max(epochs, MIN_SCRATCH_EPOCHS), MAX_SCRATCH_EPOCHS))
    return TrainingBudget(epochs, max(epochs // SCRATCH_EPOCHS_RATIO, 1), workers)
