"""The heads of the methods in a comparison: all that ``transfer`` has, and fine-tuning of the last blocks alone."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from headway.downstream.finetuning.finetune import FINE_TUNE, HEAD_CONFIGS, FineTuneConfig
from headway.downstream.transfer import HeadKind, check_transfer
from headway.errors import unknown_name_error

HEAD_TITLES = {
    "knn": "k-NN", "linear": "linear", "attentive": "attentive", "mlp": "MLP", "finetune": "fine-tuned", "lora": "LoRA",
}  # fmt: skip
"""From the names on the command line to the names in tables."""
LAST_BLOCKS_PATTERN = re.compile(r"last-([1-9]\d*)")
"""Fine-tuning of the last N blocks, on the command line."""


def check_heads(heads: Sequence[str], backbones: Sequence[Any]) -> None:
    """Refuse unknown heads, and heads that one of the backbones cannot have, before anything is trained.

    Raises:
        HeadwayError: With the head, and the heads that are known.
    """
    for head in heads:
        if head not in HEAD_TITLES and not LAST_BLOCKS_PATTERN.fullmatch(head):
            raise unknown_name_error("head", head, HEAD_TITLES, hint="(or last-N: fine-tuning of the last N blocks)")
        for backbone in backbones:
            check_transfer(backbone, head_kind(head), head_config(head) or FINE_TUNE, multilabel=False, folds=0)


def head_title(head: str) -> str:
    """The name of a head in tables."""
    last = LAST_BLOCKS_PATTERN.fullmatch(head)
    return f"last {last[1]} fine-tuned" if last else HEAD_TITLES[head]


def head_kind(head: str) -> HeadKind:
    """The kind of head that ``transfer`` makes."""
    return "finetune" if LAST_BLOCKS_PATTERN.fullmatch(head) else cast(HeadKind, head)


def head_config(head: str) -> FineTuneConfig | None:
    """The configuration of a head that is trained by steps; None for other heads."""
    last = LAST_BLOCKS_PATTERN.fullmatch(head)
    return replace(FINE_TUNE, trainable_blocks=int(last[1])) if last else HEAD_CONFIGS.get(head)
