"""Parts of ``headway compare``: what a resumed comparison must have in common with its start, and the test set."""

from typing import Any

import torch

from headway.downstream.finetuning.finetune import HEAD_CONFIGS
from headway.downstream.labeled_split import LabeledSplit
from headway.evaluation.comparison_config import ComparisonConfig
from headway.evaluation.methods import SCRATCH, SCRATCH_CONFIG
from headway.evaluation.significance import Claim, claim_sentence
from headway.utils.serialize import serialize

MAX_TEST_IMAGES = 5000
"""Test images at most, evenly spaced: beyond them, seeds and label draws limit the precision of the gain."""
EXTENDABLE_FIELDS = ("pretrain_configs", "heads", "baselines", "continue_baselines", "seeds", "draws")
"""Fields of ``ComparisonConfig`` that ``--resume`` may change: finished results stay valid."""


def resume_conditions(
    config: ComparisonConfig, fingerprint: str, split: LabeledSplit, shuffle_labels: bool
) -> dict[str, Any]:
    """Everything that must be unchanged when a comparison is resumed."""
    fixed = {name: value for name, value in serialize(config).items() if name not in EXTENDABLE_FIELDS}
    network = {
        name: getattr(config.pretrain_configs[0], name)
        for name in ("backbone", "stem", "patch", "size", "budget", "steps")
    }
    recipes = {
        name: {key: value for key, value in serialize(recipe).items() if key not in ("processes", "threads")}
        for name, recipe in {**HEAD_CONFIGS, SCRATCH: SCRATCH_CONFIG}.items()
    }
    return {
        **fixed, **network, "recipes": recipes, "group_by": split.groups_hash(),
        "data": fingerprint, "storage_side": split.images.shape[-1],
        "labeled": split.contents_hash(),
        "shuffle_labels": shuffle_labels,
    }  # fmt: skip


def limit_test_set(split: LabeledSplit, seed: int, shuffle: bool) -> LabeledSplit:
    """At most ``MAX_TEST_IMAGES`` test images; with ``shuffle`` all labels are permuted at random."""
    split = split.subsample_test(MAX_TEST_IMAGES)
    if not shuffle:
        return split
    generator = torch.Generator().manual_seed(seed)
    labels, test_labels = (x[torch.randperm(len(x), generator=generator)] for x in (split.labels, split.test_labels))
    return split._replace(labels=labels, test_labels=test_labels)


def claim_dict(claim: Claim, baseline: str, scope: str) -> dict[str, Any]:
    """A claim as plain data."""
    return {
        "gain": {"points": claim.points, "low": claim.low, "high": claim.high, "method": claim.method},
        "verdict": claim.verdict,
        "sentence": claim_sentence(claim, baseline, scope),
    }
