"""The comparison that ends in a verdict: every task on equal terms, over seeds, draws of labels and test pictures.

Which task and head are best is chosen on folds of training labels; the test pictures are for the claim alone.
"""

from typing import Any

import numpy as np

from headway.verdict.arena import Arena, Terms, finished, run_folder
from headway.verdict.cells import Cells
from headway.verdict.claim import Claim, claim, leaderboard, replicates
from headway.verdict.trial import FOLDS, RATES, SCRATCH


def compare(arena: Arena) -> tuple[list[dict[str, Any]], Claim]:
    """Fill every cell, then claim.

    Returns:
        The leaderboard, best first, and the claim against training from scratch.
    """
    terms = arena.terms
    arena.cells.begin()
    contenders = arena.contenders()
    right: dict[str, list[np.ndarray]] = {contender.name: [] for contender in contenders}
    folds: dict[str, list[list[float]]] = {contender.name: [] for contender in contenders if contender.choosable}
    for number in range(terms.seeds):  # seed after seed: whoever stops early has every contender
        for job in terms.jobs:
            arena.pretrained(job, number)
        for contender in contenders:
            table, held = arena.scored(contender, number)
            right[contender.name].append(table)
            if contender.choosable:
                folds[contender.name].append(held)
    tables = {name: replicates(np.stack(table)) for name, table in right.items()}  # R n each
    shares = {name: replicates(np.array(held)[..., None])[:, 0] for name, held in folds.items()}  # R each
    return leaderboard(tables, SCRATCH), claim(tables, shares, SCRATCH)


def cost(terms: Terms, labels: int, cells: Cells) -> dict[str, Any]:
    """What there is to do: pretrainings that aren't finished, and trainings on labels with their steps.

    Args:
        terms: What is compared.
        labels: Labelled pictures of one draw.
        cells: Where results are kept.
    """
    left = [
        job for job in terms.jobs for s in range(terms.seeds)
        if not finished(run_folder(cells, job.task, terms.seed + s))
    ]  # fmt: skip
    each, choosing = terms.seeds * terms.draws, FOLDS * len(RATES)
    tuned = "finetune" in terms.heads
    fine = tuned * (len(terms.jobs) * (each * (1 + FOLDS) + choosing) + len(terms.public) * (each + choosing))
    scratch = each + choosing
    budgets = [job.budget for job in left]
    return {
        "pretrainings": len(terms.jobs) * terms.seeds, "left": len(left),
        "seconds": sum(budget for budget in budgets if budget) if all(budgets) else None,
        "trainings": fine + scratch,
        "steps": fine * terms.fine_tune.steps(labels) + scratch * terms.scratch.steps(labels),
    }  # fmt: skip
