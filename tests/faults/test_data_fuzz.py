"""Mutated files of every format: a picture or a reason, never a crash, a hang or a great deal of memory.

They are decoded in a process of their own, so that a crash of a library below is seen as well. HEADWAY_FUZZ is the
number of mutations of each format; the default suits a test run, thousands take minutes.
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

from headway.data.decode import decode
from headway.data.form import Form
from headway.data.look import look
from headway.data.open import open_source
from headway.data.source import Unreadable
from headway.errors import HeadwayError

COUNT = int(os.environ.get("HEADWAY_FUZZ", "60"))
SEED = int(os.environ.get("HEADWAY_FUZZ_SEED", "0"))
SECONDS, MEBIBYTES = 5, 1200
"""What one file may take, at most."""
FORMS = (Form(), Form(5, (0.0, 65535.0)), Form(1))


def test_a_mutated_file_gives_a_picture_or_a_reason(tmp_path):
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


def whole_files(kind: str) -> list[bytes]:
    rows, columns = np.mgrid[0:48, 0:64]
    scene = np.stack([rows * 5 % 256, columns * 4 % 256, (rows + columns) % 256], -1).astype(np.uint8)
    picture, other, grey = Image.fromarray(scene), Image.fromarray(scene[::-1].copy()), scene[..., 0].copy()
    deep, palette, exif = grey.astype(np.uint16) * 257, picture.quantize(16), Image.Exif()
    exif[0x0112] = 6
    more = {"save_all": True, "append_images": [other]}
    if kind == "JPEG":
        modes = [pillow(picture.convert(mode), kind) for mode in ("CMYK", "L")]
        return [pillow(picture, kind, exif=exif), pillow(picture, kind, progressive=True), *modes]
    if kind == "KINDS":  # every awkward one
        sys.path.insert(0, str(Path(__file__).parents[2]))
        from tests.unit.kinds import READ

        return [make() for make, _ in READ.values()]
    if kind == "PNG":
        special = [pillow(palette, kind, transparency=bytes(16)), pillow(Image.fromarray(deep), kind)]
        return [
            *special,
            pillow(picture, kind, exif=exif),
            pillow(picture.convert("RGBA"), kind),
            pillow(picture, kind, **more),
        ]
    if kind == "TIFF":
        bands, colour = np.stack([deep] * 5, -1), np.stack([deep] * 3, -1)
        return [
            tiff(bands, photometric="minisblack", planarconfig="contig"),
            tiff(colour, photometric="rgb", compression="zlib", predictor=True),
            tiff(grey.astype(np.float32), tile=(16, 16)), tiff(np.stack([grey] * 5), photometric="minisblack"),
            tiff(grey.astype(np.float64), bigtiff=True), pillow(picture, kind, compression="tiff_lzw"),
            pillow(picture, kind, compression="jpeg"), pillow(picture, kind, exif=exif, **more),
        ]  # fmt: skip
    if kind == "GIF":
        return [pillow(palette, kind, save_all=True, append_images=[other.quantize(16)])]
    if kind == "WEBP":
        return [pillow(picture, kind, exif=exif), pillow(picture, kind, lossless=True), pillow(picture, kind, **more)]
    if kind == "NPY":
        return [array(grey), array(np.stack([deep] * 7)), array(scene.astype(np.float64))]
    modes = [pillow(picture.convert("1"), kind)] if kind in ("BMP", "PPM") else []
    return [pillow(picture, kind), *modes]


def mutated(data: bytes, chance: np.random.Generator) -> bytes:
    """A few bits, bytes, stretches or lengths changed; half of the changes lie among the first bytes."""
    data, how = bytearray(data), chance.integers(7)
    for _ in range(int(chance.integers(1, 9))):
        place = int(chance.integers(len(data) if chance.random() < 0.5 else min(len(data), 128)))
        if how == 0:
            data[place] ^= 1 << int(chance.integers(8))
        elif how == 1:
            data[place] = int(chance.integers(256))
        elif how == 2:
            del data[place : place + int(chance.integers(1, 65))]
        elif how == 3:
            data[place:place] = chance.integers(0, 256, int(chance.integers(1, 65)), np.uint8).tobytes()
        elif how == 4:
            del data[max(place, 1) :]
        elif how == 5:
            data[place : place + 4] = (0xFFFFFFFF, 0, 0x7FFFFFFF, 0xFFFF)[chance.integers(4)].to_bytes(4)
        else:
            start = int(chance.integers(len(data)))
            data[place:place] = data[start : start + int(chance.integers(1, 257))]
        if not data:
            break
    return bytes(data)


def used() -> int:
    """Mebibytes, at most, so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "linux" else 1 << 20)


def try_form(data: bytes, form: Form) -> bool:
    try:
        look(data)
        pixels = decode(data, form)
    except Unreadable as error:
        assert str(error) and "\n" not in str(error), repr(str(error))
        return False
    assert pixels.ndim == 3 and len(pixels) == form.channels and pixels.dtype == form.dtype, pixels.shape
    return True


def fuzz(kind: str, last: Path) -> None:
    chance = np.random.default_rng([SEED, sum(kind.encode())])
    try:
        whole = whole_files(kind)
    except (OSError, KeyError) as error:
        print(f"{kind} cannot be written here: {error}")
        return
    for data in whole if kind != "KINDS" else ():
        assert 64 in (look(data).width, look(data).height)
    base, read = used(), 0
    for number in range(COUNT):
        data = mutated(whole[number % len(whole)], chance)
        last.write_bytes(data)
        for form in FORMS:
            began = time.perf_counter()
            read += try_form(data, form)
            took = time.perf_counter() - began
            assert took < SECONDS, f"{kind}, mutation {number}: {took:.1f} s"
            assert used() - base < MEBIBYTES, f"{kind}, mutation {number}: {used() - base} MiB"
    print(f"{kind}: {len(FORMS) * COUNT} tries, {read} pictures, {used() - base} MiB more")
    assert read < len(FORMS) * COUNT, "nothing was refused"


def tars() -> list[bytes]:
    """Plain and gzipped, in every form of header."""
    made = []
    for mode, form in (("w", tarfile.USTAR_FORMAT), ("w", tarfile.GNU_FORMAT), ("w", tarfile.PAX_FORMAT), ("w:gz", 2)):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode=mode, format=form) as tar:
            for name, data in (("0.png", whole_files("BMP")[0]), ("0.cls", b"cat"), ("a" * 90 + ".png", b"no picture")):
                info = tarfile.TarInfo(name)
                info.size, info.mtime = len(data), 1.5
                tar.addfile(info, io.BytesIO(data))
        made.append(file.getvalue())
    return made


def fuzz_tars(last: Path) -> None:
    chance, whole, read = np.random.default_rng([SEED, 1]), tars(), 0
    path = last.with_suffix(".tar")
    for number in range(COUNT):
        path.write_bytes(mutated(whole[number % len(whole)], chance))
        began = time.perf_counter()
        try:
            source = open_source(path, labelled=None)
            for index in range(len(source)):
                source.read(index)
            read += 1
        except (HeadwayError, Unreadable) as error:
            assert "\n" not in str(error)
        took = time.perf_counter() - began
        assert took < SECONDS, f"tar, mutation {number}: {took:.1f} s"
    print(f"tars: {COUNT} tries, {read} opened")


if __name__ == "__main__":
    torch.set_num_threads(1)
    fuzz_tars(Path(sys.argv[1]))
    for kind in ("JPEG", "PNG", "TIFF", "GIF", "WEBP", "BMP", "PPM", "AVIF", "JPEG2000", "NPY", "KINDS"):
        fuzz(kind, Path(sys.argv[1]))
