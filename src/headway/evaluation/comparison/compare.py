"""The comparison of pretext tasks on equal terms, over pretraining seeds, draws of labels and test images.

Cross-validation on training labels selects the best task and head; the test images only serve the final claim.
"""

from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np

from headway.evaluation.comparison.runner import TASK_GROUP, ComparisonRunner
from headway.evaluation.methods import SCRATCH
from headway.evaluation.significance import Claim, cross_fit_selection, leaderboard, make_claim, replicates


class Comparison(NamedTuple):
    """The result of a comparison.

    Attributes:
        rows: The leaderboard, best first.
        claim: The gain of the tasks over training from scratch.
        continued_baselines: For each public backbone the gain of the tasks that continued its pretraining over the
            unchanged backbone.
    """

    rows: list[dict[str, Any]]
    claim: Claim
    continued_baselines: dict[str, Claim]


def compare(runner: ComparisonRunner) -> Comparison:
    """Compute every result, then the claims."""
    runner.result_cache.begin()
    runner.check_baseline_weights()
    methods = runner.methods()
    correct: dict[str, list[np.ndarray]] = {method.name: [] for method in methods}
    fold_accuracy: dict[str, list[list[float]]] = {method.name: [] for method in methods}
    for seed_offset in range(runner.config.seeds):  # seed by seed: a comparison that is stopped has all methods
        for config in runner.pretrain_configs:
            runner.pretrained_backbone(config, seed_offset)
        for method in methods:
            table, on_folds = runner.evaluate(method, seed_offset)
            correct[method.name].append(table)
            fold_accuracy[method.name].append(on_folds)
    groups = runner.data.split.interval_groups()
    tables = {name: replicates(np.stack(table)) for name, table in correct.items()}  # R n each
    by_group: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
    for method in methods:
        if method.selection_group:
            on_folds_of_method = np.array(fold_accuracy[method.name])[..., None]
            by_group[method.selection_group][method.name] = replicates(on_folds_of_method)[:, 0]  # R
    continued = {}
    for name in (name for name, further in runner.continued_baselines.items() if further.configs):
        _, unchanged = cross_fit_selection(tables, by_group[name])  # the other half of the folds selects its head
        continued[name] = make_claim(tables | {name: unchanged}, by_group[f"from {name}"], name, groups=groups)
    rows = leaderboard(tables, SCRATCH, groups=groups)
    return Comparison(rows, make_claim(tables, by_group[TASK_GROUP], SCRATCH, groups=groups), continued)
