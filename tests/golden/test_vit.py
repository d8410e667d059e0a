"""Our ViT is timm's, given the same weights."""

import pytest
import timm
import torch

from headway.backbones.load import build_backbone
from headway.nn.attention import use_form
from headway.protocol import Inputs

PLAIN = Inputs(mean=(0.0,) * 3, std=(1.0,) * 3)
NAMES = {
    "attn.qkv": "attention.qkv",
    "attn.proj": "attention.output",
    "mlp.fc1": "mlp.widen",
    "mlp.fc2": "mlp.narrow",
    "ls1.gamma": "attention_gamma",
    "ls2.gamma": "mlp_gamma",
}


def weights_for_timm(ours, reference):
    state = dict(ours.state_dict())
    width = ours.embed_dim
    renamed = {
        "cls_token": state.pop("class_token")[None],  # 1 1 D
        "reg_token": state.pop("registers")[None],  # 1 P D
        "pos_embed": state.pop("positions").reshape(1, -1, width),  # 1 N D
        "patch_embed.proj.weight": state.pop("stem.project.weight").reshape(reference.patch_embed.proj.weight.shape),
        "patch_embed.proj.bias": state.pop("stem.project.bias"),
    }
    for name, tensor in state.items():
        for theirs, mine in NAMES.items():
            name = name.replace(mine, theirs)
        renamed[name] = tensor
    return renamed


@pytest.fixture(scope="module")
def both():
    torch.manual_seed(0)
    ours = build_backbone(
        "vit_nano", size=32, inputs=PLAIN, patch_size=8, pool="class", registers=2, layer_scale=0.5, depth=3
    ).double()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # biases, norms and tokens too
    theirs = timm.models.vision_transformer.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=96, depth=3, num_heads=3, num_classes=0, reg_tokens=2, init_values=0.5,
        no_embed_class=True, dynamic_img_size=True,
    ).double()  # fmt: skip
    theirs.load_state_dict(weights_for_timm(ours, theirs))
    return ours, theirs


@pytest.mark.parametrize("form", ["plain", "fused"])
@pytest.mark.parametrize("size", [(32, 32), (16, 48), (64, 40)])
def test_same_features_and_gradients_at_any_size(both, form, size):
    ours, theirs = both
    use_form(ours, form)
    x = torch.rand(2, 3, *size, dtype=torch.float64)
    mine, yours = x.clone().requires_grad_(), x.clone().requires_grad_()
    features, reference = ours(mine, layers=(0, -1)), theirs.forward_features(yours)
    # timm stretches positions in float32 even for a float64 model
    tolerance = {"rtol": 0, "atol": 1e-9 if size == (32, 32) else 1e-5}
    torch.testing.assert_close(features.pooled, reference[:, 0], **tolerance)
    torch.testing.assert_close(features.prefix, reference[:, :3], **tolerance)
    torch.testing.assert_close(features.patches, reference[:, 3:], **tolerance)
    between = theirs.forward_intermediates(x, indices=[0, 2], output_fmt="NLC", return_prefix_tokens=True)[1]
    for mine_layer, (patches, prefix) in zip(features.layers, between, strict=True):
        torch.testing.assert_close(mine_layer, torch.cat([prefix, patches], 1), **tolerance)
    features.patches.square().sum().backward()
    reference[:, 3:].square().sum().backward()
    torch.testing.assert_close(mine.grad, yours.grad, **tolerance)
