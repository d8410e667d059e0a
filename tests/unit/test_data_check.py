"""The look at a data set: hashes that find what looks alike, findings, leakage, a page that gives nothing away."""

import base64
import io
import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from headway.data.arrays import Arrays
from headway.data.check import inspect, thumbnail
from headway.data.files import Files
from headway.data.form import RGB, Form
from headway.data.open import open_source
from headway.data.survey import natural_size, surveyed
from headway.data.twins import GRID, PLAIN, families, look_hash, near_pairs
from headway.reports.check import Looked, facts, findings, leakage, near_families, plainly, twins
from headway.reports.check_page import write_check_page


def scene(number: int, width=96, height=72) -> Image.Image:
    """Soft blobs: something that a hash of low frequencies can tell apart."""
    small = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def save(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def looked(data, form=RGB, **options):
    source = open_source(data, labelled=None)
    return Looked(str(data), source, form, inspect(source, form, **options))


# ---- twins


def test_near_pairs_are_those_of_a_slow_comparison():
    chance = np.random.default_rng(0)
    hashes = chance.integers(1, 1 << 63, 300).astype(np.uint64)
    for place in range(100, 200):  # near ones at every distance, and equal ones
        flips = chance.choice(64, int(chance.integers(0, 9)), replace=False)
        hashes[place] = hashes[place - 100] ^ np.uint64(sum(1 << int(bit) for bit in flips))
    hashes[250:260] = 0
    for radius in (0, 3, 4, 7):
        slow = {
            (i, j)
            for i, j in itertools.combinations(range(300), 2)
            if hashes[i] and hashes[j] and (int(hashes[i]) ^ int(hashes[j])).bit_count() <= radius
        }
        fast = set(map(tuple, near_pairs(hashes, radius).tolist()))
        assert fast <= slow and families(np.array(sorted(fast)), 300) == families(np.array(sorted(slow)), 300)
    assert len(near_pairs(np.zeros(5, np.uint64))) == len(near_pairs(np.empty(0, np.uint64))) == 0


def test_equal_hashes_are_chained():
    assert near_pairs(np.full(50, 7, np.uint64)).tolist() == [[place, place + 1] for place in range(49)]


def test_the_hash_is_the_signs_of_the_lowest_frequencies():
    from scipy.fft import dctn

    values = np.random.default_rng(1).random((GRID, GRID)) * 255
    low = dctn(values, norm="ortho")[:8, :8].flatten()
    bits = int("".join(str(int(value > np.median(low))) for value in low), 2)
    assert int(look_hash(values[None])[0]) == bits
    assert look_hash(np.full((1, GRID, GRID), 80.0))[0] == 0 == look_hash(values[None] / 255 * PLAIN)[0]


def test_the_same_picture_otherwise_encoded_is_near_and_others_are_not(tmp_path):
    for number in range(8):
        save(tmp_path / f"{number}.png", scene(number))
        save(tmp_path / f"{number}-small.jpg", scene(number).resize((64, 48)), quality=60)
        darker = Image.fromarray((np.asarray(scene(number)) * 0.8 + 8).astype(np.uint8))
        save(tmp_path / f"{number}-dark.webp", darker, quality=80)
    data = looked(tmp_path)
    found = [[data.names[place] for place in family] for family in near_families(data.seen)]
    assert sorted(found) == [[f"{n}-dark.webp", f"{n}-small.jpg", f"{n}.png"] for n in range(8)]


def test_twins_are_equal_keys():
    assert twins(np.array([5, 3, 5, 9, 3, 5])) == [[0, 2, 5], [1, 4]] and twins(np.array([], np.int64)) == []


# ---- the pass


def test_the_pass_counts_what_is_there(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "a" / "1.jpg", scene(1), exif=exif.tobytes())
    save(tmp_path / "a" / "2.png", scene(2).convert("L"))
    save(tmp_path / "b" / "3.png", scene(3))
    save(tmp_path / "b" / "4.png", scene(3))
    save(tmp_path / "b" / "long.png", scene(4, 400, 60))
    save(tmp_path / "b" / "tiny.png", scene(5, 9, 9))
    save(tmp_path / "b" / "grey.png", Image.new("RGB", (30, 30), (9, 9, 9)))
    (tmp_path / "b" / "broken.png").write_bytes(b"")
    (tmp_path / "c").mkdir()
    steps = []
    data = looked(tmp_path, show=[0, 6], side=48, progress=lambda done, of: steps.append((done, of)))
    assert steps == [(8, 8)] and [tuple(p.shape) for p in data.seen.sheet] == [(3, 48, 36), (3, 7, 48)]
    found = facts(data)
    assert found["read"] == 7 and found["unreadable"] == 1 and found["files"] == 9
    assert {"file": "b/broken.png", "reason": "empty file"} in found["skipped"]
    assert {"file": "c", "reason": "a folder without pictures"} in found["skipped"]
    assert {"file": "a/1.jpg", "note": "turned upright by its EXIF orientation 6"} in found["notes"]
    assert found["formats"] == {"PNG": 6, "JPEG": 1} and found["channels"] == {"3": 6, "1": 1}
    assert found["orientation"] == {"6": 1} and found["sizes"]["width"]["most"] == 400
    assert found["tiny"] == ["b/tiny.png"] and found["extreme"] == ["b/long.png"] and found["plain"] == ["b/grey.png"]
    assert found["classes"] == {"a": 2, "b": 5} and found["exact_duplicates"] == [["b/3.png", "b/4.png"]]
    assert found["contradictions"] == []
    assert [line.split(":")[0] for line in findings(found)] == [
        "unreadable", "folders without pictures", "copies of other pictures, equal in every pixel",
        "very small, below 16 pixels", "over 4 times as long as wide, most of it cut away",
        "hardly more than one colour", "classes of fewer than 5 pictures",
    ]  # fmt: skip


def test_clean_data_have_no_findings(tmp_path):
    for number in range(6):
        save(tmp_path / "a" / f"{number}.png", scene(number))
        save(tmp_path / "b" / f"{number}.png", scene(100 + number))
    assert findings(facts(looked(tmp_path))) == []


def test_statistics_weigh_every_picture_alike():
    images = torch.randint(0, 256, (5, 4, 40, 40), dtype=torch.uint8)
    seen = inspect(Arrays(images), Form(4))
    assert seen.mean == pytest.approx((images.double().mean((0, 2, 3)) / 255).tolist())
    assert seen.std == pytest.approx((images.double().std((0, 2, 3), unbiased=False) / 255).tolist())
    deep = torch.rand(3, 2, 20, 20) * 1000
    seen = inspect(Arrays(deep), Form(2, (0.0, 1000.0)))
    assert seen.mean == pytest.approx((deep.double().mean((0, 2, 3)) / 1000).tolist(), abs=1e-6)
    assert seen.kinds == ["array"] * 3 and len(set(seen.looks.tolist())) == 3


def test_threads_change_nothing(tmp_path):
    for number in range(80):
        save(tmp_path / f"{number:02d}.png", scene(number, 20, 20))
    one, four = (looked(tmp_path, workers=workers).seen for workers in (1, 4))
    assert one.kept == four.kept and (one.looks == four.looks).all() and one.mean == four.mean


def test_equal_pictures_in_two_classes_contradict_one_another(tmp_path):
    save(tmp_path / "cat" / "1.png", scene(1))
    save(tmp_path / "dog" / "1.bmp", scene(1))
    found = facts(looked(tmp_path))
    assert found["contradictions"] == [["cat/1.png", "dog/1.bmp"]]


# ---- leakage


def test_leakage_is_found_by_pixels_by_looks_and_by_group(tmp_path):
    for number in range(6):
        save(tmp_path / "data" / f"{number}.png", scene(number))
    save(tmp_path / "test" / "same.bmp", scene(2))
    save(tmp_path / "test" / "near.jpg", scene(3), quality=70)
    save(tmp_path / "test" / "new.png", scene(50))
    (tmp_path / "data.csv").write_text("file,label,group\ndata/0.png,a,g1\ndata/2.png,b,g2\ndata/3.png,a,g3\n")
    (tmp_path / "test.csv").write_text("file,label,group\ntest/same.bmp,a,g2\ntest/near.jpg,b,\ntest/new.png,c,g9\n")
    train, test = looked(tmp_path / "data.csv"), looked(tmp_path / "test.csv")
    leaked = leakage(train, test)
    assert leaked == {
        "exact": [{"test": "test/same.bmp", "data": "data/2.png"}],
        "near": [{"test": "test/near.jpg", "data": "data/3.png"}],
        "groups": ["g2"],
    }
    told = findings(facts(train) | {"leakage": leaked, "test": facts(test)})
    assert "test pictures that are among the data, equal in every pixel: 1" in told
    assert "classes of the test set that the data have not: 1 (c)" in told
    assert "groups that are on both sides: 1 (g2)" in told
    assert leakage(train, looked(tmp_path / "test" / "new.png")) == {"exact": [], "near": [], "groups": []}


# ---- the page


def test_the_page_escapes_names_and_carries_no_exif(tmp_path):
    exif = Image.Exif()
    exif[0x010E], exif[0x0110] = "my home address", "my camera"
    exif.get_ifd(0x8825)[2] = (52.0, 30.0, 15.0)
    save(tmp_path / "a" / "<script>alert(1)</script>.jpg", scene(1), exif=exif)
    save(tmp_path / "a" / 'x" onload="y.png', scene(1))
    save(tmp_path / "b" / "<script>alert(1)</script>.jpg", scene(1), exif=exif)
    (tmp_path / "b" / "<img src=x>.png").write_bytes(b"text")
    data = looked(tmp_path, show=range(3), side=64)
    answer = facts(data) | {"kept": "", "out": None}
    answer["findings"] = findings(answer)
    page = write_check_page(answer, data, None, True)
    assert "<script" not in page and "<img src=x" not in page and 'onload="y' not in page
    assert "&lt;script&gt;" in page and page.count("data:image/jpeg;base64,") == 2 + 2 + 2  # of the sheet, equal, alike
    assert "http" not in page.replace("http-equiv", "")
    for part in page.split("base64,")[1:]:
        made = Image.open(io.BytesIO(base64.b64decode(part.split('"')[0])))
        assert not dict(made.getexif()) and "exif" not in made.info
    without = write_check_page(answer, data, None, False)
    assert "data:image" not in without and "Equal in every pixel" in without


def test_names_that_are_no_text_are_written_as_escapes():
    assert plainly("a\nb\udce9\t.jpg") == "a\\nb\\udce9\\t.jpg" and plainly("Füchse 🦊") == "Füchse 🦊"


def test_a_thumbnail_is_never_enlarged():
    assert thumbnail(torch.zeros(3, 5, 900, dtype=torch.uint8), 90).shape == (3, 1, 90)
    assert thumbnail(torch.zeros(3, 5, 9, dtype=torch.uint8), 90).shape == (3, 5, 9)


def test_channels_and_bits_are_those_of_what_was_given_not_of_the_form():
    grey = torch.arange(3 * 8 * 8).reshape(3, 1, 8, 8)
    seen = inspect(Arrays(grey.to(torch.uint8)), RGB)
    assert seen.channels.tolist() == [1, 1, 1] and seen.bits.tolist() == [8, 8, 8] and len(seen.mean) == 3
    seen = inspect(Arrays(grey.to(torch.int16)), Form(3, (0.0, 200.0)))
    assert seen.channels.tolist() == [1, 1, 1] and seen.bits.tolist() == [16, 16, 16]
    assert inspect(Arrays(grey > 90), RGB).bits.tolist() == [1, 1, 1]


def test_a_survey_reads_each_picture_once(tmp_path, monkeypatch):
    for number in range(6):
        np.save(tmp_path / f"{number}.npy", np.full((8, 8), 100 * number, np.uint16))
    read = []
    honest = Files.read
    monkeypatch.setattr(Files, "read", lambda self, index: (read.append(index), honest(self, index))[1])
    source = open_source(tmp_path, channels=1)
    assert surveyed(source).form == Form(1, (0.0, 1023.0)) and natural_size(source) == (8, 6)
    assert sorted(read) == list(range(6))
