"""Layer-wise learning rates, and training of the last n blocks, by the depth of each parameter in the backbone."""

import re

from headway.config import NO_DECAY, Rule
from headway.errors import HeadwayError
from headway.protocol import Backbone


def freeze_all_but_last_blocks(backbone: Backbone, trainable_blocks: int) -> None:
    """Leave only the last ``trainable_blocks`` blocks (and the final norm) trainable, in place; 0 leaves all of them.

    Raises:
        HeadwayError: Fewer than 0 blocks, or more than there are.
    """
    depths = backbone.layer_depths()
    last = max(depths.values())
    if not 0 <= trainable_blocks <= last:
        raise HeadwayError(
            "value-out-of-range",
            f"the backbone has {last} blocks, so --blocks must be in 0..{last} (0: all of it), got {trainable_blocks}",
        )
    if trainable_blocks:
        for name, parameter in backbone.named_parameters():
            parameter.requires_grad_(depths[name] > last - trainable_blocks)


def layer_decay_rules(backbone: Backbone, layer_decay: float) -> tuple[Rule, ...]:
    """Optimizer rules with learning rates that fall towards the input, and without weight decay of vectors.

    The learning rate of a parameter is scaled by layer_decay^(L + 1 - depth): Clark et al., "ELECTRA", 2020
    (https://arxiv.org/abs/2003.10555); for ViTs Bao et al., "BEiT", 2021 (https://arxiv.org/abs/2106.08254). The first
    layers hold the most general features, and change least.

    Args:
        backbone: Its parameters get the rules.
        layer_decay: Factor from a block to the one before it, in (0, 1].
    """
    if not 0 < layer_decay <= 1:
        raise HeadwayError("value-out-of-range", f"--layer-decay is a factor in (0, 1], got {layer_decay}")
    groups: dict[tuple[int, float], list[str]] = {}
    for name, depth in backbone.layer_depths().items():
        exempt = any(re.search(rule.pattern, name) for rule in NO_DECAY)
        groups.setdefault((depth, 0.0 if exempt else 1.0), []).append(re.escape(f"backbone.{name}"))
    last = max(depth for depth, _ in groups)
    return tuple(
        Rule(f"^({'|'.join(names)})$", lr_scale=layer_decay ** (last + 1 - depth), wd_scale=wd_scale, orthogonal=True)
        for (depth, wd_scale), names in sorted(groups.items())
    )
