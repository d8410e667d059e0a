"""Folders, tars and tables as sources, and one clear line for invalid input."""

import io
import os
import tarfile

import pytest
import torch
from PIL import Image

from headway.data.dataset.image_store import build_store
from headway.data.open import open_source
from headway.data.sources import tar_index
from headway.data.sources.base import Source, SubsetSource, sorted_classes
from headway.data.sources.brace_expansion import expand_braces, to_brace_patterns
from headway.errors import HeadwayError, UnreadableImageError
from tests.errors import raises


def png(level: int, side: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (level, 0, 255 - level)).save(buffer, "PNG")
    return buffer.getvalue()


def write(root, *names, level=0):
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(level + number))


def make_tar(path, members, mode="w"):
    with tarfile.open(path, mode) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def pair(key, level, label):
    return [(f"{key}.cls", label.encode()), (f"{key}.png", png(level))]


def names(source):
    return [source.name(index) for index in range(len(source))]


def labels(source):
    return [source.label(index) for index in range(len(source))]


# ---- folders


def test_a_folder_in_any_layout_is_sorted_and_other_files_are_ignored(tmp_path):
    write(tmp_path, "b/deep/er/2.PNG", "a/1.png", "0.jpeg", ".hidden.png", ".cache/x.png", "a/._1.png")
    (tmp_path / "a" / "notes.txt").write_text("not an image")
    source = open_source(tmp_path)
    assert names(source) == ["0.jpeg", "a/1.png", "b/deep/er/2.PNG"]
    assert labels(source) == [None] * 3 and source.classes is None
    assert source.read(1) == png(1) and isinstance(source, Source)


def test_first_level_folders_are_labels_and_images_outside_have_none(tmp_path):
    write(tmp_path, "dog/x/1.png", "cat/1.png", "cat/2.png", "sheet.png")
    source = open_source(tmp_path, labeled=True)
    assert names(source) == ["cat/1.png", "cat/2.png", "dog/x/1.png"]
    assert labels(source) == ["cat", "cat", "dog"] and source.classes == ("cat", "dog")


def test_links_are_followed_once_and_never_in_circles(tmp_path):
    outside = tmp_path / "outside"
    write(outside, "far.png")
    root = tmp_path / "root"
    write(root, "z/1.png")
    (root / "loop").symlink_to("..", target_is_directory=True)  # a circle through the parent folder
    (root / "a").symlink_to("z", target_is_directory=True)
    (root / "self").symlink_to("self")
    (root / "linked.png").symlink_to("z/1.png")
    found = names(open_source(root))
    assert found == ["linked.png", "loop/outside/far.png", "z/1.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_files_that_are_not_regular_are_unreadable_and_do_not_block(tmp_path):
    write(tmp_path, "good.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "nowhere.png").symlink_to("missing.png")
    source = open_source(tmp_path)
    assert names(source) == ["good.png", "nowhere.png", "pipe.png"]
    with pytest.raises(UnreadableImageError, match="regular file"):
        source.read(2)
    with pytest.raises(FileNotFoundError):
        source.read(1)


def test_a_file_is_read_completely_from_short_reads(tmp_path, monkeypatch):
    write(tmp_path, "1.png")
    read = os.read
    monkeypatch.setattr(os, "read", lambda descriptor, size: read(descriptor, min(size, 20)))
    assert open_source(tmp_path).read(0) == png(0)


def test_the_version_key_changes_with_the_files(tmp_path):
    write(tmp_path, "1.png", "2.png")
    before = open_source(tmp_path).version_key()
    assert open_source(tmp_path).version_key() == before
    (tmp_path / "2.png").write_bytes(png(3, side=9))
    assert open_source(tmp_path).version_key() != before


# ---- tars


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tgz"])
def test_a_tar_has_images_and_labels_by_classes_txt(tmp_path, ending):
    (tmp_path / "classes.txt").write_text("zebra\nant\n")
    members = [*pair("000", 1, "1"), *pair("sub/001", 2, "0\n"), *pair("002", 3, "zebra"), ("._003.png", b"junk")]
    path = make_tar(tmp_path / f"x{ending}", members, "w" if ending == ".tar" else "w:gz")
    source = open_source(path, labeled=True)
    assert names(source) == [f"x{ending}/000.png", f"x{ending}/sub/001.png", f"x{ending}/002.png"]
    assert labels(source) == ["ant", "zebra", "zebra"] and source.classes == ("zebra", "ant")
    assert [source.read(index) for index in range(3)] == [png(1), png(2), png(3)]
    assert labels(open_source(path)) == [None] * 3


def test_hidden_files_and_folders_of_a_tar_are_ignored(tmp_path):
    members = ("./1.png", "./.2.png", "./.cache/3.png", "a/../4.png", "a/.b/c/5.png")
    source = open_source(make_tar(tmp_path / "t.tar", [(name, png(9)) for name in members]))
    assert names(source) == ["t.tar/./1.png", "t.tar/a/../4.png"]
    assert [name for name, reason in source.ignored if reason == "hidden"] == [
        "t.tar/./.2.png", "t.tar/./.cache/3.png", "t.tar/a/.b/c/5.png",
    ]  # fmt: skip


def test_a_brace_pattern_joins_tars_in_order(tmp_path):
    for number in range(3):
        make_tar(tmp_path / f"t-{number}.tar", pair("0", number, f"class {number % 2}"))
    source = open_source(f"{tmp_path}/t-{{0..2}}.tar", labeled=True)
    assert names(source) == ["t-0.tar/0.png", "t-1.tar/0.png", "t-2.tar/0.png"]
    assert source.classes == ("class 0", "class 1")


def test_nothing_in_a_tar_reaches_outside(tmp_path):
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as tar:
        kinds = [(tarfile.SYMTYPE, "link.png"), (tarfile.FIFOTYPE, "pipe.png"), (tarfile.DIRTYPE, "d.png")]
        for kind, name in (*kinds, (tarfile.LNKTYPE, "hard.png"), (tarfile.CHRTYPE, "device.png")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        for name in ("../../escape.png", "/etc/absolute.png"):
            info = tarfile.TarInfo(name)
            info.size = len(png(5))
            tar.addfile(info, io.BytesIO(png(5)))
    source = open_source(path)
    assert names(source) == ["evil.tar/../../escape.png", "evil.tar//etc/absolute.png"]
    assert source.read(0) == source.read(1) == png(5)
    assert {name: "links are not followed" in reason for name, reason in source.ignored} == {
        f"evil.tar/{name}": True for name in ("link.png", "pipe.png", "hard.png", "device.png")
    }
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["evil.tar"]


def test_many_tars_keep_few_descriptors_and_close_them_with_the_source(tmp_path):
    for number in range(300):
        make_tar(tmp_path / f"{number:03d}.tar.gz", pair("0", number % 256, "a"), "w:gz")
        make_tar(tmp_path / f"plain-{number:03d}.tar", pair("0", number % 256, "a"))
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    packed = open_source(f"{tmp_path}/{{000..299}}.tar.gz")
    plain = open_source(f"{tmp_path}/plain-{{000..299}}.tar")
    assert len(packed) == len(plain) == 300
    assert all(packed.read(index) == plain.read(index) == png(index % 256) for index in range(300))
    if before:
        assert len(os.listdir("/proc/self/fd")) - before <= (os.cpu_count() or 1)
    source, descriptor = packed, packed.shards[0].unpacked_fd
    os.fstat(descriptor)
    del packed
    del source
    with pytest.raises(OSError):
        os.fstat(descriptor)


def test_a_changed_tar_and_a_too_large_member_are_refused(tmp_path, monkeypatch):
    path = make_tar(tmp_path / "x.tar", [*pair("0", 1, "a"), *pair("1", 2, "b")])
    source = open_source(path)
    monkeypatch.setattr(tar_index, "MAX_FILE_BYTES", 10)
    with pytest.raises(UnreadableImageError, match="too many for an image"):
        source.read(0)
    monkeypatch.undo()
    path.write_bytes(path.read_bytes() + bytes(512))
    with pytest.raises(UnreadableImageError, match="has changed"):
        source.read(0)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        source.read(0)


def test_a_gzip_bomb_and_a_too_long_label_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tar_index, "MIN_UNPACK_LIMIT_BYTES", 1 << 16)
    path = make_tar(tmp_path / "x.tar.gz", [("0.png", bytes(1 << 20))], "w:gz")
    with raises("archive-damaged"):
        open_source(path)
    path = make_tar(tmp_path / "y.tar", [("0.png", png(1)), ("0.cls", b"x" * 5000)])
    assert len(open_source(path)) == 1
    with raises("table-invalid", "0.cls", "000"):
        open_source(path, labeled=True)


def test_a_damaged_entry_within_a_tar_is_not_mistaken_for_its_end(tmp_path):
    path = make_tar(tmp_path / "x.tar", [*pair("0", 1, "a"), *pair("1", 2, "b"), *pair("2", 3, "c")])
    data = bytearray(path.read_bytes())
    data[4 * 512 + 148] ^= 0x7F  # the checksum of the third entry
    path.write_bytes(data)
    with raises("archive-damaged", "048"):
        open_source(path)


def test_ignored_files_are_listed_with_reasons(tmp_path):
    write(tmp_path / "pics", "a/1.png", ".hidden.png")
    (tmp_path / "pics" / "b" / "c").mkdir(parents=True)
    (tmp_path / "pics" / "up").symlink_to("..", target_is_directory=True)
    for name in ("drawing.svg", "photo.NEF", "README", "notes.txt"):
        (tmp_path / "pics" / name).write_text("x")
    assert dict(open_source(tmp_path / "pics").ignored) == {
        ".hidden.png": "hidden", "up/pics": "a link to a folder that was already visited",
        "drawing.svg": "SVG is a vector format; convert it to PNG",
        "notes.txt": ".txt is not a supported image suffix",
        "photo.NEF": "a camera raw format; convert it to JPEG, PNG or TIFF",
        "README": "no suffix; images need one, such as .jpg", "b": "a folder without images",
        "b/c": "a folder without images", "up": "a folder without images",
    }  # fmt: skip
    path = make_tar(tmp_path / "x.tar", [*pair("0", 1, "a"), (".1.png", b""), ("2.svg", b"<svg>"), ("3.json", b"{}")])
    assert dict(open_source(path).ignored) == {
        "x.tar/.1.png": "hidden", "x.tar/2.svg": "SVG is a vector format; convert it to PNG"
    }  # fmt: skip


@pytest.mark.parametrize("cut", [0.5, 0.9])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_damaged_tar_is_reported(tmp_path, mode, cut):
    path = make_tar(tmp_path / "x.tar", [*pair("0", 1, "a"), ("1.png", os.urandom(30_000))], mode)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * cut * 0.8)])
    with raises("archive-damaged", "x.tar"):
        open_source(path)


def test_a_label_without_a_class_is_reported(tmp_path):
    (tmp_path / "classes.txt").write_text("a\nb\n")
    path = make_tar(tmp_path / "x.tar", [*pair("0", 1, "0"), *pair("1", 1, "2")])
    with raises("label-unknown", "x.tar/1.png"):
        open_source(path, labeled=True)


def test_braces():
    assert expand_braces("x-{8..11}.tar") == ["x-8.tar", "x-9.tar", "x-10.tar", "x-11.tar"]
    assert expand_braces("{08..10}") == ["08", "09", "10"] and expand_braces("{2..0}") == ["2", "1", "0"]
    assert expand_braces("{a,b}/{0..1}") == ["a/0", "a/1", "b/0", "b/1"] and expand_braces("plain{x}") == ["plain{x}"]
    with raises("value-unreadable"):
        expand_braces("{0..999999999}")
    with raises("value-unreadable"):
        expand_braces("{0..9999}{0..9999}")


def test_brace_patterns_expand_to_their_names():
    for pattern in ("x-{0..11}.tar", "x-{008..010}.tar.gz", "shard{1,3}.tar", "one.tar", "one7.tar"):
        assert to_brace_patterns(expand_braces(pattern)) == [pattern]
    assert to_brace_patterns(["a-0.tar", "a-1.tar", "b.tar"]) == ["a-{0..1}.tar", "b.tar"]


# ---- tables


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_has_files_labels_and_groups(tmp_path, separator):
    write(tmp_path, "pics/1.png", "pics/2.png", "pics/3.png")
    lines = ["Label,file,group", "cat,pics/2.png,a", "dog,pics/1.png,", ",pics/3.png,b"]
    table = tmp_path / "t.csv"
    table.write_text("\ufeff" + "\n".join(lines).replace(",", separator) + "\n", encoding="utf-8")
    assert names(open_source(table)) == ["pics/2.png", "pics/1.png", "pics/3.png"]
    source = open_source(table, labeled=True)
    assert labels(source) == ["cat", "dog"] and source.classes == ("cat", "dog")
    assert [source.group(index) for index in range(2)] == ["a", None]
    assert source.read(1) == png(0)


def test_a_table_of_labels_joins_by_name(tmp_path):
    write(tmp_path / "pics", "1.png", "2.png", "3.png")
    table = tmp_path / "labels.csv"
    table.write_text("file,label\n3.png,b\n1.png,a\n")
    source = open_source(tmp_path / "pics", labels=table)
    assert names(source) == ["3.png", "1.png"] and labels(source) == ["b", "a"] and source.classes == ("a", "b")
    table.write_text("file,label\n3.png,b\n4.png,a\n")
    with raises("label-unknown", "4.png"):
        open_source(tmp_path / "pics", labels=table)


def test_an_image_keeps_the_source_group_if_the_table_has_none(tmp_path):
    write(tmp_path, "1.png", "2.png", "3.png")
    (tmp_path / "data.csv").write_text("file,group\n1.png,x\n2.png,y\n3.png,\n")
    table = tmp_path / "labels.csv"
    for lines, groups in (
        ("file,label\n2.png,b\n1.png,a\n3.png,a\n", ["y", "x", None]),
        ("file,label,group\n2.png,b,\n1.png,a,z\n3.png,a,z\n", ["y", "z", "z"]),
    ):
        table.write_text(lines)
        source = open_source(tmp_path / "data.csv", labels=table)
        assert [source.group(index) for index in range(3)] == groups


class Members:
    """The members of a custom source."""

    classes = ("a", "b")

    def __len__(self):
        return 3

    def read(self, index):
        return png(index)

    def image(self, index):
        return torch.full((3, 4, 4), index, dtype=torch.uint8)

    def name(self, index):
        return str(index)

    def label(self, index):
        return ("a", None, "b")[index]


class CustomSource(Members, Source):
    """The same, derived from the base class."""


def test_a_custom_source_is_used_as_it_is():
    source = CustomSource()
    assert open_source(source) is source
    assert (source.group(0), source.version_key(), source.ignored, source.pixel_format) == (None, None, (), None)


@pytest.mark.parametrize("kind", [CustomSource, Members])
def test_a_custom_source_needs_no_base_class(kind):
    source = kind()
    assert isinstance(open_source(source), Source) and names(open_source(source)) == ["0", "1", "2"]
    subset = open_source(source, labeled=True)
    assert isinstance(subset, SubsetSource) and names(subset) == ["0", "2"] and int(subset.image(1).max()) == 2
    assert subset.read(1) == png(2) and labels(subset) == ["a", "b"] and subset.classes == ("a", "b")


def test_what_a_source_does_not_define_has_a_default():
    class Least:
        def __len__(self):
            return 2

        def read(self, index):
            return png(index)

        def name(self, index):
            return str(index)

    source = open_source(Least())
    assert source.classes is None and labels(source) == [None, None] and source.image(0) is None
    assert build_store(source, 4).images.shape == (2, 3, 4, 4)
    with pytest.raises(TypeError, match="abstract"):
        type("NoNames", (Source,), {"__len__": Least.__len__, "read": Least.read})()


def test_classes_are_sorted_as_numbers_if_all_are():
    assert sorted_classes(["10", "9", None, "9"]) == ("9", "10")
    assert sorted_classes(["10", "9", "a"]) == ("10", "9", "a")


# ---- errors


def test_errors_are_one_line_with_advice(tmp_path):
    write(tmp_path / "photos", "cat/1.png", "cat/2.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    for name in ("a.txt", "b.txt", "README"):
        (tmp_path / "texts" / name).write_text("x")
    (tmp_path / "tars").mkdir()
    for number in (1, 2):
        make_tar(tmp_path / "tars" / f"t-{number}.tar.gz", pair("0", 1, "a"), "w:gz")
    (tmp_path / "bad.csv").write_text("name,label\n1.png,a\n")
    (tmp_path / "none.csv").write_text("file,label\n")
    (tmp_path / "hole.csv").write_text("file,label\n1.png,a\n,b\n")
    errors = {
        "photo": r"nothing at '.*photo': did you mean '.*photos'\?",
        "photos/dog/x": r"nothing at '.*dog/x'",
        "empty": r"no images in '.*empty': 0 other files, by suffix: none",
        "texts": r"no images in '.*texts': 3 other files, by suffix: \.txt \(2\), no suffix \(1\)",
        "tars": r"folder of tars; pass the tars themselves: '.*t-\{1\.\.2\}\.tar\.gz'",
        "tars/t-{1..3}.tar.gz": r"nothing at '.*t-3\.tar\.gz': did you mean",
        "texts/README": "is not a folder, tar",
        "bad.csv": "has no column 'file'; it has name, label",
        "none.csv": "lists no images",
        "hole.csv": "line 3: the column 'file' is empty",
    }
    for given, message in errors.items():
        with pytest.raises(HeadwayError, match=message) as error:
            open_source(tmp_path / given)
        assert "\n" not in str(error.value)
    with raises("one-class"):
        open_source(tmp_path / "photos", labeled=True)
    with raises("labels-missing"):
        open_source(tmp_path / "photos" / "cat", labeled=True)
    with raises("data-unknown"):
        open_source(3)


@pytest.mark.parametrize("group_by", ["", "group"])
def test_a_missing_table_is_reported_like_any_missing_path(tmp_path, group_by):
    write(tmp_path, "1.png", "2.png")
    (tmp_path / "list.csv").write_text("file,group\n1.png,x\n2.png,x")
    near = f"did you mean '{tmp_path / 'list.csv'}'"
    for given, message in (
        ("~no-such-user/list.csv", "cannot open '~no-such-user/list.csv'"), ("a\0.csv", "nothing at"),
        (str(tmp_path / "lists.csv"), near),
    ):  # fmt: skip
        with pytest.raises(HeadwayError, match=message):
            open_source(given, group_by=group_by)
        with pytest.raises(HeadwayError, match=message):
            open_source(tmp_path, labels=given, group_by=group_by)
