"""Hooks on attention: record its weights, trace its steps, ablate one attention head.

The hooks exist only during the pass that needs them, so they cost nothing otherwise. ViTs of this package and of timm
are both supported.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from headway.backbones.timm_vit import attention_from_timm
from headway.errors import HeadwayError
from headway.nn.attention import AttentionTrace, MultiHeadAttention
from headway.protocol import Backbone


class AttentionMaps(NamedTuple):
    """The attention weights of one pass.

    Attributes:
        weights: One B h T T per layer; a row holds the weights of one token and sums to one. Prefix tokens come first.
        num_prefix_tokens: P, the number of tokens (class token, registers) before the patches.
        grid: Rows and columns of patches.
    """

    weights: tuple[Tensor, ...]
    num_prefix_tokens: int
    grid: tuple[int, int]


def attention_layers(backbone: Backbone) -> list[Any]:
    """The attention modules of a backbone, one per layer.

    Raises:
        HeadwayError: The network has none.
    """
    modules = [module for block in backbone.block_list for module in block.modules()]
    found = [m for m in modules if isinstance(m, MultiHeadAttention) or _is_timm_attention(m)]
    if not found:
        raise HeadwayError(
            "backbone-unsupported", f"{backbone.name} has no attention to show: use a ViT of this package or of timm"
        )
    return found


@torch.no_grad()
def attention_maps(backbone: Backbone, images: Tensor) -> AttentionMaps:
    """The attention weights of every layer.

    Args:
        backbone: A ViT of this package or of timm; it runs in evaluation mode, and its mode is restored.
        images: B C H W, floating point in [0, 1].

    Raises:
        HeadwayError: The network has no attention, or not every token attends to all others.
    """
    attentions, recorded = attention_layers(backbone), dict[int, Tensor]()
    with ExitStack() as stack, _eval_mode(backbone):
        for layer, attention in enumerate(attentions):

            def record(weights: Tensor, layer: int = layer) -> None:
                recorded[layer] = weights

            stack.enter_context(_record_weights(attention, record))
        features = backbone(images)
    prefix, (rows, columns) = features.prefix.shape[1], features.grid
    tokens = prefix + rows * columns
    expected = {layer: (len(images), a.num_heads, tokens, tokens) for layer, a in enumerate(attentions)}
    if {layer: weights.shape for layer, weights in recorded.items()} != expected:
        raise HeadwayError(
            "backbone-unsupported",
            f"not every token of {backbone.name} attends to all others (windowed attention or pooling): "
            "use a plain ViT such as timm:vit_small_patch16_224",
        )
    return AttentionMaps(tuple(recorded[layer] for layer in expected), prefix, (rows, columns))


@torch.no_grad()
def trace_attention(
    backbone: Backbone, images: Tensor, layer: int
) -> tuple[MultiHeadAttention, Tensor, AttentionTrace, Tensor]:
    """Every step of one attention layer.

    Args:
        backbone: A ViT of this package, or a plain one of timm.
        images: B C H W in [0, 1].
        layer: Index of the layer, from 0.

    Returns:
        The attention (a MultiHeadAttention with the network's parameters), its input tokens (B T D), every step, and
        the output of the network's own implementation (B T D), for comparison.

    Raises:
        HeadwayError: There is no such layer, or its attention is of another kind.
    """
    attentions, calls = attention_layers(backbone), []
    if not 0 <= layer < len(attentions):
        raise HeadwayError(
            "value-out-of-range", f"there is no layer {layer}: this network has layers 0 to {len(attentions) - 1}"
        )
    own = attentions[layer]
    attention = own if isinstance(own, MultiHeadAttention) else attention_from_timm(own)

    def record(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Tensor) -> None:
        calls.append((args[0], {"rope": kwargs.get("rope")}, output))

    with own.register_forward_hook(record, with_kwargs=True), _eval_mode(backbone):
        backbone(images)
        x, kwargs, output = calls[0]
        return attention, x, attention.trace(x, **kwargs), output


@contextmanager
def ablate_attention_head(attention: Any, head: int) -> Iterator[None]:
    """Within the context, the output of one attention head is zero before the output projection.

    Michel, Levy and Neubig, "Are sixteen heads really better than one?", 2019 (https://arxiv.org/abs/1905.10650).
    """
    count = attention.num_heads

    def ablate(module: nn.Module, args: tuple[Tensor, ...]) -> Tensor:
        heads = args[0].unflatten(-1, (count, -1))  # B T h d
        mask = (torch.arange(count, device=heads.device) != head).to(heads.dtype)[:, None]  # h 1
        return (heads * mask).flatten(-2)  # B T h*d

    output = attention.output if isinstance(attention, MultiHeadAttention) else attention.proj
    with output.register_forward_pre_hook(ablate):
        yield


def _is_timm_attention(module: nn.Module) -> bool:
    return all(hasattr(module, name) for name in ("attn_drop", "proj", "num_heads"))


@contextmanager
def _eval_mode(network: nn.Module) -> Iterator[None]:
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)


@contextmanager
def _record_weights(attention: Any, record: Callable[[Tensor], None]) -> Iterator[None]:
    """Within the context, attention runs step by step, and ``record`` is called with its weights, B h T T."""
    if isinstance(attention, MultiHeadAttention):

        def replace(module: Any, args: Any, kwargs: dict[str, Any], output: Tensor) -> Tensor:
            trace = module.trace(*args, **kwargs)
            record(trace.weights)
            return trace.output

        with attention.register_forward_hook(replace, with_kwargs=True):
            yield
        return
    # Without the fused kernel, timm passes the weights through a dropout module.
    fused = getattr(attention, "fused_attn", False)
    attention.fused_attn = False
    try:
        with attention.attn_drop.register_forward_hook(lambda module, args, weights: record(weights)):
            yield
    finally:
        attention.fused_attn = fused
