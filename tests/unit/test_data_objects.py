"""Objects as sources: torchvision and Hugging Face data sets, arrays; Parquet tables; groups by name."""

import io
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from headway.data.dataset.image_store import build_store
from headway.data.open import open_source
from headway.data.sources import in_memory
from headway.data.sources.huggingface import HuggingFaceSource
from headway.data.sources.in_memory import ArraySource
from headway.errors import HeadwayError, UnreadableImageError
from headway.utils.locks import file_lock
from tests.errors import raises


def make_image(number: int, mode="RGB") -> Image.Image:
    pixels = np.random.default_rng(number).integers(0, 256, (10, 12, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


class Pairs:
    """Like torchvision's data sets: pairs of an image and a class index."""

    classes = ("cat", "dog")
    targets = (0, 1, 1)

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return make_image(index), self.targets[index]


def test_a_torchvision_like_data_set():
    source = open_source(Pairs(), labeled=True)
    store = build_store(source, 10)
    assert store.labels.tolist() == [0, 1, 1] and store.classes == ("cat", "dog")
    assert store.names == [f"Pairs/{n:08d}" for n in range(3)]
    assert source.image(1).equal(torch.from_numpy(np.array(make_image(1))).permute(2, 0, 1))
    assert open_source(Pairs()).classes is None


@pytest.mark.parametrize(
    ("targets", "labels"),
    [
        (np.array([1, -1, 0]), ["dog", None, "cat"]),  # as in STL10, where -1 is an unlabeled image
        ([[1], [0], [2]], ["1", "0", "2"]),
        (("a", "b", ""), ["a", "b", None]),
        (np.zeros((3, 2), int), None),
        ([0.5, 1.5, 0.0], None),
        ([{"boxes": []}] * 3, None),
    ],
)
def test_labels_are_one_class_per_image_or_none(targets, labels):
    data = Pairs()
    data.targets = targets
    source = open_source(data, labeled=None)
    assert source.labels == labels


def test_arrays_of_any_memory_layout():
    array = np.arange(48, dtype=np.uint16).reshape(4, 4, 3)
    read_only = array.copy()
    read_only.flags.writeable = False
    source = open_source(
        [array[:, ::-1], array.astype(">u2"), read_only, Image.new("F", (4, 4), 0.5), array.astype(object)]
    )
    expected = torch.from_numpy(array.astype(np.int32)).permute(2, 0, 1)
    assert source.image(0).int().equal(expected.flip(2))
    assert source.image(1).int().equal(expected) and source.image(2).int().equal(expected)
    assert source.image(3).equal(torch.full((1, 4, 4), 0.5))
    with pytest.raises(UnreadableImageError, match="not an image but ndarray"):
        source.image(4)


def test_items_are_images_or_unreadable():
    array = np.arange(24, dtype=np.uint8).reshape(4, 6)
    items = [make_image(0), make_image(1, "RGBA"), make_image(2, "L"), array, torch.ones(3, 4, 4), "words"]
    source = open_source(items)
    shapes = [tuple(source.image(index).shape) for index in range(5)]
    assert shapes == [(3, 10, 12), (3, 10, 12), (1, 10, 12), (1, 4, 6), (3, 4, 4)]
    with pytest.raises(UnreadableImageError, match="not an image but str"):
        source.image(5)
    assert build_store(source, 4).skipped == [("list/00000005", "not an image but str")]
    with raises("array-invalid"):
        in_memory.DatasetSource(Pairs(), "x", ["a"])


def test_torchvision_data_sets_by_name(tmp_path, monkeypatch):
    from torchvision import datasets

    created = []

    class CIFAR10(Pairs):
        def __init__(self, root, train, download):
            created.append((root, train, download))

    class STL10(Pairs):
        def __init__(self, root, split, download):
            if split not in ("train", "test"):
                raise ValueError(split)
            created.append((root, split, download))

    class SVHN:
        def __init__(self, root, **kwargs):
            raise RuntimeError("File not found or corrupted.\nTry again.")

    for kind in (CIFAR10, STL10, SVHN):
        monkeypatch.setattr(datasets, kind.__name__, kind)
    monkeypatch.setenv("HEADWAY_DATA", str(tmp_path))
    assert open_source("torchvision:CIFAR10", labeled=True).classes == ("cat", "dog")
    assert len(open_source("torchvision:STL10:test")) == 3
    assert created == [(str(tmp_path / "CIFAR10"), True, True), (str(tmp_path / "STL10"), "test", True)]
    for given, message in (
        ("torchvision:CIFAR", "unknown data set of torchvision 'CIFAR': did you mean CIFAR10"),
        ("torchvision:SVHN", r"cannot fetch torchvision:SVHN into .*: File not found or corrupted\. Try again"),
        ("torchvision:CIFAR10:tets", "unknown split of a data set 'tets': did you mean test"),
    ):
        with pytest.raises(HeadwayError, match=message):
            open_source(given)


def test_one_process_at_a_time_downloads(tmp_path, monkeypatch):
    from torchvision import datasets

    class CIFAR10(Pairs):
        def __init__(self, root, train, download):
            (lock,) = tmp_path.glob(".*.lock")
            with pytest.raises(BlockingIOError), file_lock(lock, blocking=False):  # another process would wait here
                pass

    monkeypatch.setattr(datasets, "CIFAR10", CIFAR10)
    monkeypatch.setenv("HEADWAY_DATA", str(tmp_path))
    for _ in range(2):  # the lock is released
        assert len(open_source("torchvision:CIFAR10")) == 3


class ImageColumn:
    """Like ``datasets.Image``."""

    def __init__(self, decode=True):
        self.decode = decode


ImageColumn.__name__ = "Image"


class ClassLabel:
    names = ("cat", "dog")


class Table:
    """The part of ``datasets.Dataset`` that is used."""

    def __init__(self, columns, features):
        self.columns, self.features, self.column_names = columns, features, list(columns)

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def cast_column(self, name, feature):
        assert not feature.decode
        return Table(self.columns, self.features | {name: feature})

    def select_columns(self, names):
        return Table({name: self.columns[name] for name in names}, self.features)

    def with_format(self, kind):
        assert kind == "arrow"
        return Arrow(self.columns)

    def __getitem__(self, key):
        return {name: column[key] for name, column in self.columns.items()}


class Arrow(NamedTuple):
    """The same as an Arrow table of one row."""

    columns: dict

    def __getitem__(self, key):
        return {name: [Cell(column[key])] for name, column in self.columns.items()}


class Cell(NamedTuple):
    """One cell of an Arrow table."""

    value: object

    @property
    def is_valid(self):
        return self.value is not None

    def __getitem__(self, name):
        assert name == "path"  # the bytes are not copied
        return Cell(self.value[name])

    def as_py(self):
        return self.value


def png(number: int) -> bytes:
    file = io.BytesIO()
    make_image(number).save(file, "PNG")
    return file.getvalue()


def test_a_hugging_face_data_set_keeps_the_encoded_bytes(tmp_path):
    (tmp_path / "there.png").write_bytes(png(1))
    cells = [{"bytes": png(0), "path": "a/b.png"}, {"bytes": None, "path": str(tmp_path / "there.png")}, None]
    table = Table({"photo": cells, "kind": [0, 1, -1]}, {"photo": ImageColumn(), "kind": ClassLabel()})
    source = open_source(table, labeled=None)
    assert isinstance(source, HuggingFaceSource) and source.classes == ("cat", "dog")
    assert [source.label(index) for index in range(3)] == ["cat", "dog", None]
    assert source.name(0) == "00000000/b.png" and source.name(2) == "00000002"
    store = build_store(source, 8)
    assert len(store.images) == 2 and store.skipped == [("00000002", "the row has no image")]
    assert open_source(table).classes is None
    with raises("no-images"):
        open_source(Table({"kind": [0]}, {"kind": ClassLabel()}))


@pytest.mark.filterwarnings("ignore")  # warnings of the library
def test_a_real_hugging_face_data_set():
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    cells = [{"bytes": png(number), "path": path} for number, path in enumerate(("b/a.png", None, "c.png"))]
    rows = pyarrow.table({"image": cells, "label": [0, 1, 0]}, schema=features.arrow_schema)
    info = datasets.DatasetInfo(features=features)
    table = datasets.Dataset(datasets.table.InMemoryTable(rows), info=info, fingerprint="any")
    source = open_source(table, labeled=True)
    assert source.read(1) == png(1) and source.label(1) == "dog" and len(build_store(source, 8).images) == 3
    source.rows = None  # names are read without the images
    assert [source.name(index) for index in range(3)] == ["00000000/a.png", "00000001", "00000002/c.png"]


def test_arrays_are_sources():
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8), dtype=np.uint8)
    assert isinstance(open_source(images), ArraySource)
    assert build_store(open_source(images), 8).images.equal(torch.from_numpy(images))


# ---- tables and groups


def test_a_parquet_table(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import parquet

    for number in range(3):
        make_image(number).save(tmp_path / f"{number}.png")
    table = pyarrow.table({"File": ["0.png", "1.png", "2.png"], "label": [7, 8, None], "Animal": ["a", "b", "a"]})
    parquet.write_table(table, tmp_path / "t.parquet")
    source = open_source(tmp_path / "t.parquet", labeled=True, group_by="animal")
    assert [source.label(i) for i in range(2)] == ["7", "8"] and [source.group(i) for i in range(2)] == ["a", "b"]
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nothing")
    with raises("table-invalid"):
        open_source(tmp_path / "bad.parquet")


def test_parquet_without_pyarrow_is_a_clear_error(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with raises("missing-package"):
        open_source(tmp_path / "t.parquet")


def test_groups_by_column_or_by_name(tmp_path):
    for name in ("fox-1_a.png", "fox-1_b.png", "fox-2_a.png", "map.png"):
        make_image(0).save(tmp_path / name)
    source = open_source(tmp_path, group_by=r"^(\w+-\d)_")
    assert [source.group(index) for index in range(4)] == ["fox-1", "fox-1", "fox-2", None]
    (tmp_path / "t.csv").write_text("file,label,camera\nfox-1_a.png,a,c1\nfox-2_a.png,b,c1\nmap.png,a,c2\n")
    source = open_source(tmp_path / "t.csv", labeled=True, group_by="Camera")
    assert [source.group(index) for index in range(3)] == ["c1", "c1", "c2"]
    source = open_source(tmp_path, labels=tmp_path / "t.csv", group_by="camera")
    assert [source.group(index) for index in range(3)] == ["c1", "c1", "c2"]
    for pattern, message in (
        ("(", "is not a regular expression"),
        ("horse", "nor matches any name; names are like 'fox-1_a"),
    ):
        with pytest.raises(HeadwayError, match=message):
            open_source(tmp_path, group_by=pattern)
