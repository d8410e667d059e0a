"""One training step of our ViT against timm's of the same shape, as a ratio in one run: `python benchmarks/step.py`.

Forward and backward, interleaved pairs, medians; float32 and bf16, attention plain and fused. Below 1 ours is faster.
"""

import argparse
import statistics
import time

import torch
from timm.models.vision_transformer import VisionTransformer

from headway.backbones.build import build_backbone
from headway.backbones.vit import VIT_SIZES
from headway.nn.attention import set_attention_impl


def seconds(network: torch.nn.Module, images: torch.Tensor, bf16: bool) -> float:
    """Time of one forward and backward pass."""
    began = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        answer = network(images)
        pooled = getattr(answer, "pooled", answer)
        loss = pooled.float().square().mean()
    loss.backward()
    return time.perf_counter() - began


def main() -> None:
    """Print a table of ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="vit_tiny", choices=VIT_SIZES)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--pairs", type=int, default=7)
    arguments = parser.parse_args()
    width, depth, attention_heads = VIT_SIZES[arguments.backbone]
    ours = build_backbone(arguments.backbone, size=arguments.size)
    peer = VisionTransformer(
        img_size=arguments.size, patch_size=ours.patch_size, embed_dim=width, depth=depth, num_heads=attention_heads,
        num_classes=0, class_token=False, global_pool="avg",
    )  # fmt: skip
    images = torch.rand(arguments.batch, 3, arguments.size, arguments.size)
    print(f"{arguments.backbone}, {arguments.size} px, batch {arguments.batch}, {torch.get_num_threads()} threads")
    for bf16 in (False, True):
        for form in ("manual", "sdpa"):
            set_attention_impl(ours, form)
            for network in (ours, peer):
                seconds(network, images, bf16)
            pairs = [(seconds(ours, images, bf16), seconds(peer, images, bf16)) for _ in range(arguments.pairs)]
            ratio = statistics.median(mine / its for mine, its in pairs)
            rate = arguments.batch_size / statistics.median(mine for mine, _ in pairs)
            print(f"{'bf16' if bf16 else 'float32':>8} {form:>6}: {ratio:.2f} of timm's time, {rate:,.0f} images/s")


if __name__ == "__main__":
    main()
