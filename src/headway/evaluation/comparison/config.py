"""The configuration of a comparison: everything, besides the images, that its result depends on, and its checks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from headway.backbones.build import build_backbone
from headway.backbones.input_size import choose_view_size, storage_side
from headway.data.dataset.image_store import median_short_side
from headway.data.dataset.sample_stats import get_sample_stats
from headway.data.sources.base import Source
from headway.downstream.heads.registry import HEADS, HeadKind, find_head
from headway.downstream.labeled_split import LabeledSplit
from headway.downstream.transfer import DEFAULT_FOLDS, check_transfer
from headway.errors import HeadwayError
from headway.evaluation.comparison.pretrained_baselines import load_baseline
from headway.evaluation.methods import (
    RAW_PIXELS,
    SCRATCH,
    SCRATCH_HEAD,
    SCRATCH_STEPS_RATIO,
    UNTRAINED,
    can_hold_out,
    draw_labels,
    method_head,
    with_steps,
)
from headway.train.config import PretrainConfig
from headway.utils.serialize import serialize

EXTENDABLE_FIELDS = ("pretrain_configs", "heads", "baselines", "continue_baselines", "seeds", "draws")
"""Fields of ``ComparisonConfig`` that ``--resume`` may change: finished results stay valid."""


@dataclass(frozen=True)
class ComparisonConfig:
    """Everything, besides the images, that the result of a comparison depends on."""

    pretrain_configs: tuple[PretrainConfig, ...]
    """One pretraining for each task; seeds are counted upwards from theirs."""
    heads: tuple[str, ...] = ("linear", "finetune")
    """The heads of tasks and baselines, as ``find_head`` names them."""
    baselines: tuple[str, ...] = ()
    """Public backbones, as ``pretrained_baselines`` names them."""
    continue_baselines: bool = True
    """Whether each task also continues the pretraining of the baselines."""
    labels_per_class: int = 10
    """Labels of each class in a draw."""
    seeds: int = 3
    """Pretrainings of each task."""
    draws: int = 2
    """Draws of labels for each seed."""
    seed: int = 0
    """The first seed."""
    finetune_steps: int = 0
    """Steps of one training on labels (from scratch: SCRATCH_STEPS_RATIO times as many); 0: the head's default."""

    def __post_init__(self) -> None:
        """Raise HeadwayError for names that are unknown, or taken by another row."""
        for head in self.heads:
            find_head(head)
        if not self.pretrain_configs or not self.heads:
            raise HeadwayError(
                "missing-argument", "compare needs a task and a head, such as --tasks rotation,simclr --heads linear"
            )
        taken = (*(config.task for config in self.pretrain_configs), RAW_PIXELS, UNTRAINED, SCRATCH)
        if clash := next((name for name in self.baselines if name in taken), None):
            raise HeadwayError(
                "name-clash", f"--baselines {clash} has the name of another row; write ./{clash}, or its whole path"
            )

    @property
    def head_kinds(self) -> list[HeadKind]:
        """The heads, with the steps that were asked for."""
        return [method_head(head, self.finetune_steps) for head in self.heads]

    @property
    def scratch_head(self) -> HeadKind:
        """The head of training from scratch."""
        return with_steps(SCRATCH_HEAD, SCRATCH_STEPS_RATIO * self.finetune_steps)

    @property
    def size(self) -> int:
        """Side of the view in pixels."""
        return self.pretrain_configs[0].size

    def storage_side(self, source: Source) -> int:
        """Side in pixels at which the images to pretrain on are stored: as large as any of the tasks needs."""
        scale = max(config.recipe.storage_scale for config in self.pretrain_configs)
        return storage_side(median_short_side(source)[0], self.size, scale)

    def for_images(self, source: Source) -> "ComparisonConfig":
        """The same comparison with the size of the view that suits these images.

        Raises:
            HeadwayError: A baseline cannot be loaded, or takes images of other channels; or one of the backbones cannot
                have one of the heads. All this is checked before hours of training.
        """
        first = self.pretrain_configs[0]
        size, patch = choose_view_size(
            median_short_side(source)[0], size=first.size, patch=first.patch, backbone=first.backbone
        )
        configs = tuple(replace(config, size=size, patch=patch) for config in self.pretrain_configs)
        backbones: list[Any] = [build_backbone(first.backbone, size=size, stem=first.stem, patch_size=patch)]
        channels = get_sample_stats(source).pixel_format.channels
        for name in self.baselines:
            backbones.append(load_baseline(name, configs[0]))
            if (expected := backbones[-1].input_spec.channels) != channels:
                raise HeadwayError(
                    "image-format",
                    f"{name} takes images of {expected} channels, and these have {channels}; leave it out",
                )
        check_heads(self.heads, backbones)
        return replace(self, pretrain_configs=configs)

    def check_labels(self, split: LabeledSplit) -> None:
        """Raise HeadwayError where folds would have to select a method, and nothing can be held out."""
        drawn = draw_labels(split.labels, self.labels_per_class, self.seed, 0)
        if len(self.pretrain_configs) * len(self.heads) > 1 and not can_hold_out(split, drawn):
            raise HeadwayError(
                "too-few-images",
                "no class has a second label (of another group) to hold out, so tasks and heads cannot be selected; "
                "give --labels-per-class 2 or more, or one task and one head",
            )

    def resume_conditions(self, fingerprint: str, split: LabeledSplit, shuffle_labels: bool) -> dict[str, Any]:
        """Everything that must be unchanged when a comparison is resumed."""
        fixed = {name: value for name, value in serialize(self).items() if name not in EXTENDABLE_FIELDS}
        network = {
            name: getattr(self.pretrain_configs[0], name)
            for name in ("backbone", "stem", "patch", "size", "budget", "steps")
        }
        recipes = {
            name: {key: value for key, value in serialize(head.recipe).items() if key not in ("processes", "threads")}
            for name, head in {**HEADS, SCRATCH: SCRATCH_HEAD}.items() if head.recipe
        }  # fmt: skip
        return {
            **fixed, **network, "recipes": recipes, "folds": DEFAULT_FOLDS, "group_by": split.groups_hash(),
            "data": fingerprint, "storage_side": split.images.shape[-1], "labeled": split.contents_hash(),
            "shuffle_labels": shuffle_labels,
        }  # fmt: skip


def check_heads(heads: Sequence[str], backbones: Sequence[Any]) -> None:
    """Raise HeadwayError for unknown heads, and for heads that one of the backbones cannot have."""
    for head in map(find_head, heads):
        for backbone in backbones:
            check_transfer(backbone, head)
