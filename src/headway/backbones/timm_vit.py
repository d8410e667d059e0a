"""Convert our ViT to timm's and back: the weights get other names, and the outputs stay the same."""

from typing import Any

import torch
from torch import nn

from headway.backbones.timm_build import input_spec_of
from headway.backbones.vit import ViT
from headway.backbones.vit_config import ViTConfig
from headway.errors import HeadwayError
from headway.nn.attention import MultiHeadAttention
from headway.protocol import InputSpec

TIMM_TO_HEADWAY = {
    "attn.qkv": "attention.qkv",
    "attn.q_norm": "attention.query_norm",
    "attn.k_norm": "attention.key_norm",
    "attn.proj": "attention.output",
    "ls1.gamma": "attention_gamma",
    "ls2.gamma": "mlp_gamma",
}
"""Parts of a block: timm's names and ours. Norms and MLPs have the same names in both."""
TIMM_PREFIX_TOKENS = {"cls_token": "class_token", "reg_token": "registers"}
"""Prefix tokens in their order: timm's names and ours."""
TIMM_CLASSIFIER_PREFIXES = ("head.", "head_drop.", "fc_norm.")


def to_timm(vit: nn.Module) -> Any:
    """Return the network as timm's ``VisionTransformer``, without a classifier, for images of any size.

    timm models expect normalized images: mean and std are in ``pretrained_cfg``.

    Args:
        vit: A ViT of ours with a linear stem and learned positions.

    Raises:
        HeadwayError: timm's network has no counterpart of a part.
    """
    from timm.models.vision_transformer import VisionTransformer

    if not isinstance(vit, ViT):
        raise HeadwayError(
            "backbone-unsupported", f"to_timm takes one of our ViTs, got {getattr(vit, 'name', type(vit).__name__)}"
        )
    config = vit.config
    reasons = {
        f"a {config.stem} stem": config.stem != "linear",
        f"{config.pos_embed} positions": config.pos_embed != "learned",
        "grayscale inputs": config.input_spec.grayscale,
    }
    for what, found in reasons.items():
        if found:
            raise HeadwayError(
                "backbone-unsupported",
                f"timm's VisionTransformer does not support {what}, so this ViT cannot be converted",
            )
    model = VisionTransformer(
        img_size=config.size, patch_size=config.patch_size, in_chans=config.input_spec.channels, num_classes=0,
        global_pool="token" if config.pooling == "class" else "avg", embed_dim=config.embed_dim, depth=config.depth,
        num_heads=config.num_heads, qk_norm=config.qk_norm, class_token=config.class_token,
        init_values=None if config.layer_scale is None else 1.0, reg_tokens=config.registers, no_embed_class=True,
        fc_norm=False, dynamic_img_size=True, drop_path_rate=config.drop_path,
    )  # fmt: skip
    ours = dict(vit.state_dict())
    state = {"pos_embed": ours.pop("pos_embed").flatten(0, 1)[None]}  # 1 N D
    state |= {name: ours.pop(token)[None] for name, token in TIMM_PREFIX_TOKENS.items() if token in ours}  # 1 P D
    side = config.patch_size
    state["patch_embed.proj.weight"] = ours.pop("stem.project.weight").unflatten(1, (-1, side, side))  # D C side side
    state["patch_embed.proj.bias"] = ours.pop("stem.project.bias")
    headway_to_timm = {headway: timm for timm, headway in TIMM_TO_HEADWAY.items()}
    state |= {_rename(name, headway_to_timm): tensor for name, tensor in ours.items()}
    model.to(vit.norm.weight.dtype).load_state_dict(state)
    shape = (config.input_spec.channels, config.size, config.size)
    model.pretrained_cfg = {"mean": config.input_spec.mean, "std": config.input_spec.std, "input_size": shape}
    return model.to(vit.norm.weight.device).train(vit.training)


def from_timm(model: Any, input_spec: InputSpec | None = None) -> ViT:
    """Return our ViT with the weights of timm's ``VisionTransformer``, without its classifier.

    Where timm adds a position embedding to the class token or registers, it is folded into them. Drop-path is kept; the
    dropout of tokens, weights and patches that timm applies in training is not.

    Args:
        model: A timm model with a linear stem of square patches, learned positions and plain blocks.
        input_spec: How images are normalized; None means timm's values for this model.

    Raises:
        HeadwayError: The model has a part that our ViT does not have; the message names it.
    """
    _check_convertible(model)
    first, side = model.blocks[0], model.patch_embed.patch_size[0]
    config = ViTConfig(
        embed_dim=model.embed_dim,
        depth=len(model.blocks),
        num_heads=first.attn.num_heads,
        patch_size=side,
        size=model.patch_embed.img_size[0],
        class_token=model.cls_token is not None,
        registers=model.num_reg_tokens,
        drop_path=float(getattr(model.blocks[-1].drop_path1, "drop_prob", 0.0) or 0.0),
        layer_scale=None if _is_none(first.ls1) else 1.0,
        qk_norm=not _is_none(first.attn.q_norm),
        pooling="class" if model.global_pool == "token" else "mean",
        input_spec=input_spec or input_spec_of(model),
    )
    timm_state = {
        name: tensor for name, tensor in model.state_dict().items() if not name.startswith(TIMM_CLASSIFIER_PREFIXES)
    }
    table, rows = timm_state.pop("pos_embed")[0], config.size // side  # N D, or P+N D
    prefix, patches = table.split([len(table) - rows**2, rows**2])  # P D or nothing, N D
    state, start = {"pos_embed": patches.unflatten(0, (rows, rows))}, 0  # rows columns D
    for name, token in TIMM_PREFIX_TOKENS.items():
        if name in timm_state:
            state[token] = timm_state.pop(name)[0]  # P D
            if len(prefix):
                state[token] = state[token] + prefix[start : start + len(state[token])]
            start += len(state[token])
    state["stem.project.weight"] = timm_state.pop("patch_embed.proj.weight").flatten(1)  # D C*side*side
    if "patch_embed.proj.bias" in timm_state:
        state["stem.project.bias"] = timm_state.pop("patch_embed.proj.bias")
    state |= {_rename(name, TIMM_TO_HEADWAY): tensor for name, tensor in timm_state.items()}
    vit = ViT(config).to(table.dtype)
    biases = {name: torch.zeros_like(own) for name, own in vit.state_dict().items() if name.endswith("bias")}
    vit.load_state_dict({**biases, **state})
    return vit.to(table.device).train(model.training)


def attention_from_timm(attention: Any) -> MultiHeadAttention:
    """Return timm's ``Attention`` module as ours; both share their parameters.

    Raises:
        HeadwayError: The module is another kind of attention.
    """
    from timm.layers import Attention

    if type(attention) is not Attention or attention.gate is not None or not _is_none(attention.norm):
        raise HeadwayError(
            "backbone-unsupported",
            f"{type(attention).__name__} is not plain multi-head attention; take a plain ViT such as "
            "timm:vit_small_patch16_224",
        )
    qk_norm = not _is_none(attention.q_norm)
    with torch.device("meta"):
        ours = MultiHeadAttention(
            attention.qkv.in_features, attention.num_heads, head_dim=attention.head_dim, qk_norm=qk_norm
        )
    ours.qkv, ours.output = attention.qkv, attention.proj
    ours.query_norm, ours.key_norm = attention.q_norm, attention.k_norm
    ours.dropout = attention.attn_drop.p
    return ours.train(attention.training)


def _check_convertible(model: Any) -> None:
    """Raise HeadwayError for the first part of the timm model that our ViT does not have."""
    from timm.layers import Attention, LayerNorm, Mlp
    from timm.models.vision_transformer import Block, VisionTransformer

    if type(model) is not VisionTransformer:
        raise HeadwayError(
            "backbone-unsupported",
            f"from_timm takes timm's VisionTransformer, got {type(model).__name__}: load it as timm:NAME",
        )
    if model.pos_embed is None:
        raise HeadwayError(
            "backbone-unsupported", "from_timm takes learned positions, and this model has none: load it as timm:NAME"
        )
    square = model.patch_embed.patch_size, model.patch_embed.img_size
    plain = (nn.LayerNorm, LayerNorm)
    blocks = list(model.blocks)
    reasons = {
        "blocks that are not plain": any(type(b) is not Block or type(b.attn) is not Attention for b in blocks),
        "an MLP that is not plain": any(
            type(b.mlp) is not Mlp or type(b.mlp.act) is not nn.GELU or not _is_none(b.mlp.norm) for b in blocks
        ),
        "gated or normalized attention": any(b.attn.gate is not None or not _is_none(b.attn.norm) for b in blocks),
        "an MLP that is not 4 times wider": any(b.mlp.fc1.out_features != 4 * model.embed_dim for b in blocks),
        "a norm before the blocks": not (_is_none(model.norm_pre) and _is_none(model.patch_embed.norm)),
        "no norm before its pooling": type(model.norm) not in plain or not _is_none(model.fc_norm),
        "norms with another epsilon": any(m.eps != 1e-6 for m in model.modules() if isinstance(m, nn.LayerNorm)),
        "a pooling of another kind": model.global_pool not in ("avg", "token", "") or model.pool_include_prefix,
        "images or patches that are not square": any(pair is None or pair[0] != pair[1] for pair in square),
    }
    for what, found in reasons.items():
        if found:
            raise HeadwayError(
                "backbone-unsupported", f"our ViT does not support {what}: load this model as timm:NAME instead"
            )


def _is_none(module: Any) -> bool:
    return module is None or isinstance(module, nn.Identity)


def _rename(name: str, names: dict[str, str]) -> str:
    for old, new in names.items():
        name = name.replace(old, new)
    return name
