"""The ViT: what it can, what it hides, what it refuses."""

import pytest
import torch
from torch import nn

from headway.backbones.load import auto_patch, build_backbone
from headway.backbones.vit import SIZES, ViT, ViTConfig
from headway.draws import Draws
from headway.errors import HeadwayError
from headway.protocol import Backbone, Inputs

STEMS = ("linear", "conv")


def small(depth=2, **choices):
    torch.manual_seed(0)
    return build_backbone("vit_nano", size=16, depth=depth, **choices).eval()


def rand(*shape, dtype=torch.float32):
    return torch.rand(*shape, dtype=dtype, generator=torch.Generator().manual_seed(1))


def test_sizes_are_the_designs():
    for name, (width, depth, heads) in SIZES.items():
        assert width // heads == (32 if name in ("vit_pico", "vit_nano", "vit_micro") else 64), name
        assert depth in (2, 4, 6, 12, 24)
    assert [auto_patch(size) for size in (16, 32, 48, 96, 128, 224)] == [4, 4, 8, 8, 16, 16]
    assert isinstance(small(), Backbone)
    assert small().name.startswith("ViT 96x2") and build_backbone("vit_nano", size=16).name == "vit_nano"


@pytest.mark.parametrize("stem", STEMS)
def test_shapes(stem):
    vit = small(stem=stem, class_token=True, registers=2)
    features = vit(rand(2, 3, 16, 24), layers=(-1, 0))
    assert features.pooled.shape == (2, 96) and features.patches.shape == (2, 24, 96)
    assert features.prefix.shape == (2, 3, 96) and features.grid == (4, 6)
    assert [layer.shape for layer in features.layers] == [(2, 27, 96)] * 2
    torch.testing.assert_close(vit.norm(features.layers[0])[:, 3:], features.patches)
    torch.testing.assert_close(features.pooled, features.patches.mean(1))
    assert small()(rand(2, 3, 16, 16)).prefix.shape == (2, 0, 96)


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("arguments", ["none", "keep", "mask", "fill", "place", "all"])
def test_every_parameter_gets_a_gradient_whatever_is_asked(stem, arguments):
    vit = small(stem=stem, class_token=True, registers=1, layer_scale=0.1).train()
    mask, fill = torch.arange(16).expand(2, 16) % 3 == 0, nn.Parameter(torch.zeros(96))
    keep = torch.tensor([[3, 1, 4], [15, 9, 2]])
    asked = {
        "none": {},
        "keep": {"keep": keep},
        "mask": {"mask": mask},
        "fill": {"mask": mask, "fill": fill},
        "place": {"place": False},
        "all": {"keep": keep, "mask": mask, "fill": fill, "place": False, "layers": (0,)},
    }[arguments]
    vit(rand(2, 3, 16, 16), **asked).pooled.square().sum().backward()
    assert [name for name, p in vit.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("how", ["keep", "mask"])
def test_nothing_leaks_from_hidden_pixels(stem, how):
    vit, images = small(stem=stem), rand(2, 3, 16, 16)
    hidden = rand(2, 16).argsort(1) < 9  # B N, 9 of 16
    asked = {"mask": hidden} if how == "mask" else {"keep": (~hidden).nonzero()[:, 1].reshape(2, 7)}
    pixels = hidden.reshape(2, 4, 1, 4, 1).expand(2, 4, 4, 4, 4).reshape(2, 1, 16, 16)
    other = torch.where(pixels, 1 - images, images)
    for a, b in zip(vit(images, **asked)[:3], vit(other, **asked)[:3], strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(vit(images).pooled, vit(other).pooled)


def test_fill_stands_in_for_what_is_masked():
    vit, images = small(), rand(1, 3, 16, 16)
    everything = torch.ones(1, 16, dtype=torch.bool)
    fill = torch.randn(96)
    tokens = (fill + vit.positions.flatten(0, 1))[None]
    for block in vit.blocks:
        tokens = block(tokens)
    torch.testing.assert_close(vit(images, mask=everything, fill=fill).patches, vit.norm(tokens))
    zeros = vit(images, mask=everything, fill=torch.zeros(96)).pooled
    torch.testing.assert_close(vit(images, mask=everything).pooled, zeros)


def test_keep_gives_patches_in_the_order_asked():
    vit, images = small(depth=1), rand(1, 3, 16, 16)
    forth, back = torch.tensor([[2, 7, 11]]), torch.tensor([[11, 7, 2]])
    torch.testing.assert_close(vit(images, keep=forth).patches, vit(images, keep=back).patches.flip(1))


def test_drop_path_is_the_same_however_the_batch_is_cut():
    vit, images = small(drop_path=0.5, depth=3).double().train(), rand(4, 3, 16, 16, dtype=torch.float64)

    def run(rows):
        with Draws(0, torch.arange(4)[rows]).active():
            return vit(images[rows]).pooled

    whole = run(slice(0, 4))
    torch.testing.assert_close(torch.cat([run(slice(0, 1)), run(slice(1, 4))]), whole)
    assert not torch.allclose(whole, vit.eval()(images).pooled)


def test_inputs_are_normalised_greyed_and_cast():
    images = rand(2, 3, 16, 16)
    plain = small(inputs=Inputs(mean=(0.0,) * 3, std=(1.0,) * 3))
    scaled = small(inputs=Inputs(mean=(0.2, 0.3, 0.4), std=(0.5, 0.6, 0.7)))
    by_hand = (images - torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)) / torch.tensor([0.5, 0.6, 0.7]).view(3, 1, 1)
    torch.testing.assert_close(scaled(images).pooled, plain(by_hand).pooled)
    grey = small(inputs=Inputs(mean=(0.0,) * 3, std=(1.0,) * 3, grey=True))
    lightness = 0.299 * images[:, :1] + 0.587 * images[:, 1:2] + 0.114 * images[:, 2:]
    torch.testing.assert_close(grey(images).pooled, plain(lightness.expand(-1, 3, -1, -1)).pooled)
    assert plain.double()(images).pooled.dtype == torch.float64
    assert plain.bfloat16()(images).pooled.dtype == torch.bfloat16
    assert small(inputs=Inputs((0.5,), (0.5,), channels=1))(rand(2, 1, 16, 16)).pooled.shape == (2, 96)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch's own, hushed while it traces
def test_compile_goes_block_by_block_and_leaves_the_keys():
    vit = small()
    keys, expected = list(vit.state_dict()), vit(rand(1, 3, 16, 16)).pooled
    vit.compile(backend="eager")
    assert list(vit.state_dict()) == keys
    torch.testing.assert_close(vit(rand(1, 3, 16, 16)).pooled, expected)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((2, 3, 15, 16), "15 x 16 pixels can't be cut into patches of 4 x 4: crop or resize them to 16 x 16"),
        ((2, 1, 16, 16), "takes pictures as B 3 H W, got 2 1 16 16"),
        ((3, 16, 16), "takes pictures as B 3 H W, got 3 16 16"),
    ],
)
def test_pictures_that_do_not_fit(shape, words):
    with pytest.raises(HeadwayError, match=words):
        small()(rand(*shape))


def test_integers_are_refused():
    with pytest.raises(HeadwayError, match=r"in \[0, 1\], got torch.uint8: divide by 255"):
        small()(torch.zeros(1, 3, 16, 16, dtype=torch.uint8))


def test_arguments_that_do_not_fit():
    vit, images = small(), rand(2, 3, 16, 16)
    with pytest.raises(ValueError, match="mask must be 2 x 16 for this batch, got 2 x 9"):
        vit(images, mask=torch.zeros(2, 9, dtype=torch.bool))
    with pytest.raises(ValueError, match="keep must be 2 x K for this batch, got 1 x 3"):
        vit(images, keep=torch.zeros(1, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="fill must hold 96 numbers"):
        vit(images, mask=torch.zeros(2, 16, dtype=torch.bool), fill=torch.zeros(3))
    with pytest.raises(ValueError, match=r"layers 0..1 .* got 2"):
        vit(images, layers=(2,))


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"size": 50}, "size 50 is not divisible by patch size 8: take size 48 or 56"),
        ({"pool": "class"}, "needs class_token=True"),
        ({"pool": "max"}, "unknown pool 'max'"),
        ({"stem": "convv"}, "unknown stem 'convv': did you mean conv"),
        ({"stem": "conv", "patch_size": 6, "size": 48}, "patch size 6 must be a power of two"),
        ({"width": 98}, "divisible by 4"),
        ({"depth": 0}, "depth must be 1 or more"),
        ({"drop_path": 1.0}, r"chance in \[0, 1\), got 1.0"),
        ({"width": 100, "attention_heads": 3}, "embed_dim 100 is not divisible by 3 attention heads"),
        ({"inputs": Inputs((0.5,), (0.5,))}, "a mean and a std for each of 3 channels"),
        ({"inputs": Inputs((0.5,) * 3, (0.0,) * 3)}, "every std"),
    ],
)
def test_choices_that_do_not_fit(choices, words):
    with pytest.raises(HeadwayError, match=words):
        ViT(ViTConfig(**choices))
