"""Fuzzing: mutated files of every format give an image or a reason, never a crash, a hang or excessive memory.

The files are decoded in a separate process, so that a crash of a native library is detected. HEADWAY_FUZZ is the number
of mutations per format; the default suits a test run, thousands take minutes.
"""

import io
import os
import resource
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import tifffile
import torch
from PIL import Image

from headway.data.decoding.decode import decode
from headway.data.decoding.header import read_header
from headway.data.decoding.pixel_format import PixelFormat
from headway.data.open import open_source
from headway.errors import HeadwayError, UnreadableImageError

COUNT = int(os.environ.get("HEADWAY_FUZZ", "60"))
SEED = int(os.environ.get("HEADWAY_FUZZ_SEED", "0"))
SECONDS, MEBIBYTES = 5, 1200
"""Limits for one file."""
PIXEL_FORMATS = (PixelFormat(), PixelFormat(5, (0.0, 65535.0)), PixelFormat(1))


def test_a_mutated_file_gives_an_image_or_a_reason(tmp_path):
    command = [sys.executable, "-W", "error", __file__, str(tmp_path / "last")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120 + 2 * COUNT)
    print(done.stdout)
    assert done.returncode == 0, f"{done.returncode}, last file {tmp_path / 'last'}\n{done.stdout}{done.stderr[-2000:]}"


def pillow(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def tiff(values: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


def array(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def valid_files(kind: str) -> list[bytes]:
    rows, columns = np.mgrid[0:48, 0:64]
    scene = np.stack([rows * 5 % 256, columns * 4 % 256, (rows + columns) % 256], -1).astype(np.uint8)
    image, other, gray = Image.fromarray(scene), Image.fromarray(scene[::-1].copy()), scene[..., 0].copy()
    deep, palette, exif = gray.astype(np.uint16) * 257, image.quantize(16), Image.Exif()
    exif[0x0112] = 6
    more = {"save_all": True, "append_images": [other]}
    if kind == "JPEG":
        modes = [pillow(image.convert(mode), kind) for mode in ("CMYK", "L")]
        return [pillow(image, kind, exif=exif), pillow(image, kind, progressive=True), *modes]
    if kind == "SAMPLES":  # all sample files
        sys.path.insert(0, str(Path(__file__).parents[2]))
        from tests.unit.format_samples import READ

        return [make() for make, _ in READ.values()]
    if kind == "PNG":
        special = [pillow(palette, kind, transparency=bytes(16)), pillow(Image.fromarray(deep), kind)]
        return [
            *special,
            pillow(image, kind, exif=exif),
            pillow(image.convert("RGBA"), kind),
            pillow(image, kind, **more),
        ]
    if kind == "TIFF":
        bands, color = np.stack([deep] * 5, -1), np.stack([deep] * 3, -1)
        return [
            tiff(bands, photometric="minisblack", planarconfig="contig"),
            tiff(color, photometric="rgb", compression="zlib", predictor=True),
            tiff(gray.astype(np.float32), tile=(16, 16)), tiff(np.stack([gray] * 5), photometric="minisblack"),
            tiff(gray.astype(np.float64), bigtiff=True), pillow(image, kind, compression="tiff_lzw"),
            pillow(image, kind, compression="jpeg"), pillow(image, kind, exif=exif, **more),
        ]  # fmt: skip
    if kind == "GIF":
        return [pillow(palette, kind, save_all=True, append_images=[other.quantize(16)])]
    if kind == "WEBP":
        return [pillow(image, kind, exif=exif), pillow(image, kind, lossless=True), pillow(image, kind, **more)]
    if kind == "NPY":
        return [array(gray), array(np.stack([deep] * 7)), array(scene.astype(np.float64))]
    modes = [pillow(image.convert("1"), kind)] if kind in ("BMP", "PPM") else []
    return [pillow(image, kind), *modes]


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Change a few bits, bytes, ranges or lengths; half of the changes are in the first 128 bytes."""
    data, mutation = bytearray(data), rng.integers(7)
    for _ in range(int(rng.integers(1, 9))):
        offset = int(rng.integers(len(data) if rng.random() < 0.5 else min(len(data), 128)))
        if mutation == 0:
            data[offset] ^= 1 << int(rng.integers(8))
        elif mutation == 1:
            data[offset] = int(rng.integers(256))
        elif mutation == 2:
            del data[offset : offset + int(rng.integers(1, 65))]
        elif mutation == 3:
            data[offset:offset] = rng.integers(0, 256, int(rng.integers(1, 65)), np.uint8).tobytes()
        elif mutation == 4:
            del data[max(offset, 1) :]
        elif mutation == 5:
            data[offset : offset + 4] = (0xFFFFFFFF, 0, 0x7FFFFFFF, 0xFFFF)[rng.integers(4)].to_bytes(4)
        else:
            start = int(rng.integers(len(data)))
            data[offset:offset] = data[start : start + int(rng.integers(1, 257))]
        if not data:
            break
    return bytes(data)


def peak_memory() -> int:
    """Peak memory so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "linux" else 1 << 20)


def is_decoded(data: bytes, pixel_format: PixelFormat) -> bool:
    try:
        read_header(data)
        pixels = decode(data, pixel_format)
    except UnreadableImageError as error:
        assert str(error) and "\n" not in str(error), repr(str(error))
        return False
    assert pixels.ndim == 3 and len(pixels) == pixel_format.channels and pixels.dtype == pixel_format.dtype, (
        pixels.shape
    )
    return True


def fuzz(kind: str, last: Path) -> None:
    rng = np.random.default_rng([SEED, sum(kind.encode())])
    try:
        valid = valid_files(kind)
    except (OSError, KeyError) as error:
        print(f"{kind} cannot be written here: {error}")
        return
    for data in valid if kind != "SAMPLES" else ():
        assert 64 in (read_header(data).width, read_header(data).height)
    base, read = peak_memory(), 0
    for number in range(COUNT):
        data = mutated(valid[number % len(valid)], rng)
        last.write_bytes(data)
        for pixel_format in PIXEL_FORMATS:
            began = time.perf_counter()
            read += is_decoded(data, pixel_format)
            took = time.perf_counter() - began
            assert took < SECONDS, f"{kind}, mutation {number}: {took:.1f} s"
            assert peak_memory() - base < MEBIBYTES, f"{kind}, mutation {number}: {peak_memory() - base} MiB"
    print(f"{kind}: {len(PIXEL_FORMATS) * COUNT} tries, {read} images, {peak_memory() - base} MiB more")
    assert read < len(PIXEL_FORMATS) * COUNT, "nothing was refused"


def tars() -> list[bytes]:
    """Plain and gzipped tars, in every header format."""
    files = []
    for mode, tar_format in (
        ("w", tarfile.USTAR_FORMAT),
        ("w", tarfile.GNU_FORMAT),
        ("w", tarfile.PAX_FORMAT),
        ("w:gz", 2),
    ):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode=mode, format=tar_format) as tar:
            for name, data in (
                ("0.png", valid_files("BMP")[0]),
                ("0.cls", b"cat"),
                ("a" * 90 + ".png", b"not an image"),
            ):
                info = tarfile.TarInfo(name)
                info.size, info.mtime = len(data), 1.5
                tar.addfile(info, io.BytesIO(data))
        files.append(file.getvalue())
    return files


def fuzz_tars(last: Path) -> None:
    rng, valid, read = np.random.default_rng([SEED, 1]), tars(), 0
    path = last.with_suffix(".tar")
    for number in range(COUNT):
        path.write_bytes(mutated(valid[number % len(valid)], rng))
        began = time.perf_counter()
        try:
            source = open_source(path, labeled=None)
            for index in range(len(source)):
                source.read(index)
            read += 1
        except (HeadwayError, UnreadableImageError) as error:
            assert "\n" not in str(error)
        took = time.perf_counter() - began
        assert took < SECONDS, f"tar, mutation {number}: {took:.1f} s"
    print(f"tars: {COUNT} tries, {read} opened")


if __name__ == "__main__":
    torch.set_num_threads(1)
    fuzz_tars(Path(sys.argv[1]))
    for kind in ("JPEG", "PNG", "TIFF", "GIF", "WEBP", "BMP", "PPM", "AVIF", "JPEG2000", "NPY", "SAMPLES"):
        fuzz(kind, Path(sys.argv[1]))
