"""Hostile files: the generated folder next to the project, and more cases of each kind."""

import csv
import os
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from headway.data.dataset.image_store import build_store
from headway.data.open import open_source

MAKE = Path(__file__).parents[3] / "shared" / "hostile" / "make_hostile.py"
REASONS = {
    "broken/zero_bytes.jpg": "empty file",
    "broken/truncated_half.jpg": "truncated",
    "broken/truncated_last_bytes.jpg": "truncated",
    "broken/header_only.jpg": "truncated",
    "broken/truncated.png": "truncated",
    "broken/bad_crc.png": "damaged",
    "broken/text.jpg": "a text, not an image",
    "broken/random.png": "an unknown image format",
    "clutter/._foo.jpg": "hidden",
    "clutter/.DS_Store": "hidden",
    "clutter/.hidden.jpg": "hidden",
    "clutter/.ipynb_checkpoints": "hidden",
    "clutter": "folder without images",
    "clutter/Thumbs.db": "is not a supported image suffix",
    "clutter/desktop.ini": "is not a supported image suffix",
    "clutter/empty_class": "folder without images",
    "clutter/folder_named.jpg": "folder without images",
    "names/no_extension": "no suffix",
    "modes/five_bands.tif": "5 channels, where the data set has 3",
    "formats/vector.svg": "SVG is a vector format",
    "formats/phone.heic": "HEIC is not read",
    "sizes/bomb_30000x30000.png": "too many pixels: 30000 x 30000, more than 100,000,000",
    "sizes/bomb_quiet_12000x12000.png": "too many pixels: 12000 x 12000",
    "links/dangling.jpg": "link to nothing",
    "links/self.jpg": "leads back to itself",
    "links/loop": "already visited",
    "links/no_permission.jpg": "no permission",
    "links/no_entry/": "no permission",
    "links/pipe.jpg": "not a regular file",
}
IN_COLOR = {
    *(f"modes/{name}" for name in ("cmyk.jpg", "icc_profile.jpg", "palette.png", "multipage.tif")),
    *(f"formats/{name}" for name in ("animated.gif", "plain.bmp", "plain.ppm", "plain.webp", "plain.avif")),
    "links/to_good.jpg",
}
ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
NOTES = {
    "modes/gray16.png": "0 became black and 65535 white",
    "modes/gray12in16.tif": "0 became black and 1023 white",
    "modes/float32.tif": "0 became black and 1 white",
    "modes/multipage.tif": "first of several pages",
    "modes/volume.tif": "first of several pages",
    "modes/cmyk.jpg": "CMYK",
    "modes/rgba.png": "transparent parts were composited on white",
    "modes/palette_transparent.png": "transparent parts were composited on white",
    "exif/orientation_3.jpg": "EXIF orientation 3",
    "exif/orientation_6.jpg": "EXIF orientation 6",
    "formats/animated.gif": "first of several frames",
}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    if not MAKE.is_file():
        pytest.skip("the script that generates hostile files is not beside the project (../shared/hostile)")
    folder = tmp_path_factory.mktemp("hostile")
    subprocess.run([sys.executable, MAKE, folder], check=True, capture_output=True, timeout=120)
    yield folder
    for name in ("links/no_entry", "links/no_permission.jpg"):
        (folder / name).chmod(0o700)


@pytest.fixture(scope="module")
def read(hostile):
    source = open_source(hostile)
    return source, build_store(source, 48)


def manifest(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "manifest.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def test_every_case_is_read_or_skipped_as_in_the_manifest(hostile, read):
    source, store = read
    rows, skipped = manifest(hostile), {**dict(source.ignored), **dict(store.skipped)}
    assert len(rows) >= 64
    for name, row in rows.items():
        if row["expect"] == "read":
            assert name in store.names, f"{name!r}: {skipped.get(name)}"
        elif row["expect"] == "skip" and not (ROOT and "permission" in row["kind"]):
            assert name not in store.names, row
            assert {name, f"{name}/"} & skipped.keys(), f"{name!r} is skipped without a reason"
    assert len(store.names) == len(set(store.names))


def test_every_skipped_case_has_the_right_reason(hostile, read):
    source, store = read
    skipped = {**dict(source.ignored), **dict(store.skipped)}
    for name, reason in REASONS.items():
        if (hostile / name).exists() or (hostile / name).is_symlink():
            if ROOT and reason == "no permission":
                continue
            assert reason in skipped[name], f"{name}: {skipped[name]}"
    unexpected = skipped.keys() - REASONS.keys() - {"manifest.csv", "links/no_entry"}
    assert not unexpected, {name: skipped[name] for name in unexpected}


def test_conversions_are_noted(hostile, read):
    notes: dict[str, str] = {}
    for name, note in read[1].notes:
        notes[name] = f"{notes.get(name, '')} {note}"
    for name, note in NOTES.items():
        if (hostile / name).exists():
            assert note in notes.get(name, ""), f"{name}: {notes.get(name)}"


def test_images_show_the_generated_scene(read):
    """A red blob at the top left, sky above ground: not black, white, upside down or inverted."""
    _, store = read
    images = dict(zip(store.names, store.images.float(), strict=True))
    in_color = [name for name in images if name.startswith(("good", "names", "exif")) or name in IN_COLOR]
    for name in in_color:
        red, green, _ = images[name][:, 12, 4:8].mean(1)  # the blob, cropped at the left by the central square
        assert red > 150 and green < 100, name
        assert images[name][1, 44:].mean() < 130 and images[name][2, 4].mean() > 150, name
    reference = images["modes/gray.jpg"]
    for name in ("modes/gray16.png", "modes/float32.tif", "modes/gray12in16.tif"):
        assert float(images[name].std()) > 10 and 60 < float(images[name].mean()) < 190, name
        both = torch.stack([images[name].flatten(), reference.flatten()])
        assert float(torch.corrcoef(both)[0, 1]) > 0.99, name
    assert bool((images["modes/all_transparent.png"] == 255).all())


def test_unusual_names_are_kept(read):
    assert {"names/<b>tag<script>.jpg", 'names/comma, "quote" & newline\n.jpg'} <= set(read[1].names)


def test_a_decompression_bomb_needs_no_memory(tmp_path):
    """Headers of huge sizes, in every format that has a header. Memory is measured in a separate process."""
    code = """
import resource, struct, zlib, io, sys
from headway.data.decoding.decode import decode
from headway.errors import UnreadableImageError
from PIL import Image
def chunk(tag, data): return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))
def png(w, h, depth, kind, data):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, kind, 0, 0, 0))
    return b"\\x89PNG\\r\\n\\x1a\\n" + header + chunk(b"IDAT", data) + chunk(b"IEND", b"")
def patched(kind, find, put):
    file = io.BytesIO(); Image.new("RGB", (77, 88)).save(file, kind); data = file.getvalue()
    assert find in data; return data.replace(find, put, 1)
zeros = zlib.compress(bytes(1 << 22))
cases = [png(30000, 30000, 1, 0, zeros), png(20000, 20000, 16, 6, zeros), png(12000, 12000, 8, 3, zeros),
    patched("JPEG", struct.pack(">HH", 88, 77), struct.pack(">HH", 65000, 65000)),
    patched("BMP", struct.pack("<ii", 77, 88), struct.pack("<ii", 60000, 60000)),
    patched("GIF", struct.pack("<HH", 77, 88), struct.pack("<HH", 65000, 65000)),
    patched("PPM", b"77 88", b"77000 88000"),
    patched("TIFF", struct.pack("<HII", 4, 1, 77), struct.pack("<HII", 4, 1, 77000)).replace(
        struct.pack("<HII", 4, 1, 88), struct.pack("<HII", 4, 1, 88000)),
    b"RIFF" + struct.pack("<I", 100) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + 3 * b"\\xff\\x3f\\0",
    b"RIFF" + struct.pack("<I", 100) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + 2 * b"\\x3f\\x1f\\0" + bytes(9),
    b"\\x93NUMPY\\x01\\0v\\0"
    + b"{'descr': '<f8', 'fortran_order': False, 'shape': (90000, 90000), }".ljust(117) + b"\\n"]
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for number, data in enumerate(cases):
    try: decode(data)
    except UnreadableImageError as error: assert "too many" in str(error), (number, str(error))
    else: raise SystemExit(f"case {number} was read")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 30_000, (
        f"{done.stdout} KiB more"
    )  # KiB on Linux, bytes on macOS, where the limit is stricter


def test_a_progressive_jpeg_of_very_many_scans_is_refused():
    from headway.data.decoding.decode import MAX_PIXELS, MAX_PROGRESSIVE_PASSES, decode
    from headway.errors import UnreadableImageError
    from tests.unit.test_data_decode import encoded, scene

    data = encoded(scene(3000, 2000), "JPEG", progressive=True, quality=30)
    scan = data.index(b"\xff\xda")
    bomb = data[:scan] + data[scan : scan + 40] * (MAX_PROGRESSIVE_PASSES * MAX_PIXELS // 6_000_000 + 1)
    with pytest.raises(UnreadableImageError, match="scans would take too long"):
        decode(bomb)


def test_float_and_16_bit_images_are_never_all_black_or_white(tmp_path):
    from headway.data.decoding.decode import decode

    gray = np.linspace(0, 1, 64 * 48, dtype=np.float32).reshape(48, 64)
    floats = (gray * 4000, gray * 1e-4 - 5e-5, gray * 1e6 - 3e5, gray.astype(np.float64))
    whole = ((gray * 900).astype(np.uint16), (gray * 2**31).astype(np.uint32), (gray * 3000 - 1500).astype(np.int16))
    for values in (*floats, *whole):
        np.save(tmp_path / "x.npy", values)
        pixels = decode((tmp_path / "x.npy").read_bytes())
        assert int(pixels.min()) < 10 and int(pixels.max()) > 200 and 60 < float(pixels.float().mean()) < 200


def test_check_reports_every_case(hostile, tmp_path):
    import headway

    answer = headway.check(hostile, out=tmp_path / "page.html")
    skipped = {row["file"].rstrip("/") for row in answer.skipped}
    assert answer.files == answer.read + len(answer.skipped)
    for name, row in manifest(hostile).items():
        if row["expect"] == "skip" and not (ROOT and "permission" in row["kind"]):
            assert name in skipped, name
        elif row["expect"] == "read":
            assert name not in skipped, name
    tags = TagCounter()
    tags.feed((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "script" not in tags.counts and "b" not in tags.counts and tags.counts["img"] > 40


class TagCounter(HTMLParser):
    """Counts the elements of a page."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def handle_starttag(self, tag, attrs):
        self.counts[tag] += 1
        assert not [name for name, _ in attrs if name.startswith("on")]
