"""What a comparison will cost, before anything is begun."""

from typing import Any

from headway.downstream.supervised import SupervisedTask
from headway.downstream.tune import FINE_TUNE, new_head
from headway.protocol import Learner
from headway.train.choices import measure_step
from headway.train.plan import Plan
from headway.verdict.arena import Arena, finished, run_folder
from headway.verdict.public import title
from headway.verdict.trial import FOLDS, RATES, draw_labels


def cost(arena: Arena, labels: int) -> dict[str, Any]:
    """What there is to do: pretrainings that aren't finished, and trainings on labels with their steps.

    Args:
        arena: Terms, and where results are kept.
        labels: Labelled pictures of one draw.
    """
    terms, jobs = arena.terms, arena.jobs
    left = [
        job for job in jobs for s in range(terms.seeds)
        if not finished(run_folder(arena.cells, title(job), terms.seed + s))
    ]  # fmt: skip
    tests, choosing, trainings, steps = terms.seeds * terms.draws, FOLDS * len(RATES), 0, 0
    for contender in arena.contenders():
        if recipe := terms.recipe(contender.head):
            count = tests * (1 + FOLDS * bool(contender.among)) + choosing
            trainings, steps = trainings + count, steps + count * recipe.steps(labels)
    budgets = [job.budget for job in left]
    return {
        "pretrainings": len(jobs) * terms.seeds, "left": len(left),
        "seconds": sum(budget for budget in budgets if budget) if all(budgets) else None,
        "trainings": trainings, "steps": steps,
    }  # fmt: skip


def preview(arena: Arena) -> dict[str, Any]:
    """What there is to do, with a step on labels measured."""
    terms, pictures = arena.terms, arena.pictures
    chosen = draw_labels(pictures.labels, terms.per_class, terms.seed, 0)
    expected = cost(arena, len(chosen))
    network: Any = arena.untrained(0)
    task = SupervisedTask(
        new_head(network.embed_dim, len(pictures.classes), 0), pictures.labels, arena.size, FINE_TUNE.task
    )
    plan = Plan(steps=10, batch=min(FINE_TUNE.batch, len(chosen)))
    step = measure_step(Learner(network, task), pictures.images, plan, FINE_TUNE.optim, limit=0.5)
    pretraining = (
        f"{expected['seconds'] / 60:.1f} minutes" if expected["seconds"] is not None
        else f"{terms.jobs[0].steps} steps each"
    )  # fmt: skip
    text = (
        f"{expected['left']} of {expected['pretrainings']} pretrainings are to be done ({pretraining}); then about "
        f"{expected['trainings']} trainings on labels ({expected['steps']:,} steps, "
        f"{expected['steps'] * step / 60:.1f} minutes if none is finished) and linear probes"
    )
    share = len(chosen) / len(pictures.labels)
    return {**expected, "seconds_per_step": step, "drawn_share": share, "text": text}
