"""Backbones that others have trained, where their weights are on this machine already. Nothing is downloaded here.

They are compared as they come and, trained on with each task on the user's own pictures, beside themselves.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from headway.backbones.load import build_backbone, missing
from headway.data.picked import Pictures
from headway.draws import seeded
from headway.errors import HeadwayError
from headway.protocol import Facts
from headway.train.job import Job
from headway.train.planning import spread
from headway.train.start import PRETRAINED, initial_backbone, size_of_weights


class Continued(NamedTuple):
    """Trainings that go on from a public backbone, and why the other tasks' don't."""

    jobs: tuple[Job, ...]
    refused: tuple[str, ...]


def as_first_weights(name: str, job: Job) -> Job:
    """A job that begins from a public backbone: timm:NAME, timm:NAME=FILE, or a file or run of Headway's own."""
    model, _, file = name.partition("=")
    own = not name.startswith("timm:")
    return replace(
        job, backbone=Job.backbone if own else model, weights=name if own else file or PRETRAINED, stem="linear",
        patch=0,
    )  # fmt: skip


def title(job: Job) -> str:
    """What a training is called: the task, and where it begins if not from chance."""
    if not job.weights:
        return job.task
    own = not job.backbone.startswith("timm:")
    file = "" if job.weights == PRETRAINED else f"={job.weights}"
    return f"{job.task} from {job.weights if own else job.backbone + file}"


def public_backbone(name: str, job: Job) -> Any:
    """A public backbone with its weights, in evaluation mode.

    Args:
        name: As for ``as_first_weights``.
        job: Its ``size`` (side in pixels of the pictures) counts.

    Raises:
        HeadwayError: There is no such model or file, its weights are not on this machine, or want pictures of another
            size.
    """
    first = as_first_weights(name, replace(job, recipe=replace(job.recipe, pool="mean")))
    if first.weights != PRETRAINED:
        if not first.backbone.startswith("timm:"):
            if not Path(name).exists():
                raise HeadwayError(f"'{name}' is no public backbone; write timm:NAME, such as timm:resnet18, or a run")
            size = size_of_weights(replace(first, size=0))
            if size not in (None, job.size):
                raise HeadwayError(
                    f"{name} sees {size} pixels a side, not {job.size}; give --size {size}, or leave it out"
                )
        return initial_backbone(first, job.size).eval()
    build_backbone(name, size=job.size)  # whatever is wrong with the name or the size is said first
    model = name.removeprefix("timm:")
    advice = (
        f"fetch them first (python -c \"import timm; timm.create_model('{model}', pretrained=True)\"), give them as "
        f"{name}=FILE, or leave it out"
    )
    from timm.models import get_pretrained_cfg  # a second or more, which only those who ask for it pay

    known = get_pretrained_cfg(model)
    if known is None or not known.hf_hub_id:
        raise HeadwayError(f"timm knows of no weights for {name} that can be kept on this machine; leave it out")
    try:
        with offline():
            return initial_backbone(first, job.size).eval()
    except Exception as error:  # whatever a download that may not happen raises
        raise HeadwayError(f"the weights of {name} are not on this machine; {advice}") from error


def continued(name: str, backbone: Any, jobs: Sequence[Job], images: Pictures) -> Continued:
    """Which tasks can train a public backbone on, and why the others can't.

    Args:
        name: As for ``as_first_weights``.
        backbone: With its weights.
        jobs: The tasks, as they train from chance.
        images: N C H W, stored pictures to train it on.
    """
    able, refused = list[Job](), list[str]()
    for job in jobs:
        facts = Facts(len(images), images.shape[1], partial(spread, images), job.size)
        try:
            if job.recipe.grey and not backbone.inputs.grey:
                raise HeadwayError(f"{job.task} wants a backbone that sees lightness alone")
            with seeded(job.seed):
                needs = job.recipe.task.build(backbone, facts).needs
            if fault := missing(backbone, needs, job.task):
                raise fault
        except HeadwayError as error:
            refused.append(f"{job.task} can't go on from {name}: {error}")
        else:
            able.append(as_first_weights(name, job))
    return Continued(tuple(able), tuple(refused))


@contextmanager
def offline() -> Iterator[None]:
    """Within the block the hub of weights answers from its cache alone."""
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
