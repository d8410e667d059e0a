"""The ViT: features, masking, initialization sizes, and refused arguments."""

import pytest
import torch
from torch import nn

from headway.attention_viz.attention_hooks import attention_layers
from headway.backbones.build import auto_patch_size, build_backbone, check_supports, to_config
from headway.backbones.extract import extract_features
from headway.backbones.vit import ViT
from headway.backbones.vit_config import VIT_SIZES, ViTConfig
from headway.errors import HeadwayError
from headway.protocol import Backbone, Features, InputSpec
from headway.rng import SampleRNG
from headway.train.engine.oom import enable_activation_checkpointing
from tests.errors import raises

STEMS = ("linear", "conv")


def small(depth=2, **choices):
    torch.manual_seed(0)
    return build_backbone("vit_nano", size=16, depth=depth, **choices).eval()


def rand(*shape, dtype=torch.float32):
    return torch.rand(*shape, dtype=dtype, generator=torch.Generator().manual_seed(1))


def test_named_sizes():
    for name, (embed_dim, depth, num_heads) in VIT_SIZES.items():
        assert embed_dim // num_heads == (32 if name in ("vit_pico", "vit_nano", "vit_micro") else 64), name
        assert depth in (2, 4, 6, 12, 24)
    assert [auto_patch_size(size) for size in (16, 32, 48, 96, 128, 224)] == [4, 4, 8, 8, 16, 16]
    assert isinstance(small(), Backbone)
    assert small().name.startswith("ViT 96x2") and build_backbone("vit_nano", size=16).name == "vit_nano"


@pytest.mark.parametrize("stem", STEMS)
def test_shapes(stem):
    vit = small(stem=stem, class_token=True, registers=2)
    features = vit(rand(2, 3, 16, 24), return_layers=(-1, 0))
    assert features.pooled.shape == (2, 96) and features.patches.shape == (2, 24, 96)
    assert features.prefix.shape == (2, 3, 96) and features.grid == (4, 6)
    assert [layer.shape for layer in features.layers] == [(2, 27, 96)] * 2
    torch.testing.assert_close(vit.norm(features.layers[0])[:, 3:], features.patches)
    torch.testing.assert_close(features.pooled, features.patches.mean(1))
    assert small()(rand(2, 3, 16, 16)).prefix.shape == (2, 0, 96)


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("arguments", ["none", "keep_indices", "mask", "mask_value", "use_pos_embed", "all"])
def test_every_parameter_gets_a_gradient_with_any_arguments(stem, arguments):
    vit = small(stem=stem, class_token=True, registers=1, layer_scale=0.1).train()
    mask, mask_value = torch.arange(16).expand(2, 16) % 3 == 0, nn.Parameter(torch.zeros(96))
    keep = torch.tensor([[3, 1, 4], [15, 9, 2]])
    options = {
        "none": {},
        "keep_indices": {"keep_indices": keep},
        "mask": {"mask": mask},
        "mask_value": {"mask": mask, "mask_value": mask_value},
        "use_pos_embed": {"use_pos_embed": False},
        "all": dict(keep_indices=keep, mask=mask, mask_value=mask_value, use_pos_embed=False, return_layers=(0,)),
    }[arguments]
    vit(rand(2, 3, 16, 16), **options).pooled.square().sum().backward()
    assert [name for name, p in vit.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("argument", ["keep_indices", "mask"])
def test_masked_pixels_have_no_effect(stem, argument):
    vit, images = small(stem=stem), rand(2, 3, 16, 16)
    masked = rand(2, 16).argsort(1) < 9  # B N, 9 of 16
    options = {"mask": masked} if argument == "mask" else {"keep_indices": (~masked).nonzero()[:, 1].reshape(2, 7)}
    pixels = masked.reshape(2, 4, 1, 4, 1).expand(2, 4, 4, 4, 4).reshape(2, 1, 16, 16)
    other = torch.where(pixels, 1 - images, images)
    for a, b in zip(vit(images, **options)[:3], vit(other, **options)[:3], strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(vit(images).pooled, vit(other).pooled)


def test_mask_value_replaces_masked_tokens():
    vit, images = small(), rand(1, 3, 16, 16)
    everything = torch.ones(1, 16, dtype=torch.bool)
    mask_value = torch.randn(96)
    tokens = (mask_value + vit.pos_embed.flatten(0, 1))[None]
    for block in vit.blocks:
        tokens = block(tokens)
    torch.testing.assert_close(vit(images, mask=everything, mask_value=mask_value).patches, vit.norm(tokens))
    zeros = vit(images, mask=everything, mask_value=torch.zeros(96)).pooled
    torch.testing.assert_close(vit(images, mask=everything).pooled, zeros)


def test_kept_patches_come_in_the_requested_order():
    vit, images = small(depth=1), rand(1, 3, 16, 16)
    ascending, descending = torch.tensor([[2, 7, 11]]), torch.tensor([[11, 7, 2]])
    first, second = (vit(images, keep_indices=order).patches for order in (ascending, descending))
    torch.testing.assert_close(first, second.flip(1))


def test_drop_path_does_not_depend_on_how_the_batch_is_split():
    vit, images = small(drop_path=0.5, depth=3).double().train(), rand(4, 3, 16, 16, dtype=torch.float64)

    def run(rows):
        with SampleRNG(0, torch.arange(4)[rows]).use_for_dropout():
            return vit(images[rows]).pooled

    whole = run(slice(0, 4))
    torch.testing.assert_close(torch.cat([run(slice(0, 1)), run(slice(1, 4))]), whole)
    assert not torch.allclose(whole, vit.eval()(images).pooled)


def test_inputs_are_normalized_converted_to_grayscale_and_cast():
    images = rand(2, 3, 16, 16)
    plain = small(input_spec=InputSpec(mean=(0.0,) * 3, std=(1.0,) * 3))
    scaled = small(input_spec=InputSpec(mean=(0.2, 0.3, 0.4), std=(0.5, 0.6, 0.7)))
    normalized = (images - torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)) / torch.tensor([0.5, 0.6, 0.7]).view(3, 1, 1)
    torch.testing.assert_close(scaled(images).pooled, plain(normalized).pooled)
    gray = small(input_spec=InputSpec(mean=(0.0,) * 3, std=(1.0,) * 3, grayscale=True))
    luma = 0.299 * images[:, :1] + 0.587 * images[:, 1:2] + 0.114 * images[:, 2:]
    torch.testing.assert_close(gray(images).pooled, plain(luma.expand(-1, 3, -1, -1)).pooled)
    assert plain.double()(images).pooled.dtype == torch.float64
    assert plain.bfloat16()(images).pooled.dtype == torch.bfloat16
    assert small(input_spec=InputSpec((0.5,), (0.5,), channels=1))(rand(2, 1, 16, 16)).pooled.shape == (2, 96)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # raised inside torch while it traces
def test_compile_keeps_state_dict_keys_and_outputs():
    vit = small()
    keys, expected = list(vit.state_dict()), vit(rand(1, 3, 16, 16)).pooled
    vit.compile(backend="eager")
    assert list(vit.state_dict()) == keys
    torch.testing.assert_close(vit(rand(1, 3, 16, 16)).pooled, expected)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((2, 3, 15, 16), "15 x 16 pixels cannot be split into patches of 4 x 4: crop or resize them to 16 x 16"),
        ((2, 1, 16, 16), "takes images as B 3 H W, got 2 1 16 16"),
        ((3, 16, 16), "takes images as B 3 H W, got 3 16 16"),
    ],
)
def test_images_that_do_not_fit_are_refused(shape, words):
    with pytest.raises(HeadwayError, match=words):
        small()(rand(*shape))


def test_integers_are_refused():
    with raises("image-format", "torch.uint8", "255"):
        small()(torch.zeros(1, 3, 16, 16, dtype=torch.uint8))


def test_optionsthat_do_not_fit_are_refused():
    vit, images = small(), rand(2, 3, 16, 16)
    with pytest.raises(ValueError, match="mask must be 2 x 16 for this batch, got 2 x 9"):
        vit(images, mask=torch.zeros(2, 9, dtype=torch.bool))
    with pytest.raises(ValueError, match="keep_indices must be 2 x K for this batch, got 1 x 3"):
        vit(images, keep_indices=torch.zeros(1, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="mask_value must hold 96 numbers"):
        vit(images, mask=torch.zeros(2, 16, dtype=torch.bool), mask_value=torch.zeros(3))
    with pytest.raises(ValueError, match=r"layers 0..1 .* got 2"):
        vit(images, return_layers=(2,))


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"size": 50}, "size 50 is not divisible by patch size 8: take size 48 or 56"),
        ({"pooling": "class"}, "needs class_token=True"),
        ({"pooling": "max"}, "unknown pooling 'max'"),
        ({"stem": "convv"}, "unknown stem 'convv': did you mean conv"),
        ({"stem": "conv", "patch_size": 6, "size": 48}, "patch size 6 must be a power of two"),
        ({"embed_dim": 98}, "divisible by 4"),
        ({"depth": 0}, "depth must be 1 or more"),
        ({"drop_path": 1.0}, r"probability in \[0, 1\), got 1.0"),
        ({"embed_dim": 100, "num_heads": 3}, "embed_dim 100 is not divisible by 3 attention heads"),
        ({"input_spec": InputSpec((0.5,), (0.5,))}, "a mean and std for each of 3 channels"),
        ({"input_spec": InputSpec((0.5,) * 3, (0.0,) * 3)}, "every std"),
    ],
)
def test_configs_that_do_not_fit_are_refused(choices, words):
    with pytest.raises(HeadwayError, match=words):
        ViT(ViTConfig(**choices))


@pytest.mark.parametrize("stem", ["linear", "conv", "residual"])
def test_depths_are_those_of_the_blocks(stem):
    vit = small(depth=3, stem=stem, class_token=True, registers=1, layer_scale=0.1, qk_norm=True)
    for name, depth in vit.layer_depths().items():
        first, *rest = name.split(".")
        assert depth == (int(rest[0]) + 1 if first == "blocks" else 3 if first == "norm" else 0), name
    assert vit.layer_depths().keys() == dict(vit.named_parameters()).keys()


def test_a_backbone_needs_only_forward_and_sizes():
    with pytest.raises(TypeError, match="abstract"):
        type("Nothing", (Backbone,), {})()

    class Mean(Backbone):
        """The mean color."""

        def __init__(self):
            super().__init__()
            self.embed_dim, self.patch_size, self.image_size = 3, 1, 8
            self.input_spec = InputSpec((0.0,) * 3, (1.0,) * 3)

        def forward(self, images):
            pooled = images.mean((2, 3))  # B 3
            return Features(pooled, pooled[:, None], pooled[:, :0, None], (1, 1))

    network, images = Mean(), (rand(3, 3, 8, 8) * 255).to(torch.uint8)
    torch.testing.assert_close(extract_features(network, images, 8), images.float().mean((2, 3)) / 255)
    assert network.name == "Mean" and network.layer_depths() == {} and network.device == torch.device("cpu")
    assert "Mean supports none of them" in str(check_supports(network, {"mask"}))
    with pytest.raises(ValueError, match="Mean is not a backbone from build_backbone"):
        to_config(network)
    with raises("backbone-unsupported"):
        attention_layers(network)
    with raises("backbone-unsupported"):
        enable_activation_checkpointing(network)
