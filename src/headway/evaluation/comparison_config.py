"""The configuration of a comparison: everything, besides the images, that its result depends on."""

from dataclasses import dataclass

from headway.downstream.finetuning.finetune import FineTuneConfig
from headway.evaluation.method_heads import head_config
from headway.evaluation.methods import SCRATCH, SCRATCH_CONFIG, SCRATCH_STEPS_RATIO, with_steps
from headway.train.config import PretrainConfig


@dataclass(frozen=True)
class ComparisonConfig:
    """Everything, besides the images, that the result of a comparison depends on."""

    pretrain_configs: tuple[PretrainConfig, ...]
    """One pretraining for each task; seeds are counted upwards from theirs."""
    heads: tuple[str, ...] = ("linear", "finetune")
    """The heads of tasks and baselines, as ``method_heads`` names them."""
    baselines: tuple[str, ...] = ()
    """Public backbones, as ``pretrained_baselines`` names them."""
    continue_baselines: bool = True
    """Whether each task also continues the pretraining of the baselines."""
    labels_per_class: int = 10
    """Labels of each class in a draw."""
    seeds: int = 3
    """Pretrainings of each task."""
    draws: int = 2
    """Draws of labels for each seed."""
    seed: int = 0
    """The first seed."""
    finetune_steps: int = 0
    """Steps of one training on labels (from scratch: SCRATCH_STEPS_RATIO times as many); 0: the head's default."""

    def train_config(self, head: str) -> FineTuneConfig | None:
        """The configuration of a head, or of training from scratch; None for heads that are not trained by steps."""
        config = SCRATCH_CONFIG if head == SCRATCH else head_config(head)
        steps = self.finetune_steps * (SCRATCH_STEPS_RATIO if head == SCRATCH else 1)
        return with_steps(config, steps) if config and steps else config
