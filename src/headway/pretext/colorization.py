"""Colorization: predict the color of each place of an image from its lightness.

To know that grass is green and a cat is not, the network must recognize both. Colors are K bins of the ab plane of
CIE Lab. With z_h the soft target at place h (its true color, shared among the 5 nearest bins) and p the smoothed
frequencies of the bins,

    loss = - mean_h v(q*) sum_q z_hq log p_theta(q | lightness),    q* = argmax_q z_hq
    v(q) ~ 1 / ((1 - lambda) p_q + lambda / K),    sum_q p_q v(q) = 1        rare colors have larger weights

Zhang, Isola and Efros, "Colorful image colorization", 2016 (https://arxiv.org/abs/1603.08511).
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.config import MUON, Recipe, check_range
from headway.errors import HeadwayError
from headway.nn.numerics import at_least_fp32, no_autocast
from headway.nn.pixel_heads import SubPixelHead
from headway.protocol import Backbone, Batch, DataInfo, Panel, PretextTask, TaskOutput, TrainingClock
from headway.rng import SampleRNG
from headway.transforms.color import to_grayscale
from headway.transforms.geometry import center_crop_resize, random_resized_crop
from headway.transforms.lab import lab_to_rgb, rgb_to_lab

NUM_SAMPLE_IMAGES = 1000
"""Number of images whose colors are counted."""
MAX_SINGLE_BIN_SHARE = 0.99
"""Images are rejected as colorless if one bin holds at least this share of all places."""


class ColorizationViews(NamedTuple):
    """B gray images (B 3 H W in [0, 1], the lightness three times) and their colors in Lab (B 3 H W)."""

    images: Tensor
    lab: Tensor


@dataclass(frozen=True)
class Colorization:
    """Configuration of colorization."""

    bin_size: float = 10.0
    """Side of a bin in the ab plane."""
    num_neighbors: int = 5
    """Number of bins among which a color is shared."""
    sigma: float = 5.0
    """Standard deviation in ab of the Gaussian that shares a color and smooths the frequencies of bins."""
    uniform_weight: float = 0.5
    """lambda above. 1: equal weights for all colors; 0: weights by rarity alone."""
    temperature: float = 0.38
    """Temperature of the annealed mean that turns probabilities into a color. 1: the mean; towards 0: the likeliest
    bin."""
    cell_size: int = 4
    """Side of a place in pixels, approximately. The paper, too, predicts at a quarter of the image's resolution."""
    decoder_dim: int = 64
    """Channels of the decoder."""
    scale: tuple[float, float] = (0.35, 1.0)
    """Share of the image's area that a crop covers."""

    def __post_init__(self) -> None:
        check_range(self, "bin_size", at_least=2)
        check_range(self, "sigma temperature", above=0)
        check_range(self, "uniform_weight", at_least=0, at_most=1)
        check_range(self, "num_neighbors cell_size decoder_dim", at_least=1)
        check_range(self, "scale", above=0, at_most=1, increasing=True)

    def build(self, backbone: Backbone, data_info: DataInfo) -> "ColorizationTask":
        """Build the task: count the data's colors and add a small decoder. Raises HeadwayError for gray images."""
        if data_info.channels != 3:
            raise HeadwayError(
                "image-format",
                f"colorization needs color images, got {data_info.channels} channel(s); {OTHER_TASK_HINT}",
            )
        side = max(data_info.input_size // self.cell_size, 1)
        parts = [
            rgb_to_lab(center_crop_resize(part, data_info.input_size))[:, 1:]
            for part in data_info.sample_images(NUM_SAMPLE_IMAGES).split(64)
        ]
        ab = torch.cat([F.adaptive_avg_pool2d(part, side) for part in parts])  # B 2 side side
        stride = max(side // 16, 1)  # neighboring places have similar colors: 256 of each image are enough
        ab = ab[:, :, ::stride, ::stride]
        return ColorizationTask(self, backbone.embed_dim, backbone.patch_size, data_info.input_size, ab)


class ColorizationTask(PretextTask):
    """Classify the color of every place.

    Args:
        config: The configuration.
        embed_dim: D, of the backbone's tokens.
        patch_size: Side of a patch in pixels.
        size: Side of the view in pixels.
        ab_sample: B 2 rows columns: ab of places of the data.
    """

    def __init__(self, config: Colorization, embed_dim: int, patch_size: int, size: int, ab_sample: Tensor):
        super().__init__()
        self.config, self.size = config, size
        bins = ab_gamut_bins(config.bin_size)
        parts = [soft_encode(part, bins, config.num_neighbors, config.sigma) for part in ab_sample.split(64)]
        indices, shares = (torch.cat(rows) for rows in zip(*parts, strict=True))  # B rows columns 5 each
        counts = torch.bincount(indices[..., 0].flatten(), minlength=len(bins))  # K
        top_share = counts.max() / counts.sum()
        if top_share >= MAX_SINGLE_BIN_SHARE:
            a, b = bins[counts.argmax()].tolist()
            raise HeadwayError(
                "image-format",
                f"colorization needs color images, but {100 * top_share:.1f} % of the places in these share one "
                f"(a = {a:g}, b = {b:g} of Lab); {OTHER_TASK_HINT}",
            )
        self.bins = nn.Buffer(bins, persistent=False)  # K 2
        self.bin_weights = nn.Buffer(rebalancing_weights(counts, bins, config.sigma, config.uniform_weight))  # K
        self.prior = nn.Buffer(rebalanced_prior(indices, shares, self.bin_weights))  # K
        self.sub_pixel_head = SubPixelHead(embed_dim, patch_size, config.cell_size, config.decoder_dim)
        self.classifier = nn.Linear(config.decoder_dim, len(bins))
        with torch.no_grad():  # start from the prior over colors
            self.classifier.bias.copy_(self.prior.clamp_min(1e-5).log())

    def make_views(self, batch: Batch, rng: SampleRNG) -> ColorizationViews:
        """Crop each image and remove its colors, which are the target."""
        images = random_resized_crop(batch.images, rng, self.size, scale=self.config.scale)
        return ColorizationViews(to_grayscale(images)[:, None].expand_as(images).contiguous(), rgb_to_lab(images))

    def forward(self, backbone: Backbone, views: ColorizationViews, clock: TrainingClock) -> TaskOutput:
        """Rebalanced cross-entropy, and that of the best prediction that ignores the image."""
        logits = at_least_fp32(self.logits(backbone, views.images))  # B rows columns K
        rows, columns = logits.shape[1:3]
        ab = F.adaptive_avg_pool2d(views.lab[:, 1:].to(logits.dtype), (rows, columns))  # B 2 rows columns
        indices, shares = soft_encode(ab, self.bins, self.config.num_neighbors, self.config.sigma)  # B rows columns 5
        weights = self.bin_weights[indices[..., 0]]  # B rows columns
        loss = (weights * soft_cross_entropy(logits, indices, shares)).mean()
        prior_logits = self.prior.clamp_min(1e-5).log().expand_as(logits)  # B rows columns K
        prior_loss = (weights * soft_cross_entropy(prior_logits, indices, shares)).mean()
        return TaskOutput(loss, {"prior_loss": prior_loss})

    def logits(self, backbone: Backbone, images: Tensor) -> Tensor:
        """Logits of the color of every place: B 3 H W -> B rows columns K."""
        features = backbone(images)
        return self.classifier(self.sub_pixel_head(features.patches, features.grid))

    def visualize(self, batch: Batch, views: ColorizationViews, backbone: Backbone | None = None) -> list[Panel]:
        """The gray image, the network's colors on its lightness, and the image."""
        panels = [Panel("input", views.images.float()), Panel("target", lab_to_rgb(views.lab.float()))]
        if backbone is not None:
            logits = at_least_fp32(self.logits(backbone, views.images))  # B rows columns K
            ab = annealed_mean(logits, self.bins, self.config.temperature).permute(0, 3, 1, 2)  # B 2 rows columns
            ab = F.interpolate(ab, size=views.lab.shape[2:], mode="bilinear")  # B 2 H W
            colored = lab_to_rgb(torch.cat([views.lab[:, :1].to(ab.dtype), ab], 1))  # B 3 H W
            panels.insert(1, Panel("prediction", colored.float()))
        return panels


def ab_gamut_bins(bin_size: float) -> Tensor:
    """Centers of the bins (K 2): those multiples of ``bin_size`` that are the nearest to some sRGB color.

    The ab of each color inside the cube of red, green and blue also occurs on the cube's surface (raise the lightness
    until the color leaves the cube), so the six faces suffice. A bin size of 10 gives 261 bins. The paper's list has
    313; some lie outside sRGB (a = -90 with b = 50, say), where no image has a color.
    """
    level = torch.linspace(0, 1, 256, dtype=torch.float64)
    first, second = torch.meshgrid(level, level, indexing="ij")  # 256 256 each
    ends = (torch.zeros_like(first), torch.ones_like(first))
    faces = [torch.stack([first, second, end]).roll(turn, 0) for end in ends for turn in range(3)]  # 3 256 256 each
    ab = rgb_to_lab(torch.stack(faces))[:, 1:].movedim(1, -1).flatten(0, 2)  # 6*256*256 2
    return (ab / bin_size).round().unique(dim=0).float() * bin_size  # K 2


def soft_encode(ab: Tensor, bins: Tensor, num_neighbors: int, sigma: float) -> tuple[Tensor, Tensor]:
    """Share each color among its nearest bins, by a Gaussian of the distance.

    Args:
        ab: B 2 rows columns.
        bins: K 2.
        num_neighbors: The number of bins.
        sigma: Standard deviation of the Gaussian.

    Returns:
        The bins' indices, the nearest first, and the shares, which sum to 1: B rows columns neighbors each.
    """
    a, b = (plane[..., None] for plane in ab.unbind(1))  # B rows columns 1 each
    distance = (a - bins[:, 0]).square().add_((b - bins[:, 1]).square())  # B rows columns K, squared
    nearest, indices = distance.topk(min(num_neighbors, len(bins)), largest=False)  # B rows columns neighbors
    return indices, (nearest / (-2 * sigma**2)).softmax(-1)


def rebalanced_prior(bin_indices: Tensor, bin_shares: Tensor, bin_weights: Tensor) -> Tensor:
    """The bins' parts of the weighted shares of all places: K, summing to 1.

    Of all predictions that are the same for every place, this one has the least loss, the entropy of the rebalanced
    prior.
    """
    parts = bin_shares * bin_weights[bin_indices[..., :1]]  # ... neighbors
    total = torch.zeros_like(bin_weights).index_add_(
        0, bin_indices.flatten(), parts.flatten().to(bin_weights.dtype)
    )  # K
    return total / total.sum()


def rebalancing_weights(counts: Tensor, bins: Tensor, sigma: float, uniform_weight: float) -> Tensor:
    """Weights of the bins by their rarity, with mean 1 over places: K.

    Args:
        counts: K, the number of places in each bin.
        bins: K 2.
        sigma: Standard deviation in ab of the Gaussian that smooths the frequencies.
        uniform_weight: lambda, the weight of the uniform distribution in the mixture.
    """
    kernel = (torch.cdist(bins, bins).square() / (-2 * sigma**2)).softmax(0)  # K K: columns sum to 1
    smooth = kernel @ (counts / counts.sum())  # K
    weights = 1 / ((1 - uniform_weight) * smooth + uniform_weight / len(bins)).clamp_min(1e-9)  # K
    return weights / (smooth * weights).sum()


@no_autocast
def soft_cross_entropy(logits: Tensor, bin_indices: Tensor, bin_shares: Tensor) -> Tensor:
    """- sum_q z_q log p_q at every place: logits (... K), the bins' indices and shares (... neighbors) -> ..."""
    return logits.logsumexp(-1) - (bin_shares * logits.gather(-1, bin_indices)).sum(-1)


def annealed_mean(logits: Tensor, bins: Tensor, temperature: float) -> Tensor:
    """The mean color under the sharpened probabilities p^(1/T) / sum p^(1/T): ... K and K 2 -> ... 2."""
    return (logits / temperature).softmax(-1) @ bins.to(logits.dtype)


OTHER_TASK_HINT = "choose another task (headway tasks lists them)"

RECIPE = Recipe(task=Colorization(), optim=replace(MUON, lr=8e-3), epochs=100, batch_size=64, grayscale=True)
