"""Backbones that others have trained, where their weights are on this machine already. Nothing is downloaded here."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from headway.backbones.load import build_backbone
from headway.errors import HeadwayError


def public_backbone(name: str, size: int) -> Any:
    """A public backbone with its weights, in evaluation mode.

    Args:
        name: "timm:NAME".
        size: Side in pixels of the pictures it will see.

    Raises:
        HeadwayError: There is no such model, or its weights are not on this machine.
    """
    if not name.startswith("timm:"):
        raise HeadwayError(f"'{name}' is no public backbone; write timm:NAME, such as timm:resnet18")
    build_backbone(name, size=size)  # whatever is wrong with the name or the size is said first
    model = name.removeprefix("timm:")
    advice = (
        f"fetch them first (python -c \"import timm; timm.create_model('{model}', pretrained=True)\"), or leave it out"
    )
    from timm.models import get_pretrained_cfg  # a second or more, which only those who ask for it pay

    known = get_pretrained_cfg(model)
    if known is None or not known.hf_hub_id:
        raise HeadwayError(f"timm knows of no weights for {name} that can be kept on this machine; leave it out")
    try:
        with offline():
            return build_backbone(name, size=size, pretrained=True).eval()
    except Exception as error:  # whatever a download that may not happen raises
        raise HeadwayError(f"the weights of {name} are not on this machine; {advice}") from error


@contextmanager
def offline() -> Iterator[None]:
    """Within the block the hub of weights answers from its cache alone."""
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
