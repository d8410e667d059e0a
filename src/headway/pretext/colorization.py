"""Colorization: look at the lightness of a picture; which colour has each place?

To know that grass is green and a cat is not, the network must recognise both. Colours are K bins of the ab plane of
CIE Lab. With z_h the true colour of place h, shared among its 5 nearest bins, and p the bins' smoothed frequencies,

    loss = - mean_h v(q*) sum_q z_hq log p_theta(q | lightness),    q* = argmax_q z_hq
    v(q) ~ 1 / ((1 - lambda) p_q + lambda / K),    sum_q p_q v(q) = 1        rare colours count more

Zhang, Isola and Efros, "Colorful image colorization", 2016 (https://arxiv.org/abs/1603.08511).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.config import Optim, Recipe, bound
from headway.draws import Draws
from headway.errors import HeadwayError
from headway.nn.cells import Cells
from headway.nn.numerics import full_precision, wide
from headway.protocol import Backbone, Batch, Clock, Facts, Outcome, Panel, PretextTask
from headway.views.colour import lightness
from headway.views.geometry import centre_resize, random_resized_crop
from headway.views.lab import lab_to_rgb, rgb_to_lab

SAMPLE = 1000
"""Pictures whose colours are counted."""
SAME = 0.99
"""From this share of places in one bin on, pictures count as colourless."""


class Greyed(NamedTuple):
    """The deal: B pictures without colour (B 3 H W in [0, 1], three times the lightness) and what they were in Lab."""

    images: Tensor
    lab: Tensor


@dataclass(frozen=True)
class Colorization:
    """Choices of colorization."""

    bin: float = 10.0
    """Side of a bin in the ab plane."""
    neighbours: int = 5
    """Bins among which a colour is shared."""
    sigma: float = 5.0
    """Width of the Gaussian in ab that shares a colour, and that smooths the frequencies of bins."""
    uniform: float = 0.5
    """lambda above: 1 weighs all colours alike, 0 by their rarity alone."""
    temperature: float = 0.38
    """Of the annealed mean that makes a picture of probabilities: 1 the mean, towards 0 the likeliest bin."""
    cell: int = 4
    """Pixels a side of a place, about; the paper's, too, is a quarter of the picture's resolution."""
    width: int = 64
    """Numbers a place has in the decoder."""
    scale: tuple[float, float] = (0.35, 1.0)
    """Share of the picture's area that a crop keeps."""

    def __post_init__(self) -> None:
        bound(self, "bin", at_least=2)
        bound(self, "sigma temperature", above=0)
        bound(self, "uniform", at_least=0, at_most=1)
        bound(self, "neighbours cell width", at_least=1)
        bound(self, "scale", above=0, at_most=1, rising=True)

    def build(self, backbone: Backbone, facts: Facts) -> "ColorizationTask":
        """Make the task: count the data's colours and join a light decoder. Raises HeadwayError for grey pictures."""
        if facts.channels != 3:
            raise HeadwayError(f"colorization needs pictures in colour, got {facts.channels} channel(s); {OTHERS}")
        side = max(facts.size // self.cell, 1)
        parts = [rgb_to_lab(centre_resize(part, facts.size))[:, 1:] for part in facts.sample(SAMPLE).split(64)]
        ab = torch.cat([F.adaptive_avg_pool2d(part, side) for part in parts])  # B 2 side side
        every = max(side // 16, 1)  # neighbouring places tell the same: 256 a picture will do
        ab = ab[:, :, ::every, ::every]
        return ColorizationTask(self, backbone.embed_dim, backbone.patch_size, facts.size, ab)


class ColorizationTask(PretextTask):
    """Name the colour of every place.

    Args:
        config: Every choice.
        width: D, of the backbone's tokens.
        patch: Pixels a side of a patch.
        size: Side of the view in pixels.
        sample: B 2 rows columns: ab of places of the data.
    """

    def __init__(self, config: Colorization, width: int, patch: int, size: int, sample: Tensor):
        super().__init__()
        self.config, self.size = config, size
        bins = gamut(config.bin)
        parts = [shared(part, bins, config.neighbours, config.sigma) for part in sample.split(64)]
        near, share = (torch.cat(rows) for rows in zip(*parts, strict=True))  # B rows columns 5 each
        counts = torch.bincount(near[..., 0].flatten(), minlength=len(bins))  # K
        most = counts.max() / counts.sum()
        if most >= SAME:
            a, b = bins[counts.argmax()].tolist()
            raise HeadwayError(
                f"colorization needs pictures in colour, but {100 * most:.1f} % of the places in these share one "
                f"(a = {a:g}, b = {b:g} of Lab); {OTHERS}"
            )
        self.bins: Tensor
        self.weights: Tensor
        self.prior: Tensor
        self.register_buffer("bins", bins, persistent=False)  # K 2
        self.register_buffer("weights", rebalanced(counts, bins, config.sigma, config.uniform))  # K
        self.register_buffer("prior", frequencies(near, share, self.weights))  # K
        self.cells = Cells(width, patch, config.cell, config.width)
        self.classify = nn.Linear(config.width, len(bins))
        with torch.no_grad():  # begin with what is known of the colours of all pictures
            self.classify.bias.copy_(self.prior.clamp_min(1e-5).log())

    def views(self, batch: Batch, draws: Draws) -> Greyed:
        """Crop each picture and take its colours away; they are the label."""
        images = random_resized_crop(batch.images, draws, self.size, scale=self.config.scale)
        return Greyed(lightness(images)[:, None].expand_as(images).contiguous(), rgb_to_lab(images))

    def forward(self, backbone: Backbone, views: Greyed, clock: Clock) -> Outcome:
        """Rebalanced cross-entropy, and that of the best answer that does not look at the picture."""
        logits = wide(self.logits(backbone, views.images))  # B rows columns K
        rows, columns = logits.shape[1:3]
        ab = F.adaptive_avg_pool2d(views.lab[:, 1:].to(logits.dtype), (rows, columns))  # B 2 rows columns
        near, share = shared(ab, self.bins, self.config.neighbours, self.config.sigma)  # B rows columns 5 each
        weights = self.weights[near[..., 0]]  # B rows columns
        loss = (weights * cross_entropy(logits, near, share)).mean()
        blind = cross_entropy(self.prior.clamp_min(1e-5).log().expand_as(logits), near, share)  # B rows columns
        return Outcome(loss, {"blind_loss": (weights * blind).mean()})

    def logits(self, backbone: Backbone, images: Tensor) -> Tensor:
        """B 3 H W -> B rows columns K, of every place's colour."""
        features = backbone(images)
        return self.classify(self.cells(features.patches, features.grid))

    def panels(self, batch: Batch, views: Greyed, backbone: Backbone | None = None) -> list[Panel]:
        """Grey in, the truth, and the network's colours on the true lightness."""
        sheet = [Panel("dealt", views.images.float()), Panel("the truth", lab_to_rgb(views.lab.float()))]
        if backbone is not None:
            logits = wide(self.logits(backbone, views.images))  # B rows columns K
            ab = annealed_mean(logits, self.bins, self.config.temperature).permute(0, 3, 1, 2)  # B 2 rows columns
            ab = F.interpolate(ab, size=views.lab.shape[2:], mode="bilinear")  # B 2 H W
            answer = lab_to_rgb(torch.cat([views.lab[:, :1].to(ab.dtype), ab], 1))  # B 3 H W
            sheet.insert(1, Panel("the network's colours", answer.float()))
        return sheet


def gamut(side: float) -> Tensor:
    """K 2: centres of the bins, multiples of ``side``, that are the nearest to some sRGB colour.

    Whatever ab a colour inside the cube of red, green and blue has, one on its surface has too (follow lightness up
    until it leaves the cube), so that the six faces suffice. A side of 10 gives 261 bins. The paper's list has 313; it
    reaches past sRGB (a = -90 with b = 50, say), where no picture has a colour.
    """
    level = torch.linspace(0, 1, 256, dtype=torch.float64)
    first, second = torch.meshgrid(level, level, indexing="ij")  # 256 256 each
    ends = (torch.zeros_like(first), torch.ones_like(first))
    faces = [torch.stack([first, second, end]).roll(turn, 0) for end in ends for turn in range(3)]  # 3 256 256 each
    ab = rgb_to_lab(torch.stack(faces))[:, 1:].movedim(1, -1).flatten(0, 2)  # 6*256*256 2
    return (ab / side).round().unique(dim=0).float() * side  # K 2


def shared(ab: Tensor, bins: Tensor, neighbours: int, sigma: float) -> tuple[Tensor, Tensor]:
    """Colours shared among their nearest bins, by a Gaussian of the distance.

    Args:
        ab: B 2 rows columns.
        bins: K 2.
        neighbours: How many bins.
        sigma: Width of the Gaussian.

    Returns:
        B rows columns neighbours: the bins' numbers, the nearest first, and the shares, which add up to 1.
    """
    a, b = (plane[..., None] for plane in ab.unbind(1))  # B rows columns 1 each
    distance = (a - bins[:, 0]).square().add_((b - bins[:, 1]).square())  # B rows columns K, squared
    nearest, number = distance.topk(min(neighbours, len(bins)), largest=False)  # B rows columns neighbours
    return number, (nearest / (-2 * sigma**2)).softmax(-1)


def frequencies(near: Tensor, share: Tensor, weights: Tensor) -> Tensor:
    """K, adding up to 1: the bins' parts in the weighted shares of all places.

    Among answers that are the same for every place this one has the least loss: the entropy of the rebalanced prior.
    """
    parts = share * weights[near[..., :1]]  # ... neighbours
    total = torch.zeros_like(weights).index_add_(0, near.flatten(), parts.flatten().to(weights.dtype))  # K
    return total / total.sum()


def rebalanced(counts: Tensor, bins: Tensor, sigma: float, uniform: float) -> Tensor:
    """K: weights of the bins by their rarity, whose mean over places is 1.

    Args:
        counts: K, places of each bin.
        bins: K 2.
        sigma: Width in ab of the Gaussian that smooths the frequencies.
        uniform: lambda, how much of an even distribution is mixed in.
    """
    kernel = (torch.cdist(bins, bins).square() / (-2 * sigma**2)).softmax(0)  # K K: each bin spreads what it has
    smooth = kernel @ (counts / counts.sum())  # K
    weights = 1 / ((1 - uniform) * smooth + uniform / len(bins)).clamp_min(1e-9)  # K
    return weights / (smooth * weights).sum()


@full_precision
def cross_entropy(logits: Tensor, near: Tensor, share: Tensor) -> Tensor:
    """- sum_q z_q log p_q at every place: ... K logits, the bins' numbers and shares (... neighbours) -> ..."""
    return logits.logsumexp(-1) - (share * logits.gather(-1, near)).sum(-1)


def annealed_mean(logits: Tensor, bins: Tensor, temperature: float) -> Tensor:
    """The mean colour after probabilities are sharpened, p^(1/T) / sum p^(1/T): ... K and K 2 -> ... 2."""
    return (logits / temperature).softmax(-1) @ bins.to(logits.dtype)


OTHERS = "take another task (headway tasks lists them)"

RECIPE = Recipe(
    task=Colorization(), optim=Optim(method="muon", lr=8e-3, weight_decay=0.05), epochs=100, batch=64, grey=True
)
