"""The comparison that ends in a verdict: every task on equal terms, over seeds, draws of labels and test pictures.

Which task and head are best is chosen on folds of training labels; the test pictures are for the claim alone.
"""

from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np

from headway.verdict.arena import TASKS, Arena
from headway.verdict.claim import Claim, claim, cross_fitted, leaderboard, replicates
from headway.verdict.trial import SCRATCH


class Comparison(NamedTuple):
    """What came of it.

    Attributes:
        rows: The leaderboard, best first.
        claim: Of the tasks, against training from scratch.
        continued: For each public backbone the claim of the tasks that trained it on, against it as it comes.
    """

    rows: list[dict[str, Any]]
    claim: Claim
    continued: dict[str, Claim]


def compare(arena: Arena) -> Comparison:
    """Fill every cell, then claim."""
    terms = arena.terms
    arena.cells.begin()
    arena.know_public()
    contenders = arena.contenders()
    right: dict[str, list[np.ndarray]] = {contender.name: [] for contender in contenders}
    folds: dict[str, list[list[float]]] = {contender.name: [] for contender in contenders}
    for number in range(terms.seeds):  # seed after seed: whoever stops early has every contender
        for job in arena.jobs:
            arena.pretrained(job, number)
        for contender in contenders:
            table, shown = arena.scored(contender, number)
            right[contender.name].append(table)
            folds[contender.name].append(shown)
    groups = arena.pictures.tested_together()
    tables = {name: replicates(np.stack(table)) for name, table in right.items()}  # R n each
    shares: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
    for contender in contenders:
        if contender.among:
            held = np.array(folds[contender.name])[..., None]
            shares[contender.among][contender.name] = replicates(held)[:, 0]  # R
    found = {}
    for name in (name for name, further in arena.continued.items() if further.jobs):
        _, as_it_comes = cross_fitted(tables, shares[name])  # whichever head, the other half of the folds chooses it
        found[name] = claim(tables | {name: as_it_comes}, shares[f"from {name}"], name, groups=groups)
    rows, best = leaderboard(tables, SCRATCH, groups=groups), claim(tables, shares[TASKS], SCRATCH, groups=groups)
    return Comparison(rows, best, found)
