"""The critic of an adversarial game: does this picture look real?"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn


class Critic(nn.Module):
    """Four convolutions of stride 2 and the mean of what they say: B C H W -> B, the log-odds of "real".

    The discriminator of Pathak et al., "Context encoders", 2016 (https://arxiv.org/abs/1604.07379), after Radford et
    al., "Unsupervised representation learning with deep convolutional generative adversarial networks", 2015
    (https://arxiv.org/abs/1511.06434), made small, and without batch norms: no picture's verdict depends on another.

    Args:
        channels: C.
        width: Channels after the first convolution; they double with each.
    """

    def __init__(self, channels: int, width: int = 32):
        super().__init__()
        widths = [channels, width, 2 * width, 4 * width, 8 * width]
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(widths))
        self.judge = nn.Linear(widths[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        """B C H W -> B."""
        for convolve in self.convolutions:
            x = F.leaky_relu(convolve(x), 0.2)
        return self.judge(x.mean((2, 3)))[:, 0]  # B
