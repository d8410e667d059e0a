"""The kinds of output layer that a classifier can have. A new kind is one entry of ``HEADS``."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from headway.downstream.heads.frozen import FittedHead, LabeledFeatures, fit_knn_head, fit_linear_head
from headway.downstream.heads.layers import AttentivePooling, MlpHead, NearestNeighborHead
from headway.downstream.heads.recipes import FINE_TUNE, HEAD_ONLY, LORA, FineTuneConfig
from headway.errors import HeadwayError, unknown_name_error
from headway.rng import seeded


@dataclass(frozen=True)
class HeadKind:
    """How an output layer is built, and how it is trained: fitted to frozen features, or by gradient steps.

    Which features it reads is an attribute of the layer (``heads``); what is trained with it is in its recipe.
    """

    name: str
    """Its name on the command line, and in saved classifiers."""
    title: str
    """Its name in tables."""
    build: Callable[[int, int], nn.Module]
    """From embed_dim and the number of classes to the layer with random weights."""
    fit: Callable[[LabeledFeatures, int, bool, int], FittedHead] | None = None
    """Fits it to frozen features, with a seed, whether classes are balanced, and the number of folds; None: the layer
    is trained by steps."""
    recipe: FineTuneConfig | None = None
    """The hyperparameters of training by steps; None: it is fitted."""
    from_probe: bool = False
    """Whether training by steps starts from a linear probe, so that the first steps do not distort the features
    (Kumar et al., "Fine-tuning can distort pretrained features", 2022, https://arxiv.org/abs/2202.10054)."""
    weighs_labels: bool = True
    """Whether it supports class weights, and several labels per image."""

    def num_steps(self, num_labels: int) -> int:
        """Optimizer steps of a training on so many images; 0 where the layer is fitted."""
        return self.recipe.num_steps(num_labels) if self.recipe else 0

    def build_seeded(self, embed_dim: int, num_classes: int, seed: int) -> nn.Module:
        """The layer with random weights from a seed of its own."""
        with seeded(seed):
            return self.build(embed_dim, num_classes)

    def restore(self, state_dict: dict[str, Tensor], embed_dim: int, num_classes: int) -> nn.Module:
        """The layer with saved weights. Raises KeyError or RuntimeError where they don't fit."""
        layer = self.build(embed_dim, num_classes)
        for name, _ in list(layer.named_buffers()):  # the images that k-NN stores are as many as were saved
            layer.register_buffer(name, torch.empty_like(state_dict[name]))
        layer.load_state_dict(state_dict)
        return layer.eval()


def _empty_knn(embed_dim: int, num_classes: int) -> nn.Module:
    return NearestNeighborHead(torch.empty(0, embed_dim), torch.empty(0, dtype=torch.int64), num_classes)


HEADS = {
    head.name: head
    for head in (
        HeadKind("knn", "k-NN", _empty_knn, fit=fit_knn_head, weighs_labels=False),
        HeadKind("linear", "linear", nn.Linear, fit=fit_linear_head),
        HeadKind("attentive", "attentive", AttentivePooling, recipe=HEAD_ONLY),
        HeadKind("mlp", "MLP", MlpHead, recipe=HEAD_ONLY),
        HeadKind("finetune", "fine-tuned", nn.Linear, recipe=FINE_TUNE, from_probe=True),
        HeadKind("lora", "LoRA", nn.Linear, recipe=LORA, from_probe=True),
    )
}
"""By name."""
LAST_BLOCKS_PATTERN = re.compile(r"last-([1-9]\d*)")
"""The name of fine-tuning of the last N blocks."""


def find_head(name: str) -> HeadKind:
    """The kind of head of this name: one of ``HEADS``, or last-N, fine-tuning of the last N blocks.

    Raises:
        HeadwayError: There is no such kind; the error names those that are known.
    """
    if last := LAST_BLOCKS_PATTERN.fullmatch(name):
        recipe = replace(FINE_TUNE, trainable_blocks=int(last[1]))
        return replace(HEADS["finetune"], name=name, title=f"last {last[1]} fine-tuned", recipe=recipe)
    if name not in HEADS:
        raise unknown_name_error("head", name, HEADS, hint="(or last-N: fine-tuning of the last N blocks)")
    return HEADS[name]


def head_with_options(
    name: str,
    *,
    balance_classes: bool,
    epochs: int | None,
    blocks: int,
    layer_decay: float | None,
    lora_rank: int | None,
    processes: int,
    threads: int,
) -> HeadKind:
    """A kind of head with the options of ``headway transfer``, whose docstring explains them.

    Raises:
        HeadwayError: There is no such head, or an option is not for it.
    """
    head = find_head(name)
    if name != "finetune" and (blocks or layer_decay is not None):
        raise HeadwayError("options-conflict", f"--blocks and --layer-decay are for head finetune, got head {name}")
    if name != "lora" and lora_rank is not None:
        raise HeadwayError("options-conflict", f"--lora-rank is for head lora, got head {name}")
    if epochs is not None and epochs < 1:
        raise HeadwayError("value-out-of-range", f"--epochs must be 1 or more, got {epochs}")
    if head.recipe is None:
        return head
    recipe = replace(
        head.recipe, task=replace(head.recipe.task, balance_classes=balance_classes), processes=processes,
        threads=threads, trainable_blocks=blocks or head.recipe.trainable_blocks,
        layer_decay=head.recipe.layer_decay if layer_decay is None else layer_decay,
        lora_rank=head.recipe.lora_rank if lora_rank is None else lora_rank,
    )  # fmt: skip
    return replace(head, recipe=recipe if epochs is None else replace(recipe, epochs=epochs, min_steps=1))
