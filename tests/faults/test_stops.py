"""Runs that receive a signal, or cannot write."""

import errno
import os
import signal
import threading

import pytest

import headway
from headway.cli import main
from headway.config import Optim
from headway.synthetic import DrawnAnimals
from headway.train.config import Plan
from headway.train.log.events import ProbeResult
from headway.train.loop import loop
from headway.train.loop.context import Observers
from headway.train.loop.loop import fit
from headway.train.loop.signals import Interrupted, graceful_shutdown
from headway.train.run_dir import checkpoint
from headway.utils import files
from tests.errors import raises
from tests.small import make_images, max_difference, small_train_module, train

pytestmark = pytest.mark.usefixtures("unmeasured", "ctrl_c")

IMAGES = DrawnAnimals(40, 32)
WORDS = {"data": IMAGES, "backbone": "vit_nano", "stem": "conv", "patch": 8, "precision": "float32"}


@pytest.fixture
def signaled(monkeypatch):
    """``signaled(step, number)``: this process receives a signal in the middle of the step after this one."""

    def arrange(step, number):
        honest = loop.train_step

        def train_step(*given):
            if given[-1].step == step:
                os.kill(os.getpid(), number)
            return honest(*given)

        monkeypatch.setattr(loop, "train_step", train_step)

    return arrange


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_save_the_run_and_say_how_to_resume(number, signaled, tmp_path, capsys):
    words = ["pretrain", "rotation", "--data", str(tmp_path / "photos"), "--backbone", "vit_nano", "--stem", "conv"]
    words += ["--patch", "8", "--steps", "6", "--precision", "float32", "--recipe.batch-size", "8"]
    headway.synthetic.write_folder(tmp_path / "photos", 20, 32)
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    signaled(2, number)
    before = signal.getsignal(number)
    assert main([*words, "--out", str(tmp_path / "cut")]) == 128 + number
    assert signal.getsignal(number) is before
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "after step 3 of 6; repeat the command with --resume to continue" in line and str(tmp_path / "cut") in line
    assert checkpoint.load_latest(tmp_path / "cut")[0].state["step"] == 3
    assert main([*words, "--out", str(tmp_path / "cut"), "--resume"]) == 0
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


def test_a_second_signal_has_its_usual_effect():
    with graceful_shutdown(True) as asked:
        assert asked() == 0
        os.kill(os.getpid(), signal.SIGINT)
        assert asked() == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert issubclass(Interrupted, KeyboardInterrupt)


def test_outside_the_main_thread_no_handler_is_installed():
    answers = []

    def ask():
        with graceful_shutdown(True) as asked:
            answers.append(asked())

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert answers == [0]


def test_a_kill_in_a_probe_skips_no_probe(tmp_path):
    def probes(run, fails_at=None):
        events, asked = [], iter(range(9))

        def probe(backbone):
            if next(asked) == fails_at:
                raise KeyboardInterrupt
            return float(next(backbone.parameters()).detach().abs().sum())

        module, plan = small_train_module("rotation"), Plan(steps=6, batch_size=12, save_every=2, probe_every=2)
        fit(module, make_images(), plan, Optim(), run=run, resume=True, observers=Observers([events.append], probe))
        return [(event.step, event.value) for event in events if isinstance(event, ProbeResult)]

    whole = probes(tmp_path / "whole")
    assert [step for step, _ in whole] == [2, 4, 6]
    for fails_at in range(3):
        with pytest.raises(KeyboardInterrupt):
            probes(tmp_path / str(fails_at), fails_at)
        assert probes(tmp_path / str(fails_at)) == whole[fails_at:]


def test_a_full_disk_ends_in_one_line_and_the_run_resumes_once_there_is_space(tmp_path, monkeypatch):
    whole = train("rotation", precision="float32")
    written = iter(range(1000))
    honest = files.fsync_path

    def full(path):
        if next(written) > 12:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        honest(path)

    with (
        monkeypatch.context() as patch,
        raises("cannot-write"),
    ):
        patch.setattr(files, "fsync_path", full)
        train("rotation", precision="float32", run=str(tmp_path), save_every=3)
    assert (
        max_difference(whole, train("rotation", precision="float32", run=str(tmp_path), save_every=3, resume=True))
        == 0.0
    )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full to simulate a full disk")
def test_a_log_on_a_full_disk_is_named(tmp_path):
    from headway.train.log.events import JsonlSink, Note

    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    with raises("cannot-write", "log.jsonl", "--resume"):
        JsonlSink(tmp_path / "log.jsonl")(Note("hello"))


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()  # root may write into any folder, but not below a file
    with raises("cannot-write", "file/r", "--out"):
        headway.pretrain("rotation", **WORDS, out=tmp_path / "file" / "r", steps=1)

    def refused(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch, raises("cannot-write"):
        patch.setattr(os, "replace", refused)
        headway.pretrain("rotation", **WORDS, out=tmp_path / "r", steps=1)
    assert headway.pretrain("rotation", **WORDS, out=tmp_path / "r", steps=1, resume=True).steps == 1


def test_the_remains_of_a_kill_before_the_record_are_no_obstacle(tmp_path):
    out = tmp_path / "r"
    (out / "state" / ".00000004.77.tmp").mkdir(parents=True)
    (out / ".run.json.77.tmp").write_text("{")
    (out / "state").rename(out / ".state.tmp")
    assert headway.pretrain("rotation", **WORDS, out=out, steps=1).steps == 1
    assert not [path.name for path in out.iterdir() if path.name.startswith(".")]
