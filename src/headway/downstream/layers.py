"""How deep in the backbone each parameter lies: what layer-wise rates and "the last n blocks" are made of."""

import re
from typing import Any

from torch import nn

from headway.backbones.vit import ViT
from headway.config import NO_DECAY, Rule
from headway.errors import HeadwayError


def depths(backbone: nn.Module) -> dict[str, int]:
    """Depth by parameter name: 0 for stem, positions and tokens, then 1 for the first block up to L for the last.

    A last norm goes with the last block. Of a timm network the depths are those by which timm groups it, or where it
    does not say, the order of its parts.
    """
    names = [name for name, _ in backbone.named_parameters()]
    if isinstance(backbone, ViT):
        last = len(backbone.blocks)
        found = {name: re.match(r"blocks\.(\d+)\.", name) for name in names}
        first = ("stem.", "positions", "class_token", "registers")
        return {
            name: int(match[1]) + 1 if (match := found[name]) else 0 if name.startswith(first) else last
            for name in names
        }
    around: Any = backbone
    network = around.network
    if hasattr(network, "group_matcher"):
        from timm.models import group_parameters

        groups = group_parameters(network, network.group_matcher(coarse=False), reverse=True)
    else:
        groups = _in_order(network)
    known = {f"network.{name}": depth for name, depth in groups.items()}
    last = max(known[name] for name in names if name in known)
    return {name: min(known.get(name, last), last) for name in names}


def _in_order(network: nn.Module) -> dict[str, int]:
    """Depth by parameter name: parts are numbered as they stand, a list's members each, and a norm as what it follows.

    Positions and tokens, which lie beside the parts, have depth 0.
    """
    parts: list[tuple[str, nn.Module]] = []
    for name, part in network.named_children():
        many = isinstance(part, (nn.Sequential, nn.ModuleList))
        parts += [(f"{name}.{each}", member) for each, member in part.named_children()] if many else [(name, part)]
    found, depth = {name: 0 for name, _ in network.named_parameters(recurse=False)}, -1
    for name, part in parts:
        if inner := [f"{name}.{each}" for each, _ in part.named_parameters()]:
            depth = max(depth + ("norm" not in type(part).__name__.lower()), 0)
            found |= dict.fromkeys(inner, depth)
    return found


def hold_first(backbone: nn.Module, blocks: int) -> None:
    """Let only the last ``blocks`` blocks (and the last norm) move, in place; 0 lets all of it move.

    Raises:
        HeadwayError: For fewer than 0 or more than there are.
    """
    places = depths(backbone)
    last = max(places.values())
    if not 0 <= blocks <= last:
        raise HeadwayError(
            f"the backbone has {last} blocks, so --blocks lies in 0..{last} (0: all of it), got {blocks}"
        )
    if blocks:
        for name, parameter in backbone.named_parameters():
            parameter.requires_grad_(places[name] > last - blocks)


def layer_rules(backbone: nn.Module, decay: float, prefix: str = "backbone.") -> tuple[Rule, ...]:
    """Rates that fall towards the input: decay^(L + 1 - depth), beside no decay of vectors.

    Clark et al., "ELECTRA", 2020 (https://arxiv.org/abs/2003.10555); for ViTs Bao et al., "BEiT", 2021
    (https://arxiv.org/abs/2106.08254). What general features the first layers hold is moved least.

    Args:
        backbone: Whose parameters.
        decay: Factor from a block to the one before, in (0, 1].
        prefix: Of their names in the learner.
    """
    if not 0 < decay <= 1:
        raise HeadwayError(f"--layer-decay is a factor in (0, 1], got {decay}")
    groups: dict[tuple[int, float], list[str]] = {}
    for name, depth in depths(backbone).items():
        exempt = any(re.search(rule.pattern, name) for rule in NO_DECAY)
        groups.setdefault((depth, 0.0 if exempt else 1.0), []).append(re.escape(prefix + name))
    last = max(depth for depth, _ in groups)
    return tuple(
        Rule(f"^({'|'.join(names)})$", rate=decay ** (last + 1 - depth), decay=weight_decay, orthogonal=True)
        for (depth, weight_decay), names in sorted(groups.items())
    )
