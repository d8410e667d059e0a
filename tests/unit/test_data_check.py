"""The scan of a data set: near-duplicates, findings, leakage, and an HTML page without private metadata."""

import base64
import io
import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from headway.data.dataset.sample_stats import get_sample_stats, median_short_side
from headway.data.decoding.pixel_format import RGB, PixelFormat
from headway.data.inspection.near_duplicates import (
    HASH_GRID,
    MIN_CONTRAST,
    duplicate_groups,
    equal_groups,
    near_duplicate_pairs,
    perceptual_hash,
)
from headway.data.inspection.scan import scan, thumbnail
from headway.data.open import open_source
from headway.data.sources.files import FileSource
from headway.data.sources.in_memory import ArraySource
from headway.reports.data_check import (
    ScannedDataset,
    escape_unprintable,
    find_leakage,
    findings,
    near_duplicate_groups,
    summarize,
)
from headway.reports.data_check_html import check_html


def scene(number: int, width=96, height=72) -> Image.Image:
    """Blurred noise, which differs in its low frequencies."""
    small = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def save(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def scanned(data, pixel_format=RGB, **options):
    source = open_source(data, labeled=None)
    return ScannedDataset(str(data), source, pixel_format, scan(source, pixel_format, **options))


# ---- near-duplicates


def test_near_duplicate_pairs_equal_a_comparison_of_all_pairs():
    rng = np.random.default_rng(0)
    hashes = rng.integers(1, 1 << 63, 300).astype(np.uint64)
    for index in range(100, 200):  # neighbors at every distance, 0 included
        flips = rng.choice(64, int(rng.integers(0, 9)), replace=False)
        hashes[index] = hashes[index - 100] ^ np.uint64(sum(1 << int(bit) for bit in flips))
    hashes[250:260] = 0
    for distance in (0, 3, 4, 7):
        slow = {
            (i, j)
            for i, j in itertools.combinations(range(300), 2)
            if hashes[i] and hashes[j] and (int(hashes[i]) ^ int(hashes[j])).bit_count() <= distance
        }
        fast = set(map(tuple, near_duplicate_pairs(hashes, distance).tolist()))
        assert fast <= slow and duplicate_groups(np.array(sorted(fast)), 300) == duplicate_groups(
            np.array(sorted(slow)), 300
        )
    assert len(near_duplicate_pairs(np.zeros(5, np.uint64))) == len(near_duplicate_pairs(np.empty(0, np.uint64))) == 0


def test_equal_hashes_form_a_chain():
    assert near_duplicate_pairs(np.full(50, 7, np.uint64)).tolist() == [[index, index + 1] for index in range(49)]


def test_the_hash_compares_the_lowest_frequencies_with_their_median():
    from scipy.fft import dctn

    values = np.random.default_rng(1).random((HASH_GRID, HASH_GRID)) * 255
    low = dctn(values, norm="ortho")[:8, :8].flatten()
    bits = int("".join(str(int(value > np.median(low))) for value in low), 2)
    assert int(perceptual_hash(values[None])[0]) == bits
    assert (
        perceptual_hash(np.full((1, HASH_GRID, HASH_GRID), 80.0))[0]
        == 0
        == perceptual_hash(values[None] / 255 * MIN_CONTRAST)[0]
    )


def test_reencoded_images_are_near_duplicates_and_others_are_not(tmp_path):
    for number in range(8):
        save(tmp_path / f"{number}.png", scene(number))
        save(tmp_path / f"{number}-small.jpg", scene(number).resize((64, 48)), quality=60)
        darker = Image.fromarray((np.asarray(scene(number)) * 0.8 + 8).astype(np.uint8))
        save(tmp_path / f"{number}-dark.webp", darker, quality=80)
    data = scanned(tmp_path)
    found = [[data.names[index] for index in group] for group in near_duplicate_groups(data.scan)]
    assert sorted(found) == [[f"{n}-dark.webp", f"{n}-small.jpg", f"{n}.png"] for n in range(8)]


def test_equal_groups_are_indices_of_equal_keys():
    assert (
        equal_groups(np.array([5, 3, 5, 9, 3, 5])) == [[0, 2, 5], [1, 4]] and equal_groups(np.array([], np.int64)) == []
    )


# ---- the scan


def test_the_scan_reports_files_formats_sizes_and_problems(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "a" / "1.jpg", scene(1), exif=exif.tobytes())
    save(tmp_path / "a" / "2.png", scene(2).convert("L"))
    save(tmp_path / "b" / "3.png", scene(3))
    save(tmp_path / "b" / "4.png", scene(3))
    save(tmp_path / "b" / "long.png", scene(4, 400, 60))
    save(tmp_path / "b" / "tiny.png", scene(5, 9, 9))
    save(tmp_path / "b" / "gray.png", Image.new("RGB", (30, 30), (9, 9, 9)))
    (tmp_path / "b" / "broken.png").write_bytes(b"")
    (tmp_path / "c").mkdir()
    steps = []
    data = scanned(
        tmp_path, thumbnail_indices=[0, 6], thumbnail_side=48, progress=lambda done, of: steps.append((done, of))
    )
    assert steps == [(8, 8)] and [tuple(p.shape) for p in data.scan.thumbnails] == [(3, 48, 36), (3, 7, 48)]
    found = summarize(data)
    assert found["read"] == 7 and found["unreadable"] == 1 and found["files"] == 9
    assert {"file": "b/broken.png", "reason": "empty file"} in found["skipped"]
    assert {"file": "c", "reason": "a folder without images"} in found["skipped"]
    assert {"file": "a/1.jpg", "note": "turned upright by its EXIF orientation 6"} in found["notes"]
    assert found["formats"] == {"PNG": 6, "JPEG": 1} and found["channels"] == {"3": 6, "1": 1}
    assert found["orientation"] == {"6": 1} and found["sizes"]["width"]["max"] == 400
    assert (
        found["tiny"] == ["b/tiny.png"]
        and found["extreme_aspect"] == ["b/long.png"]
        and found["nearly_uniform"] == ["b/gray.png"]
    )
    assert found["classes"] == {"a": 2, "b": 5} and found["exact_duplicates"] == [["b/3.png", "b/4.png"]]
    assert found["label_conflicts"] == []
    assert [line.split(":")[0] for line in findings(found)] == [
        "unreadable", "folders without images", "copies of other images, equal in every pixel",
        "very small, below 16 pixels", "over 4 times as long as wide, most of it cut away",
        "nearly uniform color", "classes of fewer than 5 images",
    ]  # fmt: skip


def test_clean_data_has_no_findings(tmp_path):
    for number in range(6):
        save(tmp_path / "a" / f"{number}.png", scene(number))
        save(tmp_path / "b" / f"{number}.png", scene(100 + number))
    assert findings(summarize(scanned(tmp_path))) == []


def test_channel_statistics_weigh_every_image_equally():
    images = torch.randint(0, 256, (5, 4, 40, 40), dtype=torch.uint8)
    result = scan(ArraySource(images), PixelFormat(4))
    assert result.mean == pytest.approx((images.double().mean((0, 2, 3)) / 255).tolist())
    assert result.std == pytest.approx((images.double().std((0, 2, 3), unbiased=False) / 255).tolist())
    deep = torch.rand(3, 2, 20, 20) * 1000
    result = scan(ArraySource(deep), PixelFormat(2, (0.0, 1000.0)))
    assert result.mean == pytest.approx((deep.double().mean((0, 2, 3)) / 1000).tolist(), abs=1e-6)
    assert result.file_formats == ["array"] * 3 and len(set(result.perceptual_hashes.tolist())) == 3


def test_the_number_of_threads_does_not_change_the_scan(tmp_path):
    for number in range(80):
        save(tmp_path / f"{number:02d}.png", scene(number, 20, 20))
    one, four = (scanned(tmp_path, workers=workers).scan for workers in (1, 4))
    assert (
        one.source_indices == four.source_indices
        and (one.perceptual_hashes == four.perceptual_hashes).all()
        and one.mean == four.mean
    )


def test_equal_images_in_two_classes_are_a_label_conflict(tmp_path):
    save(tmp_path / "cat" / "1.png", scene(1))
    save(tmp_path / "dog" / "1.bmp", scene(1))
    found = summarize(scanned(tmp_path))
    assert found["label_conflicts"] == [["cat/1.png", "dog/1.bmp"]]


# ---- leakage


def test_leakage_is_found_by_pixels_perceptual_hash_and_group(tmp_path):
    for number in range(6):
        save(tmp_path / "data" / f"{number}.png", scene(number))
    save(tmp_path / "test" / "same.bmp", scene(2))
    save(tmp_path / "test" / "near.jpg", scene(3), quality=70)
    save(tmp_path / "test" / "new.png", scene(50))
    (tmp_path / "data.csv").write_text("file,label,group\ndata/0.png,a,g1\ndata/2.png,b,g2\ndata/3.png,a,g3\n")
    (tmp_path / "test.csv").write_text("file,label,group\ntest/same.bmp,a,g2\ntest/near.jpg,b,\ntest/new.png,c,g9\n")
    train, test = scanned(tmp_path / "data.csv"), scanned(tmp_path / "test.csv")
    leaked = find_leakage(train, test)
    assert leaked == {
        "exact": [{"test": "test/same.bmp", "data": "data/2.png"}],
        "near": [{"test": "test/near.jpg", "data": "data/3.png"}],
        "groups": ["g2"],
    }
    lines = findings(summarize(train) | {"leakage": leaked, "test": summarize(test)})
    assert "test images that are among the data, equal in every pixel: 1" in lines
    assert "classes of the test set that the data do not have: 1 (c)" in lines
    assert "groups in both data and test set: 1 (g2)" in lines
    assert find_leakage(train, scanned(tmp_path / "test" / "new.png")) == {"exact": [], "near": [], "groups": []}


# ---- the page


def test_the_page_escapes_names_and_contains_no_exif(tmp_path):
    exif = Image.Exif()
    exif[0x010E], exif[0x0110] = "my home address", "my camera"
    exif.get_ifd(0x8825)[2] = (52.0, 30.0, 15.0)
    save(tmp_path / "a" / "<script>alert(1)</script>.jpg", scene(1), exif=exif)
    save(tmp_path / "a" / 'x" onload="y.png', scene(1))
    save(tmp_path / "b" / "<script>alert(1)</script>.jpg", scene(1), exif=exif)
    (tmp_path / "b" / "<img src=x>.png").write_bytes(b"text")
    data = scanned(tmp_path, thumbnail_indices=range(3), thumbnail_side=64)
    answer = summarize(data) | {"pretrain_storage": "", "out": None}
    answer["findings"] = findings(answer)
    page = check_html(answer, data, None, True)
    assert "<script" not in page and "<img src=x" not in page and 'onload="y' not in page
    assert (
        "&lt;script&gt;" in page and page.count("data:image/jpeg;base64,") == 2 + 2 + 2
    )  # contact sheet, exact duplicates, near-duplicates
    assert "http" not in page.replace("http-equiv", "")
    for part in page.split("base64,")[1:]:
        embedded = Image.open(io.BytesIO(base64.b64decode(part.split('"')[0])))
        assert not dict(embedded.getexif()) and "exif" not in embedded.info
    without = check_html(answer, data, None, False)
    assert "data:image" not in without and "Equal in every pixel" in without


def test_unprintable_names_are_escaped():
    assert (
        escape_unprintable("a\nb\udce9\t.jpg") == "a\\nb\\udce9\\t.jpg"
        and escape_unprintable("Füchse 🦊") == "Füchse 🦊"
    )


def test_a_thumbnail_is_never_enlarged():
    assert thumbnail(torch.zeros(3, 5, 900, dtype=torch.uint8), 90).shape == (3, 1, 90)
    assert thumbnail(torch.zeros(3, 5, 9, dtype=torch.uint8), 90).shape == (3, 5, 9)


def test_channels_and_bit_depths_are_those_of_the_data_not_of_the_pixel_format():
    gray = torch.arange(3 * 8 * 8).reshape(3, 1, 8, 8)
    result = scan(ArraySource(gray.to(torch.uint8)), RGB)
    assert result.channels.tolist() == [1, 1, 1] and result.bit_depths.tolist() == [8, 8, 8] and len(result.mean) == 3
    result = scan(ArraySource(gray.to(torch.int16)), PixelFormat(3, (0.0, 200.0)))
    assert result.channels.tolist() == [1, 1, 1] and result.bit_depths.tolist() == [16, 16, 16]
    assert scan(ArraySource(gray > 90), RGB).bit_depths.tolist() == [1, 1, 1]


def test_sample_stats_read_each_image_once(tmp_path, monkeypatch):
    for number in range(6):
        np.save(tmp_path / f"{number}.npy", np.full((8, 8), 100 * number, np.uint16))
    read = []
    original = FileSource.read
    monkeypatch.setattr(FileSource, "read", lambda self, index: (read.append(index), original(self, index))[1])
    source = open_source(tmp_path, channels=1)
    assert get_sample_stats(source).pixel_format == PixelFormat(1, (0.0, 1023.0)) and median_short_side(source) == (
        8,
        6,
    )
    assert sorted(read) == list(range(6))
