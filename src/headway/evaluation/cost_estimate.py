"""An estimate of what a comparison costs, before it begins."""

from typing import Any

from headway.downstream.finetuning.finetune import FINE_TUNE
from headway.downstream.finetuning.supervised import SupervisedTask
from headway.downstream.finetuning.supervised_workers import measure_workers, supervised_options
from headway.downstream.heads import fresh_head
from headway.evaluation.methods import LR_FACTORS, SELECTION_FOLDS, draw_labels
from headway.evaluation.pretrained_baselines import pretrain_title
from headway.evaluation.runner import ComparisonRunner, is_finished, run_folder
from headway.protocol import TrainModule
from headway.train.config import Plan


def preview_cost(runner: ComparisonRunner) -> dict[str, Any]:
    """Count the pretrainings that are not finished, and the trainings on labels, and measure a supervised step.

    Returns:
        pretrainings, remaining_pretrainings, seconds (of the remaining ones; None where they have no time budget),
        supervised_trainings, supervised_steps, seconds_per_step, drawn_fraction (of the labeled images in one draw),
        text.
    """
    config, split, pretrain_configs = runner.config, runner.split, runner.pretrain_configs
    indices = draw_labels(split.labels, config.labels_per_class, config.seed, 0)
    budgets = [
        job.budget for job in pretrain_configs for offset in range(config.seeds)
        if not is_finished(run_folder(runner.result_cache, pretrain_title(job), config.seed + offset))
    ]  # fmt: skip
    tests, lr_trials, trainings, steps = config.seeds * config.draws, SELECTION_FOLDS * len(LR_FACTORS), 0, 0
    for method in runner.methods():
        if train_config := config.train_config(method.head):
            count = tests * (1 + SELECTION_FOLDS * bool(method.selection_group)) + lr_trials
            trainings, steps = trainings + count, steps + count * train_config.num_steps(len(indices))
    network: Any = runner.untrained_backbone(0)
    head = fresh_head("linear", network.embed_dim, len(split.classes), 0)
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
