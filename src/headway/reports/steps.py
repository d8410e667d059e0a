"""How many steps the sides of a comparison had, and whether other programs slowed one of them down.

Under a budget, a busy machine takes steps away from a pretraining. A comparison that does not say so blames the method.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from headway.errors import HeadwayError
from headway.evaluation.comparison.pretrained_baselines import pretrain_title
from headway.evaluation.comparison.runner import ComparisonRunner
from headway.evaluation.methods import draw_labels
from headway.train.plan.auto import FEW_PASSES
from headway.train.run_dir.record import RECORD_FILE, read_record

SLOWED_RATIO = 2.0
"""A run under a budget was slowed down where a step took more than this many times what was measured before it."""


def pretraining_steps(run: Path) -> dict[str, Any] | None:
    """What a run had: steps, planned_steps, passes (over its images), images_per_second, slow_by (times the measured
    duration that a step took; null: unknown), slowed (under a budget). None where there is no record of a finished run.
    """
    try:
        record = read_record(run) if (run / RECORD_FILE).is_file() else {}
    except HeadwayError:
        return None
    if "result" not in record:
        return None
    plan, result = record["plan"], record["result"]
    rate, seconds = result["images_per_second"], record["measurements"].get("seconds_per_step")
    slow_by = round(plan["batch_size"] / seconds / rate, 2) if seconds and rate else None
    return {
        "steps": result["steps"], "planned_steps": plan["steps"],
        "passes": round(result["steps"] * plan["batch_size"] / record["data"]["images"], 2),
        "images_per_second": rate, "slow_by": slow_by,
        "slowed": bool(slow_by and record["config"]["budget"] and slow_by > SLOWED_RATIO),
    }  # fmt: skip


def comparison_steps(runner: ComparisonRunner) -> dict[str, Any]:
    """The steps of all sides of a comparison.

    Returns:
        pretraining (of each run: title, name, seed, and what ``pretraining_steps`` says), on_labels (of each head that
        is trained by steps, and from scratch).
    """
    config, split = runner.config, runner.data.split
    pretraining = []
    for job in runner.pretrain_configs:
        for offset in range(config.seeds):
            if steps := pretraining_steps(runner.run_of(job, offset)):
                name, seed = pretrain_title(job), config.seed + offset
                pretraining.append({"title": f"{name} (seed {seed})", "name": name, "seed": seed, **steps})
    num_labels = len(draw_labels(split.labels, config.labels_per_class, config.seed, 0))
    on_labels = {
        head.title: head.num_steps(num_labels)
        for head in (*runner.config.head_kinds, runner.config.scratch_head)
        if head.recipe
    }
    return {"pretraining": pretraining, "on_labels": on_labels}


def too_little_to_judge(pretraining: Mapping[str, Any]) -> str | None:
    """Why a pretraining without a gain says nothing about its method, and what to do; None where it does.

    Args:
        pretraining: From ``pretraining_steps``.
    """
    passes = f"{pretraining['passes']:.1f} passes over the images"
    if pretraining["slowed"]:
        return (
            f"The machine was too busy to judge: steps of pretraining took {pretraining['slow_by']:.1f} times as long "
            f"as measured before ({passes}). Close other programs, or give a longer --budget."
        )
    if pretraining["passes"] < FEW_PASSES:
        return (
            f"The budget was too short, or the machine too busy, to judge: pretraining made only {passes}, and fewer "
            f"than {FEW_PASSES:.0f} say little. Give a longer --budget, or close other programs."
        )
    return None


def slowed_sentence(pretrainings: Sequence[Mapping[str, Any]]) -> str | None:
    """Which pretrainings other programs slowed down, where that makes a comparison unfair; None where it is fair.

    Args:
        pretrainings: From ``pretraining_steps``, each with its ``title``.
    """
    slowed = [run["title"] for run in pretrainings if run["slowed"]]
    others = [run["title"] for run in pretrainings if not run["slowed"]]
    if not slowed:
        return None
    against = f"{', '.join(others)} did not" if others else "training from scratch took all of its steps"
    return (
        f"Unequal conditions: {', '.join(slowed)} ran at less than half the speed that was measured before, since "
        f"other programs used the machine, and so had fewer steps, while {against}. Compare again on a quieter machine."
    )


def steps_sentence(pretrainings: Sequence[Mapping[str, Any]], on_labels: Mapping[str, Sequence[int]]) -> str:
    """The steps of both sides.

    Args:
        pretrainings: From ``pretraining_steps``, each with its ``name``; several of one name are repetitions.
        on_labels: By method, the steps of its trainings on labels.
    """
    parts = []
    for name in dict.fromkeys(run["name"] for run in pretrainings):
        runs = [run for run in pretrainings if run["name"] == name]
        passes = _span([run["passes"] for run in runs], "{:.1f}")
        parts.append(f"{name} {_span([run['steps'] for run in runs])} ({passes} passes over the images)")
    labels = [f"{name} {_span(steps)}" for name, steps in on_labels.items() if any(steps)]
    before = f"pretraining {', '.join(parts)}; " if parts else ""
    return f"Steps: {before}on labels {', '.join(labels) or 'none'}."


def _span(numbers: Iterable[float], form: str = "{:,}") -> str:
    texts = [form.format(number) for number in sorted(set(numbers))]
    return texts[0] if texts[0] == texts[-1] else f"{texts[0]} to {texts[-1]}"
