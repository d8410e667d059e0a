"""timm models as backbones."""

import pytest
import torch
from torch import nn

from headway.backbones.build import build_backbone
from headway.backbones.timm_build import disable_stochasticity
from headway.errors import HeadwayError
from headway.nn.batch_norm import BatchNorm
from headway.protocol import Backbone, InputSpec
from tests.errors import raises

MODELS = ["resnet18", "convnext_atto", "mobilenetv3_small_100", "regnety_002", "vit_tiny_patch16_224", "test_vit"]


def make(name, **choices):
    torch.manual_seed(0)
    return build_backbone(f"timm:{name}", **{"size": 64, **choices})


@pytest.mark.parametrize("name", MODELS)
def test_contract(name):
    backbone, images = make(name), torch.rand(2, 3, 64, 64)
    assert isinstance(backbone, Backbone) and backbone.name == f"timm:{name}"
    features = backbone(images)
    rows, columns = features.grid
    assert (rows, columns) == (64 // backbone.patch_size,) * 2
    assert features.pooled.shape == (2, backbone.embed_dim)
    assert features.patches.shape == (2, rows * columns, backbone.embed_dim)
    assert features.prefix.shape[::2] == (2, backbone.embed_dim)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in backbone.modules())
    for part in ("pooled", "patches"):
        backbone.zero_grad()
        getattr(backbone(images), part).square().sum().backward()
        assert [name for name, p in backbone.named_parameters() if p.grad is None] == [], part


@pytest.mark.parametrize("name", MODELS)
def test_features_equal_timms(name):
    import timm

    backbone = make(name).eval()
    torch.manual_seed(0)
    options = {"img_size": 64, "dynamic_img_size": True} if "vit" in name else {}
    theirs = timm.create_model(name, num_classes=0, **options).eval()
    images = torch.rand(2, 3, 64, 64)
    x = backbone.input_normalizer(images, torch.float32)
    reference = theirs.forward_features(x)
    features = backbone(images)
    if reference.dim() == 4:
        norm = getattr(theirs.head, "norm", torch.nn.Identity()) if hasattr(theirs, "head") else torch.nn.Identity()
        torch.testing.assert_close(features.patches, norm(reference).flatten(2).transpose(1, 2))
    else:
        torch.testing.assert_close(torch.cat([features.prefix, features.patches], 1), theirs.fc_norm(reference))
    if name in ("resnet18", "convnext_atto", "regnety_002"):
        torch.testing.assert_close(features.pooled, theirs(x))


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_masked_pixels_are_replaced(name):
    backbone, images = make(name).eval(), torch.rand(1, 3, 64, 64)
    side = backbone.patch_size
    mask = torch.zeros(1, (64 // side) ** 2, dtype=torch.bool)
    mask[0, 1] = True
    other = images.clone()
    other[..., :side, side : 2 * side] = 0.5
    mask_value = torch.tensor([0.1, -0.2, 0.3])
    assert backbone.mask_value_dim == 3
    first, second = (backbone(x, mask=mask, mask_value=mask_value).pooled for x in (images, other))
    assert torch.equal(first, second)
    mean, std = (torch.tensor(values) for values in (backbone.input_spec.mean, backbone.input_spec.std))
    replaced = images.clone()
    replaced[..., :side, side : 2 * side] = (mask_value * std + mean).view(3, 1, 1)
    torch.testing.assert_close(first, backbone(replaced).pooled)
    replaced[..., :side, side : 2 * side] = mean.view(3, 1, 1)
    torch.testing.assert_close(backbone(images, mask=mask).pooled, backbone(replaced).pooled)
    with pytest.raises(ValueError, match="mask_value must hold 3 numbers"):
        backbone(images, mask=mask, mask_value=torch.zeros(backbone.embed_dim))


@pytest.mark.parametrize("name", ["fasternet_s", "test_vit_relpos"])
def test_training_mode_is_deterministic(name):
    backbone, images = make(name).train(), torch.rand(2, 3, 64, 64)
    outputs = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        outputs.append(backbone(images).patches)
        assert torch.equal(torch.get_rng_state(), torch.manual_seed(seed).get_state())  # no random number was drawn
    assert torch.equal(*outputs)


def test_disable_stochasticity_handles_every_kind():
    from timm.layers import DropPath, RotaryEmbeddingDinoV3
    from timm.models.efficientvit_msra import ResidualDrop

    model = nn.ModuleList([
        DropPath(0.5), nn.Dropout2d(0.5), ResidualDrop(nn.Identity(), 0.5), RotaryEmbeddingDinoV3(8, rescale_coords=2.0)
    ]).train()  # fmt: skip
    disable_stochasticity(model)
    images = torch.rand(8, 3, 4, 4)
    for part in model[:3]:
        assert torch.equal(part(images), 2 * images if isinstance(part, ResidualDrop) else images)
    assert torch.equal(model[3].get_embed([4, 4]), model[3].eval().get_embed([4, 4]))


def test_layers_come_in_the_requested_order():
    backbone, images = make("vit_tiny_patch16_224").eval(), torch.rand(1, 3, 64, 64)
    assert backbone.supports == {"mask", "return_layers"}
    features = backbone(images, return_layers=(-1, 0))
    assert [layer.shape for layer in features.layers] == [(1, 17, 192)] * 2
    torch.testing.assert_close(backbone.network.norm(features.layers[0])[:, 1:], features.patches)
    torch.testing.assert_close(features.layers[1], backbone(images, return_layers=(0,)).layers[0])
    with pytest.raises(ValueError, match=r"layers 0..11"):
        backbone(images, return_layers=(12,))
    assert make("mixer_s32_224")(images, return_layers=(0,)).layers[0].shape == (1, 4, 512)  # no prefix tokens


def test_unsupported_arguments_are_refused_by_name():
    backbone = make("resnet18")
    assert backbone.supports == {"mask"}
    words = "timm:resnet18 does not support keep_indices or use_pos_embed; it supports only mask"
    with pytest.raises(HeadwayError, match=words):
        backbone(torch.rand(1, 3, 64, 64), keep_indices=torch.zeros(1, 1, dtype=torch.int64), use_pos_embed=False)


def test_other_sizes_channels_and_poolings():
    images = torch.rand(2, 3, 96, 64)
    assert make("resnet18")(images).grid == (3, 2)
    assert make("vit_tiny_patch16_224")(images).grid == (6, 4)
    with raises("image-format", "64", "96"):
        make("mixer_s32_224")(images)
    five_channels = InputSpec((0.5,) * 5, (0.5,) * 5, channels=5)
    assert make("resnet18", input_spec=five_channels)(torch.rand(2, 5, 64, 64)).pooled.shape == (2, 512)
    by_class = make("vit_tiny_patch16_224", pooling="class").eval()(images)
    assert torch.equal(by_class.pooled, by_class.prefix[:, 0])
    with raises("backbone-unsupported"):
        make("resnet18", pooling="class")
    with raises("image-size", "60"):
        make("vit_tiny_patch16_224", size=60)


def test_cifar_stem_keeps_the_resolution():
    backbone = make("resnet18", size=32, cifar_stem=True)
    assert backbone.patch_size == 8
    assert backbone(torch.rand(2, 3, 32, 32)).grid == (4, 4)
    assert isinstance(backbone.network.bn1, BatchNorm)
    with raises("options-conflict", "cifar_stem"):
        make("convnext_atto", cifar_stem=True)
