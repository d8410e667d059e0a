"""The heads that a contender may be passed on with: all that ``transfer`` knows, and the last blocks alone."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from headway.downstream.transfer import Head, check
from headway.downstream.tune import FINE_TUNE, RECIPES, FineTune
from headway.errors import unknown

HEADS = {
    "knn": "k-NN", "linear": "linear", "attentive": "attentive", "mlp": "MLP", "finetune": "fine-tuned", "lora": "LoRA",
}  # fmt: skip
"""Names as they are typed, and as rows are called."""
LAST = re.compile(r"last-([1-9]\d*)")
"""Fine-tuning of so many last blocks."""


def check_heads(heads: Sequence[str], backbones: Sequence[Any]) -> None:
    """Refuse heads that there aren't, or that one of the backbones can't have, before hours are spent on the others.

    Raises:
        HeadwayError: Which, and what else there is.
    """
    for head in heads:
        if head not in HEADS and not LAST.fullmatch(head):
            raise unknown("head", head, HEADS, hint="(or last-N: fine-tuning of the last N blocks)")
        for backbone in backbones:
            check(backbone, kind_of(head), recipe_of(head) or FINE_TUNE, several=False, folds=0)


def called(head: str) -> str:
    """What its row is called."""
    last = LAST.fullmatch(head)
    return f"last {last[1]} fine-tuned" if last else HEADS[head]


def kind_of(head: str) -> Head:
    """What ``transfer`` calls it."""
    return "finetune" if LAST.fullmatch(head) else cast(Head, head)


def recipe_of(head: str) -> FineTune | None:
    """How it is trained by steps; none where it isn't."""
    last = LAST.fullmatch(head)
    return replace(FINE_TUNE, blocks=int(last[1])) if last else RECIPES.get(head)
