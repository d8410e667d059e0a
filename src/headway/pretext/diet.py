"""DIET: every picture is a class of its own; name the picture that a view was made of.

With n the picture's position in the data of N pictures, W a linear layer of N outputs and s the label smoothing,

    loss = - (1 - s) log p_n  -  s / N sum_k log p_k,          p = softmax(W f(view))

No projector, no teacher, no second view: supervised learning whose label is the index.

Balestriero, "Unsupervised learning on a DIET: datum index as target free of self-supervision, reconstruction, projector
head", 2023 (https://arxiv.org/abs/2302.10260).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from headway.config import Optim, Recipe, bound
from headway.draws import Draws
from headway.measure.health import spread
from headway.nn.numerics import full_precision, wide
from headway.protocol import Backbone, Batch, Clock, Facts, Outcome, Panel, PretextTask
from headway.views.augment import Augment, simclr

CELLS = 1 << 24
"""Logits held at a time (64 MiB in float32): B x N of them would not fit for millions of pictures."""


class Datum(NamedTuple):
    """The deal: one view of each of B pictures, and each picture's position in the data (B, int64)."""

    images: Tensor
    number: Tensor


@dataclass(frozen=True)
class DIET:
    """Choices of DIET."""

    smoothing: float = 0.8
    """s above: strong, since most pictures have near relatives under other numbers."""
    augment: Augment | None = None
    """How views are made; none: SimCLR's."""

    def __post_init__(self) -> None:
        bound(self, "smoothing", at_least=0, below=1)

    def build(self, backbone: Backbone, facts: Facts) -> "DIETTask":
        """Make the task: a linear layer with one output a picture, N x D numbers, and the same for Muon's momentum."""
        return DIETTask(self, backbone.embed_dim, facts)


class DIETTask(PretextTask):
    """Name the picture."""

    def __init__(self, config: DIET, width: int, facts: Facts):
        super().__init__()
        self.smoothing, self.size = config.smoothing, facts.size
        self.augment = config.augment or simclr(facts.size)
        self.head = nn.Linear(width, facts.count, bias=False)

    def views(self, batch: Batch, draws: Draws) -> Datum:
        """One crop of each picture; the label is the picture's position in the data."""
        return Datum(self.augment(batch.images, draws, self.size), batch.index)

    def forward(self, backbone: Backbone, views: Datum, clock: Clock) -> Outcome:
        """Smoothed cross-entropy over all pictures of the data."""
        features = backbone(views.images).pooled  # B D
        loss, accuracy = index_loss(features, self.head.weight, views.number, self.smoothing)
        return Outcome(loss, {"accuracy": accuracy, "spread": spread(features)})

    def panels(self, batch: Batch, views: Datum, backbone: Backbone | None = None) -> list[Panel]:
        """The view and the number that is its label; beside it the number that the network gives."""
        panels = [Panel("dealt", views.images, [f"picture {number}" for number in views.number.tolist()])]
        if backbone is not None:
            guesses = self.head(backbone(views.images).pooled).argmax(1).tolist()  # B
            panels.append(Panel("the answer", views.images, [f"picture {guess}" for guess in guesses]))
        return panels


@full_precision
def index_loss(
    features: Tensor, weight: Tensor, index: Tensor, smoothing: float, cells: int = CELLS
) -> tuple[Tensor, Tensor]:
    """The smoothed cross-entropy above, holding no more than ``cells`` logits at a time.

    With logits z_k = w_k . f it equals logsumexp(z) - (1 - s) z_n - s mean(z), where mean(z) = mean(w) . f. The
    logsumexp is taken over slices of W, which are computed again for the gradient.

    Args:
        features: B D.
        weight: N D.
        index: B, int64 in 0..N-1.
        smoothing: s in [0, 1).
        cells: Most logits held at a time.

    Returns:
        The mean over pictures, and the share of pictures whose own logit is the largest.
    """
    features, weight = wide(features), wide(weight)
    slices = weight.split(max(cells // max(len(features), 1), 1))
    parts = [logits_of(features, slices[0])] if len(slices) == 1 else [
        checkpoint(logits_of, features, part, use_reentrant=False, preserve_rng_state=False) for part in slices
    ]  # fmt: skip
    normaliser = torch.stack([total for total, _ in parts]).logsumexp(0)  # B
    largest = torch.stack([most for _, most in parts]).amax(0)  # B
    own = (features * weight[index]).sum(1)  # B, rounded in another order than in its slice
    loss = normaliser - (1 - smoothing) * own - smoothing * (features @ weight.mean(0))  # B
    return loss.mean(), (own.detach() >= largest - 1e-6 * largest.abs()).float().mean()


def logits_of(features: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """(logsumexp, largest) of the logits of one slice of W: B each."""
    logits = features @ weight.T  # B n
    return logits.logsumexp(1), logits.detach().amax(1)


RECIPE = Recipe(task=DIET(), optim=Optim(method="muon", lr=4e-3, weight_decay=0.05), epochs=400, batch=256)
