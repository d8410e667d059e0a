"""Public pretrained backbones as baselines, if their weights are on this machine already. Nothing is downloaded here.

They are compared unchanged, and with their pretraining continued by each task on the user's own images.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from headway.backbones.build import build_backbone, check_supports
from headway.data.dataset.subset import Images, subsample_evenly
from headway.errors import HeadwayError
from headway.protocol import Backbone, DataInfo
from headway.rng import seeded
from headway.train.config import PretrainConfig, is_timm
from headway.train.init.initial_weights import initial_backbone, initial_view_size


class ContinuedPretraining(NamedTuple):
    """The pretrainings that continue from a baseline, and the reasons why other tasks cannot."""

    configs: tuple[PretrainConfig, ...]
    refusals: tuple[str, ...]


def init_from_baseline(name: str, config: PretrainConfig) -> PretrainConfig:
    """The same pretraining from a baseline: timm:NAME, timm:NAME=FILE, or a file or run of Headway's own."""
    model, _, file = name.partition("=")
    backbone, init = (model, file or name) if is_timm(name) else (PretrainConfig.backbone, name)
    return replace(config, backbone=backbone, init=init, stem="linear", patch=0)


def pretrain_title(config: PretrainConfig) -> str:
    """The title of a pretraining: the task, and its initial weights unless these are random."""
    if not config.init:
        return config.task
    from_file = is_timm(config.backbone) and not is_timm(config.init)  # a state dict with timm's names
    return f"{config.task} from {config.backbone + '=' if from_file else ''}{config.init}"


def load_baseline(name: str, config: PretrainConfig) -> Any:
    """A baseline with its weights, in eval mode.

    Args:
        name: As for ``init_from_baseline``.
        config: Its ``size`` (side of the view in pixels) is used.

    Raises:
        HeadwayError: There is no such model or file, its weights are not on this machine, or they need images of
            another size.
    """
    first = init_from_baseline(name, replace(config, recipe=replace(config.recipe, pooling="mean")))
    if not is_timm(first.init):
        if not is_timm(first.backbone):
            if not Path(name).exists():
                raise HeadwayError(
                    "run-not-found", f"'{name}' is no public backbone; write timm:NAME, such as timm:resnet18, or a run"
                )
            size = initial_view_size(replace(first, size=0))
            if size not in (None, config.size):
                raise HeadwayError(
                    "image-format",
                    f"{name} sees {size} pixels per side, not {config.size}; give --size {size}, or leave it out",
                )
        return initial_backbone(first, config.size).eval()
    build_backbone(name, size=config.size)  # an error in the name or the size is reported first
    model = name.removeprefix("timm:")
    advice = (
        f"fetch them first (python -c \"import timm; timm.create_model('{model}', pretrained=True)\"), give them as "
        f"{name}=FILE, or leave it out"
    )
    from timm.models import get_pretrained_cfg  # imported here, since it takes a second or more

    known = get_pretrained_cfg(model)
    if known is None or not known.hf_hub_id:
        raise HeadwayError(
            "weights-not-found", f"timm knows of no weights for {name} that can be kept on this machine; leave it out"
        )
    try:
        with hub_offline():
            return initial_backbone(first, config.size).eval()
    except Exception as error:  # the errors of a forbidden download have many types
        raise HeadwayError("weights-not-found", f"the weights of {name} are not on this machine; {advice}") from error


def continue_pretraining(
    name: str, backbone: Backbone, configs: Sequence[PretrainConfig], images: Images
) -> ContinuedPretraining:
    """The tasks that can continue the pretraining of a baseline, and the reasons why others cannot.

    Args:
        name: As for ``init_from_baseline``.
        backbone: The baseline with its weights.
        configs: The pretrainings from random weights.
        images: N C H W, the unlabeled images as stored.
    """
    continued, refusals = list[PretrainConfig](), list[str]()
    for config in configs:
        info = DataInfo(len(images), images.shape[1], partial(subsample_evenly, images), config.size)
        try:
            if config.recipe.grayscale and not backbone.input_spec.grayscale:
                raise HeadwayError("image-format", f"{config.task} needs a backbone for grayscale images")
            with seeded(config.seed):
                requires = config.recipe.task.build(backbone, info).requires
            if unsupported := check_supports(backbone, requires, config.task):
                raise unsupported
        except HeadwayError as error:
            refusals.append(f"{config.task} can't continue from {name}: {error}")
        else:
            continued.append(init_from_baseline(name, config))
    return ContinuedPretraining(tuple(continued), tuple(refusals))


@contextmanager
def hub_offline() -> Iterator[None]:
    """Within the context, the Hugging Face hub only uses its cache."""
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
