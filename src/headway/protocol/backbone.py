"""The base class of backbones.

Letters in shapes: B batch, C H W channels/height/width, N patches, K patches kept, D embed_dim.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from headway.protocol.types import Features, InputSpec


class Backbone(nn.Module, ABC):
    """The network that is kept after pretraining: images -> features.

    A backbone defines ``forward`` and sets ``embed_dim``, ``patch_size``, ``image_size`` and ``input_spec``; everything
    else has a default.

    Attributes:
        embed_dim: D, the dimension of ``pooled`` and of every token.
        patch_size: Side of a patch in pixels (for a convolutional network its total stride).
        image_size: Side in pixels of the square images that it was built for.
        input_spec: The normalization of its input.
        supports: Which of ``keep_indices``, ``mask``, ``use_pos_embed`` and ``return_layers`` it implements.
        mask_value_dim: Length of ``mask_value``: D if tokens are masked, the number of channels if pixels are.
        depth: Number of layers for ``return_layers``; 0 if it does not support them.
        pooling: Pooled features: the mean of the patches, or the first prefix token.
        num_prefix_tokens: P, the class token and the registers.
        has_class_token: Whether the first prefix token is a class token.
        is_rotary: Whether positions enter by rotating queries and keys.
        drop_path: Probability of skipping a branch in training. An EMA teacher sets it to 0.
        kind: The name by which ``build.from_config`` knows the class; empty for a class that it does not know.
        config: The dataclass from which it was built; None where ``kind`` is empty.
    """

    embed_dim: int
    patch_size: int
    image_size: int
    input_spec: InputSpec
    supports: frozenset[str] = frozenset()
    mask_value_dim: int = 0
    depth: int = 0
    pooling: Literal["mean", "class"] = "mean"
    num_prefix_tokens: int = 0
    has_class_token: bool = False
    is_rotary: bool = False
    drop_path: float = 0.0
    kind: ClassVar[str] = ""
    config: Any = None
    __call__: Callable[..., Features]  # as ``forward``

    @abstractmethod
    def forward(
        self,
        images: Tensor,
        *,
        keep_indices: Tensor | None = None,
        mask: Tensor | None = None,
        mask_value: Tensor | None = None,
        use_pos_embed: bool = True,
        return_layers: Sequence[int] = (),
    ) -> Features:
        """Compute features.

        Args:
            images: B C H W, floating point in [0, 1]; any H and W that ``patch_size`` divides.
            keep_indices: B K, int64: the only patches that enter the network (MAE), row-major.
            mask: B N, bool: patches whose content is replaced by ``mask_value``.
            mask_value: ``mask_value_dim`` numbers that replace masked content; None means zeros.
            use_pos_embed: False hides the positions of patches. Embeddings are multiplied by 0, so that every parameter
                keeps a gradient.
            return_layers: Blocks whose outputs are returned as well; 0 is the first, -1 the last.
        """

    @property
    def name(self) -> str:
        """The name on the command line, and in messages."""
        return type(self).__name__

    @property
    def block_list(self) -> Sequence[nn.Module]:
        """The blocks that run one after another; empty for a network that is not made of blocks."""
        return ()

    @property
    def device(self) -> torch.device:
        """Where the network is; the CPU for one without parameters."""
        parameter = next(self.parameters(), None)
        return torch.device("cpu") if parameter is None else parameter.device

    def layer_depths(self) -> dict[str, int]:
        """Depth by parameter name: 0 for what precedes the blocks, then 1 for the first block up to L for the last.

        A parameter after a block (a final norm) has the depth of that block.
        """
        blocks = {id(p): number for number, block in enumerate(self.block_list, 1) for p in block.parameters()}
        depths, depth = dict[str, int](), 0
        for name, parameter in self.named_parameters():
            depth = depths[name] = blocks.get(id(parameter), depth)
        return depths
