"""Mutated files of every format: a picture or a reason, never a crash, a hang or a great deal of memory.

Every file is decoded in a process of its own kind, so that a crash of a library below is seen as well. HEADWAY_FUZZ is
the number of mutations of each format; the default suits a test run, thousands are for a night.
"""

import os
import subprocess
import sys

import pytest

COUNT = int(os.environ.get("HEADWAY_FUZZ", "40"))
SEED = int(os.environ.get("HEADWAY_FUZZ_SEED", "0"))
SECONDS, MEBIBYTES = 5.0, 1200
"""What one file may take, at most."""

WORK = """
import io, os, resource, struct, sys, time
import numpy as np, tifffile, torch
from PIL import Image
from headway.data.decode import decode, look
from headway.data.form import Form
from headway.data.source import Unreadable

torch.set_num_threads(1)
kind, count, seed, seconds, mebibytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])
chance = np.random.default_rng([seed, sum(kind.encode())])
rows, columns = np.mgrid[0:48, 0:64]
scene = np.stack([rows * 5 % 256, columns * 4 % 256, (rows + columns) % 256], -1).astype(np.uint8)

def pillow(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()

def tiff(values, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()

def array(values):
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()

exif = Image.Exif()
exif[0x0112] = 6
picture, grey = Image.fromarray(scene), scene[..., 0]
deep = grey.astype(np.uint16) * 257
other = Image.fromarray(scene[::-1].copy())
MAKE = {
    "JPEG": lambda: [pillow(picture, "JPEG", exif=exif), pillow(picture, "JPEG", progressive=True),
                     pillow(picture.convert("CMYK"), "JPEG"), pillow(picture.convert("L"), "JPEG")],
    "PNG": lambda: [pillow(picture, "PNG", exif=exif), pillow(picture.quantize(16), "PNG", transparency=bytes(16)),
                    pillow(Image.fromarray(deep), "PNG"), pillow(picture.convert("RGBA"), "PNG"),
                    pillow(picture, "PNG", save_all=True, append_images=[other])],
    "TIFF": lambda: [pillow(picture, "TIFF", compression="tiff_lzw"), tiff(np.stack([deep] * 5, -1), photometric="minisblack"),
                     tiff(np.stack([deep] * 3, -1), photometric="rgb", compression="zlib", predictor=True),
                     tiff(grey.astype(np.float32), tile=(16, 16)), tiff(np.stack([grey] * 4), photometric="minisblack"),
                     pillow(picture, "TIFF", compression="jpeg"), tiff(grey.astype(np.float64), bigtiff=True)],
    "GIF": lambda: [pillow(picture.quantize(16), "GIF", save_all=True, append_images=[other.quantize(16)])],
    "WEBP": lambda: [pillow(picture, "WEBP", exif=exif), pillow(picture, "WEBP", lossless=True),
                     pillow(picture, "WEBP", save_all=True, append_images=[other])],
    "BMP": lambda: [pillow(picture, "BMP"), pillow(picture.convert("1"), "BMP"), pillow(picture.quantize(16), "BMP")],
    "PPM": lambda: [pillow(picture, "PPM"), pillow(picture.convert("1"), "PPM"), b"P2 4 3 99 " + b"7 " * 12],
    "AVIF": lambda: [pillow(picture, "AVIF")],
    "JPEG2000": lambda: [pillow(picture, "JPEG2000")],
    "NPY": lambda: [array(grey), array(np.stack([deep] * 7)), array(scene.astype(np.float64))],
}

def mutated(data):
    data = bytearray(data)
    how = chance.integers(7)
    for _ in range(int(chance.integers(1, 9))):
        place = int(chance.integers(len(data))) if chance.random() < 0.5 else int(chance.integers(min(len(data), 128)))
        if how == 0:
            data[place] ^= 1 << int(chance.integers(8))
        elif how == 1:
            data[place] = int(chance.integers(256))
        elif how == 2:
            del data[place : place + int(chance.integers(1, 65))]
        elif how == 3:
            data[place:place] = chance.integers(0, 256, int(chance.integers(1, 65)), np.uint8).tobytes()
        elif how == 4:
            data = data[: max(place, 1)]
        elif how == 5:
            data[place : place + 4] = chance.choice([b"\\xff" * 4, b"\\0" * 4, b"\\x7f\\xff\\xff\\xff", b"\\0\\0\\xff\\xff"])
        else:
            start = int(chance.integers(len(data)))
            data[place:place] = data[start : start + int(chance.integers(1, 257))]
        if not data:
            break
    return bytes(data)

forms = (Form(), Form(5, (0.0, 65535.0)), Form(1))
whole = MAKE[kind]()
for data in whole:
    for form in forms:
        try:
            decode(data, form)
        except Unreadable:
            pass
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
read = refused = 0
for number in range(count):
    data = mutated(whole[number % len(whole)])
    open(sys.argv[6], "wb").write(data)
    for form in forms:
        began = time.perf_counter()
        try:
            look(data)
            pixels = decode(data, form)
            assert pixels.ndim == 3 and len(pixels) == form.channels and pixels.dtype == form.dtype, pixels.shape
            read += 1
        except Unreadable as error:
            assert str(error) and "\\n" not in str(error), repr(str(error))
            refused += 1
        assert time.perf_counter() - began < seconds, f"mutation {number}: {time.perf_counter() - began:.1f} s"
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024 - base
        assert used < mebibytes, f"mutation {number}: {used} MiB"
assert refused > count // 10 or count < 20, "hardly anything was refused"
print(read, refused, used)
"""


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "GIF", "WEBP", "BMP", "PPM", "AVIF", "JPEG2000", "NPY"])
def test_a_mutated_file_gives_a_picture_or_a_reason(kind, tmp_path):
    given = [kind, COUNT, SEED, SECONDS, MEBIBYTES, tmp_path / "last"]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WORK, *map(str, given)],
        capture_output=True,
        text=True,
        timeout=60 + COUNT,
    )
    if "encoder" in done.stderr and "not available" in done.stderr:
        pytest.skip(f"Pillow here cannot write {kind}")
    assert done.returncode == 0, f"{kind}, last file {tmp_path / 'last'}: {done.returncode}\n{done.stderr[-2000:]}"
