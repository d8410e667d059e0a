"""Runs whose steps become slow change how they go on; the change is recorded, survives a resume and is reproduced."""

import json
import os
import signal
import time
from dataclasses import replace

import pytest

from headway.cli import main
from headway.config import Optim
from headway.distributed import rank, world_size
from headway.pretext.rotation import RotationTask
from headway.synthetic import write_folder
from headway.train.config import Plan
from headway.train.engine.workers import WorkerChoice, Workers
from headway.train.log.events import Note, StepMetrics
from headway.train.loop import adapt, loop, pace, progress
from headway.train.loop.context import Observers
from headway.train.loop.loop import fit
from headway.train.plan import make_plan as planning
from tests.small import make_images, max_difference, skip_measurements, small_train_module

STEPS = 12
CHANGE = {"step": 4, "processes": 2, "threads": 1, "steps": STEPS}


@pytest.fixture
def slow(monkeypatch):
    """Steps count as slow from the fourth on, where one takes longer than was measured; then 2 processes are best."""
    monkeypatch.setattr(pace, "WINDOW_STEPS", 4)
    monkeypatch.setattr(pace, "WINDOW_S", 0.0)
    asked = []

    def select_workers(train_module, images, plan, optim, options, *, kept, steps, **_):
        asked.append((kept, steps, list(options)))
        return WorkerChoice(replace(plan, processes=2, threads=1, phase_seconds=(60.0,)), 60.0, {})

    monkeypatch.setattr(adapt, "select_workers", select_workers)
    return asked


MEASURED = {"phase_seconds": (1e-6,), "adapt_workers": "processes", "log_every": 2, "threads": 1}
"""What was measured before the machine became busy."""


def trained(sinks=(), run=None, resume=False, stop_after=None, **choices):
    """Weights and result of a small run in float32, whose bits depend on the number of processes."""
    module = small_train_module("rotation")
    plan = Plan(**{"steps": STEPS, "batch_size": 12, **choices})
    result = fit(
        module, make_images(), plan, Optim(lr=0.02, warmup_fraction=0.1), run=run, resume=resume,
        stop_after=stop_after, observers=Observers(sinks),
    )  # fmt: skip
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}, result


def notes_of(events):
    return [event.text for event in events if isinstance(event, Note)]


def test_the_change_is_said_once_and_recorded(slow):
    events = []
    weights, result = trained([events.append], **MEASURED)
    first, second = notes_of(events)
    assert first.startswith("steps take ") and "other programs use this machine" in first
    assert second == "goes on with 2 processes, instead of 1 thread"
    assert result.changes == (CHANGE,) and result.steps == STEPS
    assert slow == [(Workers(1, 1), STEPS - 4, [Workers(1, 1)])]
    assert [event.step for event in events if isinstance(event, StepMetrics)] == list(range(2, STEPS + 1, 2))
    again, repeated = trained(changes=(CHANGE,), log_every=2, threads=1)
    assert max_difference(weights, again) == 0.0 and repeated.changes == (CHANGE,)
    assert max_difference(weights, trained(threads=1)[0]) > 0.0, "the number of processes does not change the bits"


def test_a_run_of_processes_goes_back_to_one(slow, monkeypatch):
    def select_workers(train_module, images, plan, *_, **__):
        return WorkerChoice(replace(plan, processes=1, threads=1, phase_seconds=(60.0,)), 60.0, {})

    monkeypatch.setattr(adapt, "select_workers", select_workers)
    events, seen = [], []
    honest = loop.train_step
    monkeypatch.setattr(loop, "train_step", lambda *given: seen.append(world_size()) or honest(*given))
    weights, result = trained([events.append], **{**MEASURED, "processes": 2})
    assert seen == [2] * 4 + [1] * (STEPS - 4)
    assert notes_of(events)[1:] == ["goes on with 1 thread, instead of 2 processes"]
    change = {**CHANGE, "processes": 1}
    assert result.changes == (change,)
    assert max_difference(weights, trained(changes=(change,), processes=2, log_every=2)[0]) == 0.0


def test_a_run_that_may_not_change_says_nothing(slow):
    events = []
    _, result = trained([events.append], **{**MEASURED, "adapt_workers": "never"})
    assert not notes_of(events) and result.changes == () and not slow


def test_where_nothing_is_better_the_run_goes_on_as_it_is(monkeypatch):
    """The real measurement, with a single option."""
    monkeypatch.setattr(pace, "WINDOW_STEPS", 4)
    monkeypatch.setattr(pace, "WINDOW_S", 0.0)
    monkeypatch.setattr(pace, "SLOW_RATIO", 1000.0)
    monkeypatch.setattr(adapt, "MEASURE_S", 0.05)
    events = []
    weights, result = trained([events.append], **{**MEASURED, "adapt_workers": "threads"})
    first, second = notes_of(events)
    assert first.startswith("steps take ") and second == "goes on with 1 thread, which is best now"
    assert result.changes == () and max_difference(weights, trained(threads=1)[0]) == 0.0


def test_a_budget_is_kept_with_fewer_steps(slow, monkeypatch):
    def select_workers(train_module, images, plan, *_, **__):
        return WorkerChoice(replace(plan, phase_seconds=(0.5,)), 0.5, {})

    honest = loop.train_step
    monkeypatch.setattr(adapt, "select_workers", select_workers)
    monkeypatch.setattr(loop, "train_step", lambda *given: time.sleep(0.1) or honest(*given))
    events, planned_s = [], 0.02 * 200
    settings = {**MEASURED, "phase_seconds": (0.02,), "adapt_steps": True, "steps": 200}
    weights, result = trained([events.append], **settings)
    (change,) = result.changes
    assert change == {"step": 4, "processes": 1, "threads": 1, "steps": result.steps}
    assert 5 <= result.steps <= 4 + (planned_s - 4 * 0.1) / 0.5
    assert notes_of(events)[-1] == f"takes {result.steps} steps instead of 200, so that the run ends in time"
    metrics = [event for event in events if isinstance(event, StepMetrics)]
    assert metrics[-1].step == metrics[-1].total == result.steps and metrics[0].total == 200
    assert metrics[-1].lr < 0.2 * max(event.lr for event in metrics), "the schedule does not end with the run"
    again, repeated = trained(changes=(change,), log_every=2, threads=1, steps=200)
    assert repeated.steps == result.steps and max_difference(weights, again) == 0.0


def test_a_budget_that_is_nearly_over_is_kept_through_a_second_slowdown(slow, monkeypatch):
    measured_s, slept_s, elapsed_s = iter([0.04, 0.02]), iter([*[0.3] * 4, *[0.15] * 4, *[0.0] * 100]), [0.0]

    def select_workers(train_module, images, plan, *_, **__):
        seconds = next(measured_s)
        return WorkerChoice(replace(plan, phase_seconds=(seconds,)), seconds, {})

    honest = loop.train_step

    def train_step(*given):
        seconds = next(slept_s)
        elapsed_s[0] += seconds
        time.sleep(seconds)
        return honest(*given)

    monkeypatch.setattr(adapt, "select_workers", select_workers)
    monkeypatch.setattr(loop, "train_step", train_step)
    monkeypatch.setattr(loop.Stopwatch, "seconds", lambda self: elapsed_s[0])
    settings = {**MEASURED, "phase_seconds": (0.02,), "adapt_steps": True, "steps": 100}  # two seconds
    first, second = trained(**settings)[1].changes
    assert (first["step"], second["step"]) == (4, 8)
    assert first["steps"] == pytest.approx(4 + (2 - 1.2) / 0.04, abs=1)
    assert second["steps"] == pytest.approx(8 + (2 - 1.8) / 0.02, abs=1)


def test_a_run_that_is_only_late_takes_fewer_steps_without_a_measurement(slow, monkeypatch):
    monkeypatch.setattr(pace, "MIN_LATE_S", 0.1)
    honest = loop.train_step
    monkeypatch.setattr(loop, "train_step", lambda *given: time.sleep(0.04) or honest(*given))
    events = []
    settings = {**MEASURED, "phase_seconds": (0.02,), "adapt_steps": True, "steps": 50}  # one second
    monkeypatch.setattr(pace, "SLOW_RATIO", 1000.0)
    weights, result = trained([events.append], **settings)
    assert not slow and result.changes and result.steps < 40
    assert all(note.startswith("takes ") for note in notes_of(events))
    assert max_difference(weights, trained(changes=result.changes, log_every=2, threads=1, steps=50)[0]) == 0.0
    assert trained(**{**settings, "adapt_steps": False})[1].steps == 50


def test_a_shortened_run_that_lost_its_last_probe_is_probed_when_it_is_resumed(slow, tmp_path):
    change = {"step": 4, "processes": 1, "threads": 1, "steps": 6}
    settings = {"changes": (change,), "log_every": 2, "threads": 1, "batch_size": 12, "steps": STEPS}

    def run(probe, resume):
        return fit(
            small_train_module("rotation"), make_images(), Plan(**settings), Optim(lr=0.02), run=tmp_path,
            resume=resume, observers=Observers(probe=probe),
        )  # fmt: skip

    def fails(backbone):
        raise RuntimeError("no answer")

    with pytest.raises(RuntimeError, match="no answer"):
        run(fails, resume=False)
    asked = []
    assert run(lambda backbone: asked.append(1) or 50.0, resume=True).steps == 6
    assert asked == [1]


def test_a_resumed_run_has_the_time_that_its_remaining_steps_were_planned_to_take(slow, monkeypatch, tmp_path):
    def select_workers(train_module, images, plan, *_, **__):
        return WorkerChoice(replace(plan, phase_seconds=(0.05,)), 0.05, {})

    honest = loop.train_step
    monkeypatch.setattr(adapt, "select_workers", select_workers)
    settings = {**MEASURED, "phase_seconds": (0.02,), "adapt_steps": True, "steps": 100}
    monkeypatch.setattr(pace, "SLOW_RATIO", 1000.0)
    trained(run=tmp_path, stop_after=50, **settings)
    monkeypatch.setattr(pace, "SLOW_RATIO", 3.0)
    monkeypatch.setattr(loop, "train_step", lambda *given: time.sleep(0.1) or honest(*given))
    (change,) = trained(run=tmp_path, resume=True, **settings)[1].changes
    assert change["step"] == 54 and change["steps"] <= 54 + (50 * 0.02 - 4 * 0.1) / 0.05


@pytest.mark.parametrize("stop_after", [3, 4, 7])
def test_a_run_interrupted_before_or_after_the_change_ends_in_the_same_bits(slow, stop_after, tmp_path):
    whole, result = trained(changes=(CHANGE,), log_every=2, threads=1)
    words = {**MEASURED, "run": tmp_path} if stop_after > 4 else {"changes": (CHANGE,), "threads": 1, "run": tmp_path}
    trained(**words, stop_after=stop_after)
    resumed, repeated = trained(**words, resume=True)
    assert max_difference(whole, resumed) == 0.0 and repeated.changes == result.changes == (CHANGE,)
    assert len(slow) == (stop_after > 4), "measured again, although the change was made"


@pytest.mark.parametrize(("save_every", "back"), [(2, 6), (0, 0)])
def test_a_rollback_after_a_change(slow, save_every, back, tmp_path, monkeypatch):
    """Back to a step after the change it stays in force; back to a step before, steps are found to be slow again."""
    monkeypatch.setattr(progress, "MAX_SKIPPED_STEPS", 2)
    honest, pending, seen = RotationTask.forward, {6, 7}, []

    def forward(self, backbone, views, clock):
        outcome = honest(self, backbone, views, clock)
        seen.append((clock.step, world_size()))
        if clock.step not in pending:
            return outcome
        pending.discard(clock.step)  # each process has a set of its own
        return outcome._replace(loss=outcome.loss * float("nan"))

    monkeypatch.setattr(RotationTask, "forward", forward)
    events = []
    _, result = trained([events.append], **MEASURED, run=tmp_path, save_every=save_every)
    assert any(f"back to step {back}, at 0.5 times the learning rate" in text for text in notes_of(events))
    assert result.changes == (CHANGE,) and result.steps == STEPS and len(slow) == (2 if back == 0 else 1)
    sizes = [(step, 1 if step < 4 else 2) for step in range(STEPS)]
    assert seen == sizes[:8] + sizes[back:]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_folder(folder, 20, 32)
    return folder


@pytest.fixture
def run(slow, photos, tmp_path, monkeypatch):
    """``run(name, ...)``: the exit code of a command on a machine that is busy from its first step on."""
    skip_measurements(monkeypatch)
    monkeypatch.setattr(planning, "worker_options", lambda *_: [Workers(1, 1), Workers(2, 1)])

    def select_workers(train_module, images, plan, *_, **__):
        return WorkerChoice(replace(plan, processes=1, threads=1, phase_seconds=(1e-6,)), 0.5, {})

    monkeypatch.setattr(planning, "select_workers", select_workers)

    def command(name, *more):
        words = ["pretrain", "rotation", "--data", str(photos), "--out", str(tmp_path / name), *more]
        own = ["--backbone", "vit_pico", "--patch", "8", "--precision", "float32", "--steps", str(STEPS)]
        own += ["--recipe.batch-size", "8"]
        return main([*words, *(own if "--reproduce" not in more else [])])

    return command


def weights_and_record(folder):
    return (folder / "model.safetensors").read_bytes(), json.loads((folder / "run.json").read_text())


def test_a_command_records_the_change_and_reproduces_it(run, tmp_path, capsys, slow):
    assert run("first") == 0
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("other programs use this machine") == 1 and said.count("instead of 1 thread") == 1
    weights, record = weights_and_record(tmp_path / "first")
    assert record["plan"]["changes"] == [CHANGE] and record["plan"]["processes"] == 1
    assert [(s["step"], s["processes"], s["threads"]) for s in record["segments"]] == [(0, 1, 1), (4, 2, 1)]
    log = [json.loads(line) for line in (tmp_path / "first" / "log.jsonl").read_text().splitlines()]
    assert sum("other programs" in line.get("note", "") for line in log) == 1
    assert run("second", "--reproduce", str(tmp_path / "first" / "run.json")) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "may differ" not in said and "other programs" not in said and len(slow) == 1
    again, repeated = weights_and_record(tmp_path / "second")
    assert again == weights and repeated["plan"]["changes"] == [CHANGE]
    assert repeated["segments"] == record["segments"]
    altered = {**record, "plan": {**record["plan"], "changes": []}}
    (tmp_path / "first" / "run.json").write_text(json.dumps(altered))
    assert run("third", "--reproduce", str(tmp_path / "first" / "run.json")) == 0
    assert "processes 1 up to step 4 of that run, 2 from there on" in " ".join(capsys.readouterr().err.split())
    assert weights_and_record(tmp_path / "third")[0] != weights, "the change does not change the bits"


def test_a_command_interrupted_after_the_change_ends_in_the_same_bits(run, tmp_path, monkeypatch, slow):
    assert run("whole") == 0
    honest = loop.train_step

    def train_step(*given):
        if (rank(), given[-1].step) == (0, 7):
            os.kill(os.getpid(), signal.SIGTERM)
        return honest(*given)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", train_step)
        assert run("cut") == 128 + signal.SIGTERM
    asked = len(slow)
    assert run("cut", "--resume") == 0 and len(slow) == asked
    (weights, record), (again, resumed) = (weights_and_record(tmp_path / name) for name in ("whole", "cut"))
    assert weights == again and resumed["plan"]["changes"] == record["plan"]["changes"] == [CHANGE]
    assert [(s["step"], s["processes"]) for s in resumed["segments"]] == [(0, 1), (4, 2), (8, 2)]
    assert run("reproduced", "--reproduce", str(tmp_path / "cut" / "run.json")) == 0
    assert weights_and_record(tmp_path / "reproduced")[0] == weights
