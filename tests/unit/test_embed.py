"""``backbone.embed``: images in any form give the bits that ``headway embed`` writes for their files."""

import numpy as np
import pytest
import torch
from PIL import Image

import headway
from headway.backbones.weights import save_backbone
from headway.errors import HeadwayError
from headway.rng import seeded
from tests.errors import raises
from tests.small import SIDE, make_images, small_backbone


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A backbone, its file, a folder of images of one size, and a folder of images of several sizes."""
    folder = tmp_path_factory.mktemp("embed")
    with seeded(0):
        save_backbone(small_backbone(registers=1), folder / "model.safetensors")
    for name, sides in (("equal", [24] * 5), ("several", [17, 24, 40, 24, 31])):
        (folder / name).mkdir()
        for index, side in enumerate(sides):
            pixels = make_images(1, side, seed=index)[0, :, : side - 3 * (name == "several")]
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(folder / name / f"{index}.png")
    return headway.load_backbone(folder / "model.safetensors"), folder


def forms_of(files):
    images = [Image.open(file) for file in files]
    arrays = [np.array(image) for image in images]
    forms = {
        "paths": files, "texts": [str(file) for file in files], "folder": files[0].parent, "pillow": images,
        "arrays": arrays, "tensors": [torch.from_numpy(array).permute(2, 0, 1) for array in arrays],
    }  # fmt: skip
    if len({array.shape for array in arrays}) == 1:
        whole = np.stack(arrays)
        floats = (torch.from_numpy(whole).permute(0, 3, 1, 2) / 255).numpy()
        forms |= {"N H W C": whole, "N C H W": torch.from_numpy(whole).permute(0, 3, 1, 2), "floats": floats}
    return forms


@pytest.mark.parametrize("folder", ["equal", "several"])
def test_every_form_of_images_gives_the_bits_of_the_verb(folder, saved, tmp_path):
    backbone, root = saved
    headway.embed(str(root / "model.safetensors"), data=root / folder, out=tmp_path / "features.npz")
    expected = torch.from_numpy(np.load(tmp_path / "features.npz")["features"])
    assert expected.shape == (5, 16) and len(expected.unique(dim=0)) == 5
    for form, images in forms_of(sorted((root / folder).iterdir())).items():
        assert torch.equal(backbone.embed(images), expected), form


def test_other_features(saved, tmp_path):
    backbone, root = saved
    for features, layer, shape in (("patches", None, (16, 16)), ("prefix", 0, (1, 16)), ("pooled", -1, (16,))):
        out = tmp_path / f"{features}.npz"
        headway.embed(str(root / "model.safetensors"), data=root / "equal", out=out, features=features, layer=layer)
        found = backbone.embed(root / "equal", features, layer)
        assert torch.equal(found, torch.from_numpy(np.load(out)["features"])) and found.shape[1:] == shape
    with raises("unknown-name"):
        backbone.embed(root / "equal", "patch")


def test_the_mode_of_the_network_is_kept(saved):
    backbone, root = saved
    backbone.train()
    first = backbone.embed(root / "equal")
    assert backbone.training
    assert torch.equal(first, backbone.eval().embed(root / "equal"))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.full((2, 3, SIDE, SIDE), 255.0), r"floats in images must lie in \[0, 1\], got 255 to 255"),
        (np.zeros((SIDE, SIDE, 3), np.uint8), "that is one image: put it into a list"),
        ([np.zeros((SIDE, SIDE), np.uint8), "a.png"], "either paths or images"),
        ([torch.full((3, SIDE, SIDE), torch.nan)], r"images\[0\] holds NaN"),
        ([], "images holds no images"),
        (Image.new("RGB", (SIDE, SIDE)), "images is one image"),
        (["no-such-file.png"], "no-such-file.png"),
    ],
)
def test_other_images_are_refused(images, message, saved):
    with pytest.raises(HeadwayError, match=message):
        saved[0].embed(images)
