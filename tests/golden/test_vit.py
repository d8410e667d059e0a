"""Our ViT is timm's, given the same weights, and timm's is ours."""

import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer

from headway.backbones.load import build_backbone
from headway.backbones.timm_vit import attention_of_timm, from_timm, to_timm
from headway.errors import HeadwayError
from headway.nn.attention import use_form
from headway.protocol import Inputs

PLAIN = Inputs(mean=(0.0,) * 3, std=(1.0,) * 3)
SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 3, "num_classes": 5}
OURS = {
    "class": {"pool": "class", "registers": 2, "layer_scale": 0.5},
    "mean": {"pool": "mean"},
    "mean, class token": {"pool": "mean", "class_token": True, "registers": 1, "qk_norm": True},
}
THEIRS = {
    "plain": {},
    "layer scale, registers": {"init_values": 1e-5, "reg_tokens": 3, "no_embed_class": True},
    "places for registers too": {"reg_tokens": 2},
    "mean, qk norm": {"global_pool": "avg", "fc_norm": False, "qk_norm": True, "class_token": False},
    "no biases": {"qkv_bias": False, "proj_bias": False},
    "another size": {"img_size": 48, "dynamic_img_size": True},
}


def shaken(network):
    """The network with every parameter moved: biases, norms and tokens too."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.double().eval()


@pytest.fixture(scope="module", params=OURS)
def both(request):
    choices = {"size": 32, "inputs": PLAIN, "patch_size": 8, "depth": 3, **OURS[request.param]}
    ours = shaken(build_backbone("vit_nano", **choices))
    return ours, to_timm(ours)


@pytest.mark.parametrize("form", ["plain", "fused"])
@pytest.mark.parametrize("size", [(32, 32), (16, 48), (64, 40)])
def test_same_features_and_gradients_at_any_size(both, form, size):
    ours, theirs = both
    use_form(ours, form)
    x, prefix = torch.rand(2, 3, *size, dtype=torch.float64), theirs.num_prefix_tokens
    mine, yours = x.clone().requires_grad_(), x.clone().requires_grad_()
    features, reference = ours(mine, layers=(0, -1)), theirs.forward_features(yours)
    # timm stretches positions in float32 even for a float64 model
    tolerance = {"rtol": 0, "atol": 1e-9 if size == (32, 32) else 1e-5}
    torch.testing.assert_close(features.pooled, theirs(x), **tolerance)
    torch.testing.assert_close(features.prefix, reference[:, :prefix], **tolerance)
    torch.testing.assert_close(features.patches, reference[:, prefix:], **tolerance)
    between = theirs.forward_intermediates(x, indices=[0, 2], output_fmt="NLC", return_prefix_tokens=True)[1]
    for mine_layer, theirs_layer in zip(features.layers, between, strict=True):
        whole = torch.cat([theirs_layer[1], theirs_layer[0]], 1) if prefix else theirs_layer
        torch.testing.assert_close(mine_layer, whole, **tolerance)
    for network in (ours, theirs):
        network.zero_grad()
    features.patches.square().sum().backward()
    reference[:, prefix:].square().sum().backward()
    torch.testing.assert_close(mine.grad, yours.grad, **tolerance)
    deep = theirs.blocks[1].attn
    torch.testing.assert_close(ours.blocks[1].attention.qkv.weight.grad, deep.qkv.weight.grad, **tolerance)


def test_there_and_back(both):
    ours, theirs = both
    again = from_timm(theirs)
    assert again.inputs == ours.inputs and not again.training
    assert again.config.pool == ours.config.pool and again.config.registers == ours.config.registers
    for name, tensor in ours.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


@pytest.mark.parametrize("choices", THEIRS.values(), ids=THEIRS)
def test_timms_as_ours(choices):
    theirs = shaken(VisionTransformer(**{**SMALL, "dynamic_img_size": True, **choices}))
    ours = from_timm(theirs, PLAIN)
    for height, width in ((theirs.patch_embed.img_size[0],) * 2, (40, 24)):
        x = torch.rand(2, 3, height, width, dtype=torch.float64)
        features = ours(x)
        torch.testing.assert_close(features.pooled, theirs.forward_head(theirs.forward_features(x), pre_logits=True),
                                   rtol=0, atol=1e-5)  # fmt: skip
        torch.testing.assert_close(
            torch.cat([features.prefix, features.patches], 1), theirs.forward_features(x), rtol=0, atol=1e-5
        )


def test_a_model_by_name_brings_its_normalisation():
    theirs = timm.create_model("vit_tiny_patch16_224").eval()
    ours = from_timm(theirs)
    assert ours.inputs.mean == tuple(theirs.pretrained_cfg["mean"]) and ours.name == "vit_tiny"
    x = torch.rand(1, 3, 224, 224)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (ours.inputs.mean, ours.inputs.std))
    torch.testing.assert_close(ours(x).prefix, theirs.forward_features((x - mean) / std)[:, :1], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"global_pool": "avg"}, "no norm before its pooling"),
        ({"pre_norm": True}, "a norm before the blocks"),
        ({"mlp_ratio": 2.0}, "an MLP that is not 4 times wider"),
        ({"act_layer": torch.nn.ReLU}, "an MLP that is not plain"),
        ({"pos_embed": "none"}, "takes learned positions"),
        ({"scale_attn_norm": True}, "gated or normalised attention"),
        ({"patch_size": (8, 4)}, "not square"),
    ],
)
def test_what_our_vit_has_no_place_for_is_named(choices, words):
    with pytest.raises(HeadwayError, match=words):
        from_timm(VisionTransformer(**{**SMALL, **choices}), PLAIN)


def test_what_timms_vit_has_no_place_for_is_named():
    for choices, words in (({"stem": "conv"}, "a conv stem"), ({"positions": "rotary"}, "rotary positions")):
        with pytest.raises(HeadwayError, match=words):
            to_timm(build_backbone("vit_nano", size=16, depth=1, **choices))
    with pytest.raises(HeadwayError, match="takes timm's VisionTransformer, got ResNet"):
        from_timm(timm.create_model("resnet18"))
    with pytest.raises(HeadwayError, match="one of our ViTs, got timm:resnet18"):
        to_timm(build_backbone("timm:resnet18", size=32))


def test_timms_attention_alone_shares_its_parameters():
    theirs = shaken(VisionTransformer(**SMALL, qk_norm=True)).blocks[0].attn
    ours, x = attention_of_timm(theirs), torch.randn(2, 5, 48, dtype=torch.float64)
    torch.testing.assert_close(ours.steps(x).output, theirs(x))
    assert ours.qkv.weight is theirs.qkv.weight
    with pytest.raises(HeadwayError, match="AttentionRope is not plain multi-head attention"):
        attention_of_timm(timm.layers.AttentionRope(48, 3))
