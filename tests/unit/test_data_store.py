"""The image store: decoding, order, cache and memory limits. The loader: batches and processes."""

import os
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from headway.data.dataset import image_store, memmap
from headway.data.dataset.decode_all import content_hash, decoding_threads
from headway.data.dataset.image_store import build_store, median_short_side, split_groups
from headway.data.decoding import decode as decoding
from headway.data.decoding.decode import center_crop_resize, decode
from headway.data.decoding.pixel_format import PixelFormat
from headway.data.open import open_source
from headway.data.sampling.loader import Loader
from headway.data.sources.in_memory import ArraySource
from tests.errors import raises


def make_image(number: int, size=(20, 16)) -> Image.Image:
    pixels = np.random.default_rng(number).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def folder(tmp_path):
    """70 images (more than one chunk of a thread) of two classes; every tenth image is truncated."""
    root = tmp_path / "images"
    for number in range(70):
        path = root / f"class {number % 2}" / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        make_image(number).save(path)
        if number % 10 == 3:
            path.write_bytes(path.read_bytes()[:100])
    return root


def test_the_store_keeps_the_order_and_lists_skipped_images(folder):
    source = open_source(folder, labeled=True)
    steps = []
    store = build_store(source, 12, progress=lambda done, total: steps.append((done, total)), workers=3)
    assert len(store.skipped) == 7 and all("truncated" in reason or "damaged" in reason for _, reason in store.skipped)
    assert len(store.names) == len(store.images) == len(store.labels) == len(store.content_hashes) == 63
    assert store.names == sorted(store.names) and store.images.dtype == torch.uint8 and store.side == 12
    for name, image, label in zip(store.names, store.images, store.labels.tolist(), strict=True):
        assert image.equal(center_crop_resize(decode((folder / name).read_bytes()), 12))
        assert name.startswith(store.classes[label])
    assert steps[-1] == (70, 70) and [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert store.groups is None


def test_selected_indices_are_stored_in_their_order(folder):
    source = open_source(folder)
    store = build_store(source, 8, indices=[5, 2, 9])
    assert store.names == [source.name(5), source.name(2), source.name(9)] and store.labels is None
    assert store.classes == ()


def test_threads_and_memory_do_not_change_the_store(folder, tmp_path):
    source = open_source(folder, labeled=True)
    plain = build_store(source, 12, workers=1)
    cache_folder = tmp_path / "cache"
    for options in ({"workers": 4}, {"memory_limit": 0}, {"memory_limit": 0, "cache_folder": cache_folder}):
        other = build_store(source, 12, **options)
        assert other.images.equal(plain.images) and other.labels.equal(plain.labels)
        assert (other.names, other.skipped, other.fingerprint) == (plain.names, plain.skipped, plain.fingerprint)
    assert not [path for path in cache_folder.iterdir() if path.suffix == ".tmp"]


def test_the_cache_is_read_back_and_rebuilt_when_stale_or_damaged(folder, tmp_path):
    def build():
        decoded = []
        store = build_store(
            open_source(folder),
            12,
            cache_folder=tmp_path,
            memory_limit=0,
            progress=lambda done, _: decoded.append(done),
        )
        return store, bool(decoded)

    first, decoded = build()
    first = first._replace(images=first.images.clone())  # because the mapped file is damaged below
    assert decoded
    again, decoded = build()
    assert not decoded and again.images.equal(first.images) and again.skipped == first.skipped
    (pixels,) = tmp_path.glob("*.uint8")
    pixels.write_bytes(pixels.read_bytes()[:-1])
    damaged, decoded = build()
    assert decoded and damaged.images.equal(first.images)
    make_image(1000, size=(22, 16)).save(folder / "class 0" / "000.png")
    changed, decoded = build()
    assert decoded and changed.fingerprint != first.fingerprint
    next(tmp_path.glob("*.json")).write_text("{")
    assert build()[0].images.equal(changed.images)


def test_a_full_disk_is_reported_and_leaves_nothing_behind(folder, tmp_path, monkeypatch):
    def full(path, fill):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(memmap, "_write_pixels", full)
    with raises("cannot-write"):
        build_store(open_source(folder), 12, cache_folder=tmp_path / "c", memory_limit=0)
    assert [path.name for path in (tmp_path / "c").iterdir() if not path.name.endswith(".lock")] == []
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with raises("cannot-write"):
        build_store(open_source(folder), 12, cache_folder=blocked, memory_limit=0)


def test_an_interruption_leaves_no_incomplete_cache(folder, tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_store(open_source(folder), 12, cache_folder=tmp_path, memory_limit=0, progress=stop)
    assert [path.suffix for path in tmp_path.iterdir() if path.is_file()] == [".lock"]


def test_stale_files_of_a_killed_process_are_removed_and_those_of_other_caches_stay(folder, tmp_path):
    def build():
        return build_store(open_source(folder), 12, cache_folder=tmp_path, memory_limit=0).images

    first = build()
    (pixels,) = tmp_path.glob("*.uint8")
    pixels.unlink()
    stale = [tmp_path / f".{pixels.stem}{end}" for end in (".uint8.7.tmp", ".json.7.tmp")]
    other = tmp_path / ".images-of-another-size.uint8.8.tmp"
    for path in (*stale, other):
        path.write_bytes(b"half")
    assert build().equal(first) and not any(path.exists() for path in stale) and other.exists()


def test_requesting_the_usual_channels_changes_no_pixels(folder):
    usual, requested = (build_store(open_source(folder, channels=channels), 12) for channels in (0, 3))
    assert (
        requested.images.equal(usual.images)
        and usual.pixel_format == PixelFormat()
        and requested.pixel_format == PixelFormat(pages_as_channels=True)
    )


def test_the_smallest_enclosing_memory_limit_applies(tmp_path):
    def write(name, text):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    def limit():
        return image_store._container_memory_limit(tmp_path)

    assert limit() == 1 << 62
    write("sys/fs/cgroup/memory.max", "900\n")  # of a container that sees only its own cgroup
    assert limit() == 900
    write("proc/self/cgroup", "0::/system.slice/job_7/step_0\n")
    assert limit() == 900
    write("sys/fs/cgroup/system.slice/job_7/step_0/memory.max", "max\n")
    write("sys/fs/cgroup/system.slice/job_7/memory.max", "500\n")
    write("sys/fs/cgroup/system.slice/memory.max", "700\n")
    write("sys/fs/cgroup/system.slice/job_8/memory.max", "100\n")  # of another job
    assert limit() == 500
    write("proc/self/cgroup", "9:name=systemd:/x\n4:cpu,memory:/slurm/job_9\n0::/\n")  # cgroup version 1
    write("sys/fs/cgroup/memory/slurm/job_9/memory.limit_in_bytes", "300\n")
    write("sys/fs/cgroup/memory/memory.limit_in_bytes", f"{(1 << 63) - 4096}\n")
    assert limit() == 300


def test_images_of_too_many_pixels_are_reported_as_such(tmp_path, monkeypatch):
    make_image(1).save(tmp_path / "a.png")
    monkeypatch.setattr(decoding, "MAX_PIXELS", 20 * 16 - 1)
    with raises("unreadable-images", "a.png", "20", "16"):
        median_short_side(open_source(tmp_path))


def test_no_readable_image_is_an_error_with_reasons(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "b.jpg").write_text("text")
    source = open_source(tmp_path)
    with raises("unreadable-images", "a.png", "b.jpg"):
        build_store(source, 8)
    with raises("unreadable-images"):
        median_short_side(source)
    empty = build_store(source, 8, allow_empty=True)
    assert empty.images.shape == (0, 3, 8, 8) and len(empty.skipped) == 2 and empty.names == []
    assert build_store(source, 8, allow_empty=True, memory_limit=-1).images.shape == (0, 3, 8, 8)
    with pytest.raises(ValueError, match="side"):
        build_store(source, 0)


def test_the_median_short_side_of_a_sample(tmp_path):
    for number, size in enumerate([(10, 30), (40, 20), (50, 60), (70, 80), (1, 500)]):
        make_image(number, size).save(tmp_path / f"{number}.jpg")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    assert median_short_side(open_source(tmp_path)) == (20, 5)
    assert median_short_side(ArraySource(torch.zeros(4, 3, 9, 7, dtype=torch.uint8))) == (7, 4)


def test_equal_pixels_have_equal_hashes_in_any_file_format(tmp_path):
    for name in ("a.png", "b.bmp", "c.tif"):
        make_image(1).save(tmp_path / name)
    make_image(2).save(tmp_path / "d.png")
    hashes = build_store(open_source(tmp_path), 8).content_hashes
    other_side = build_store(open_source(tmp_path), 16).content_hashes
    assert len(hashes.unique()) == 2 and len(hashes[:3].unique()) == 1 and hashes.equal(other_side)
    large = torch.zeros(3, 1000, 9, dtype=torch.uint8)
    assert content_hash(large) != content_hash(large[:, :999]) != content_hash(large.transpose(1, 2))


def test_groups_are_numbered(tmp_path):
    for number in range(4):
        make_image(number).save(tmp_path / f"{number}.png")
    rows = ["file,label,group", "0.png,a,x", "1.png,b,y", "2.png,a,x", "3.png,b,"]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    groups = build_store(open_source(tmp_path / "t.csv", labeled=True), 8).groups.tolist()
    assert groups[0] == groups[2] and len(set(groups)) == 3


def test_decoded_images_skip_the_decoder():
    images = torch.randint(0, 256, (5, 3, 12, 12), dtype=torch.uint8)
    store = build_store(ArraySource(images, ["a", "b", "a", "b", "a"]), 12)
    assert store.images.equal(images) and store.labels.tolist() == [0, 1, 0, 1, 0]


# ---- loader

IMAGES = torch.arange(10, dtype=torch.uint8).reshape(10, 1, 1, 1).expand(10, 3, 2, 2)


def test_a_batch_has_the_images_of_its_positions():
    loader = Loader(IMAGES, seed=3, batch_size=4)
    batch, positions = loader.batch_at(2)
    assert positions.tolist() == [8, 9, 10, 11] and batch.images.equal(IMAGES[batch.sample_index])
    stream = torch.cat([loader.batch_at(step)[0].sample_index for step in range(5)])
    assert stream[:10].sort().values.equal(torch.arange(10)) and stream[10:].sort().values.equal(torch.arange(10))
    assert not stream[:10].equal(stream[10:])


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_processes_together_yield_what_one_process_would(world_size):
    whole, positions = Loader(IMAGES, seed=1, batch_size=7).batch_at(4)
    parts = [
        Loader(IMAGES, seed=1, batch_size=7, rank=rank, world_size=world_size).batch_at(4) for rank in range(world_size)
    ]
    assert torch.cat([batch.sample_index for batch, _ in parts]).equal(whole.sample_index)
    assert torch.cat([batch.images for batch, _ in parts]).equal(whole.images)
    assert torch.cat([part for _, part in parts]).equal(positions)


def test_a_batch_larger_than_the_data_repeats_it():
    index = Loader(IMAGES, seed=0, batch_size=25).batch_at(0)[0].sample_index
    assert int(index.bincount().min()) == 2 and int(index.bincount().max()) == 3


def test_batches_equal_batch_at_from_any_start():
    loader = Loader(IMAGES, seed=0, batch_size=4)
    batches = list(loader.batches(3, 7))
    assert len(batches) == 4 and not list(loader.batches(3, 3))
    for step, (batch, positions) in enumerate(batches, 3):
        expected, expected_positions = loader.batch_at(step)
        assert (
            batch.sample_index.equal(expected.sample_index)
            and batch.images.equal(expected.images)
            and positions.equal(expected_positions)
        )


def test_the_thread_ends_with_the_iterator_and_propagates_errors(monkeypatch):
    loader = Loader(IMAGES, seed=0, batch_size=4)
    iterator = loader.batches(0, 1000)
    next(iterator)
    iterator.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("headway-loader")]

    def broken(step):
        raise RuntimeError(f"step {step}")

    monkeypatch.setattr(loader, "batch_at", broken)
    with pytest.raises(RuntimeError, match="step 5"):
        next(loader.batches(5, 9))


def test_an_empty_loader_is_refused():
    with pytest.raises(ValueError, match="images"):
        Loader(IMAGES[:0], seed=0, batch_size=4)


def test_unexpected_errors_are_not_hidden():
    class BrokenSource(ArraySource):
        def image(self, index):
            raise ZeroDivisionError("a mistake in the source")

    with pytest.raises(ZeroDivisionError):
        build_store(BrokenSource(torch.zeros(3, 3, 4, 4, dtype=torch.uint8)), 4)


def test_split_groups_join_groups_and_equal_pixels():
    store = build_store(ArraySource(torch.zeros(5, 3, 8, 8, dtype=torch.uint8)), 8)
    hashes, groups = torch.tensor([7, 7, 8, 9, 9]), torch.tensor([0, 1, 1, 2, 3])
    assert torch.equal(split_groups(store._replace(content_hashes=hashes)), hashes)
    joined = split_groups(store._replace(content_hashes=hashes, groups=groups)).tolist()
    assert joined[0] == joined[1] == joined[2] != joined[3] == joined[4]


def test_stored_images_are_used_unchanged_as_a_source():
    deep = torch.rand(6, 2, 8, 8) * 500
    store = build_store(open_source(deep, value_range=(0, 1000)), 8)
    assert store.pixel_format == PixelFormat(2, (0, 1000)) and torch.allclose(store.images, deep / 1000)
    again = build_store(ArraySource(store.images, pixel_format=store.pixel_format), 8)
    assert (
        again.images.equal(store.images)
        and again.pixel_format == store.pixel_format
        and again.fingerprint == store.fingerprint
    )


def test_cores_are_divided_among_the_processes_of_a_machine(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(12)), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert decoding_threads() == 12
    for processes, threads in ((5, 2), (64, 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        assert decoding_threads() == threads
