"""Jigsaw of tokens: shuffle a picture's patches, hide where they are, and ask each one for its place.

With N patches, sigma(i) the true place of the patch that lies on place i, and f(.)_i the token that comes out there,

    loss = - mean_i log softmax(MLP(f(shuffled)_i))[sigma(i)]

All patches look at one another, so that the answer to one is drawn from all. Patches are shuffled as pixels and the
backbone adds no positions: neither a convolutional stem nor a table can tell the true place.

Noroozi and Favaro 2016 (https://arxiv.org/abs/1603.09246) for the game; for transformers Chen, Shen, Liu, Tao
and Suykens, "Jigsaw-ViT: learning jigsaw puzzles in vision transformer", 2022 (https://arxiv.org/abs/2207.11971).
"""

from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from headway.draws import Draws
from headway.nn.heads import projector
from headway.nn.numerics import wide
from headway.protocol import Backbone, Batch, Clock, Outcome, Panel, PretextTask
from headway.views.geometry import random_resized_crop


class Shuffled(NamedTuple):
    """The deal: B pictures whose patches are shuffled, and the true place of the patch on each place, B N."""

    images: Tensor
    places: Tensor


class JigsawTokensTask(PretextTask):
    """Name the place of every patch.

    Args:
        width: Of a token.
        patch: Pixels a side.
        size: Of the main view, in pixels.
        hidden: Width of the head's hidden layer.
        ratio: Share of the shuffled patches that the network may see.
        scale: Share of the picture's area that a crop keeps.
        flip: Probability of mirroring the picture.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"keep", "place"})

    def __init__(
        self, width: int, patch: int, size: int, hidden: int, ratio: float, scale: tuple[float, float], flip: float
    ):
        super().__init__()
        self.patch, self.size, self.scale, self.flip = patch, size, scale, flip
        count = (size // patch) ** 2
        self.seen = max(round(ratio * count), min(count, 2))
        self.head = projector([width, hidden, count], norm=False)

    def views(self, batch: Batch, draws: Draws) -> Shuffled:
        """Crop each picture and shuffle its patches as pixels."""
        images = random_resized_crop(batch.images, draws, self.size, self.scale, (1.0, 1.0), self.flip)
        places = draws.permutation((self.size // self.patch) ** 2)  # B N
        return Shuffled(lay(images, places, self.patch), places)

    def forward(self, backbone: Backbone, views: Shuffled, clock: Clock) -> Outcome:
        """Cross-entropy over the N places, for each patch that is seen."""
        logits = self._logits(backbone, views)  # B K N
        places = views.places[:, : self.seen]  # B K
        accuracy = (logits.argmax(2) == places).float().mean()
        return Outcome(F.cross_entropy(logits.flatten(0, 1), places.flatten()), {"accuracy": accuracy})

    def _logits(self, backbone: Backbone, views: Shuffled) -> Tensor:
        keep = None
        if self.seen < views.places.shape[1]:  # the first of a shuffled picture are a random subset
            keep = torch.arange(self.seen, device=views.places.device).expand(len(views.places), -1)  # B K
        return wide(self.head(backbone(views.images, keep=keep, place=False).patches))  # B K N

    def panels(self, batch: Batch, views: Shuffled, backbone: Backbone | None = None) -> list[Panel]:
        """The shuffled picture, the picture as the model would restore it, and the truth."""
        dealt = Panel("shuffled", views.images.float())
        truth = Panel("the truth", lay(dealt.images, views.places.argsort(1), self.patch))
        if backbone is None:
            return [dealt, truth]
        scores = self._logits(backbone, views).cpu()  # B K N
        answers, captions = views.places.clone(), []
        for picture, score in enumerate(scores):
            # Two patches cannot lie on one place: the assignment of the largest sum of logits.
            assigned = torch.from_numpy(linear_sum_assignment(score.numpy(), maximize=True)[1])  # K
            right = int((assigned == views.places[picture, : self.seen].cpu()).sum())
            captions.append(f"{right} of {self.seen} patches right")
            taken = set(assigned.tolist())
            rest = [place for place in views.places[picture, self.seen :].tolist() if place not in taken]
            free = sorted(set(range(score.shape[1])) - taken - set(rest))
            answers[picture] = torch.tensor([*assigned.tolist(), *rest, *free], device=answers.device)
        restored = lay(dealt.images, answers.argsort(1), self.patch)
        return [dealt, Panel("restored", restored, captions), truth]


def lay(images: Tensor, places: Tensor, patch: int) -> Tensor:
    """Lay patch ``places[b, i]`` of each picture on place i: B C H W and B N -> B C H W, patches row by row."""
    rows, columns = images.shape[2] // patch, images.shape[3] // patch
    cut = images.unflatten(3, (columns, patch)).unflatten(2, (rows, patch))  # B C rows p columns p
    patches = cut.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)  # B N C p p
    moved = patches[torch.arange(len(images), device=images.device)[:, None], places]  # B N C p p
    back = moved.unflatten(1, (rows, columns)).permute(0, 3, 1, 4, 2, 5)  # B C rows p columns p
    return back.flatten(4).flatten(2, 3)  # B C H W
