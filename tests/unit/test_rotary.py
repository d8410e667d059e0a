"""Rotary positions and registers in the ViT, with every option of the backbone protocol."""

import pytest
import torch

from headway.backbones.build import build_backbone, from_config, to_config
from headway.nn.attention import set_attention_impl
from headway.nn.rotary import apply_rope, rope_angles
from tests.errors import raises


def vit(**choices):
    torch.manual_seed(0)
    return build_backbone("vit_nano", size=16, depth=2, pos_embed="rotary", **choices).double().eval()


def rand(*shape, seed=1):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_apply_rope_is_the_formula():
    angles = rope_angles((2, 3), 4, 8, torch.zeros(0, dtype=torch.float64))  # N d/2
    assert angles.shape == (6, 4)
    x = rand(1, 1, 6, 8)
    rotated = apply_rope(x, (angles.cos(), angles.sin()))
    for patch in range(6):
        row, column = (patch // 3 + 0.5) * 4 / 2, (patch % 3 + 0.5) * 4 / 3
        for pair in range(4):
            axis = row if pair < 2 else column
            angle = torch.tensor(axis * 100.0 ** -((pair % 2) / 2), dtype=torch.float64)
            a, b = x[0, 0, patch, pair], x[0, 0, patch, pair + 4]
            torch.testing.assert_close(rotated[0, 0, patch, pair], a * angle.cos() - b * angle.sin())
            torch.testing.assert_close(rotated[0, 0, patch, pair + 4], a * angle.sin() + b * angle.cos())


@pytest.mark.parametrize("impl", ["manual", "sdpa"])
def test_positions_matter_and_can_be_disabled(impl):
    network, images = vit(class_token=True, registers=2), rand(2, 3, 16, 16)
    set_attention_impl(network, impl)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    tiles = images.unflatten(3, (4, 4)).unflatten(2, (4, 4)).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)  # B N C 4 4
    shuffled = tiles[:, order].unflatten(1, (4, 4)).permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)  # B C H W
    assert (network(images).pooled - network(shuffled).pooled).abs().max() > 1e-3
    torch.testing.assert_close(
        network(images, use_pos_embed=False).pooled, network(shuffled, use_pos_embed=False).pooled
    )


def test_kept_patches_keep_their_positions():
    network, images = vit(registers=1), rand(2, 3, 16, 16)
    order = torch.stack([torch.randperm(16, generator=torch.Generator().manual_seed(row)) for row in range(2)])
    whole, kept = network(images), network(images, keep_indices=order)
    torch.testing.assert_close(kept.patches, whole.patches.gather(1, order[..., None].expand(-1, -1, 96)))
    torch.testing.assert_close(kept.prefix, whole.prefix)
    far, near = (network(images, keep_indices=torch.tensor([[0, k]] * 2)).patches[:, 0] for k in (15, 1))
    assert not torch.allclose(far, near)


def test_mask_mask_value_and_other_sizes():
    network = vit(stem="conv")
    mask = rand(2, 24) < 0.5
    features = network(
        rand(2, 3, 16, 24), mask=mask, mask_value=torch.randn(96, dtype=torch.float64), return_layers=(0,)
    )
    assert features.patches.shape == (2, 24, 96) and features.patches.isfinite().all()
    coarse, fine = (rope_angles(grid, 4, 8, torch.zeros(0)) for grid in ((4, 4), (8, 8)))
    pooled = fine.view(4, 2, 4, 2, -1).mean((1, 3)).flatten(0, 1)  # four small patches cover one large patch
    torch.testing.assert_close(pooled, coarse)


def test_every_parameter_gets_a_gradient():
    for options in ({}, {"use_pos_embed": False}, {"keep_indices": torch.tensor([[3, 1]])}):
        network = vit(class_token=True, registers=2, qk_norm=True, layer_scale=0.1)
        network(rand(1, 3, 16, 16), **options).pooled.square().sum().backward()
        assert [name for name, p in network.named_parameters() if p.grad is None] == []
    assert not any("pos_embed" in name for name in network.state_dict())


def test_half_precision_and_config():
    network = vit(qk_norm=True)
    again = from_config(to_config(network)).double().eval()
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(rand(1, 3, 16, 16)).pooled, network(rand(1, 3, 16, 16)).pooled)
    for impl in ("manual", "sdpa"):
        set_attention_impl(network, impl)
        assert network.bfloat16()(rand(1, 3, 16, 16)).pooled.dtype == torch.bfloat16
        with torch.autocast("cpu", torch.bfloat16):
            assert network.float()(rand(1, 3, 16, 16).float()).pooled.isfinite().all()


def test_widths_that_rope_cannot_rotate_are_refused():
    with raises("value-out-of-range", "head_dim"):
        build_backbone("vit_nano", size=16, pos_embed="rotary", embed_dim=12, num_heads=2)
    with raises("unknown-name", "pos_embed"):
        build_backbone("vit_nano", size=16, pos_embed="rotery")
