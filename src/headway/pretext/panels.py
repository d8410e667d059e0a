"""Panels of iBOT and DINOv2: masked crops, and how often student and teacher agree on masked patches."""

from collections.abc import Sequence

import torch
from torch import Tensor

from headway.protocol import Panel
from headway.transforms.masks import overlay_mask
from headway.transforms.multi_crop import MaskedMultiCrop


def patch_agreement_captions(student: Tensor, teacher: Tensor, mask: Tensor, num_images: int) -> list[str]:
    """A caption per image: on how many masked patches student and teacher have the same likeliest prototype.

    Args:
        student: B*masked K, those of first crops before those of second crops.
        teacher: B*masked K, of the same patches.
        mask: 2*B N, bool: the masked patches of the global crops.
        num_images: B.
    """
    same = student.argmax(-1) == teacher.argmax(-1)  # B*masked
    image = torch.arange(len(mask), device=mask.device).remainder(num_images)[:, None].expand_as(mask)[mask]  # B*masked
    agreeing = torch.zeros(num_images, device=mask.device).index_add(0, image, same.float()).int()  # B
    return [f"{count} of {len(same) // num_images} patches as the teacher" for count in agreeing.tolist()]


def masked_crop_panels(
    views: MaskedMultiCrop, grid: tuple[int, int], num_images: int, captions: Sequence[str]
) -> list[Panel]:
    """Both global crops with their masked patches covered, then the local crops. The captions belong to the first."""
    first, second = overlay_mask(views.global_crops, views.mask, grid).split(num_images)  # B C S S each
    local = [
        Panel(f"local crop {i}", crop) for i, crop in enumerate(views.local_crops.split(num_images), 1) if len(crop)
    ]
    return [Panel("global crop 1", first, captions), Panel("global crop 2", second), *local]
