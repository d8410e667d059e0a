"""Our ViT as timm's, and timm's as ours: the same weights under other names, the same answers."""

from typing import Any

import torch
from torch import nn

from headway.backbones.timm_surgery import inputs_of
from headway.backbones.vit import ViT, ViTConfig
from headway.errors import HeadwayError
from headway.nn.attention import MultiHeadAttention
from headway.protocol import Inputs

NAMES = {
    "attn.qkv": "attention.qkv",
    "attn.q_norm": "attention.query_norm",
    "attn.k_norm": "attention.key_norm",
    "attn.proj": "attention.output",
    "mlp.fc1": "mlp.widen",
    "mlp.fc2": "mlp.narrow",
    "ls1.gamma": "attention_gamma",
    "ls2.gamma": "mlp_gamma",
}
"""Parts of a block: timm's names and ours. Norms are called alike."""
TOKENS = {"cls_token": "class_token", "reg_token": "registers"}
"""Prefix tokens, in their order: timm's names and ours."""
CLASSIFIER = ("head.", "head_drop.", "fc_norm.")


def to_timm(vit: nn.Module) -> Any:
    """The same network as timm's ``VisionTransformer``, without a classifier, for pictures of any size.

    timm leaves normalising to whoever calls it: the means and deviations are in ``pretrained_cfg``.

    Args:
        vit: A ViT of ours with a linear stem and learned positions.

    Raises:
        HeadwayError: Where timm's has no such part.
    """
    from timm.models.vision_transformer import VisionTransformer

    if not isinstance(vit, ViT):
        raise HeadwayError(f"to_timm takes one of our ViTs, got {getattr(vit, 'name', type(vit).__name__)}")
    config = vit.config
    reasons = {
        f"a {config.stem} stem": config.stem != "linear",
        f"{config.positions} positions": config.positions != "learned",
        "greyed inputs": config.inputs.grey,
    }
    for what, found in reasons.items():
        if found:
            raise HeadwayError(f"timm's VisionTransformer has no place for {what}; this ViT stays with us")
    model = VisionTransformer(
        img_size=config.size, patch_size=config.patch_size, in_chans=config.inputs.channels, num_classes=0,
        global_pool="token" if config.pool == "class" else "avg", embed_dim=config.width, depth=config.depth,
        num_heads=config.attention_heads, qk_norm=config.qk_norm, class_token=config.class_token,
        init_values=None if config.layer_scale is None else 1.0, reg_tokens=config.registers, no_embed_class=True,
        fc_norm=False, dynamic_img_size=True, drop_path_rate=config.drop_path,
    )  # fmt: skip
    ours = dict(vit.state_dict())
    state = {"pos_embed": ours.pop("positions").flatten(0, 1)[None]}  # 1 N D
    state |= {name: ours.pop(token)[None] for name, token in TOKENS.items() if token in ours}  # 1 P D
    side = config.patch_size
    state["patch_embed.proj.weight"] = ours.pop("stem.project.weight").unflatten(1, (-1, side, side))  # D C side side
    state["patch_embed.proj.bias"] = ours.pop("stem.project.bias")
    back = {mine: theirs for theirs, mine in NAMES.items()}
    state |= {_renamed(name, back): tensor for name, tensor in ours.items()}
    model.to(vit.norm.weight.dtype).load_state_dict(state)
    shape = (config.inputs.channels, config.size, config.size)
    model.pretrained_cfg = {"mean": config.inputs.mean, "std": config.inputs.std, "input_size": shape}
    return model.to(vit.norm.weight.device).train(vit.training)


def from_timm(model: Any, inputs: Inputs | None = None) -> ViT:
    """Our ViT with the weights of timm's ``VisionTransformer``; its classifier is left behind.

    A position that timm adds to class token or registers is folded into them. Dropout of tokens, weights and patches,
    which timm applies in training, is not taken over; drop-path is.

    Args:
        model: Of timm, with a linear stem of square patches, learned positions and plain blocks.
        inputs: How pictures are normalised; None means as timm says for this model.

    Raises:
        HeadwayError: Where the model has a part that ours has not, naming it.
    """
    _refuse_unlike(model)
    first, side = model.blocks[0], model.patch_embed.patch_size[0]
    config = ViTConfig(
        width=model.embed_dim,
        depth=len(model.blocks),
        attention_heads=first.attn.num_heads,
        patch_size=side,
        size=model.patch_embed.img_size[0],
        class_token=model.cls_token is not None,
        registers=model.num_reg_tokens,
        drop_path=float(getattr(model.blocks[-1].drop_path1, "drop_prob", 0.0) or 0.0),
        layer_scale=None if _is_none(first.ls1) else 1.0,
        qk_norm=not _is_none(first.attn.q_norm),
        pool="class" if model.global_pool == "token" else "mean",
        inputs=inputs or inputs_of(model),
    )
    theirs = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(CLASSIFIER)}
    table, rows = theirs.pop("pos_embed")[0], config.size // side  # N D, or P+N D
    ahead, patches = table.split([len(table) - rows**2, rows**2])  # P D or nothing, N D
    state, begin = {"positions": patches.unflatten(0, (rows, rows))}, 0  # rows columns D
    for name, token in TOKENS.items():
        if name in theirs:
            state[token] = theirs.pop(name)[0]  # P D
            if len(ahead):
                state[token] = state[token] + ahead[begin : begin + len(state[token])]
            begin += len(state[token])
    state["stem.project.weight"] = theirs.pop("patch_embed.proj.weight").flatten(1)  # D C*side*side
    if "patch_embed.proj.bias" in theirs:
        state["stem.project.bias"] = theirs.pop("patch_embed.proj.bias")
    state |= {_renamed(name, NAMES): tensor for name, tensor in theirs.items()}
    vit = ViT(config).to(table.dtype)
    absent = {name: torch.zeros_like(own) for name, own in vit.state_dict().items() if name.endswith("bias")}
    vit.load_state_dict({**absent, **state})
    return vit.to(table.device).train(model.training)


def attention_of_timm(attention: Any) -> MultiHeadAttention:
    """One of timm's ``Attention`` modules as ours, with the very same parameters, not copies of them.

    Raises:
        HeadwayError: For another kind of attention.
    """
    from timm.layers import Attention

    if type(attention) is not Attention or attention.gate is not None or not _is_none(attention.norm):
        raise HeadwayError(f"{type(attention).__name__} is not plain multi-head attention; take a plain ViT such as "
                           "timm:vit_small_patch16_224")  # fmt: skip
    normed = not _is_none(attention.q_norm)
    with torch.device("meta"):
        ours = MultiHeadAttention(
            attention.qkv.in_features, attention.num_heads, head_width=attention.head_dim, qk_norm=normed
        )
    ours.qkv, ours.output = attention.qkv, attention.proj
    ours.query_norm, ours.key_norm = attention.q_norm, attention.k_norm
    ours.dropout = attention.attn_drop.p
    return ours.train(attention.training)


def _refuse_unlike(model: Any) -> None:
    """Raise HeadwayError for the first part of timm's model that our ViT has no place for."""
    from timm.layers import Attention, LayerNorm, Mlp
    from timm.models.vision_transformer import Block, VisionTransformer

    if type(model) is not VisionTransformer:
        raise HeadwayError(
            f"from_timm takes timm's VisionTransformer, got {type(model).__name__}: load it as timm:NAME"
        )
    if model.pos_embed is None:
        raise HeadwayError("from_timm takes learned positions, and this model has none: load it as timm:NAME")
    square = model.patch_embed.patch_size, model.patch_embed.img_size
    plain = (nn.LayerNorm, LayerNorm)
    blocks = list(model.blocks)
    reasons = {
        "blocks that are not plain": any(type(b) is not Block or type(b.attn) is not Attention for b in blocks),
        "an MLP that is not plain": any(
            type(b.mlp) is not Mlp or type(b.mlp.act) is not nn.GELU or not _is_none(b.mlp.norm) for b in blocks
        ),
        "gated or normalised attention": any(b.attn.gate is not None or not _is_none(b.attn.norm) for b in blocks),
        "an MLP that is not 4 times wider": any(b.mlp.fc1.out_features != 4 * model.embed_dim for b in blocks),
        "a norm before the blocks": not (_is_none(model.norm_pre) and _is_none(model.patch_embed.norm)),
        "no norm before its pooling": type(model.norm) not in plain or not _is_none(model.fc_norm),
        "norms with another epsilon": any(m.eps != 1e-6 for m in model.modules() if isinstance(m, nn.LayerNorm)),
        "a pooling of another kind": model.global_pool not in ("avg", "token", "") or model.pool_include_prefix,
        "pictures or patches that are not square": any(pair is None or pair[0] != pair[1] for pair in square),
    }
    for what, found in reasons.items():
        if found:
            raise HeadwayError(f"our ViT has no place for {what}: load this model as timm:NAME instead")


def _is_none(module: Any) -> bool:
    return module is None or isinstance(module, nn.Identity)


def _renamed(name: str, names: dict[str, str]) -> str:
    for old, new in names.items():
        name = name.replace(old, new)
    return name
