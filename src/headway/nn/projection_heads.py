"""Projection heads of pretext tasks; they are discarded after pretraining."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.nn.batch_norm import BatchNorm
from headway.nn.numerics import l2_normalize, no_autocast


def projector(
    dims: Sequence[int], *, norm: bool = True, last_norm: bool = False, last_affine: bool = True
) -> nn.Sequential:
    """Build an MLP: linear, batch norm, ReLU, ..., linear: B dims[0] -> B dims[-1].

    The projection head of SimCLR (Chen et al. 2020, https://arxiv.org/abs/2002.05709) and of many later methods. A
    linear map before a norm has no bias, since the norm would subtract it.

    Args:
        dims: Widths of the input, of each hidden layer, and of the output.
        norm: Whether a batch norm (over all processes) follows each hidden linear map.
        last_norm: Whether a batch norm follows the last linear map.
        last_affine: Whether that last norm has a learned weight and bias.

    Raises:
        ValueError: There are fewer than two widths.
    """
    if len(dims) < 2:
        raise ValueError(f"a projector needs at least the widths of its input and output, got {list(dims)}")
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    for layer in range(1, len(dims)):
        last = layer == len(dims) - 1
        normed = last_norm if last else norm
        parts[f"linear{layer}"] = nn.Linear(dims[layer - 1], dims[layer], bias=not normed)
        if normed:
            parts[f"norm{layer}"] = BatchNorm(dims[layer], affine=last_affine or not last)
        if not last:
            parts[f"relu{layer}"] = nn.ReLU()
    return nn.Sequential(parts)


class PrototypeHead(nn.Module):
    """Cosines between the bottleneck vector of an image and learned prototypes of length 1: B D -> B K.

    Caron et al., "Emerging properties in self-supervised vision transformers" (DINO), 2021
    (https://arxiv.org/abs/2104.14294): an MLP with GELU, a bottleneck scaled to length 1, and a weight-normalized
    linear map. It works on tokens as well (B N D -> B N K).

    Args:
        embed_dim: D.
        num_prototypes: K.
        hidden_dim: Width of the MLP's hidden layers.
        bottleneck_dim: Width of the vector that is compared with the prototypes.
        num_layers: Number of linear maps in the MLP, the one to the bottleneck included.
    """

    def __init__(
        self,
        embed_dim: int,
        num_prototypes: int,
        hidden_dim: int = 2048,
        bottleneck_dim: int = 256,
        num_layers: int = 3,
    ):
        super().__init__()
        widths = [embed_dim, *[hidden_dim] * (num_layers - 1), bottleneck_dim]
        linears = [nn.Linear(a, b) for a, b in pairwise(widths)]
        self.linears = nn.ModuleList(linears)
        self.prototypes = nn.Parameter(torch.randn(num_prototypes, bottleneck_dim))  # K bottleneck: isotropic
        for linear in linears:
            # The paper's std of 0.02 equals this for its 2048 inputs. With fewer inputs 0.02 would make the bottleneck
            # vector tiny, and scaling it to length 1 would enlarge the gradients by the same factor.
            nn.init.trunc_normal_(linear.weight, std=linear.in_features**-0.5)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, freeze_prototypes: bool = False) -> Tensor:
        """Return cosines in [-1, 1]; the task divides them by its temperature.

        Args:
            x: ... D.
            freeze_prototypes: Whether to stop the gradient of the prototypes. (Weight decay still shrinks their
                lengths, which have no effect.)

        Returns:
            ... K.
        """
        for linear in self.linears[:-1]:
            x = F.gelu(linear(x))
        x = self.linears[-1](x)
        prototypes = stop_gradient_keep_graph(self.prototypes) if freeze_prototypes else self.prototypes
        return pairwise_cosine_similarity(x, prototypes)


def stop_gradient_keep_graph(parameter: Tensor) -> Tensor:
    """Return the parameter with a gradient of zero; it stays in the graph, since DDP waits for every gradient."""
    return parameter.detach() + 0.0 * (parameter - parameter.detach())


@no_autocast
def pairwise_cosine_similarity(x: Tensor, prototypes: Tensor) -> Tensor:
    """Return all cosines: ... D and K D -> ... K. Not in bf16, whose steps of 1/128 are large beside a temperature."""
    return F.linear(l2_normalize(x), l2_normalize(prototypes))
