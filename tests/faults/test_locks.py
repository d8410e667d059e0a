"""Locks of run folders and files: second processes, kills, forks, removed lock files, file systems without locks."""

import errno
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import filelock
import pytest

import headway
from headway.errors import HeadwayError
from headway.synthetic import DrawnAnimals
from headway.utils.locks import LOCK_FILE, file_lock, run_lock
from tests.errors import raises

WORDS = {"data": DrawnAnimals(40, 32), "backbone": "vit_nano", "stem": "conv", "patch": 8, "precision": "float32"}
IMPORTS = "import os, sys, time, pathlib\nfrom headway.utils.locks import run_lock\nout = pathlib.Path(sys.argv[1])\n"


@contextmanager
def script(code, out):
    """A process that runs the code; it is killed at the end of the block."""
    command = [sys.executable, "-c", IMPORTS + code, str(out)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def is_free(folder):
    try:
        with run_lock(folder):
            return True
    except HeadwayError as error:
        assert "in use by another process; wait for it, or choose another --out" in str(error)
        return False


def is_free_soon(folder):
    """Whether the folder is free within seconds: on a busy machine a fork closes its copy of the lock late."""
    return any(is_free(folder) or time.sleep(0.1) for _ in range(100))


@pytest.mark.usefixtures("unmeasured", "ctrl_c")
def test_a_run_folder_in_use_is_refused_until_its_process_is_killed(tmp_path):
    out = tmp_path / "r"
    with script("with run_lock(out):\n    print('locked', flush=True)\n    time.sleep(60)\n", out) as other:
        assert other.stdout.readline() == "locked\n"
        for resume in (False, True):
            with raises("run-in-use"):
                headway.pretrain("rotation", **WORDS, out=out, steps=1, resume=resume)
    assert [path.name for path in out.iterdir()] == [LOCK_FILE], "what a kill leaves"
    assert headway.pretrain("rotation", **WORDS, out=out, steps=1).steps == 1
    assert not (out / LOCK_FILE).exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("killed", [False, True])
def test_a_fork_neither_releases_a_lock_nor_keeps_it(killed, tmp_path):
    code = (
        "with run_lock(out):\n"
        "    if os.fork() == 0:\n        sys.exit()\n"  # it leaves the block
        "    os.wait()\n"
        "    if (child := os.fork()) == 0:\n        time.sleep(60)\n"
        "    print(child, flush=True)\n    input()\n"
        "print('left', flush=True)\ninput()\n"
    )
    with script(code, tmp_path / "r") as other:
        child = int(other.stdout.readline())
        try:
            assert (tmp_path / "r" / LOCK_FILE).exists() and not is_free(tmp_path / "r")
            if killed:
                other.kill()
                other.wait()
            else:
                other.stdin.write("\n")
                other.stdin.flush()
                assert other.stdout.readline() == "left\n"
            assert is_free_soon(tmp_path / "r")
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_lock_leaves_no_files(tmp_path):
    with run_lock(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert not (tmp_path / "a" / "b").exists()
    with run_lock(tmp_path / "c"):
        (tmp_path / "c" / "x").touch()
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["x"]


@pytest.mark.parametrize("with_folder", [False, True])
def test_a_lock_file_that_is_removed_while_it_is_opened_counts_for_nothing(with_folder, tmp_path, monkeypatch):
    folder, honest, calls = tmp_path / "r", filelock.lock_descriptor, []

    def remove_first(handle, **kwargs):
        calls.append(handle)
        if len(calls) == 1:  # as its holder does just before it releases it
            (folder / LOCK_FILE).unlink()
            if with_folder:
                folder.rmdir()
        return honest(handle, **kwargs)

    monkeypatch.setattr(filelock, "lock_descriptor", remove_first)
    with run_lock(folder):
        assert len(calls) == 2 and not is_free(folder)
    assert is_free(folder)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_processes_that_come_and_go_never_share_a_folder(tmp_path):
    code = (
        "from headway.errors import HeadwayError\n"
        "os.fork(), os.fork()\n"  # four processes
        "entered, end = 0, time.monotonic() + 30\n"
        "while entered < 50 and time.monotonic() < end:\n"
        "    try:\n"
        "        with run_lock(out / 'run'):\n"
        "            os.close(os.open(out / 'inside', os.O_CREAT | os.O_EXCL))\n"
        "            os.unlink(out / 'inside')\n"
        "            entered += 1\n"
        "    except HeadwayError:\n        pass\n"
        "print(entered, flush=True)\n"
    )
    with script(code, tmp_path) as first:
        assert [first.stdout.readline() for _ in range(4)] == ["50\n"] * 4
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, None])
def test_where_there_are_no_locks_everyone_is_admitted(code, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise NotImplementedError if code is None else OSError(code, os.strerror(code))

    monkeypatch.setattr(filelock, "lock_descriptor", refuse)
    with run_lock(tmp_path / "r"), run_lock(tmp_path / "r"), file_lock(tmp_path / "x") as acquired:
        assert not acquired
        (tmp_path / "r" / "result").touch()
    assert [path.name for path in (tmp_path / "r").iterdir()] == ["result"]
    with file_lock(tmp_path / "x" / "y") as acquired:  # a folder that cannot be made
        assert not acquired
