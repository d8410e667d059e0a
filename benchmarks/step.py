"""One training step of our ViT against timm's of the same shape, as a ratio in one run: `python benchmarks/step.py`.

Forward and backward passes are interleaved; the ratio is a median, in float32 and bf16, with manual and with sdpa
attention. Below 1 ours is faster.
"""

import argparse
import statistics
import time
from typing import get_args

import torch
from timm.models.vision_transformer import VisionTransformer

from headway.backbones.build import build_backbone
from headway.backbones.vit_config import VIT_SIZES
from headway.nn.attention import AttentionImpl, set_attention_impl


def step_seconds(network: torch.nn.Module, images: torch.Tensor, bf16: bool) -> float:
    """Time of one forward and backward pass."""
    start = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        output = network(images)
        pooled = getattr(output, "pooled", output)
        loss = pooled.float().square().mean()
    loss.backward()
    return time.perf_counter() - start


def main() -> None:
    """Print a table of ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="vit_tiny", choices=VIT_SIZES)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--pairs", type=int, default=7)
    args = parser.parse_args()
    embed_dim, depth, num_heads = VIT_SIZES[args.backbone]
    ours = build_backbone(args.backbone, size=args.size)
    peer = VisionTransformer(
        img_size=args.size, patch_size=ours.patch_size, embed_dim=embed_dim, depth=depth, num_heads=num_heads,
        num_classes=0, class_token=False, global_pool="avg",
    )  # fmt: skip
    images = torch.rand(args.batch_size, 3, args.size, args.size)
    print(f"{args.backbone}, {args.size} px, batch {args.batch_size}, {torch.get_num_threads()} threads")
    for bf16 in (False, True):
        for impl in get_args(AttentionImpl):
            set_attention_impl(ours, impl)
            for network in (ours, peer):
                step_seconds(network, images, bf16)
            pairs = [(step_seconds(ours, images, bf16), step_seconds(peer, images, bf16)) for _ in range(args.pairs)]
            ratio = statistics.median(mine / its for mine, its in pairs)
            speed = args.batch_size / statistics.median(mine for mine, _ in pairs)
            print(f"{'bf16' if bf16 else 'float32':>8} {impl:>6}: {ratio:.2f} of timm's time, {speed:,.0f} images/s")


if __name__ == "__main__":
    main()
