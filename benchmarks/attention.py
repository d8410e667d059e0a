"""Our multi-head attention against torch's and timm's, as ratios in one run: `python benchmarks/attention.py`.

Self-attention of one layer, forward and forward+backward, over numbers of tokens, in float32 and under bf16 autocast,
and the peak memory of each. Pairs are interleaved; a ratio is the median over pairs of ours / theirs, so below 1 ours
is faster. `ours / ours` is the same code against itself: what a ratio is worth. Ours takes the form (plain or fused)
that a short measurement before finds faster, as a run does; so do the others (torch with and without weights, timm
fused and not), and the fastest of theirs is the peer.
"""

import os

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler, which counts memory, talks much

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext

import timm.layers
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from headway.nn.attention import MultiHeadAttention, set_attention_impl

Step = Callable[[], None]


def contenders(width: int, heads: int, x: Tensor, backward: bool, bf16: bool) -> dict[str, Step]:
    """Every contender as a call without arguments, on the same input and with the same weights."""
    ours = {form: MultiHeadAttention(width, heads) for form in ("manual", "sdpa")}
    for form, module in ours.items():
        set_attention_impl(module, form)
        module.load_state_dict(ours["manual"].state_dict())
    theirs = {form: timm.layers.Attention(width, heads, qkv_bias=True) for form in ("manual", "sdpa")}
    for form, module in theirs.items():
        module.fused_attn = form == "sdpa"
    torchs = nn.MultiheadAttention(width, heads, batch_first=True)

    def step(call: Callable[[Tensor], Tensor]) -> Step:
        def run() -> None:
            cast = torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext()
            if backward:
                given = x.detach().requires_grad_()
                with cast:
                    answer = call(given)
                answer.float().square().mean().backward()
            else:
                with torch.no_grad(), cast:
                    call(x)

        return run

    return {
        **{f"ours {form}": step(module) for form, module in ours.items()},
        **{f"timm {form}": step(module) for form, module in theirs.items()},
        "torch": step(lambda given: torchs(given, given, given, need_weights=False)[0]),
        "torch with weights": step(lambda given: torchs(given, given, given)[0]),
    }


def seconds(step: Step, repeats: int = 1) -> float:
    """Of one call, as a mean over some."""
    began = time.perf_counter()
    for _ in range(repeats):
        step()
    return (time.perf_counter() - began) / repeats


def ratios(ours: Step, peer: Step, pairs: int, repeats: int) -> tuple[float, float]:
    """Medians over pairs of ours / peer and of ours / ours: the three are interleaved, each first in its turn."""
    calls, against, itself = [ours, peer, ours], [], []
    for pair in range(pairs):
        times = [0.0] * 3
        for place in range(3):
            turn = (pair + place) % 3
            times[turn] = seconds(calls[turn], repeats)
        against.append(times[0] / times[1])
        itself.append(times[2] / times[0])
    return statistics.median(against), statistics.median(itself)


def peak(step: Step) -> int:
    """Bytes at the highest of what one call allocates and frees."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        step()
    held = highest = 0
    for event in watched.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            highest = max(highest, held)
    return highest


def main() -> None:
    """Print a line a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--attention-heads", type=int, default=3)
    parser.add_argument("--tokens", type=int, nargs="+", default=[16, 64, 256, 1024, 4096])
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=6.0, help="measuring time a ratio, about")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, timm {timm.__version__}, {options.threads} threads, {platform.machine()}")
    print(f"width {options.width}, {options.attention_heads} attention heads, medians of {options.pairs} pairs\n")
    print("| tokens | batch | pass | precision | ours | peer | ms | time / peer | ours / ours | memory / peer |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for tokens in options.tokens:
        batch = max(2048 // tokens, 1)
        x = torch.randn(batch, tokens, options.width)
        for bf16 in (False, True):
            for backward in (False, True):
                calls = contenders(options.width, options.attention_heads, x, backward, bf16)
                for call in calls.values():
                    call()
                tries = 5 if tokens <= 1024 else 3
                times = {name: statistics.median(seconds(call) for _ in range(tries)) for name, call in calls.items()}
                ours = min((name for name in calls if name.startswith("ours")), key=times.__getitem__)
                peer = min((name for name in calls if not name.startswith("ours")), key=times.__getitem__)
                repeats = max(int(options.seconds / (3 * options.pairs * times[ours])), 1)
                against, itself = ratios(calls[ours], calls[peer], options.pairs, repeats)
                memory = f"{peak(calls[ours]) / peak(calls[peer]):.2f}"
                what = "forward+backward" if backward else "forward"
                kind = "bf16" if bf16 else "float32"
                cells = [f"{tokens:,}", batch, what, kind, ours.split()[1], peer, f"{1000 * times[ours]:.2f}"]
                print("|", " | ".join(map(str, [*cells, f"{against:.3f}", f"{itself:.3f}", memory])), "|", flush=True)


if __name__ == "__main__":
    main()
