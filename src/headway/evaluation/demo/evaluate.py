"""Transfer of the demo's pretraining with few labels, against training from scratch, in the time that remains."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from headway.evaluation.demo.data import DemoData
from headway.evaluation.demo.scratch_comparison import (
    FINE_TUNED,
    TUNING_FOLDS,
    ScratchComparison,
    compare_to_scratch,
)
from headway.evaluation.demo.settings import LABEL_DRAWS, LABELS_PER_CLASS
from headway.evaluation.demo.time_budget import TrainingBudget, fit_time_budget
from headway.evaluation.evaluator import Evaluator
from headway.evaluation.methods import SCRATCH, reinitialize
from headway.protocol import Backbone
from headway.utils.progress import Progress


class DemoEvaluation(NamedTuple):
    """The comparison, and what belongs to it.

    Attributes:
        comparison: Accuracies and gain.
        time_budget: What fitted into the time.
        num_labels: Labeled images of a draw.
        test_features: N' D of the untrained and the pretrained network.
    """

    comparison: ScratchComparison
    time_budget: TrainingBudget
    num_labels: int
    test_features: dict[str, Tensor]

    def steps(self) -> dict[str, dict[str, int]]:
        """Of fine_tuning and from_scratch: the steps that were taken, and those that the budget allowed."""
        planned = (head.num_steps(self.num_labels) for head in self.time_budget.heads())
        return {
            name: {"steps": self.comparison.selections[row].stop_step(self.num_labels), "planned_steps": steps}
            for (name, row), steps in zip(
                (("from_scratch", SCRATCH), ("fine_tuning", FINE_TUNED)), planned, strict=True
            )
        }


def evaluate_demo(
    pretrained: Backbone,
    data: DemoData,
    *,
    seed: int,
    remaining_seconds: Callable[[], float],
    processes: int,
    progress: Progress,
) -> DemoEvaluation:
    """Draw labels, and compare the pretrained backbone with training from scratch.

    Args:
        pretrained: The backbone of the run.
        data: The images.
        seed: Of draws, weights and trainings.
        remaining_seconds: Returns the seconds that remain.
        processes: The only number of processes that comes into question; 0: any.
        progress: Called with the number of finished trainings and the number of all of them.
    """
    untrained: Any = reinitialize(pretrained, seed)
    split, draws = data.labeled(data.draws(LABELS_PER_CLASS, LABEL_DRAWS, seed))
    time_budget = fit_time_budget(
        pretrained, split, labels_per_class=LABELS_PER_CLASS, num_draws=LABEL_DRAWS,
        remaining_seconds=remaining_seconds(), seed=seed, processes=processes,
    )  # fmt: skip
    evaluator = Evaluator(split, folds=TUNING_FOLDS)
    comparison = compare_to_scratch(
        evaluator, pretrained, untrained, draws=draws, seed=seed, heads=time_budget.heads(),
        remaining_seconds=remaining_seconds, progress=progress,
    )  # fmt: skip
    networks = {"untrained": untrained, "pretrained": pretrained}
    features = {name: evaluator.test_features(network) for name, network in networks.items()}
    return DemoEvaluation(comparison, time_budget, LABELS_PER_CLASS * len(split.classes), features)
