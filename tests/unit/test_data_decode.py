"""Decoding: equal pixels from every file format, and a reason if there is no image."""

import io
import struct
import threading
import warnings
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as TF
from PIL import Image, ImageOps

from headway.data.decoding import decode as decoding
from headway.data.decoding import jpeg, pillow
from headway.data.decoding.decode import center_crop_resize, decode
from headway.data.decoding.header import read_header
from headway.errors import UnreadableImageError


def scene(width=40, height=30) -> Image.Image:
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.stack([rows * 5 % 256, columns * 6 % 256, 255 - rows * 4 % 256], -1).astype(np.uint8)
    pixels[4:12, 5:15] = (220, 40, 30)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def with_orientation(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def png_header(width: int, height: int) -> bytes:
    def chunk(tag, data):
        return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_keep_the_pixels(kind):
    assert decode(encoded(scene(), kind)).equal(tensor(scene()))


def test_the_first_frame_of_webp_and_gif_is_decoded():
    assert decode(encoded(scene(), "WEBP", lossless=True)).equal(tensor(scene()))
    frames = [scene().quantize(16), scene().rotate(180).quantize(16)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(data).equal(tensor(frames[0]))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_equals_pillow_to_the_bit_with_either_decoder(mode, progressive, monkeypatch):
    data = encoded(scene().convert(mode), "JPEG", quality=90, progressive=progressive)
    expected = tensor(Image.open(io.BytesIO(data)))
    assert decode(data).equal(expected)
    monkeypatch.setattr(jpeg, "_decoder", None)
    assert decode(data).equal(expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(orientation, kind):
    exif = with_orientation(orientation)
    options = {"quality": 95} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    data = encoded(scene(), kind, exif=exif, **options)
    plain = encoded(scene(), kind, **options)
    inverse = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}  # the turn of the stored pixels that makes them upright
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    upright = Image.open(io.BytesIO(plain)).convert("RGB")
    if orientation > 1:
        upright = upright.transpose(turns[inverse[orientation]])
    assert decode(data).equal(tensor(upright))
    assert decode(data).equal(tensor(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))))


def test_damaged_exif_is_ignored():
    data = encoded(scene(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f\x01")
    assert decode(data).shape == (3, 30, 40)
    data = encoded(scene(), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f\x01")
    assert decode(data).equal(tensor(scene()))


def test_gray_bilevel_and_palette_are_converted_to_rgb():
    gray = scene().convert("L")
    assert decode(encoded(gray, "PNG")).equal(tensor(gray.convert("RGB")))
    assert decode(encoded(scene().convert("1"), "PNG")).equal(tensor(scene().convert("1")))
    palette = scene().quantize(16)
    assert decode(encoded(palette, "PNG")).equal(tensor(palette))


def test_transparent_parts_are_composited_on_white():
    image = scene().convert("RGBA")
    image.putalpha(Image.fromarray(np.repeat([[0, 255]], [20, 20], axis=1).repeat(30, 0).astype(np.uint8)))
    pixels = decode(encoded(image, "PNG"))
    assert (pixels[:, :, :20] == 255).all() and pixels[:, :, 20:].equal(tensor(scene())[:, :, 20:])
    palette = scene().quantize(16)
    pixels = decode(encoded(palette, "PNG", transparency=bytes([0] * 16)))
    assert (pixels == 255).all()


def test_more_than_eight_bits_are_scaled_and_not_clipped():
    gray = np.asarray(scene().convert("L"))
    sixteen = gray.astype(np.uint16) * 257  # 255 -> 65535
    for kind in ("PNG", "TIFF"):
        assert decode(encoded(Image.fromarray(sixteen), kind)).equal(tensor(Image.fromarray(gray)))
    twelve = np.rint(gray * (4095 / 255)).astype(np.uint16)
    twelve[0, 0], expected = 4095, gray.copy()
    expected[0, 0] = 255
    assert decode(encoded(Image.fromarray(twelve), "TIFF")).equal(tensor(Image.fromarray(expected)))
    unit = gray.astype(np.float32) / 255
    assert decode(encoded(Image.fromarray(unit), "TIFF")).equal(tensor(Image.fromarray(gray)))


def test_floats_of_any_range_are_scaled_and_non_finite_values_are_black():
    values = np.linspace(-3, 7, 40 * 30, dtype=np.float32).reshape(30, 40)
    values[0, 0], values[0, 1] = np.nan, np.inf
    pixels = decode(encoded(Image.fromarray(values), "TIFF"))[0]
    assert int(pixels[0, 0]) == int(pixels[0, 1]) == 0 and int(pixels.max()) == 255
    assert (pixels[1:].flatten().diff().int() >= 0).all()
    constant = np.full((8, 8), np.nan, np.float32)
    with pytest.raises(UnreadableImageError, match="it contains no finite number"):
        decode(encoded(Image.fromarray(constant), "TIFF"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_truncated_files_are_refused(kind):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    data = encoded(noise, kind)
    for share in (0.1, 0.5, 0.9):
        with pytest.raises(UnreadableImageError):
            decode(data[: int(len(data) * share)])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"This is a text." * 20, "a text, not an image"),
        (b"<svg></svg>", "SVG is a vector format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript, which is a program"),
        (b"%PDF-1.7\n", "a PDF"),
        (b"8BPS\0\1", "Photoshop"),
        (bytes(range(1, 200)), "an unknown image format"),
        (bytes(300), "only zeros"),
        (struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\xff\xd8\xff", "truncated: a JPEG without pixels"),
        (png_header(30_000, 30_000), "too many pixels"),
        (png_header(12_000, 12_000), "too many pixels: 12000 x 12000"),
    ],
)
def test_unreadable_files_have_a_reason(data, reason):
    with pytest.raises(UnreadableImageError, match=reason):
        decode(data)


def test_a_jpeg_of_too_many_pixels_is_refused_by_its_header(monkeypatch):
    data = encoded(scene(), "JPEG")
    monkeypatch.setattr(decoding, "MAX_PIXELS", 40 * 30 - 1)
    with pytest.raises(UnreadableImageError, match="too many pixels: 40 x 30"):
        decode(data)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"exif": with_orientation(6)}, {"comment": b"x" * 999}])
def test_the_size_is_read_from_the_header(options):
    data = encoded(scene(), "JPEG", **options)
    assert jpeg.read_jpeg_header(data)[:2] == read_header(data)[1:3] == (30, 40)
    assert jpeg.read_jpeg_header(data[:20]) is None and read_header(encoded(scene(), "PNG"))[1:3] == (30, 40)


def test_reading_a_jpeg_header_ends_on_any_bytes():
    generator = np.random.default_rng(1)
    for _ in range(300):
        data = b"\xff\xd8\xff" + generator.choice([0, 1, 0xC0, 0xE1, 0xFF], 200).astype(np.uint8).tobytes()
        header = jpeg.read_jpeg_header(data)
        assert header is None or min(header[:2]) > 0


def test_warnings_of_pillow_do_not_leak_from_any_thread():
    data = encoded(scene().quantize(16), "PNG", transparency=bytes([0, 128] + [255] * 14))
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [decode(data) for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before


def test_center_crop_resize_equals_torchvision():
    image = torch.randint(0, 256, (3, 50, 81), dtype=torch.uint8)
    square = image[:, :, 15:65]
    expected = TF.resize(square, [24, 24], antialias=True)
    assert center_crop_resize(image, 24).equal(expected) and center_crop_resize(image, 24).is_contiguous()
    assert center_crop_resize(image.transpose(1, 2), 24).equal(
        TF.resize(square.transpose(1, 2), [24, 24], antialias=True)
    )
    assert center_crop_resize(image, 50).equal(square)
    assert center_crop_resize(image[:, :7, :5], 32).shape == (3, 32, 32)
    assert center_crop_resize(image[:, :1, :1], 32).equal(image[:, :1, :1].expand(3, 32, 32))


def test_center_crop_resize_does_not_depend_on_the_memory_layout():
    planar = torch.randint(0, 256, (3, 61, 47), dtype=torch.uint8)
    interleaved = planar.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert center_crop_resize(planar, 20).equal(center_crop_resize(interleaved, 20))


def test_a_very_thin_image_needs_little_memory():
    assert center_crop_resize(torch.zeros(3, 1, 3_000_000, dtype=torch.uint8), 64).shape == (3, 64, 64)


def test_formats_that_start_a_program_are_not_tried():
    assert {"EPS", "WMF", "PDF"}.isdisjoint(pillow.PILLOW_FORMATS) and {"JPEG", "PNG", "TIFF"} <= set(
        pillow.PILLOW_FORMATS
    )


@pytest.mark.parametrize("libraries", [[], ["image.so"], ["image.so", "image_stable.so"]])
def test_where_the_library_of_the_decoders_cannot_be_loaded_the_package_is_imported(libraries, tmp_path, monkeypatch):
    for name in libraries:
        (tmp_path / name).write_text("not a library")
    package = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    imported = []
    monkeypatch.setattr(jpeg.importlib.util, "find_spec", lambda name: package)
    monkeypatch.setattr(jpeg.importlib, "import_module", imported.append)
    assert jpeg.find_torchvision_operator("decode_jpeg") is not None
    assert imported == ["torchvision.io"]


def test_without_torchvision_there_is_no_operator(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(jpeg.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(jpeg.importlib, "import_module", missing)
    assert jpeg.find_torchvision_operator("decode_jpeg") is None
