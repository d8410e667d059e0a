"""Build the module that a run trains: backbone and pretext task, from initial weights or those of a parent run."""

from functools import partial

from headway.backbones.build import build_backbone, check_supports
from headway.data.dataset.channel_statistics import channel_statistics
from headway.data.dataset.image_store import ImageStore
from headway.data.dataset.subset import subsample_evenly
from headway.errors import HeadwayError
from headway.protocol import Backbone, DataInfo, TrainModule
from headway.rng import seeded
from headway.train.config import PretrainConfig
from headway.train.init.initial_weights import check_backbone_matches, initial_backbone
from headway.train.init.parent_run import ParentRun, parent_backbone


def build_train_module(
    config: PretrainConfig, store: ImageStore, size: int, patch: int, parent: ParentRun | None = None
) -> TrainModule:
    """Build backbone and task, initialized from the config's seed; torch's global generator stays as it was.

    Args:
        config: Task, backbone and initial weights.
        store: The images.
        size: Side of the main view in pixels.
        patch: Patch size that the backbone is asked for; 0: the backbone has its own.
        parent: The run that is continued, which then gives the backbone.

    Raises:
        HeadwayError: The backbone does not support what the task requires, or does not match the config.
    """
    images, pixels = store.images, store.pixel_format
    grayscale = config.recipe.grayscale and images.shape[1] in (1, 3)  # with other channels the task asks for color
    with seeded(config.seed):
        backbone: Backbone
        if parent:
            backbone = parent_backbone(parent)
        elif config.init:
            backbone = initial_backbone(config, size)
        else:
            spec = channel_statistics(images)._replace(grayscale=grayscale, value_range=pixels.value_range)
            backbone = build_backbone(
                config.backbone, size=size, input_spec=spec, stem=config.stem, patch_size=patch,
                pooling=config.recipe.pooling,
            )  # fmt: skip
        backbone.input_spec = backbone.input_spec._replace(  # timm's own weights record neither
            value_range=pixels.value_range, pages_as_channels=pixels.pages_as_channels
        )
        info = DataInfo(len(images), images.shape[1], partial(subsample_evenly, images), size)
        task = config.recipe.task.build(backbone, info)
    if parent or config.init:
        check_backbone_matches(backbone, config)
    if error := check_supports(backbone, task.requires, config.task):
        raise error
    if config.recipe.grayscale and not backbone.input_spec.grayscale:
        raise HeadwayError(
            "image-format", f"{config.task} needs a backbone with grayscale input, and these weights take color"
        )
    return TrainModule(backbone, task)
