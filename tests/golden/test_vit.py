"""Our ViT and timm's with the same weights have the same outputs and gradients; conversion works both ways."""

import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer

from headway.backbones.build import build_backbone
from headway.backbones.timm_vit import attention_from_timm, from_timm, to_timm
from headway.errors import HeadwayError
from headway.nn.attention import set_attention_impl
from headway.protocol import InputSpec
from tests.errors import raises

PLAIN = InputSpec(mean=(0.0,) * 3, std=(1.0,) * 3)
SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 3, "num_classes": 5}
OURS = {
    "class": {"pooling": "class", "registers": 2, "layer_scale": 0.5},
    "mean": {"pooling": "mean"},
    "mean, class token": {"pooling": "mean", "class_token": True, "registers": 1, "qk_norm": True},
}
THEIRS = {
    "plain": {},
    "layer scale, registers": {"init_values": 1e-5, "reg_tokens": 3, "no_embed_class": True},
    "positions for registers too": {"reg_tokens": 2},
    "mean, qk norm": {"global_pool": "avg", "fc_norm": False, "qk_norm": True, "class_token": False},
    "no biases": {"qkv_bias": False, "proj_bias": False},
    "another size": {"img_size": 48, "dynamic_img_size": True},
}


def perturbed(network):
    """Add noise to every parameter of the network: biases, norms and tokens too."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.double().eval()


@pytest.fixture(scope="module", params=OURS)
def both(request):
    choices = {"size": 32, "input_spec": PLAIN, "patch_size": 8, "depth": 3, **OURS[request.param]}
    ours = perturbed(build_backbone("vit_nano", **choices))
    return ours, to_timm(ours)


@pytest.mark.parametrize("impl", ["manual", "sdpa"])
@pytest.mark.parametrize("size", [(32, 32), (16, 48), (64, 40)])
def test_same_features_and_gradients_at_any_size(both, impl, size):
    ours, theirs = both
    set_attention_impl(ours, impl)
    x, prefix = torch.rand(2, 3, *size, dtype=torch.float64), theirs.num_prefix_tokens
    x1, x2 = x.clone().requires_grad_(), x.clone().requires_grad_()
    features, reference = ours(x1, return_layers=(0, -1)), theirs.forward_features(x2)
    # timm interpolates position embeddings in float32 even for a float64 model
    tolerance = {"rtol": 0, "atol": 1e-9 if size == (32, 32) else 1e-5}
    torch.testing.assert_close(features.pooled, theirs(x), **tolerance)
    torch.testing.assert_close(features.prefix, reference[:, :prefix], **tolerance)
    torch.testing.assert_close(features.patches, reference[:, prefix:], **tolerance)
    intermediates = theirs.forward_intermediates(x, indices=[0, 2], output_fmt="NLC", return_prefix_tokens=True)[1]
    for layer, expected in zip(features.layers, intermediates, strict=True):
        tokens = torch.cat([expected[1], expected[0]], 1) if prefix else expected
        torch.testing.assert_close(layer, tokens, **tolerance)
    for network in (ours, theirs):
        network.zero_grad()
    features.patches.square().sum().backward()
    reference[:, prefix:].square().sum().backward()
    torch.testing.assert_close(x1.grad, x2.grad, **tolerance)
    gradient = theirs.blocks[1].attn.qkv.weight.grad
    torch.testing.assert_close(ours.blocks[1].attention.qkv.weight.grad, gradient, **tolerance)


def test_conversion_round_trip(both):
    ours, theirs = both
    again = from_timm(theirs)
    assert again.input_spec == ours.input_spec and not again.training
    assert again.config.pooling == ours.config.pooling and again.config.registers == ours.config.registers
    for name, tensor in ours.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


@pytest.mark.parametrize("choices", THEIRS.values(), ids=THEIRS)
def test_timm_models_convert_to_ours(choices):
    theirs = perturbed(VisionTransformer(**{**SMALL, "dynamic_img_size": True, **choices}))
    ours = from_timm(theirs, PLAIN)
    for height, width in ((theirs.patch_embed.img_size[0],) * 2, (40, 24)):
        x = torch.rand(2, 3, height, width, dtype=torch.float64)
        features = ours(x)
        torch.testing.assert_close(features.pooled, theirs.forward_head(theirs.forward_features(x), pre_logits=True),
                                   rtol=0, atol=1e-5)  # fmt: skip
        torch.testing.assert_close(
            torch.cat([features.prefix, features.patches], 1), theirs.forward_features(x), rtol=0, atol=1e-5
        )


def test_named_model_brings_its_normalization():
    theirs = timm.create_model("vit_tiny_patch16_224").eval()
    ours = from_timm(theirs)
    assert ours.input_spec.mean == tuple(theirs.pretrained_cfg["mean"]) and ours.name == "vit_tiny"
    x = torch.rand(1, 3, 224, 224)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (ours.input_spec.mean, ours.input_spec.std))
    torch.testing.assert_close(ours(x).prefix, theirs.forward_features((x - mean) / std)[:, :1], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"global_pool": "avg"}, "no norm before its pooling"),
        ({"pre_norm": True}, "a norm before the blocks"),
        ({"mlp_ratio": 2.0}, "an MLP that is not 4 times wider"),
        ({"act_layer": torch.nn.ReLU}, "an MLP that is not plain"),
        ({"pos_embed": "none"}, "takes learned positions"),
        ({"scale_attn_norm": True}, "gated or normalized attention"),
        ({"patch_size": (8, 4)}, "not square"),
    ],
)
def test_parts_that_our_vit_lacks_are_named(choices, words):
    with pytest.raises(HeadwayError, match=words):
        from_timm(VisionTransformer(**{**SMALL, **choices}), PLAIN)


def test_parts_that_timms_vit_lacks_are_named():
    for choices, words in (({"stem": "conv"}, "a conv stem"), ({"pos_embed": "rotary"}, "rotary positions")):
        with pytest.raises(HeadwayError, match=words):
            to_timm(build_backbone("vit_nano", size=16, depth=1, **choices))
    with raises("backbone-unsupported"):
        from_timm(timm.create_model("resnet18"))
    with raises("backbone-unsupported"):
        to_timm(build_backbone("timm:resnet18", size=32))


def test_converted_attention_shares_its_parameters():
    theirs = perturbed(VisionTransformer(**SMALL, qk_norm=True)).blocks[0].attn
    ours, x = attention_from_timm(theirs), torch.randn(2, 5, 48, dtype=torch.float64)
    torch.testing.assert_close(ours.trace(x).output, theirs(x))
    assert ours.qkv.weight is theirs.qkv.weight
    with raises("backbone-unsupported"):
        attention_from_timm(timm.layers.AttentionRope(48, 3))
