"""An estimate of what a comparison costs, before it begins."""

from typing import Any

from headway.downstream.finetuning.model_selection import num_trainings
from headway.downstream.finetuning.supervised import SupervisedTask
from headway.downstream.finetuning.supervised_workers import measure_workers, supervised_options
from headway.downstream.heads.recipes import FINE_TUNE
from headway.downstream.heads.registry import HEADS
from headway.evaluation.comparison.pretrained_baselines import pretrain_title
from headway.evaluation.comparison.runner import ComparisonRunner, is_finished, run_folder
from headway.evaluation.methods import draw_labels
from headway.protocol import TrainModule
from headway.train.config import Plan


def preview_cost(runner: ComparisonRunner) -> dict[str, Any]:
    """Count the pretrainings that are not finished, and the trainings on labels, and measure a supervised step.

    Returns:
        pretrainings, remaining_pretrainings, seconds (of the remaining ones; None where they have no time budget),
        supervised_trainings, supervised_steps, seconds_per_step, drawn_fraction (of the labeled images in one draw),
        text.
    """
    config, split, pretrain_configs = runner.config, runner.data.split, runner.pretrain_configs
    indices = draw_labels(split.labels, config.labels_per_class, config.seed, 0)
    budgets = [
        job.budget for job in pretrain_configs for offset in range(config.seeds)
        if not is_finished(run_folder(runner.result_cache, pretrain_title(job), config.seed + offset))
    ]  # fmt: skip
    heads = [method.head for method in runner.methods() if method.head.recipe]
    count = config.seeds * config.draws * (1 + num_trainings(len(indices), runner.evaluator.folds))  # of each method
    trainings, steps = count * len(heads), count * sum(head.num_steps(len(indices)) for head in heads)
    network = runner.untrained_backbone(0)
    head = HEADS["linear"].build_seeded(network.embed_dim, len(split.classes), 0)
    task = SupervisedTask(head, split.labels, runner.size, FINE_TUNE.task)
    plan = Plan(steps=10, batch_size=min(FINE_TUNE.batch_size, len(indices)))
    options = supervised_options(plan, processes=0 if runner.auto_processes else 1, threads=0)
    module = TrainModule(network, task)
    step = measure_workers(module, split.images, plan, FINE_TUNE.optim, options).seconds_per_step
    total, seconds = len(pretrain_configs) * config.seeds, sum(filter(None, budgets)) if all(budgets) else None
    pretraining = (
        f"{seconds / 60:.1f} minutes" if seconds is not None else f"{config.pretrain_configs[0].steps} steps each"
    )
    text = (
        f"{len(budgets)} of {total} pretrainings remain ({pretraining}); then there "
        f"are about {trainings} trainings on labels ({steps:,} steps, "
        f"{steps * step / 60:.1f} minutes if none is finished) and linear probes"
    )
    return {
        "pretrainings": total, "remaining_pretrainings": len(budgets), "seconds": seconds,
        "supervised_trainings": trainings, "supervised_steps": steps, "seconds_per_step": step,
        "drawn_fraction": len(indices) / len(split.labels), "text": text,
    }  # fmt: skip
