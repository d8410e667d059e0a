"""Our multi-head attention against torch's and timm's, as ratios in one run: `python benchmarks/attention.py`.

One layer of self-attention, forward and forward+backward, for several numbers of tokens, in float32 and under bf16
autocast, with the peak memory of each. Pairs are interleaved; a ratio is the median over pairs of ours / theirs, so
below 1 ours is faster. `ours / ours` is the same code against itself and shows the error of a ratio. Ours uses the
implementation (manual or sdpa) that a short measurement beforehand finds faster, as a run does. The others are measured
alike (torch with and without attention weights, timm with and without fused attention); the fastest is the peer.
"""

import os

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler, which measures memory, logs much

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import get_args

import timm.layers
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from headway.nn.attention import AttentionImpl, MultiHeadAttention, set_attention_impl

Step = Callable[[], None]


def implementations(embed_dim: int, num_heads: int, x: Tensor, backward: bool, bf16: bool) -> dict[str, Step]:
    """Every implementation as a call without arguments, on the same input; ours share their weights."""
    ours = {impl: MultiHeadAttention(embed_dim, num_heads) for impl in get_args(AttentionImpl)}
    for impl, module in ours.items():
        set_attention_impl(module, impl)
        module.load_state_dict(ours["manual"].state_dict())
    timms = {impl: timm.layers.Attention(embed_dim, num_heads, qkv_bias=True) for impl in get_args(AttentionImpl)}
    for impl, module in timms.items():
        module.fused_attn = impl == "sdpa"
    torchs = nn.MultiheadAttention(embed_dim, num_heads, batch_first=True)

    def step(call: Callable[[Tensor], Tensor]) -> Step:
        def run() -> None:
            cast = torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext()
            if backward:
                leaf = x.detach().requires_grad_()
                with cast:
                    output = call(leaf)
                output.float().square().mean().backward()
            else:
                with torch.no_grad(), cast:
                    call(x)

        return run

    return {
        **{f"ours {impl}": step(module) for impl, module in ours.items()},
        **{f"timm {impl}": step(module) for impl, module in timms.items()},
        "torch": step(lambda x: torchs(x, x, x, need_weights=False)[0]),
        "torch with weights": step(lambda x: torchs(x, x, x)[0]),
    }


def seconds(step: Step, repeats: int = 1) -> float:
    """Seconds of one call, as a mean over some."""
    start = time.perf_counter()
    for _ in range(repeats):
        step()
    return (time.perf_counter() - start) / repeats


def ratios(ours: Step, peer: Step, pairs: int, repeats: int) -> tuple[float, float]:
    """Medians over pairs of ours / peer and of ours / ours: the three are interleaved, and each is first in turn."""
    calls, against, itself = [ours, peer, ours], [], []
    for pair in range(pairs):
        times = [0.0] * 3
        for position in range(3):
            i = (pair + position) % 3
            times[i] = seconds(calls[i], repeats)
        against.append(times[0] / times[1])
        itself.append(times[2] / times[0])
    return statistics.median(against), statistics.median(itself)


def peak_bytes(step: Step) -> int:
    """Peak of the bytes that one call has allocated and not yet freed."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    allocated = highest = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            allocated += event.nbytes()
            highest = max(highest, allocated)
    return highest


def main() -> None:
    """Print one line per case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--embed-dim", type=int, default=192)
    parser.add_argument("--num-heads", type=int, default=3)
    parser.add_argument("--tokens", type=int, nargs="+", default=[16, 64, 256, 1024, 4096])
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=6.0, help="approximate measuring time per ratio")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, timm {timm.__version__}, {args.threads} threads, {platform.machine()}")
    print(f"embed_dim {args.embed_dim}, {args.num_heads} attention heads, medians of {args.pairs} pairs\n")
    print("| tokens | batch | pass | precision | ours | peer | ms | time / peer | ours / ours | memory / peer |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for tokens in args.tokens:
        batch = max(2048 // tokens, 1)
        x = torch.randn(batch, tokens, args.embed_dim)
        for bf16 in (False, True):
            for backward in (False, True):
                calls = implementations(args.embed_dim, args.num_heads, x, backward, bf16)
                for call in calls.values():
                    call()
                tries = 5 if tokens <= 1024 else 3
                times = {name: statistics.median(seconds(call) for _ in range(tries)) for name, call in calls.items()}
                ours = min((name for name in calls if name.startswith("ours")), key=times.__getitem__)
                peer = min((name for name in calls if not name.startswith("ours")), key=times.__getitem__)
                repeats = max(int(args.seconds / (3 * args.pairs * times[ours])), 1)
                against, itself = ratios(calls[ours], calls[peer], args.pairs, repeats)
                memory = f"{peak_bytes(calls[ours]) / peak_bytes(calls[peer]):.2f}"
                passes = "forward+backward" if backward else "forward"
                precision = "bf16" if bf16 else "float32"
                cells = [f"{tokens:,}", batch, passes, precision, ours.split()[1], peer, f"{1000 * times[ours]:.2f}"]
                print("|", " | ".join(map(str, [*cells, f"{against:.3f}", f"{itself:.3f}", memory])), "|", flush=True)


if __name__ == "__main__":
    main()
