"""Checkpoints under faults: incomplete, damaged, full disk."""

import errno
import json
import os
import shutil

import pytest
import torch

from headway.train.log.events import JsonlSink, Note, StepMetrics
from headway.train.loop.progress import TrainProgress
from headway.train.run_dir import checkpoint
from headway.train.run_dir.checkpoint import Checkpoint, load_latest
from headway.utils import files
from headway.utils.files import atomic_write, write_json
from tests.errors import raises
from tests.small import max_difference, train


def make(step, value=0.0, **state):
    tensors = {"backbone.x": torch.full((4,), value)}
    return Checkpoint(tensors, {"exp_avg/backbone.x": torch.ones(4)}, {"step": step, "total_steps": 9, **state})


def test_the_last_two_checkpoints_are_kept(tmp_path):
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, make(step, float(step)))
    assert [folder.name for folder in checkpoint.step_folders(tmp_path)] == ["00000002", "00000003"]
    found, errors = checkpoint.load_latest(tmp_path)
    assert found.state["step"] == 3 and found.weights["backbone.x"].tolist() == [3.0] * 4 and not errors


def test_the_last_healthy_checkpoint_is_kept_as_well(tmp_path):
    def kept():
        return [int(folder.name) for folder in checkpoint.step_folders(tmp_path)]

    for step in range(1, 6):
        checkpoint.save(tmp_path, make(step, healthy=step < 3))
    assert kept() == [2, 4, 5]
    assert load_latest(tmp_path)[0].state["step"] == 5 and load_latest(tmp_path, healthy=True)[0].state["step"] == 2
    (tmp_path / "state" / "00000005" / checkpoint.WEIGHTS_FILE).write_bytes(b"rubbish")
    found, (fault,) = load_latest(tmp_path, healthy=True)
    assert found.state["step"] == 2 and fault.startswith("00000005")
    checkpoint.save(tmp_path, make(6, healthy=True))  # the trouble is over
    assert kept() == [5, 6]
    checkpoint.save(tmp_path, make(7, healthy=False))
    checkpoint.delete_after(tmp_path, 6)
    assert kept() == [6]


@pytest.mark.parametrize("name", [checkpoint.WEIGHTS_FILE, checkpoint.OPTIMIZER_FILE, checkpoint.STATE_FILE])
@pytest.mark.parametrize("fault", ["flip", "cut", "gone"])
def test_a_damaged_checkpoint_is_detected_and_the_previous_one_used(tmp_path, name, fault):
    checkpoint.save(tmp_path, make(1))
    file = checkpoint.save(tmp_path, make(2)) / name
    content = bytearray(file.read_bytes())
    if fault == "gone":
        file.unlink()
    elif fault == "cut":
        file.write_bytes(content[:-5])
    else:
        content[len(content) // 2] ^= 0x41
        file.write_bytes(content)
    found, errors = checkpoint.load_latest(tmp_path)
    assert found.state["step"] == 1 and len(errors) == 1


def test_a_new_checkpoint_is_kept_where_all_later_ones_are_damaged(tmp_path):
    for step in (6, 8):
        (checkpoint.save(tmp_path, make(step)) / checkpoint.STATE_FILE).write_text("{}")
    for step in (0, 2, 4):  # the run starts again
        checkpoint.save(tmp_path, make(step))
        assert checkpoint.load_latest(tmp_path)[0].state["step"] == step
    assert [folder.name for folder in checkpoint.step_folders(tmp_path)] == ["00000002", "00000004"]


def test_a_full_disk_leaves_the_old_checkpoint_and_no_other_files(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, make(1))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "fsync_path", full)
    with raises("cannot-write"):
        checkpoint.save(tmp_path, make(2))
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["00000001"]
    assert checkpoint.load_latest(tmp_path)[0].state["step"] == 1


@pytest.mark.parametrize("crash_at", range(12))
def test_a_crash_at_any_write_flush_or_rename_leaves_a_valid_checkpoint(tmp_path, monkeypatch, crash_at):
    checkpoint.save(tmp_path, make(1))
    calls = iter(range(1000))

    class Crash(BaseException):
        pass

    def counted(real):
        def call(*arguments, **named):
            if next(calls) == crash_at:
                raise Crash
            return real(*arguments, **named)

        return call

    monkeypatch.setattr(files, "fsync_path", counted(files.fsync_path))
    monkeypatch.setattr(os, "replace", counted(os.replace))
    monkeypatch.setattr(checkpoint, "save_file", counted(checkpoint.save_file))
    monkeypatch.setattr(shutil, "rmtree", counted(shutil.rmtree))
    try:
        checkpoint.save(tmp_path, make(2))
        crashed = False
    except Crash:
        crashed = True
    monkeypatch.undo()
    found, errors = checkpoint.load_latest(tmp_path)
    assert not errors and found.state["step"] in ((1, 2) if crashed else (2,))
    checkpoint.save(tmp_path, make(3))
    assert checkpoint.load_latest(tmp_path)[0].state["step"] == 3


def test_training_resumes_from_the_checkpoint_before_a_damaged_one(tmp_path):
    whole = train("rotation", precision="float32")
    train("rotation", precision="float32", run=str(tmp_path), stop_after=4)
    train("rotation", precision="float32", run=str(tmp_path), stop_after=8, resume=True)
    (checkpoint.step_folders(tmp_path)[-1] / checkpoint.WEIGHTS_FILE).write_bytes(b"rubbish")
    assert max_difference(whole, train("rotation", precision="float32", run=str(tmp_path), resume=True)) == 0.0


def test_atomic_write_replaces_the_file_or_leaves_it(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})

    def fails(temporary):
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with raises("cannot-write", "x.json"):
        atomic_write(path, fails)
    assert path.read_text() == '{\n  "a": 1\n}\n' and [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_rewind_removes_later_and_incomplete_lines(tmp_path):
    log = JsonlSink(tmp_path / "log.jsonl")
    log(Note("hello"))
    for step in (1, 2, 3):
        log(StepMetrics(step, 3, 0.5, 1.0, 0.1, 10.0, {}))
    with log.path.open("a") as file:
        file.write('{"step": 3, "lo')
    log.rewind(2)
    assert [line.count('"step": 3') for line in log.path.read_text().splitlines()] == [0, 0, 0, 0]
    assert "incomplete lines" in json.loads(log.path.read_text().splitlines()[-1])["note"]


@pytest.mark.parametrize(
    "torn", ['{"note": "to', '{"note": "whole but for its end"}', "3\n", "\0\0\0", '{"a": "\udce4']
)
def test_events_after_an_incomplete_line_are_kept(tmp_path, torn):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"note": "hello"}\n' + torn.encode("utf-8", "surrogateescape"))
    log = JsonlSink(path)
    log(Note("passed over a damaged checkpoint"))
    log.rewind(2)
    log(Note("goes on"))
    notes = [json.loads(line)["note"] for line in path.read_text().splitlines()]
    assert notes[0] == "hello" and notes[-2:] == ["passed over a damaged checkpoint", "goes on"]
    whole = torn.endswith("}")
    assert len(notes) == 4 and ("whole but for its end" if whole else "lost to a kill or a full disk") in notes[1]


def test_nan_and_infinity_are_null_in_every_file(tmp_path):
    nan, inf = float("nan"), float("inf")
    log = JsonlSink(tmp_path / "log.jsonl")
    log(StepMetrics(1, 3, 0.5, nan, 0.1, inf, {"accuracy": -inf}))

    def refused(token):
        raise AssertionError(f"{token} is no JSON")

    record = json.loads(log.path.read_text(), parse_constant=refused)
    assert record["loss"] is record["images_per_second"] is record["metrics"]["accuracy"] is None
    write_json(tmp_path / "x.json", {"a": (1.5, nan), "b": [{"c": inf}]})
    read = json.loads((tmp_path / "x.json").read_text(), parse_constant=refused)
    assert read == {"a": [1.5, None], "b": [{"c": None}]}
    state = {"step": 1, "stream_position": 3, "loss": nan, "history": {"feature_std": nan, "effective_rank": 2.0}}
    checkpoint.save(tmp_path, Checkpoint({}, {}, state))
    found, errors = load_latest(tmp_path)
    assert (
        not errors
        and found.state["loss"] is None
        and TrainProgress.from_state(found.state, 1).history == {"effective_rank": 2.0}
    )
