"""The depth of each parameter in the backbone, for layer-wise learning rates and for training the last n blocks."""

import re
from typing import Any

from torch import nn

from headway.backbones.vit import ViT
from headway.config import NO_DECAY, Rule
from headway.errors import HeadwayError


def layer_depths(backbone: nn.Module) -> dict[str, int]:
    """Depth by parameter name: 0 for the stem, positions and tokens, then 1 for the first block up to L for the last.

    A final norm has the depth of the last block. In a timm network the depths are the groups that timm defines, or,
    where it defines none, the order of the network's parts.
    """
    names = [name for name, _ in backbone.named_parameters()]
    if isinstance(backbone, ViT):
        last = len(backbone.blocks)
        first = ("stem.", "pos_embed", "class_token", "registers")
        return {
            name: int(match[1]) + 1
            if (match := re.match(r"blocks\.(\d+)\.", name))
            else 0
            if name.startswith(first)
            else last
            for name in names
        }
    network: Any = backbone.network
    if hasattr(network, "group_matcher"):
        from timm.models import group_parameters

        groups = group_parameters(network, network.group_matcher(coarse=False), reverse=True)
    else:
        groups = _depths_by_order(network)
    known = {f"network.{name}": depth for name, depth in groups.items()}
    last = max(known[name] for name in names if name in known)
    return {name: min(known.get(name, last), last) for name in names}


def _depths_by_order(network: nn.Module) -> dict[str, int]:
    """Depth by parameter name: the parts are numbered in order.

    Every member of a list is a part of its own, and a norm has the depth of the part before it. Positions and tokens
    are parameters of the network itself and have depth 0.
    """
    parts: list[tuple[str, nn.Module]] = []
    for name, part in network.named_children():
        is_list = isinstance(part, (nn.Sequential, nn.ModuleList))
        parts += [(f"{name}.{key}", member) for key, member in part.named_children()] if is_list else [(name, part)]
    depths, depth = {name: 0 for name, _ in network.named_parameters(recurse=False)}, -1
    for name, part in parts:
        if inner := [f"{name}.{key}" for key, _ in part.named_parameters()]:
            depth = max(depth + ("norm" not in type(part).__name__.lower()), 0)
            depths |= dict.fromkeys(inner, depth)
    return depths


def freeze_all_but_last_blocks(backbone: nn.Module, trainable_blocks: int) -> None:
    """Leave only the last ``trainable_blocks`` blocks (and the final norm) trainable, in place; 0 leaves all of them.

    Raises:
        HeadwayError: Fewer than 0 blocks, or more than there are.
    """
    depths = layer_depths(backbone)
    last = max(depths.values())
    if not 0 <= trainable_blocks <= last:
        raise HeadwayError(
            f"the backbone has {last} blocks, so --blocks must be in 0..{last} (0: all of it), got {trainable_blocks}"
        )
    if trainable_blocks:
        for name, parameter in backbone.named_parameters():
            parameter.requires_grad_(depths[name] > last - trainable_blocks)


def layer_decay_rules(backbone: nn.Module, layer_decay: float) -> tuple[Rule, ...]:
    """Optimizer rules with learning rates that fall towards the input, and without weight decay of vectors.

    The learning rate of a parameter is scaled by layer_decay^(L + 1 - depth): Clark et al., "ELECTRA", 2020
    (https://arxiv.org/abs/2003.10555); for ViTs Bao et al., "BEiT", 2021 (https://arxiv.org/abs/2106.08254). The first
    layers hold the most general features, and change least.

    Args:
        backbone: Its parameters get the rules.
        layer_decay: Factor from a block to the one before it, in (0, 1].
    """
    if not 0 < layer_decay <= 1:
        raise HeadwayError(f"--layer-decay is a factor in (0, 1], got {layer_decay}")
    groups: dict[tuple[int, float], list[str]] = {}
    for name, depth in layer_depths(backbone).items():
        exempt = any(re.search(rule.pattern, name) for rule in NO_DECAY)
        groups.setdefault((depth, 0.0 if exempt else 1.0), []).append(re.escape(f"backbone.{name}"))
    last = max(depth for depth, _ in groups)
    return tuple(
        Rule(f"^({'|'.join(names)})$", lr_scale=layer_decay ** (last + 1 - depth), wd_scale=wd_scale, orthogonal=True)
        for (depth, wd_scale), names in sorted(groups.items())
    )
