"""Hooks on attention: listen to its weights, take its steps slowly, silence one attention head.

Nothing of this costs anything until it is asked for: hooks are there while pictures go through, and gone after it. Our
ViTs and timm's are treated alike.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from headway.backbones.timm_vit import attention_of_timm
from headway.errors import HeadwayError
from headway.nn.attention import MultiHeadAttention, Steps


class Look(NamedTuple):
    """The attention weights of one pass.

    Attributes:
        weights: One B h T T a layer; rows look, columns are looked at, rows sum to one. Prefix tokens stand first.
        prefix: P, how many tokens (class token, registers) stand before the patches.
        grid: Rows and columns of patches.
    """

    weights: tuple[Tensor, ...]
    prefix: int
    grid: tuple[int, int]


def attentions_of(backbone: Any) -> list[Any]:
    """The attention modules of a backbone, a layer each: ours or timm's.

    Raises:
        HeadwayError: For a network without them.
    """
    blocks = getattr(getattr(backbone, "network", backbone), "blocks", None)
    parts = list(blocks.modules()) if isinstance(blocks, nn.Module) else []
    found = [part for part in parts if isinstance(part, MultiHeadAttention) or _is_timms(part)]
    if not found:
        name = getattr(backbone, "name", type(backbone).__name__)
        raise HeadwayError(f"{name} has no attention to look at: take a ViT, of ours or of timm")
    return found


def heads_of(attention: Any) -> int:
    """How many attention heads a module has."""
    return int(attention.attention_heads if isinstance(attention, MultiHeadAttention) else attention.num_heads)


@torch.no_grad()
def look(backbone: nn.Module, images: Tensor) -> Look:
    """The attention weights of every layer.

    Args:
        backbone: A ViT, of ours or of timm; it is asked in evaluation mode, and left as it was.
        images: B C H W, floating point in [0, 1].

    Raises:
        HeadwayError: For a network that has none, or whose tokens don't all attend to all others.
    """
    attentions, heard = attentions_of(backbone), {}
    with ExitStack() as stack, _evaluating(backbone):
        for layer, attention in enumerate(attentions):

            def hear(weights: Tensor, layer: int = layer) -> None:
                heard[layer] = weights

            stack.enter_context(_listening(attention, hear))
        features = backbone(images)
    prefix, (rows, columns) = features.prefix.shape[1], features.grid
    tokens = prefix + rows * columns
    wanted = [(len(images), heads_of(attention), tokens, tokens) for attention in attentions]
    if [tuple(heard[layer].shape) if layer in heard else () for layer in range(len(wanted))] != wanted:
        name = getattr(backbone, "name", type(backbone).__name__)
        raise HeadwayError(f"not every token of {name} attends to all others (it looks through windows, or pools): "
                           "take a plain ViT such as timm:vit_small_patch16_224")  # fmt: skip
    return Look(tuple(heard[layer] for layer in range(len(wanted))), prefix, (rows, columns))


@torch.no_grad()
def steps_of(backbone: nn.Module, images: Tensor, layer: int) -> tuple[MultiHeadAttention, Tensor, Steps, Tensor]:
    """One attention layer in slow motion.

    Args:
        backbone: A ViT, of ours or of timm's plain kind.
        images: B C H W in [0, 1].
        layer: Which, 0 being the first.

    Returns:
        The attention (ours, with the network's own parameters), the tokens that enter it (B T D), every step, and the
        output of the network's own fast form (B T D), for comparison.

    Raises:
        HeadwayError: No such layer, or another kind of attention.
    """
    attentions, caught = attentions_of(backbone), []
    if not 0 <= layer < len(attentions):
        raise HeadwayError(f"there is no layer {layer}: this network has layers 0 to {len(attentions) - 1}")
    own = attentions[layer]
    attention = own if isinstance(own, MultiHeadAttention) else attention_of_timm(own)

    def catch(module: nn.Module, given: Any, named: dict[str, Any], output: Tensor) -> None:
        caught.append((given[0], {"turns": named.get("turns")}, output))

    handle = own.register_forward_hook(catch, with_kwargs=True)
    try:
        with _evaluating(backbone):
            backbone(images)
            x, named, output = caught[0]
            return attention, x, attention.steps(x, **named), output
    finally:
        handle.remove()


@contextmanager
def silenced(attention: Any, head: int) -> Iterator[None]:
    """Meanwhile one attention head says nothing: what it saw is set to zero before the linear map that follows.

    Michel, Levy and Neubig, "Are sixteen heads really better than one?", 2019 (https://arxiv.org/abs/1905.10650).
    """
    count = heads_of(attention)

    def hush(module: nn.Module, given: tuple[Tensor, ...]) -> Tensor:
        apart = given[0].unflatten(-1, (count, -1))  # B T h d
        speaks = (torch.arange(count, device=apart.device) != head).to(apart.dtype)[:, None]  # h 1
        return (apart * speaks).flatten(-2)  # B T h*d

    output = attention.output if isinstance(attention, MultiHeadAttention) else attention.proj
    handle = output.register_forward_pre_hook(hush)
    try:
        yield
    finally:
        handle.remove()


def _is_timms(part: nn.Module) -> bool:
    return all(hasattr(part, name) for name in ("attn_drop", "proj", "num_heads"))


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)


@contextmanager
def _listening(attention: Any, hear: Callable[[Tensor], None]) -> Iterator[None]:
    """Meanwhile the attention takes its readable form, and ``hear`` is told its weights, B h T T."""
    if isinstance(attention, MultiHeadAttention):

        def show(module: Any, given: Any, named: dict[str, Any], output: Tensor) -> Tensor:
            steps = module.steps(*given, **named)
            hear(steps.weights)
            return steps.output

        handle, fused = attention.register_forward_hook(show, with_kwargs=True), None
    else:  # timm's readable form sends its weights through a module for dropout
        handle = attention.attn_drop.register_forward_hook(lambda module, given, weights: hear(weights))
        fused = getattr(attention, "fused_attn", False)
        attention.fused_attn = False
    try:
        yield
    finally:
        handle.remove()
        if fused is not None:
            attention.fused_attn = fused
