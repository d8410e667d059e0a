"""Two sheets for a person: which kinds of pictures there are, and what a network takes for alike."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from headway.protocol import Panel
from headway.reports.sheet import Sheet
from headway.views.geometry import to_unit

ASKED, NEAREST = 8, 3
"""Pictures that look for neighbours, and neighbours shown of each."""

Look = Callable[[Tensor], Tensor]
"""From n positions to the pictures there: n C H W, uint8 or float32 in [0, 1]."""


def contact_sheet(look: Look, labels: Tensor, classes: Sequence[str], *, count: int, note: str) -> Sheet:
    """Pictures of every kind, named.

    Args:
        look: Gives pictures.
        labels: N, int64: the kind of each.
        classes: K names.
        count: How many to show, at most; kinds take turns.
        note: What they are.
    """
    chosen = in_turns(labels, count)
    names = [classes[label] for label in labels[chosen].tolist()]
    return Sheet(
        title="The pictures", claim=f"{len(labels):,} of {len(classes)} kinds", note=note, names=names,
        panels=[Panel("", to_unit(look(chosen)), names)],
    )  # fmt: skip


def neighbour_sheet(
    look: Look, labels: Tensor, classes: Sequence[str], features: dict[str, Tensor], *, note: str
) -> Sheet:
    """Pictures, and those among the others whose features lie nearest, by the cosine.

    Args:
        look: Gives pictures.
        labels: N, int64: the kind of each.
        classes: K names.
        features: N D for each network, by its name.
        note: What the pictures are.
    """
    asked = in_turns(labels, ASKED)
    panels = [Panel("picture", to_unit(look(asked)), [classes[label] for label in labels[asked].tolist()])]
    shares = []
    for name, rows in features.items():
        nearest = neighbours(rows)  # N NEAREST
        share = 100 * float((labels[nearest] == labels[:, None]).double().mean())
        shares.append(f"{share:.1f} % by the {name} network")
        for place, column in enumerate(nearest[asked].T):  # n
            same = (labels[column] == labels[asked]).tolist()
            captions = [
                f"{classes[label]}, {'right' if one else 'wrong'}"
                for label, one in zip(labels[column].tolist(), same, strict=True)
            ]
            panels.append(Panel(name if place == 0 else "", to_unit(look(column)), captions))
    return Sheet(
        title="What looks alike", claim="the nearest pictures, before and after pretraining", panels=panels,
        names=[classes[label] for label in labels[asked].tolist()],
        note=f"{note} Nobody chose the pictures in the first column: kinds take turns. Of the {nearest.shape[1]} "
        f"nearest of all {len(labels):,} pictures these are of the right kind: {', '.join(shares)}.",
    )  # fmt: skip


def neighbours(features: Tensor) -> Tensor:
    """N D -> N NEAREST, int64 (fewer where there are no more): the others with the greatest cosine, nearest first."""
    unit = F.normalize(features - features.mean(0), dim=1)  # N D
    alike = (unit @ unit.T).fill_diagonal_(float("-inf"))  # N N
    return alike.topk(min(NEAREST, len(features) - 1), dim=1).indices


def in_turns(labels: Tensor, count: int) -> Tensor:
    """At most ``count`` positions, int64: the first picture of each kind, then the second of each, and so on."""
    turn = torch.zeros_like(labels)
    for kind in labels.unique():
        here = labels == kind
        turn[here] = torch.arange(int(here.sum()))
    return (turn * (int(labels.max()) + 1) + labels).argsort(stable=True)[:count]
