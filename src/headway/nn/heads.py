"""Heads of pretext tasks: thrown away when the backbone is passed on."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.nn.batch_norm import BatchNorm
from headway.nn.numerics import full_precision, unit


def projector(
    widths: Sequence[int], *, norm: bool = True, last_norm: bool = False, last_affine: bool = True
) -> nn.Sequential:
    """An MLP: linear, batch norm, ReLU, ..., linear: B widths[0] -> B widths[-1].

    The head of SimCLR (Chen et al. 2020, https://arxiv.org/abs/2002.05709) and of its many heirs. A linear map before a
    norm has no bias: the norm would take it away again.

    Args:
        widths: Of the input, of each hidden layer, and of the output.
        norm: Batch norm (over all processes) after every hidden linear map.
        last_norm: Batch norm after the last one too.
        last_affine: Whether that last norm learns a weight and a bias.

    Raises:
        ValueError: For fewer than two widths.
    """
    if len(widths) < 2:
        raise ValueError(f"a projector needs the width of its input and of its output, got {list(widths)}")
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    for layer in range(1, len(widths)):
        last = layer == len(widths) - 1
        normed = last_norm if last else norm
        parts[f"linear{layer}"] = nn.Linear(widths[layer - 1], widths[layer], bias=not normed)
        if normed:
            parts[f"norm{layer}"] = BatchNorm(widths[layer], affine=last_affine or not last)
        if not last:
            parts[f"relu{layer}"] = nn.ReLU()
    return nn.Sequential(parts)


class PrototypeHead(nn.Module):
    """Cosines between a picture's bottleneck vector and learned prototypes of length 1: B D -> B K.

    Caron et al., "Emerging properties in self-supervised vision transformers" (DINO), 2021
    (https://arxiv.org/abs/2104.14294): an MLP with GELU, a bottleneck scaled to length 1, and a weight-normalised
    linear map. Works on tokens as well (B N D -> B N K).

    Args:
        width: D.
        prototypes: K.
        hidden: M, of the MLP.
        bottleneck: Width of the vector that meets the prototypes.
        layers: Linear maps in the MLP, the one to the bottleneck included.
    """

    def __init__(self, width: int, prototypes: int, hidden: int = 2048, bottleneck: int = 256, layers: int = 3):
        super().__init__()
        widths = [width, *[hidden] * (layers - 1), bottleneck]
        linears = [nn.Linear(a, b) for a, b in pairwise(widths)]
        self.linears = nn.ModuleList(linears)
        self.prototypes = nn.Parameter(torch.randn(prototypes, bottleneck))  # K bottleneck: every direction alike
        for linear in linears:
            # The paper's 0.02 is this for its 2048 inputs. With our few it would shrink the bottleneck vector to
            # nothing, and scaling that to length 1 would blow gradients up as many times.
            nn.init.trunc_normal_(linear.weight, std=linear.in_features**-0.5)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, freeze: bool = False) -> Tensor:
        """Cosines in [-1, 1]; the task divides them by its temperature.

        Args:
            x: ... D.
            freeze: Hold the prototypes still. (Decay shrinks their lengths meanwhile, and lengths don't count.)

        Returns:
            ... K.
        """
        for linear in self.linears[:-1]:
            x = F.gelu(linear(x))
        x = self.linears[-1](x)
        return cosines(x, held(self.prototypes) if freeze else self.prototypes)


def held(parameter: Tensor) -> Tensor:
    """The parameter standing still: its gradient is scaled to zero, but it keeps one, which is what DDP waits for."""
    return parameter.detach() + 0.0 * (parameter - parameter.detach())


@full_precision
def cosines(x: Tensor, prototypes: Tensor) -> Tensor:
    """... D and K D -> ... K. In bf16 cosines come in steps of 1/128: divided by a temperature of 1/25, a lot."""
    return F.linear(unit(x), unit(prototypes))
