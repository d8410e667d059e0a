"""Which label file of a tar is of which image: KEY.cls is the label of KEY.jpg."""

import os
from collections import defaultdict
from collections.abc import Sequence

from headway.data.sources.base import Remarks
from headway.data.sources.tar_index import Member
from headway.errors import HeadwayError

LABEL_SUFFIX = ".cls"


def pair_labels(images: Sequence[str], members: Sequence[Member], required: bool) -> tuple[dict[str, Member], Remarks]:
    """Match label files to images.

    A label ``a.b.cls`` is of the image ``a.b.jpg`` (or of ``a.b`` itself, where that is an image). Where there is no
    such image it is of the one image with the key ``a``, the part up to the first dot, as in WebDataset. A label that
    fits several images, and an image that several labels fit, are never guessed.

    Args:
        images: The images' names.
        members: All members of the tar.
        required: Whether a label that cannot be matched to one image is an error; otherwise it is ignored.

    Returns:
        By image: the label file. And (name, reason) of each label file that is of no image.

    Raises:
        HeadwayError: ``required``, and it is unclear of which image a label is.
    """
    labels = [member for member in members if member.name.endswith(LABEL_SUFFIX)]
    if not labels:
        return {}, []
    by_stem, by_key = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    for name in images:
        for stem in (name, os.path.splitext(name)[0]):
            by_stem[stem].append(name)
        by_key[_key(name)].append(name)
    found, unused = defaultdict[str, list[Member]](list), Remarks()
    for member in labels:
        stem = member.name.removesuffix(LABEL_SUFFIX)
        fitting = by_stem.get(stem) or by_key.get(_key(member.name)) or []
        if len(fitting) == 1:
            found[fitting[0]].append(member)
        elif fitting:
            unused.append((member.name, f"a label that fits several images: {', '.join(sorted(fitting)[:3])}"))
    for name, own in found.items():
        if len(own) > 1:
            named = ", ".join(member.name for member in own[:3])
            unused += [(member.name, f"one of several labels that fit {name}: {named}") for member in own]
    if unused and required:
        name, reason = unused[0]
        raise HeadwayError(
            "label-ambiguous", f"'{name}' is {reason}; name each label like its image, such as {images[0]} and "
            f"{os.path.splitext(images[0])[0]}{LABEL_SUFFIX}",
        )  # fmt: skip
    return {name: own[0] for name, own in found.items() if len(own) == 1}, unused


def _key(name: str) -> str:
    """WebDataset's key: the path up to the first dot of its last part."""
    folder, base = os.path.split(name)
    return f"{folder}/{base.split('.', 1)[0]}"
