"""Rotary positions and registers in the ViT: whatever the protocol can ask."""

import pytest
import torch

from headway.backbones.load import architecture, build_backbone, from_architecture
from headway.errors import HeadwayError
from headway.nn.attention import use_form
from headway.nn.rotary import grid_angles, turn


def vit(**choices):
    torch.manual_seed(0)
    return build_backbone("vit_nano", size=16, depth=2, positions="rotary", **choices).double().eval()


def rand(*shape, seed=1):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_turning_is_the_formula():
    angles = grid_angles((2, 3), 4, 8, torch.zeros(0, dtype=torch.float64))  # N d/2
    assert angles.shape == (6, 4)
    x = rand(1, 1, 6, 8)
    turned = turn(x, (angles.cos(), angles.sin()))
    for patch in range(6):
        row, column = (patch // 3 + 0.5) * 4 / 2, (patch % 3 + 0.5) * 4 / 3
        for pair in range(4):
            axis = row if pair < 2 else column
            angle = torch.tensor(axis * 100.0 ** -((pair % 2) / 2), dtype=torch.float64)
            a, b = x[0, 0, patch, pair], x[0, 0, patch, pair + 4]
            torch.testing.assert_close(turned[0, 0, patch, pair], a * angle.cos() - b * angle.sin())
            torch.testing.assert_close(turned[0, 0, patch, pair + 4], a * angle.sin() + b * angle.cos())


@pytest.mark.parametrize("form", ["plain", "fused"])
def test_places_matter_and_can_be_hidden(form):
    network, images = vit(class_token=True, registers=2), rand(2, 3, 16, 16)
    use_form(network, form)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    tiles = images.unflatten(3, (4, 4)).unflatten(2, (4, 4)).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)  # B N C 4 4
    shuffled = tiles[:, order].unflatten(1, (4, 4)).permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)  # B C H W
    assert (network(images).pooled - network(shuffled).pooled).abs().max() > 1e-3
    torch.testing.assert_close(network(images, place=False).pooled, network(shuffled, place=False).pooled)


def test_keep_goes_with_its_places():
    network, images = vit(registers=1), rand(2, 3, 16, 16)
    order = torch.stack([torch.randperm(16, generator=torch.Generator().manual_seed(row)) for row in range(2)])
    whole, kept = network(images), network(images, keep=order)
    torch.testing.assert_close(kept.patches, whole.patches.gather(1, order[..., None].expand(-1, -1, 96)))
    torch.testing.assert_close(kept.prefix, whole.prefix)
    apart, near = (network(images, keep=torch.tensor([[0, k]] * 2)).patches[:, 0] for k in (15, 1))
    assert not torch.allclose(apart, near)


def test_mask_and_fill_and_other_sizes():
    network = vit(stem="conv")
    mask = rand(2, 24) < 0.5
    features = network(rand(2, 3, 16, 24), mask=mask, fill=torch.randn(96, dtype=torch.float64), layers=(0,))
    assert features.patches.shape == (2, 24, 96) and features.patches.isfinite().all()
    coarse, fine = (grid_angles(grid, 4, 8, torch.zeros(0)) for grid in ((4, 4), (8, 8)))
    pooled = fine.view(4, 2, 4, 2, -1).mean((1, 3)).flatten(0, 1)  # four small patches stand about where one stood
    torch.testing.assert_close(pooled, coarse)


def test_every_parameter_gets_a_gradient():
    for asked in ({}, {"place": False}, {"keep": torch.tensor([[3, 1]])}):
        network = vit(class_token=True, registers=2, qk_norm=True, layer_scale=0.1)
        network(rand(1, 3, 16, 16), **asked).pooled.square().sum().backward()
        assert [name for name, p in network.named_parameters() if p.grad is None] == []
    assert not any("positions" in name for name in network.state_dict())


def test_half_precision_and_architecture():
    network = vit(qk_norm=True)
    again = from_architecture(architecture(network)).double().eval()
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(rand(1, 3, 16, 16)).pooled, network(rand(1, 3, 16, 16)).pooled)
    for form in ("plain", "fused"):
        use_form(network, form)
        assert network.bfloat16()(rand(1, 3, 16, 16)).pooled.dtype == torch.bfloat16
        with torch.autocast("cpu", torch.bfloat16):
            assert network.float()(rand(1, 3, 16, 16).float()).pooled.isfinite().all()


def test_what_cannot_be_turned_is_refused():
    with pytest.raises(HeadwayError, match=r"attention heads of a width that 4 divides .* got 6"):
        build_backbone("vit_nano", size=16, positions="rotary", width=12, attention_heads=2)
    with pytest.raises(HeadwayError, match="unknown positions 'rotery': did you mean rotary"):
        build_backbone("vit_nano", size=16, positions="rotery")
