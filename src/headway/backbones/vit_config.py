"""The configuration of a vision transformer, and the sizes that have a name."""

from dataclasses import dataclass
from typing import Literal

from headway.backbones.input_normalizer import IMAGENET_INPUT, check_input_spec
from headway.backbones.stem import STEMS
from headway.errors import HeadwayError, unknown_name_error
from headway.nn.attention_utils import resolve_head_dim
from headway.nn.rotary import check_rope_head_dim
from headway.protocol import InputSpec

VIT_SIZES = {
    "vit_pico": (128, 2, 4),
    "vit_nano": (96, 4, 3),
    "vit_micro": (128, 6, 4),
    "vit_tiny": (192, 12, 3),
    "vit_small": (384, 12, 6),
    "vit_base": (768, 12, 12),
    "vit_large": (1024, 24, 16),
}
"""``embed_dim``, ``depth`` and ``num_heads`` by name."""


@dataclass(frozen=True)
class ViTConfig:
    """Configuration of a ViT."""

    embed_dim: int = 192
    """D, width of every token; divisible by 4."""
    depth: int = 12
    """Number of blocks."""
    num_heads: int = 3
    """Attention heads of a block; must divide ``embed_dim``."""
    patch_size: int = 8
    """Side of a patch in pixels."""
    size: int = 64
    """Side in pixels of the images for which position embeddings are learned; other sizes interpolate them."""
    stem: Literal["linear", "conv", "residual"] = "linear"
    """How pixels become tokens: by one linear map, a few convolutions, or a small residual network."""
    pos_embed: Literal["learned", "rotary"] = "learned"
    """Position embedding: a learned table is added to the tokens, or each block rotates queries and keys (RoPE)."""
    class_token: bool = False
    """Whether a learned token that represents the whole image precedes the patches."""
    registers: int = 0
    """Number of further learned tokens without a patch, in which attention can store information."""
    drop_path: float = 0.0
    """Probability that training skips a branch of the last block for an image; it rises linearly from 0."""
    layer_scale: float | None = None
    """Initial value of the learned scale of each branch; None means no scale."""
    qk_norm: bool = False
    """Whether queries and keys are normalized in each attention head, which stabilizes large networks."""
    pooling: Literal["mean", "class"] = "mean"
    """Pooled features: the mean of the normalized patch tokens, or the class token."""
    input_spec: InputSpec = IMAGENET_INPUT
    """How images are normalized, their number of channels, and whether they become grayscale."""

    def __post_init__(self) -> None:
        check_input_spec(self.input_spec)
        for name, low in (("embed_dim", 4), ("depth", 1), ("patch_size", 1), ("size", 1), ("registers", 0)):
            if getattr(self, name) < low:
                raise HeadwayError("value-out-of-range", f"ViT {name} must be {low} or more, got {getattr(self, name)}")
        if self.embed_dim % 4:
            raise HeadwayError(
                "value-out-of-range",
                f"ViT embed_dim must be divisible by 4 (2 axes, sine and cosine), got {self.embed_dim}",
            )
        if self.stem not in STEMS:
            raise unknown_name_error("stem", self.stem, STEMS)
        if self.size % self.patch_size:
            low = self.size // self.patch_size * self.patch_size
            sizes = [str(side) for side in (low, low + self.patch_size) if side]
            raise HeadwayError(
                "value-out-of-range",
                f"size {self.size} is not divisible by patch size {self.patch_size}: take size {' or '.join(sizes)}, "
                "or another patch size",
            )
        head_dim = resolve_head_dim(self.embed_dim, self.num_heads)
        if self.pos_embed not in ("learned", "rotary"):
            raise unknown_name_error("pos_embed", self.pos_embed, ("learned", "rotary"))
        if self.pos_embed == "rotary":
            check_rope_head_dim(head_dim)
        if not 0.0 <= self.drop_path < 1.0:
            raise HeadwayError("value-out-of-range", f"ViT drop_path is a probability in [0, 1), got {self.drop_path}")
        if self.pooling not in ("mean", "class"):
            raise unknown_name_error("pooling", self.pooling, ("mean", "class"))
        if self.pooling == "class" and not self.class_token:
            raise HeadwayError("backbone-unsupported", "pooling='class' needs class_token=True")
