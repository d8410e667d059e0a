"""Runs on several processes of one machine: killed and failing processes, signals, and what is left of the run."""

import json
import os
import select
import signal
import subprocess
import sys
import time
import warnings
from contextlib import contextmanager

import pytest
import torch

from headway import distributed
from headway import worker_team as teams
from headway.cli import main
from headway.distributed import all_gather_int, all_sum, barrier, rank, world_size
from headway.errors import HeadwayError
from headway.synthetic import write_folder
from headway.train.loop import loop
from headway.train.run_dir import checkpoint
from headway.worker_team import worker_team
from tests.errors import raises
from tests.processes import is_running
from tests.small import skip_measurements

pytestmark = pytest.mark.usefixtures("ctrl_c")

PATIENCE_S = 30.0
"""Seconds that a machine in use may take for what takes a second."""


@pytest.fixture
def attentive(monkeypatch):
    """Processes that wait look after each other often, so that tests take less time."""
    monkeypatch.setattr(teams, "ALIVE_CHECK_S", 0.05)


def none_runs(processes):
    return processes and not any(map(is_running, processes))


@pytest.mark.parametrize("lost", [1, 2])
def test_a_killed_process_ends_all_with_one_line(lost, attentive):
    with (
        pytest.raises(HeadwayError, match=rf"process {lost} of this run was ended from outside .*--resume") as caught,
        worker_team(3),
    ):
        processes = all_gather_int(os.getpid())
        for turn in range(100):
            if turn == 50 and rank() == lost:
                os.kill(os.getpid(), signal.SIGKILL)
            all_sum(torch.ones(10))
    assert "\n" not in str(caught.value) and none_runs(processes[1:]) and world_size() == 1


def test_a_process_that_is_killed_just_after_it_has_arrived_is_noticed_at_the_next_meeting(attentive):
    with raises("process-lost"), worker_team(2):
        team = distributed._team
        if rank() == 1:
            team.arrivals[0].release()
            os.kill(os.getpid(), signal.SIGKILL)
        while not team.ended:  # as if it had been killed between the end of a wait and this look at the others
            team._check_alive(team.arrivals[0])
        barrier()
        barrier()


def test_an_exception_in_another_process_is_raised_with_its_traceback(attentive):
    with (
        pytest.raises(RuntimeError, match=r"process 2 of this run failed:(.|\n)*bad weather") as caught,
        worker_team(3),
    ):
        processes = all_gather_int(os.getpid())
        if rank() == 2:
            raise ArithmeticError("bad weather")
        barrier()
    text = str(caught.value)
    assert "Traceback" in text and "test_worker_faults.py" in text and 'ArithmeticError("bad weather")' in text
    assert not isinstance(caught.value, HeadwayError) and none_runs(processes[1:])


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
def test_an_exception_in_this_process_ends_the_others(error):
    with pytest.raises(error), worker_team(3):
        processes = all_gather_int(os.getpid())
        if rank() == 0:
            raise error
        if rank() == 1:
            barrier()  # waits for the others; rank 2 is busy
        time.sleep(PATIENCE_S)
    assert none_runs(processes[1:])


def test_ctrl_c_ends_all(attentive):
    """A terminal sends the signal to all processes."""
    with pytest.raises(KeyboardInterrupt), worker_team(3):
        processes = all_gather_int(os.getpid())
        if rank() == 0:
            for process in reversed(processes):
                os.kill(process, signal.SIGINT)
        for _ in range(1000):
            barrier()
            time.sleep(0.01)
    assert none_runs(processes[1:])


@contextmanager
def forked(function):
    """A fork of this process that runs a function, ends with its result, and is killed at the end; yields its id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads of this process
        process = os.fork()
    if process == 0:
        code = 99
        try:
            code = int(function() or 0)
        finally:
            os._exit(code)
    try:
        yield process
    finally:
        if is_running(process):
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)


def test_the_others_end_when_their_parent_is_killed(attentive):
    """Each of them holds the pipe open, so that it reaches its end when the last one has ended."""
    end, begin = os.pipe()

    def run_forever():
        os.close(end)
        with worker_team(3):
            os.write(begin, f"{os.getpid()}\n".encode())
            while True:
                barrier()

    with forked(run_forever) as process:
        os.close(begin)
        read = b""
        while read.count(b"\n") < 3:
            read += os.read(end, 100)
        os.kill(process, signal.SIGKILL)
        assert select.select([end], [], [], PATIENCE_S)[0] and os.read(end, 100) == b""
        assert len(set(read.split())) == 3
        os.waitpid(process, 0)
    os.close(end)


WORDS = ["pretrain", "rotation", "--backbone", "vit_pico", "--patch", "8", "--precision", "float32"]
WORDS += ["--recipe.batch-size", "8", "--processes", "2"]
STEPS = 14


@pytest.fixture(scope="module")
def planned():
    """Runs skip the measurements, and log every second step."""
    with pytest.MonkeyPatch.context() as patch:
        skip_measurements(patch, 0.5)
        yield


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_folder(folder, 20, 32)
    return folder


@pytest.fixture(scope="module")
def words(photos, planned):
    return [*WORDS, "--data", str(photos), "--steps", str(STEPS), "--save-every", "4"]


@pytest.fixture(scope="module")
def whole(words, tmp_path_factory):
    """The weights of an uninterrupted run."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert main([*words, "--out", str(out)]) == 0
    return (out / "model.safetensors").read_bytes()


@pytest.fixture
def signaled(monkeypatch):
    """``signaled(process, step, number)``: a process receives a signal in the middle of the step after this one."""

    def arrange(process, step, number):
        honest = loop.train_step

        def train_step(*given):
            if (rank(), given[-1].step) == (process, step):
                os.kill(os.getpid(), number)
            return honest(*given)

        monkeypatch.setattr(loop, "train_step", train_step)

    return arrange


def check_finished(out, whole):
    """A finished run has the bits of the uninterrupted one, each line of its log once, and says how it was trained."""
    assert (out / "model.safetensors").read_bytes() == whole
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(2, STEPS + 1, 2))
    features = [line["step"] for line in lines if "features" in line]
    assert features == [0, STEPS] and not [line for line in lines if "lost to a kill" in line.get("note", "")]
    record = json.loads((out / "run.json").read_text())
    assert record["plan"]["processes"] == 2 and record["plan"]["threads"] == 1 and record["status"] == "finished"
    assert {segment["processes"] for segment in record["segments"]} == {2}


def test_sigterm_saves_the_run_and_a_resumed_one_ends_in_the_same_bits(words, whole, signaled, tmp_path, capsys):
    out = tmp_path / "cut"
    signaled(0, 4, signal.SIGTERM)
    assert main([*words, "--out", str(out)]) == 128 + signal.SIGTERM
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("headway pretrain:")]
    assert len(errors) == 1 and f"saved in {out} after step 6 of {STEPS}; repeat" in errors[0]
    assert checkpoint.load_latest(out)[0].state["step"] == 6
    signaled(0, 9, signal.SIGINT)
    assert main([*words, "--out", str(out), "--resume"]) == 130
    assert main([*words, "--out", str(out), "--resume"]) == 0
    check_finished(out, whole)


def test_a_killed_process_costs_the_steps_since_the_last_checkpoint(
    words, whole, signaled, attentive, tmp_path, capsys, monkeypatch
):
    out = tmp_path / "cut"
    signaled(1, 10, signal.SIGKILL)
    assert main([*words, "--out", str(out)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("headway pretrain: process 1 of this run was ended from outside") and "--resume" in error
    assert checkpoint.load_latest(out)[0].state["step"] == 8
    monkeypatch.undo()
    assert main([*words, "--out", str(out), "--resume"]) == 0
    check_finished(out, whole)


@pytest.mark.slow
def test_a_command_that_receives_sigterm_ends_in_one_line_and_is_resumed(photos, tmp_path):
    """The command as a user starts it, with its measurements."""
    out, steps = tmp_path / "cut", 60
    words = [*WORDS, "--data", str(photos), "--steps", str(steps), "--out", str(out)]
    command = [sys.executable, "-m", "headway.cli", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        deadline, log = time.monotonic() + 4 * PATIENCE_S, out / "log.jsonl"
        while not (log.is_file() and "features" in log.read_text()) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        printed, errors = process.communicate(timeout=4 * PATIENCE_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 143, errors
    assert [line for line in errors.splitlines() if line.startswith("headway")] == [errors.strip().splitlines()[-1]]
    assert "with 2 processes" in errors and "Traceback" not in errors and printed == ""
    assert main([*words, "--resume"]) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    logged = [line["step"] for line in lines if "loss" in line]
    assert logged == sorted(set(logged)) and logged[-1] == steps
