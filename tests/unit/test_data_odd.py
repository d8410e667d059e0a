"""Kinds of picture that the drawn folder of awkward files has not, and reading that fails half-way."""

import errno
import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from headway.data import ingest
from headway.data.arrays import Arrays
from headway.data.check import inspect
from headway.data.decode import REDUCED, decode, fit, read_picture, reduction
from headway.data.form import RGB, Form
from headway.data.open import open_source
from headway.data.source import Unreadable
from headway.data.store import build_store
from headway.errors import HeadwayError
from headway.protocol import Inputs

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
    "TIFF in inks": lambda: pillow(IMAGE.convert("CMYK"), "TIFF"),
    "TIFF of floats": lambda: tiff((SCENE / 255).astype(np.float32), photometric="rgb"),
    "TIFF of half floats": lambda: tiff((SCENE / 255).astype(np.float16), photometric="rgb"),
    "TIFF, channel after channel": lambda: tiff(np.moveaxis(DEEP, 2, 0), photometric="rgb", planarconfig="separate"),
    "TIFF, the heavy byte first": lambda: tiff(DEEP, photometric="rgb", byteorder=">"),
    "TIFF in tiles, squeezed": lambda: tiff(DEEP, photometric="rgb", tile=(32, 32), compression="zlib"),
    "BigTIFF": lambda: tiff(DEEP, photometric="rgb", bigtiff=True),
    "array of doubles": lambda: npy(SCENE / 255),
    "array, channels first": lambda: npy(np.moveaxis(DEEP, 2, 0)),
    "array in Fortran's order": lambda: npy(np.asfortranarray(DEEP)),
}


@pytest.mark.parametrize("kind", SAME)
def test_the_same_picture_in_unusual_files(kind):
    pixels = decode(SAME[kind]())
    assert int((pixels.int() - torch.from_numpy(SCENE).permute(2, 0, 1).int()).abs().max()) <= 1


@pytest.mark.parametrize("kind", ["PNG of colour", "PNG of grey", "TIFF of colour"])
def test_opacity_of_16_bits_lets_white_through(kind):
    colour = np.concatenate([DEEP, CLEAR], 2)
    data = {
        "PNG of colour": lambda: png16(colour, 6),
        "PNG of grey": lambda: png16(np.concatenate([DEEP[..., :1], CLEAR], 2), 4),
        "TIFF of colour": lambda: tiff(colour, photometric="rgb", extrasamples=["unassalpha"]),
    }[kind]()
    picture = read_picture(data)
    seen = SCENE if "colour" in kind else SCENE[..., :1].repeat(3, 2)
    assert bool((picture.pixels[:, :, :40] == 255).all()) and "transparent parts lie on white" in picture.notes
    assert picture.pixels[:, :, 40:].equal(torch.from_numpy(seen[:, 40:]).permute(2, 0, 1))
    kept = decode(data, Form(4, (0.0, 65535.0))) if "colour" in kind else decode(data, Form(2, (0.0, 65535.0)))
    assert float(kept[-1, :, :40].max()) == 0 and float(kept[-1, :, 40:].min()) == 1  # opacity as a channel of its own


REFUSED = {
    "damaged: not one number in it is finite": lambda: tiff(np.full((6, 8), np.nan, np.float32)),
    "channels of 64 bits is not read": lambda: tiff(SCENE[..., 0].astype(np.complex64)),
    "which is no number of a pixel": lambda: npy(np.array([{}], object), allow_pickle=True),
    "a picture is H W, H W C or C H W": lambda: npy(np.zeros((2, 3, 4, 5))),
    "PostScript, which is a program": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "a zip archive; unpack it": lambda: b"PK\x03\x04" + bytes(50),
    "a PDF": lambda: b"%PDF-1.4",
    "a web page": lambda: b"<!DOCTYPE html><html>404</html>",
    "nothing but zeros": lambda: bytes(3000),
    "a Photoshop file": lambda: b"8BPS" + bytes(90),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_no_picture_says_what_it_is(reason):
    with pytest.raises(Unreadable, match=reason):
        decode(REFUSED[reason]())


def test_numbers_that_are_not_finite_are_counted():
    values = (SCENE[..., 0] / 255).astype(np.float32)
    values[:2], values[2, :3] = np.nan, np.inf
    picture = read_picture(tiff(values))
    assert "163 numbers that are not finite became black" in picture.notes
    assert not picture.pixels[:, :2].any() and picture.pixels[0, 5:].equal(torch.from_numpy(SCENE[5:, :, 0]))


def test_files_are_read_as_numbers_in_one_range_for_the_data_set(tmp_path):
    dark, bright = (DEEP[..., 0] // 4).astype(np.uint16), DEEP[..., 0]
    for name, values in (("dark", dark), ("bright", bright)):
        (tmp_path / f"{name}.tif").write_bytes(tiff(values, photometric="minisblack"))
    store = build_store(open_source(tmp_path), 60)
    assert store.form == Form(1, (0.0, 65535.0)) and store.images.dtype == torch.float32
    means = dict(zip(store.names, store.images.mean((1, 2, 3)).tolist(), strict=True))
    assert means["bright.tif"] / means["dark.tif"] == pytest.approx(4, rel=1e-3)
    assert store.names[1] == "dark.tif" and len(store.images[1].unique()) == 60  # 8 bits would have left a quarter
    wide = build_store(open_source(tmp_path, span=(0, 1000)), 60)
    assert ("bright.tif", "clipped to the data set's range") in wide.notes and float(wide.images.max()) == 1


def test_a_picture_of_no_finite_number_is_skipped_and_says_nothing_of_the_range(tmp_path):
    for number in range(3):
        np.save(tmp_path / f"{number}.npy", np.full((8, 8), np.nan if number == 0 else number * 50.5, np.float32))
    store = build_store(open_source(tmp_path), 8)
    assert store.skipped == [("0.npy", "damaged: not one number in it is finite")]
    assert store.form == Form(1, (50.5, 101.0))


def test_a_span_is_for_deep_pictures_alone(tmp_path):
    IMAGE.save(tmp_path / "1.png")
    with pytest.raises(HeadwayError, match="--span is for pictures of more than 8 bits"):
        open_source(tmp_path, span=(0, 100))
    for channels, span, message in ((-1, None, "--channels must lie in"), (0, (5, 5), "the first is smaller")):
        with pytest.raises(HeadwayError, match=message):
            open_source(tmp_path, channels=channels, span=span)


# ---- reduced JPEGs


def test_a_large_jpeg_is_decoded_at_the_size_that_will_do():
    large = IMAGE.resize((2400, 1800), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    data = pillow(large, "JPEG", quality=95, exif=exif)
    assert reduction(1800, 2400) == 2 and reduction(2 * REDUCED - 1, 9999) == 1 and reduction(9999, 8 * REDUCED) == 8
    whole, less = read_picture(data), read_picture(data, side=224)
    assert whole.pixels.shape == (3, 2400, 1800) and less.pixels.shape == (3, 1200, 900)
    assert less.notes == ("turned upright by its EXIF orientation 6",) == whole.notes
    assert float((fit(whole.pixels, 224).float() - fit(less.pixels, 224).float()).abs().mean()) < 1
    more = read_picture(data, side=1000)  # more than the reduced picture has
    assert more.pixels.shape == whole.pixels.shape and more.same.equal(less.pixels)


def test_the_size_asked_for_does_not_change_what_a_picture_is_recognised_by(tmp_path):
    IMAGE.resize((1500, 1100)).save(tmp_path / "large.jpg")
    IMAGE.save(tmp_path / "small.jpg")
    hashes = [build_store(open_source(tmp_path), side).hashes for side in (32, 500, 600)]
    assert hashes[0].equal(hashes[1]) and hashes[0].equal(hashes[2])
    seen = inspect(open_source(tmp_path), RGB)
    assert seen.contents.tolist() == hashes[0].tolist() and seen.widths.tolist() == [1500, 80]


def test_every_pixel_counts_for_the_content_hash():
    picture = torch.randint(0, 256, (3, 301, 97), dtype=torch.uint8)
    known = {ingest.content_hash(picture)}
    for row in range(0, 301, 7):
        other = picture.clone()
        other[1, row, row % 97] ^= 1
        known.add(ingest.content_hash(other))
    assert len(known) == 1 + len(range(0, 301, 7))
    assert ingest.content_hash(picture.permute(1, 2, 0).contiguous().permute(2, 0, 1)) in known  # however it lies


# ---- reading that fails half-way


class Shaky(Arrays):
    """A disk that stumbles: so many reads fail before one succeeds."""

    image = property()  # type: ignore[assignment]  # what is read are files

    def __init__(self, faults: int, number: int):
        super().__init__(torch.zeros(3, 3, 4, 4, dtype=torch.uint8))
        self.left, self.number, self.tried = {1: faults}, number, 0

    def read(self, index):
        if self.left.get(index, 0) > 0:
            self.left[index] -= 1
            self.tried += 1
            raise OSError(self.number, "stumbled")
        return pillow(IMAGE, "PNG")


def test_a_disk_that_stumbles_is_asked_again(monkeypatch):
    monkeypatch.setattr(ingest, "PATIENCE", 0)
    store = build_store(Shaky(2, errno.EIO), 8, form=RGB)
    assert len(store.images) == 3 and store.skipped == []
    store = build_store(Shaky(9, errno.EIO), 8, form=RGB)
    assert len(store.images) == 2 and store.skipped == [("00000001", "stumbled")]
    gone = Shaky(9, errno.ENOENT)
    assert build_store(gone, 8, form=RGB).skipped == [("00000001", "no such file, or a link to nothing")]
    assert gone.tried == 1


def test_a_file_that_vanishes_is_named(tmp_path):
    for number in range(4):
        IMAGE.save(tmp_path / f"{number}.png")
    source = open_source(tmp_path)
    (tmp_path / "2.png").unlink()
    store = build_store(source, 8)
    assert store.names == ["0.png", "1.png", "3.png"]
    assert store.skipped == [("2.png", "no such file, or a link to nothing")]


def test_a_picture_too_large_for_the_memory_is_skipped(monkeypatch, tmp_path):
    IMAGE.save(tmp_path / "0.png")
    IMAGE.save(tmp_path / "1.png")
    real, calls = ingest.fit, []

    def full(*given):
        calls.append(1)
        if len(calls) == 1:
            raise MemoryError
        return real(*given)

    monkeypatch.setattr(ingest, "fit", full)
    store = build_store(open_source(tmp_path), 8, workers=1)
    assert store.names == ["1.png"] and "memory" in store.skipped[0][1]


def test_a_trained_backbone_is_shown_its_own_range(tmp_path):
    (tmp_path / "deep.tif").write_bytes(tiff(DEEP[..., 0]))

    class Network:
        inputs = Inputs((0.5,) * 3, (0.2,) * 3)

    store = build_store(open_source(tmp_path, like=Network()), 60)
    assert store.form == RGB and store.images.dtype == torch.uint8
    Network.inputs = Inputs((0.5,), (0.2,), channels=1, span=(0.0, 131070.0))
    store = build_store(open_source(tmp_path, like=Network()), 60)
    assert store.form == Form(1, (0.0, 131070.0)) and float(store.images.max()) == pytest.approx(
        207 * 257 / 131070
    )  # of the square
