"""Mistakes that are easily made with data: each is read right, or refused in a line; labels are never guessed."""

import io
import tarfile

import numpy as np
import pytest
import tifffile
from PIL import Image

import headway
from headway.data.dataset.sample_stats import get_sample_stats, outlier_note
from headway.data.decoding.decode import decode_native
from headway.data.decoding.pixel_format import PixelFormat
from headway.data.open import open_source
from headway.downstream.labeled_split import load_labeled_split
from tests.errors import raises


def png(value=0):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (value, 40, 90)).save(file, "PNG")
    return file.getvalue()


def tar_of(path, members):
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


def labels_of(source):
    return {source.name(i): source.label(i) for i in range(len(source))}


@pytest.mark.parametrize(
    "names",
    [
        ["camA.0001.png camA.0001.cls", "camA.0002.png camA.0002.cls"],
        ["img 1.0 cat.png img 1.0 cat.cls".replace(" img", "\timg"), "img 1.5 dog.png\timg 1.5 dog.cls"],
        ["a.png a.png.cls", "b.png b.png.cls"],
        ["x/0.left.png x/0.cls", "x/1.left.png x/1.cls"],
        ["v1.2/0.png v1.2/0.cls", "v1.3/0.png v1.3/0.cls"],
    ],
    ids=["dots", "spaces", "full name", "key", "folders"],
)
def test_labels_in_a_tar_are_those_of_their_images(names, tmp_path):
    pairs = [pair.split("\t") if "\t" in pair else pair.split() for pair in names]
    members = [(name, png(i) if number == 0 else b"cat\n" if i == 0 else b"dog")
               for i, pair in enumerate(pairs) for number, name in enumerate(pair)]  # fmt: skip
    source = open_source(tar_of(tmp_path / "t.tar", members), labeled=True)
    assert labels_of(source) == {f"t.tar/{pairs[0][0]}": "cat", f"t.tar/{pairs[1][0]}": "dog"}


@pytest.mark.parametrize(
    ("members", "labeled"),
    [
        (["0.left.png", "0.right.png", "0.cls", "1.png", "1.cls"], {"1.png": "1"}),
        (["camA.1.png", "camA.2.png", "camA.cls", "b.png", "b.cls"], {"b.png": "b"}),
        (["a.png", "a.jpg", "a.cls", "b.png", "b.cls"], {"b.png": "b"}),
        (["a.png", "a.cls", "a.png.cls", "b.png", "b.cls"], {"b.png": "b"}),
        (["a.png", "a.cls", "a.cls", "b.png", "b.cls"], {"b.png": "b"}),
    ],
)
def test_a_label_that_fits_several_images_is_never_guessed(members, labeled, tmp_path):
    written = [(name, name[0].encode() if name.endswith(".cls") else png(i)) for i, name in enumerate(members)]
    path = tar_of(tmp_path / "t.tar", written)
    with raises("label-ambiguous", members[0].split(".")[0]):
        open_source(path, labeled=True)
    source = open_source(path, labeled=None)
    assert {name.removeprefix("t.tar/"): label for name, label in labels_of(source).items() if label} == labeled
    assert [name for name, reason in source.ignored if "fit" in reason]


@pytest.fixture
def split_folders(tmp_path):
    for i, part in enumerate(("Train/cat", "Train/dog", "val/cat", "test/dog")):
        (tmp_path / part).mkdir(parents=True)
        (tmp_path / part / "0.png").write_bytes(png(i))
    return tmp_path


def test_folders_called_train_and_test_are_no_classes(split_folders):
    with raises("split-folders", f"--data {split_folders}/Train --test {split_folders}/test"):
        open_source(split_folders, labeled=True)
    assert set(labels_of(open_source(split_folders, labeled=None)).values()) == {"cat", "dog"}
    assert headway.check(split_folders).classes == {"cat": 2, "dog": 2}
    (split_folders / "bus").mkdir()
    (split_folders / "bus" / "0.png").write_bytes(png(9))
    assert set(labels_of(open_source(split_folders, labeled=True)).values()) == {"Train", "val", "test", "bus"}


def test_an_archive_beside_class_folders_is_passed_over(tmp_path):
    for kind in ("cat", "dog"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "0.png").write_bytes(png())
    tar_of(tmp_path / "images.tar.gz", [("0.png", png())])
    source = open_source(tmp_path, labeled=True)
    assert len(source) == 2 and [name for name, _ in source.ignored] == ["images.tar.gz"]


def test_tars_alone_and_other_archives_are_named(tmp_path):
    tar_of(tmp_path / "a.tar", [("0.png", png())])
    with raises("no-images", "a.tar"):
        open_source(tmp_path)
    (tmp_path / "a.zip").write_bytes(b"PK\3\4")
    with raises("data-unknown", "a.zip", "unpack"):
        open_source(tmp_path / "a.zip")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_tables_from_windows_are_read(encoding, tmp_path):
    (tmp_path / "photos" / "k\u00e4fer").mkdir(parents=True)
    for i in range(2):
        (tmp_path / "photos" / "k\u00e4fer" / f"{i}.png").write_bytes(png(i))
    rows = "file;label\nphotos\\k\u00e4fer\\0.png;K\u00e4fer\nphotos\\k\u00e4fer\\1.png;M\u00fccke\n"
    (tmp_path / "t.csv").write_bytes(rows.encode(encoding))
    source = open_source(tmp_path / "t.csv", labeled=True)
    assert labels_of(source) == {"photos/k\u00e4fer/0.png": "K\u00e4fer", "photos/k\u00e4fer/1.png": "M\u00fccke"}
    assert source.read(1) == png(1)
    (tmp_path / "names.csv").write_bytes(rows.replace("photos\\", "").encode(encoding))
    by_name = open_source(tmp_path / "photos", labels=tmp_path / "names.csv")
    assert labels_of(by_name) == {"k\u00e4fer/0.png": "K\u00e4fer", "k\u00e4fer/1.png": "M\u00fccke"}


def test_a_parquet_of_pixels_is_refused_without_its_bytes(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    columns = {"file": [png(i) for i in range(3)], "label": ["a", "b", "a"]}
    nested = {"image": [{"bytes": png(i), "path": "x"} for i in range(3)], "label": ["a", "b", "a"]}
    for number, table in enumerate((columns, nested)):
        path = tmp_path / f"{number}.parquet"
        parquet.write_table(pyarrow.table(table), path)
        with raises("table-invalid", "load_dataset", *table) as caught:
            open_source(path)
        assert len(str(caught.value)) < 500 and "PNG" not in str(caught.value)


@pytest.mark.parametrize(("kind", "missing"), [("float32", -9999.0), ("int16", -32768), ("uint16", 65535)])
def test_missing_values_by_the_tag_of_gdal_become_black(kind, missing, tmp_path):
    values = np.arange(100, 164, dtype=kind).reshape(8, 8)
    values[0, :3] = missing
    tag = (42113, "s", 0, str(missing), True)
    file = io.BytesIO()
    tifffile.imwrite(file, values, extratags=[tag])
    native = decode_native(file.getvalue(), PixelFormat(1)).values[..., 0]
    assert np.isnan(native[0, :3]).all() and np.array_equal(native.reshape(-1)[3:], np.arange(103.0, 164.0))
    tifffile.imwrite(tmp_path / "a.tif", values, extratags=[tag])
    assert get_sample_stats(open_source(tmp_path)).pixel_format.value_range[1] < 1000


def test_a_number_that_takes_the_range_is_told(tmp_path, caplog):
    generator = np.random.default_rng(0)
    for i in range(6):
        values = generator.uniform(0.1, 0.9, (16, 16)).astype(np.float32)
        values[0, 0] = -9999 if i == 0 else values[0, 0]
        tifffile.imwrite(tmp_path / f"{i}.tif", values)
    found = headway.check(tmp_path).findings
    assert any("-9999" in line and "--value-range 0.1" in line for line in found)
    headway.pretrain(
        "rotation", data=tmp_path, out=tmp_path / "run", backbone="vit_pico", patch=4, size=16, steps=1,
        precision="float32", threads=1,
    )  # fmt: skip
    assert "values reach from -9999" in caplog.text


def test_masks_and_ordinary_values_are_not_told():
    generator = np.random.default_rng(0)
    assert outlier_note([generator.integers(0, 2, 500) * 65535.0], 0, 65535) == ""
    assert outlier_note([generator.normal(size=500)], -4, 4) == "" and outlier_note([], 0, 1) == ""
    assert outlier_note([np.zeros(10)], 0, 0) == ""
    assert outlier_note([generator.normal(1000, 300, 500)], 0, 4000) == ""


def test_transfer_tells_of_unlabeled_untested_and_contradicting_images(tmp_path, caplog):
    photos, generator = tmp_path / "photos", np.random.default_rng(0)
    for kind, count in (("cat", 8), ("dog", 8), ("owl", 1)):
        (photos / kind).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(generator.integers(0, 255, (16, 16, 3), np.uint8)).save(photos / kind / f"{i}.png")
    (photos / "loose.png").write_bytes(png(1))
    (photos / "dog" / "copy.png").write_bytes((photos / "cat" / "0.png").read_bytes())
    load_labeled_split(open_source(photos, labeled=True), None, 16)
    assert "1 of 19 images have no label and are not used, such as 'loose.png'" in caplog.text
    assert "no test image is of 1 of the classes, whose accuracy is not measured: owl" in caplog.text
    assert "such as 'cat/0.png' (cat) and 'dog/copy.png' (dog)" in caplog.text
