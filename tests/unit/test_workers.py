"""Which processes and threads come into question, which of them are selected, and when steps count as slow."""

import time
from dataclasses import replace

import pytest
import torch

from headway.config import Optim
from headway.train.config import Plan
from headway.train.engine import timing, workers
from headway.train.engine.timing import mean_over_run, measure_phases, measure_step
from headway.train.engine.workers import (
    KEEP_TOLERANCE,
    SHORT_RUN_S,
    Workers,
    select_workers,
    worker_options,
)
from headway.train.loop.pace import SLOW_RATIO, WINDOW_S, WINDOW_STEPS, Pace, phases_of, seconds_left
from headway.utils import threads as threads_module
from headway.utils.threads import STALL_RATIO, threads_stall, torch_threads
from tests.errors import raises
from tests.small import make_images, max_difference, small_train_module

CPU, GPU = torch.device("cpu"), torch.device("cuda")
PLAN = Plan(steps=1, batch_size=64)


@pytest.mark.parametrize(
    ("given", "cores", "expected"),
    [
        ({}, 1, [(1, 1)]),
        ({}, 2, [(1, 1), (2, 1)]),
        ({}, 8, [(1, 1), (4, 1), (8, 1)]),
        ({"processes": 1}, 8, [(1, 1), (1, 8)]),
        ({"processes": 3}, 8, [(3, 1)]),
        ({"processes": 3}, 1, [(3, 1)]),  # asked for, if not wise
        ({"threads": 2}, 8, [(1, 2)]),
        ({"processes": 1, "threads": 3}, 8, [(1, 3)]),
        ({"batch_size": 12}, 8, [(1, 1), (3, 1)]),  # 4 images for each process
        ({"batch_size": 7}, 8, [(1, 1), (1, 8)]),
        ({"batch_size": 2}, 8, [(1, 1), (1, 8)]),
        ({"compile": True}, 8, [(1, 1), (1, 8)]),
        ({"fork": False}, 8, [(1, 1), (1, 8)]),
        ({"device": GPU}, 8, [(1, 8)]),
        ({"device": GPU, "processes": 1, "threads": 3}, 8, [(1, 3)]),
        ({"launched": 2}, 8, [(1, 8)]),
        ({"launched": 2, "threads": 3}, 8, [(1, 3)]),
    ],
)
def test_options(given, cores, expected, monkeypatch):
    given = dict(given)
    monkeypatch.setattr(workers, "available_threads", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    monkeypatch.setattr(workers, "CAN_FORK", given.pop("fork", True))
    launched = given.pop("launched", 1)
    monkeypatch.setattr(workers, "world_size", lambda: launched)
    device = given.pop("device", CPU)
    plan = replace(PLAN, **{name: given.pop(name) for name in ("batch_size", "compile") if name in given})
    assert worker_options(plan, device, **given) == [Workers(*option) for option in expected]


@pytest.mark.parametrize(("device", "launched"), [(GPU, 1), (CPU, 2), (torch.device("mps"), 1)])
def test_several_processes_are_refused_where_a_launcher_starts_them(device, launched, monkeypatch):
    monkeypatch.setattr(workers, "world_size", lambda: launched)
    with raises("processes-unsupported", "--processes"):
        worker_options(PLAN, device, processes=2)


@pytest.mark.parametrize("changes", [(), ({"step": 3, "processes": 3, "threads": 1},)])
def test_more_processes_than_images_are_refused(changes):
    with raises("value-out-of-range", "--processes"):
        Plan(steps=1, batch_size=2, processes=1 if changes else 3, changes=changes)


@pytest.mark.parametrize(
    ("option", "text"),
    [(Workers(1, 1), "1 thread"), (Workers(1, 4), "4 threads"), (Workers(2, 1), "2 processes")],
)
def test_names(option, text):
    assert str(option) == text


ONE, TWO, THREADS = Workers(1, 1), Workers(2, 1), Workers(1, 2)


@pytest.fixture
def selected(monkeypatch):
    """``selected(seconds, ...)``: what is selected where a step takes these seconds with each of the workers."""

    def select(seconds, options=(ONE, TWO, THREADS), stall=False, **choices):
        timed = []

        def phases(train_module, images, plan, optim, *, last_only=False, **limits):
            now = Workers(plan.processes, plan.threads)
            timed.append((now, last_only))
            return (seconds[now],) if last_only else (seconds[now] / 2, seconds[now])

        monkeypatch.setattr(workers, "measure_phases", phases)
        monkeypatch.setattr(workers, "threads_stall", lambda count: stall)
        choice = select_workers(module, make_images(), PLAN, Optim(), options, time_limit_s=1.0, **choices)
        trials, (final, last_only) = timed[:-1], timed[-1]
        assert final == Workers(choice.plan.processes, choice.plan.threads) and not last_only
        assert all(last_only for _, last_only in trials)
        assert choice.plan.phase_seconds == (seconds[final] / 2, seconds[final])
        assert choice.seconds_per_step == pytest.approx(mean_over_run(module, choice.plan.phase_seconds))
        assert choice.candidates == {str(option): seconds[option] for option, _ in trials}
        return final, [option for option, _ in trials]

    module = small_train_module("dino")
    module.task.cost_milestones = (0.0, 0.25)
    return select


def test_the_fastest_is_selected(selected):
    assert selected({ONE: 3.0, TWO: 1.0, THREADS: 2.0}) == (TWO, [ONE, TWO, THREADS])
    assert selected({ONE: 3.0, TWO: 2.0, THREADS: 1.0})[0] == THREADS
    assert selected({ONE: 1.0, TWO: 1.0, THREADS: 1.0})[0] == ONE  # the most frugal of equals


def test_an_earlier_choice_is_kept_while_it_is_nearly_as_fast(selected):
    for ratio, expected in ((KEEP_TOLERANCE - 0.01, ONE), (KEEP_TOLERANCE + 0.01, TWO)):
        assert selected({ONE: ratio, TWO: 1.0, THREADS: 3.0}, kept=ONE)[0] == expected
    assert selected({ONE: 2.0, TWO: 1.0, THREADS: 3.0}, kept=Workers(7, 1))[0] == TWO  # not an option any more


def test_threads_that_stall_are_not_timed(selected):
    assert selected({ONE: 3.0, TWO: 2.0, THREADS: 1.0}, stall=True) == (TWO, [ONE, TWO])
    assert selected({THREADS: 1.0}, [THREADS], stall=True) == (THREADS, [])  # the user wants them


def test_a_short_run_takes_the_first(selected):
    short = {"steps": 0.9 * SHORT_RUN_S, "kept": TWO}
    assert selected({ONE: 1.0, TWO: 0.5, THREADS: 2.0}, **short) == (ONE, [ONE])
    assert selected({ONE: 1.2, TWO: 0.5, THREADS: 2.0}, **short) == (TWO, [ONE, TWO, THREADS])


def test_a_single_option_is_timed_once(selected):
    assert selected({TWO: 1.0}, [TWO]) == (TWO, [])


@pytest.mark.parametrize(("ratio", "expected"), [(STALL_RATIO - 0.1, False), (STALL_RATIO + 0.1, True)])
def test_threads_stall_where_an_operation_takes_them_longer(ratio, expected, monkeypatch):
    """The clock advances at each look, further on several threads."""
    now = [0.0]

    def clock():
        now[0] += 1e-4 * (ratio if torch.get_num_threads() > 1 else 1.0)
        return now[0]

    monkeypatch.setattr(threads_module.time, "perf_counter", clock)
    monkeypatch.setattr(threads_module, "STALL_PROBE_ELEMENTS", 16)  # too few for a second thread to start
    with torch_threads(1):
        assert threads_stall(2) is expected and torch.get_num_threads() == 1


def test_a_step_is_timed_in_each_phase_on_copies(monkeypatch):
    module, clocks = small_train_module("dino"), []
    module.task.cost_milestones = (0.0, 0.25)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    honest = timing.train_step

    def train_step(engine, optim, plan, batch, positions, clock):
        clocks.append((clock.progress >= 0.25, len(batch.images)))
        if clock.progress >= 0.25:
            time.sleep(0.05)
        return honest(engine, optim, plan, batch, positions, clock)

    monkeypatch.setattr(timing, "train_step", train_step)
    plan, words = Plan(steps=4, batch_size=12, processes=2), {"time_limit_s": 0.0, "min_steps": 1}
    first, second = measure_phases(module, make_images(), plan, Optim(), **words)
    assert second > 0.05 and first > 0 and {size for _, size in clocks} == {6}  # rank 0's part
    assert [late for late, _ in clocks] == [False] * 2 + [True] * 2  # one warm-up step each
    clocks.clear()
    (last,) = measure_phases(module, make_images(), plan, Optim(), last_only=True, **words)
    assert last > 0.05 and all(late for late, _ in clocks)
    assert max_difference(before, dict(module.state_dict())) == 0.0
    monkeypatch.setattr(timing, "measure_phases", lambda *_, **__: (1.0, 2.0))
    assert measure_step(module, make_images(), plan, Optim(), **words) == 0.25 * 1.0 + 0.75 * 2.0


@pytest.mark.parametrize(("seconds", "steps"), [(0.02, 7), (0.1, 4), (0.4, 2), (60.0, 2)])
def test_timing_ends_where_steps_take_many_times_the_limit(seconds, steps, monkeypatch):
    """Steps after the warm-up: three that fill the limit where they are short, and at least one."""
    module, now, honest = small_train_module("rotation"), [0.0], timing.train_step

    def train_step(*given):
        now[0] += seconds
        return honest(*given)

    monkeypatch.setattr(timing, "train_step", train_step)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    plan, words = Plan(steps=4, batch_size=12), {"time_limit_s": 0.1, "min_steps": 3}
    (found,) = measure_phases(module, make_images(), plan, Optim(), **words)
    assert found == pytest.approx(seconds) and now[0] == pytest.approx(steps * seconds)


def paced(steps, milestones=(0.0,), expected=(1.0,)):
    """``slow_by`` after each step, given as (progress, seconds)."""
    pace, found = Pace(milestones, expected), []
    for progress, seconds in steps:
        pace.add(progress, seconds)
        found.append(pace.slow_by)
    return found


def test_a_window_of_slow_steps_is_slow():
    slow = SLOW_RATIO + 1
    assert paced([(0.5, slow)] * WINDOW_STEPS) == [0.0] * (WINDOW_STEPS - 1) + [slow]
    assert not any(paced([(0.5, SLOW_RATIO - 0.1)] * 5 * WINDOW_STEPS))
    assert not any(paced([(0.5, 1.0)] * 50))


@pytest.mark.parametrize(
    ("ratio", "elapsed_s", "late"),
    [(1.0, 50, 0.0), (1.25, 62.5, 1.25), (1.12, 56, 0.0), (2.0, 40, 2.0), (1.0, 70, 1.0), (0.5, 60, 0.0)],
)
def test_a_run_is_late_where_it_would_end_15_percent_too_late(ratio, elapsed_s, late):
    """Half of 100 steps of one second each are done, at this pace, after so many seconds."""
    pace = Pace((0.0,), (1.0,))
    for step in range(50):
        pace.add(step / 100, ratio)
    assert pace.late_by(0.5, 100, elapsed_s, 100.0) == pytest.approx(late)


def test_a_run_is_not_late_before_it_has_taken_some_seconds_or_where_nothing_was_measured():
    assert Pace((0.0,), ()).late_by(0.5, 100, 1e9, 1.0) == 0.0
    pace = Pace((0.0,), (0.01,))
    pace.add(0.0, 4.0)
    assert pace.late_by(0.01, 100, 4.0, 1.0) == 0.0
    pace.add(0.01, 4.0)
    assert pace.late_by(0.02, 100, 8.0, 1.0) == pytest.approx(400.0)


def test_the_seconds_left_are_those_of_the_phases_ahead():
    phases = phases_of((0.0, 0.6), (1.0, 3.0))
    assert [seconds_left(phases, done, 10) for done in (0.0, 0.3, 0.6, 0.8, 1.0)] == pytest.approx([18, 15, 12, 6, 0])
    assert phases_of((0.0, 0.6), ()) == [] and seconds_left([], 0.0, 10) == 0


def test_one_slow_step_is_not():
    steps = [(0.5, 1.0)] * WINDOW_STEPS
    steps[1] = (0.5, 1.0 + 0.9 * (SLOW_RATIO - 1) * WINDOW_STEPS)
    assert not any(paced(steps * 3))


def test_a_window_lasts_some_seconds():
    expected, slow = 0.01, 0.01 * 2 * SLOW_RATIO
    found = paced([(0.5, slow)] * 200, expected=(expected,))
    first = next(number for number, ratio in enumerate(found, 1) if ratio)
    assert first == pytest.approx(WINDOW_S / slow, abs=1) and found[first - 1] == pytest.approx(2 * SLOW_RATIO)


def test_the_next_window_counts_anew():
    slow = [(0.5, 2 * SLOW_RATIO)] * WINDOW_STEPS
    found = paced([*slow, *[(0.5, 1.0)] * WINDOW_STEPS])
    assert found[WINDOW_STEPS - 1] == 2 * SLOW_RATIO and found[-2] == 2 * SLOW_RATIO and found[-1] == 0.0


def test_a_slow_phase_is_expected_to_be_slow():
    milestones, expected = (0.0, 0.5), (1.0, 10.0)
    assert not any(paced([(0.4, 1.0)] * WINDOW_STEPS + [(0.5, 10.0)] * WINDOW_STEPS, milestones, expected))
    assert any(paced([(0.4, 10.0)] * WINDOW_STEPS, milestones, expected))


def test_without_measurements_nothing_is_slow():
    assert not any(paced([(0.5, 1e6)] * 20, expected=()))
