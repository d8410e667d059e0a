"""Unusual files, reduced JPEGs, content hashes, and read errors of disks and networks."""

import errno
import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from headway.data.dataset import decode_all
from headway.data.dataset.image_store import build_store
from headway.data.decoding.decode import (
    MIN_REDUCED_SHORT_SIDE,
    center_crop_resize,
    decode,
    decode_with_notes,
    jpeg_reduction,
)
from headway.data.decoding.pixel_format import RGB, PixelFormat
from headway.data.inspection.scan import scan
from headway.data.open import open_source
from headway.data.sources.in_memory import ArraySource
from headway.errors import HeadwayError, UnreadableImageError
from headway.protocol import InputSpec
from tests.errors import raises

ROWS, COLUMNS = np.mgrid[0:60, 0:80]
SCENE = np.stack([COLUMNS * 3, ROWS * 4, ROWS + COLUMNS], -1).astype(np.uint8)
DEEP = SCENE.astype(np.uint16) * 257
CLEAR = np.where(COLUMNS[..., None] < 40, 0, 65535).astype(np.uint16)
IMAGE = Image.fromarray(SCENE)


def pillow(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def tiff(values, **options) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


def npy(values, **options) -> bytes:
    file = io.BytesIO()
    np.save(file, values, **options)
    return file.getvalue()


def png16(values: np.ndarray, kind: int) -> bytes:
    def chunk(tag, data):
        return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))

    rows = b"".join(b"\0" + row.tobytes() for row in values.astype(">u2"))
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


SAME = {
    "PNG of 16 bits": lambda: png16(DEEP, 2),
    "animated PNG": lambda: pillow(IMAGE, "PNG", save_all=True, append_images=[IMAGE.rotate(90)]),
    "TIFF of CMYK": lambda: pillow(IMAGE.convert("CMYK"), "TIFF"),
    "TIFF of floats": lambda: tiff((SCENE / 255).astype(np.float32), photometric="rgb"),
    "TIFF of half floats": lambda: tiff((SCENE / 255).astype(np.float16), photometric="rgb"),
    "planar TIFF": lambda: tiff(np.moveaxis(DEEP, 2, 0), photometric="rgb", planarconfig="separate"),
    "big-endian TIFF": lambda: tiff(DEEP, photometric="rgb", byteorder=">"),
    "tiled TIFF, deflate": lambda: tiff(DEEP, photometric="rgb", tile=(32, 32), compression="zlib"),
    "BigTIFF": lambda: tiff(DEEP, photometric="rgb", bigtiff=True),
    "array of doubles": lambda: npy(SCENE / 255),
    "array, channels first": lambda: npy(np.moveaxis(DEEP, 2, 0)),
    "array in Fortran's order": lambda: npy(np.asfortranarray(DEEP)),
}


@pytest.mark.parametrize("kind", SAME)
def test_unusual_files_decode_to_the_same_pixels(kind):
    pixels = decode(SAME[kind]())
    assert int((pixels.int() - torch.from_numpy(SCENE).permute(2, 0, 1).int()).abs().max()) <= 1


@pytest.mark.parametrize("kind", ["PNG of color", "PNG of gray", "TIFF of color"])
def test_alpha_of_16_bits_is_composited_on_white(kind):
    color = np.concatenate([DEEP, CLEAR], 2)
    data = {
        "PNG of color": lambda: png16(color, 6),
        "PNG of gray": lambda: png16(np.concatenate([DEEP[..., :1], CLEAR], 2), 4),
        "TIFF of color": lambda: tiff(color, photometric="rgb", extrasamples=["unassalpha"]),
    }[kind]()
    image = decode_with_notes(data)
    expected = SCENE if "color" in kind else SCENE[..., :1].repeat(3, 2)
    assert bool((image.pixels[:, :, :40] == 255).all()) and "transparent parts were composited on white" in image.notes
    assert image.pixels[:, :, 40:].equal(torch.from_numpy(expected[:, 40:]).permute(2, 0, 1))
    alpha = decode(data, PixelFormat(4 if "color" in kind else 2, (0.0, 65535.0)))[-1]  # alpha as a channel of its own
    assert float(alpha[:, :40].max()) == 0 and float(alpha[:, 40:].min()) == 1


REFUSED = {
    "damaged: it contains no finite number": lambda: tiff(np.full((6, 8), np.nan, np.float32)),
    "channels of 64 bits is not read": lambda: tiff(SCENE[..., 0].astype(np.complex64)),
    "which is not a dtype of pixels": lambda: npy(np.array([{}], object), allow_pickle=True),
    "an image is H W, H W C or C H W": lambda: npy(np.zeros((2, 3, 4, 5))),
    "PostScript, which is a program": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "a zip archive; extract it": lambda: b"PK\x03\x04" + bytes(50),
    "a PDF": lambda: b"%PDF-1.4",
    "a web page": lambda: b"<!DOCTYPE html><html>404</html>",
    "only zeros": lambda: bytes(3000),
    "a Photoshop file": lambda: b"8BPS" + bytes(90),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_files_without_an_image_have_a_reason(reason):
    with pytest.raises(UnreadableImageError, match=reason):
        decode(REFUSED[reason]())


def test_numbers_that_are_not_finite_are_counted():
    values = (SCENE[..., 0] / 255).astype(np.float32)
    values[:2], values[2, :3] = np.nan, np.inf
    image = decode_with_notes(tiff(values))
    assert "163 numbers that are not finite became black" in image.notes
    assert not image.pixels[:, :2].any() and image.pixels[0, 5:].equal(torch.from_numpy(SCENE[5:, :, 0]))


def test_files_are_read_as_numbers_in_one_range_for_the_data_set(tmp_path):
    dark, bright = (DEEP[..., 0] // 4).astype(np.uint16), DEEP[..., 0]
    for name, values in (("dark", dark), ("bright", bright)):
        (tmp_path / f"{name}.tif").write_bytes(tiff(values, photometric="minisblack"))
    store = build_store(open_source(tmp_path), 60)
    assert store.pixel_format == PixelFormat(1, (0.0, 65535.0)) and store.images.dtype == torch.float32
    means = dict(zip(store.names, store.images.mean((1, 2, 3)).tolist(), strict=True))
    assert means["bright.tif"] / means["dark.tif"] == pytest.approx(4, rel=1e-3)
    assert (
        store.names[1] == "dark.tif" and len(store.images[1].unique()) == 60
    )  # 8 bits would keep a quarter of the levels
    wide = build_store(open_source(tmp_path, value_range=(0, 1000)), 60)
    assert ("bright.tif", "clipped to the data set's range") in wide.notes and float(wide.images.max()) == 1


def test_an_image_without_finite_numbers_is_skipped_and_does_not_affect_the_range(tmp_path):
    for number in range(3):
        np.save(tmp_path / f"{number}.npy", np.full((8, 8), np.nan if number == 0 else number * 50.5, np.float32))
    store = build_store(open_source(tmp_path), 8)
    assert store.skipped == [("0.npy", "damaged: it contains no finite number")]
    assert store.pixel_format == PixelFormat(1, (50.5, 101.0))


def test_a_value_range_is_refused_for_images_of_8_bits(tmp_path):
    IMAGE.save(tmp_path / "1.png")
    with raises("options-conflict", "--value-range"):
        open_source(tmp_path, value_range=(0, 100))
    for channels, value_range, message in ((-1, None, "--channels must lie in"), (0, (5, 5), "the smaller one first")):
        with pytest.raises(HeadwayError, match=message):
            open_source(tmp_path, channels=channels, value_range=value_range)


# ---- reduced JPEGs


def test_a_large_jpeg_is_decoded_at_a_reduced_size():
    large = IMAGE.resize((2400, 1800), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    data = pillow(large, "JPEG", quality=95, exif=exif)
    assert (
        jpeg_reduction(1800, 2400) == 2
        and jpeg_reduction(2 * MIN_REDUCED_SHORT_SIDE - 1, 9999) == 1
        and jpeg_reduction(9999, 8 * MIN_REDUCED_SHORT_SIDE) == 8
    )
    full, reduced = decode_with_notes(data), decode_with_notes(data, min_side=224)
    assert full.pixels.shape == (3, 2400, 1800) and reduced.pixels.shape == (3, 1200, 900)
    assert reduced.notes == ("turned upright by its EXIF orientation 6",) == full.notes
    assert (
        float(
            (center_crop_resize(full.pixels, 224).float() - center_crop_resize(reduced.pixels, 224).float())
            .abs()
            .mean()
        )
        < 1
    )
    more = decode_with_notes(data, min_side=1000)  # more than the reduced image has
    assert more.pixels.shape == full.pixels.shape and more.hash_pixels.equal(reduced.pixels)


def test_the_requested_size_does_not_change_the_content_hash(tmp_path):
    IMAGE.resize((1500, 1100)).save(tmp_path / "large.jpg")
    IMAGE.save(tmp_path / "small.jpg")
    hashes = [build_store(open_source(tmp_path), side).content_hashes for side in (32, 500, 600)]
    assert hashes[0].equal(hashes[1]) and hashes[0].equal(hashes[2])
    result = scan(open_source(tmp_path), RGB)
    assert result.content_hashes.tolist() == hashes[0].tolist() and result.widths.tolist() == [1500, 80]


def test_every_pixel_changes_the_content_hash():
    image = torch.randint(0, 256, (3, 301, 97), dtype=torch.uint8)
    known = {decode_all.content_hash(image)}
    for row in range(0, 301, 7):
        other = image.clone()
        other[1, row, row % 97] ^= 1
        known.add(decode_all.content_hash(other))
    assert len(known) == 1 + len(range(0, 301, 7))
    assert (
        decode_all.content_hash(image.permute(1, 2, 0).contiguous().permute(2, 0, 1)) in known
    )  # in any memory layout


# ---- read errors


class FailingSource(ArraySource):
    """A source whose second file fails to be read ``failures`` times before a read succeeds."""

    def __init__(self, failures: int, number: int):
        super().__init__(torch.zeros(3, 3, 4, 4, dtype=torch.uint8))
        self.left, self.number, self.tried = {1: failures}, number, 0

    def image(self, index):
        return None  # so that ``read`` is used

    def read(self, index):
        if self.left.get(index, 0) > 0:
            self.left[index] -= 1
            self.tried += 1
            raise OSError(self.number, "transient")
        return pillow(IMAGE, "PNG")


def test_transient_read_errors_are_retried(monkeypatch):
    monkeypatch.setattr(decode_all, "RETRY_DELAY_S", 0)
    store = build_store(FailingSource(2, errno.EIO), 8, pixel_format=RGB)
    assert len(store.images) == 3 and store.skipped == []
    store = build_store(FailingSource(9, errno.EIO), 8, pixel_format=RGB)
    assert len(store.images) == 2 and store.skipped == [("00000001", "transient")]
    missing = FailingSource(9, errno.ENOENT)
    assert build_store(missing, 8, pixel_format=RGB).skipped == [("00000001", "no such file, or a link to nothing")]
    assert missing.tried == 1


def test_a_file_that_disappears_is_listed_as_skipped(tmp_path):
    for number in range(4):
        IMAGE.save(tmp_path / f"{number}.png")
    source = open_source(tmp_path)
    (tmp_path / "2.png").unlink()
    store = build_store(source, 8)
    assert store.names == ["0.png", "1.png", "3.png"]
    assert store.skipped == [("2.png", "no such file, or a link to nothing")]


def test_an_image_too_large_for_the_memory_is_skipped(monkeypatch, tmp_path):
    IMAGE.save(tmp_path / "0.png")
    IMAGE.save(tmp_path / "1.png")
    real, calls = decode_all.center_crop_resize, []

    def full(*given):
        calls.append(1)
        if len(calls) == 1:
            raise MemoryError
        return real(*given)

    monkeypatch.setattr(decode_all, "center_crop_resize", full)
    store = build_store(open_source(tmp_path), 8, workers=1)
    assert store.names == ["1.png"] and "memory" in store.skipped[0][1]


def test_images_for_a_backbone_get_its_value_range(tmp_path):
    (tmp_path / "deep.tif").write_bytes(tiff(DEEP[..., 0]))

    class Network:
        input_spec = InputSpec((0.5,) * 3, (0.2,) * 3)

    store = build_store(open_source(tmp_path, backbone=Network()), 60)
    assert store.pixel_format == RGB and store.images.dtype == torch.uint8
    Network.input_spec = InputSpec((0.5,), (0.2,), channels=1, value_range=(0.0, 131070.0))
    store = build_store(open_source(tmp_path, backbone=Network()), 60)
    assert store.pixel_format == PixelFormat(1, (0.0, 131070.0)) and float(store.images.max()) == pytest.approx(
        207 * 257 / 131070
    )  # the maximum of the central square
