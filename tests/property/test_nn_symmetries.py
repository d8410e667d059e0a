"""Symmetries of the ViT for random images and sizes."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.backbones.build import build_backbone

torch.manual_seed(0)
VITS = {
    stem: build_backbone("vit_nano", size=16, depth=2, stem=stem, registers=1).double().eval()
    for stem in ("linear", "conv")
}
LIGHT = settings(max_examples=15, deadline=None)
seeds, stems = st.integers(0, 1000), st.sampled_from(sorted(VITS))


def generator(seed):
    return torch.Generator().manual_seed(seed)


def make_images(seed, height=16, width=16):
    return torch.rand(2, 3, height, width, dtype=torch.float64, generator=generator(seed))


@LIGHT
@given(seeds)
def test_without_positions_shuffled_patches_give_the_same_pooled_features(seed):
    images, order = make_images(seed), torch.randperm(16, generator=generator(seed))
    tiles = images.unflatten(3, (4, 4)).unflatten(2, (4, 4)).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)  # B N C 4 4
    shuffled = tiles[:, order].unflatten(1, (4, 4)).permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)  # B C H W
    first, second = (VITS["linear"](x, use_pos_embed=False) for x in (images, shuffled))
    torch.testing.assert_close(second.pooled, first.pooled)
    torch.testing.assert_close(second.patches, first.patches[:, order])
    with_positions = [VITS["linear"](x).pooled for x in (images, shuffled)]
    assert torch.equal(order, torch.arange(16)) or not torch.allclose(*with_positions)


@LIGHT
@given(seeds, stems)
def test_keeping_all_patches_equals_keep_indices_none(seed, stem):
    images = make_images(seed)
    order = torch.stack([torch.randperm(16, generator=generator(seed + row)) for row in range(2)])
    kept, whole = VITS[stem](images, keep_indices=order), VITS[stem](images)
    torch.testing.assert_close(kept.pooled, whole.pooled)
    torch.testing.assert_close(kept.patches, whole.patches.gather(1, order[..., None].expand(-1, -1, 96)))


@LIGHT
@given(seeds, stems, st.integers(1, 7), st.integers(1, 7))
def test_any_height_and_width_divisible_by_the_patch_size(seed, stem, rows, columns):
    features = VITS[stem](make_images(seed, 4 * rows, 4 * columns))
    assert features.grid == (rows, columns)
    assert features.patches.shape == (2, rows * columns, 96)
    assert features.pooled.isfinite().all()


@LIGHT
@given(seeds, stems)
def test_images_do_not_depend_on_their_batch(seed, stem):
    images = make_images(seed)
    torch.testing.assert_close(VITS[stem](images).pooled[:1], VITS[stem](images[:1]).pooled)
