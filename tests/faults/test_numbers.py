"""Losses and gradients that are no numbers: skipped and counted, and in a row they send the run back."""

import json
import math

import pytest
import torch

from headway.config import Optim
from headway.errors import HeadwayError
from headway.pretext.rotation import RotationTask
from headway.pretext.simclr import SimCLRTask
from headway.train.checkpoint import latest
from headway.train.log import Note, Step
from headway.train.loop import fit
from headway.train.plan import Plan
from tests.small import farthest, pictures, small_learner, train


def spoil(patch, task, when, how="loss"):
    """Make the loss (or only its gradient) no number where ``when(clock, views)`` says so."""
    honest = task.forward

    def forward(self, backbone, views, clock):
        outcome = honest(self, backbone, views, clock)
        if not when(self, clock, views):
            return outcome
        if how == "loss":
            return outcome._replace(loss=outcome.loss * float("nan"))
        zero = outcome.loss - outcome.loss.detach()
        return outcome._replace(loss=outcome.loss + zero.sqrt())  # its derivative at 0 is infinite

    patch.setattr(task, "forward", forward)


def fitted(task="rotation", sinks=(), lr=0.02, stop_after=None, **plan):
    learner = small_learner(task)
    run = plan.pop("run", None)
    resume = plan.pop("resume", False)
    plan = Plan(**{"steps": 12, "batch": 12, "log_every": 1, **plan})
    optim, words = Optim(lr=lr, warmup=0.1), {"resume": resume, "sinks": sinks, "stop_after": stop_after}
    report = fit(learner, pictures(), plan, optim, run=run, **words)
    return {name: tensor.clone() for name, tensor in learner.state_dict().items()}, report


@pytest.mark.parametrize("how", ["loss", "gradient"])
@pytest.mark.parametrize("task", ["rotation", "simclr"])
def test_a_bad_step_moves_nothing_and_is_counted(task, how, monkeypatch):
    learner, kind = small_learner(task), {"rotation": RotationTask, "simclr": SimCLRTask}[task]
    spoil(monkeypatch, kind, lambda self, clock, views: clock.step == 0, how)
    before = {name: tensor.clone() for name, tensor in learner.state_dict().items()}
    events = []
    report = fit(learner, pictures(), Plan(steps=1, batch=12), Optim(lr=0.02), sinks=[events.append])
    assert report.skipped == 1 and math.isnan(report.loss)
    assert farthest(before, dict(learner.state_dict())) == 0.0  # statistics of batch norms too
    assert not [event for event in events if isinstance(event, Step)]


def test_the_run_goes_on_and_the_log_counts(monkeypatch):
    spoil(monkeypatch, RotationTask, lambda self, clock, views: clock.step in (3, 4))
    events = []
    weights, report = fitted(sinks=[events.append])
    steps = [event for event in events if isinstance(event, Step)]
    assert report.skipped == 2 and [event.step for event in steps] == [1, 2, 3, 6, 7, 8, 9, 10, 11, 12]
    assert steps[-1].metrics["skipped"] == 2 and all(torch.isfinite(tensor).all() for tensor in weights.values())


def half_bad(step):
    """Rotation whose loss is no number on one picture of one process only."""
    patch = pytest.MonkeyPatch()

    def when(self, clock, views):
        from headway.distributed import rank

        return clock.step == step and rank() == 1

    spoil(patch, RotationTask, when)
    try:
        return fitted(precision="float64")
    finally:
        patch.undo()


def test_processes_skip_together(workers):
    (first, report), (second, other) = workers(2).run(half_bad, 5)
    assert report.skipped == other.skipped == 1 and farthest(first, second) == 0.0


def test_ten_in_a_row_go_back_to_the_checkpoint_at_half_the_rate(tmp_path, monkeypatch):
    attempts = []

    def when(self, clock, views):
        if clock.step == 8:
            attempts.append(clock.step)
        return 8 <= clock.step < 18 and len(attempts) == 1

    spoil(monkeypatch, RotationTask, when)
    events = []
    _, report = fitted(run=tmp_path, steps=24, save_every=5, sinks=[events.append])
    notes = [event.text for event in events if isinstance(event, Note)]
    assert len(notes) == 1 and "10 steps in a row; back to step 5, at 0.5 times the learning rate" in notes[0]
    state = latest(tmp_path)[0].state
    assert state["rate"] == 0.5 and state["setbacks"] == 1 and report.skipped == 0 and state["step"] == 24
    rates = {event.step: event.rate for event in events if isinstance(event, Step)}  # the later of two attempts
    monkeypatch.undo()
    honest = []
    fitted(steps=24, sinks=[honest.append])
    assert rates[6] == pytest.approx(honest[5].rate / 2) and rates[5] == pytest.approx(honest[4].rate)


def test_no_checkpoint_is_written_amid_bad_steps(tmp_path, monkeypatch):
    spoil(monkeypatch, RotationTask, lambda self, clock, views: 4 <= clock.step < 9)
    saved = []
    monkeypatch.setattr(
        "headway.train.loop.save", lambda shop, run, plan, course: saved.append((course.step, course.skipped_in_row))
    )
    fitted(run=tmp_path, save_every=2)
    assert saved == [(0, 0), (2, 0), (4, 0), (10, 0), (12, 0)]


def test_a_run_that_stays_in_trouble_gives_up_and_says_what_to_do(tmp_path, monkeypatch):
    spoil(monkeypatch, RotationTask, lambda self, clock, views: clock.step >= 2)
    with pytest.raises(HeadwayError, match=r"3 returns .* lower --recipe.optim.lr"):
        fitted(run=tmp_path, steps=30)
    with pytest.raises(HeadwayError, match=r"10 steps in a row, up to step 12; try a lower learning rate"):
        fitted(steps=30)  # nowhere to go back to


def test_a_kill_after_the_return_ends_in_the_same_bits(tmp_path, monkeypatch):
    def bad(self, clock, views):
        return 8 <= clock.step < 18 and self.rate_is_whole

    honest = fit.__globals__["_step"]

    def step(bench, course, *rest):
        bench.shop.learner.task.rate_is_whole = course.rate == 1.0
        if course.rate < 1.0 and course.step == cut[0]:
            raise KeyboardInterrupt
        return honest(bench, course, *rest)

    spoil(monkeypatch, RotationTask, bad)
    monkeypatch.setitem(fit.__globals__, "_step", step)
    cut = [None]
    whole, _ = fitted(run=tmp_path / "whole", steps=24, save_every=5)
    for cut[0] in (5, 7, 13):
        run = tmp_path / str(cut[0])
        with pytest.raises(KeyboardInterrupt):
            fitted(run=run, steps=24, save_every=5)
        cut[0] = None
        assert farthest(whole, fitted(run=run, steps=24, save_every=5, resume=True)[0]) == 0.0
    fitted(run=tmp_path / "asked", steps=24, save_every=5, stop_after=12)  # with a checkpoint amid bad steps
    assert farthest(whole, fitted(run=tmp_path / "asked", steps=24, save_every=5, resume=True)[0]) == 0.0


def test_a_rate_far_too_high_ends_in_a_line_not_in_rubbish(tmp_path):
    try:
        weights, _ = fitted("simclr", lr=1e30, run=tmp_path, steps=40, save_every=1)
    except HeadwayError as error:
        assert "optim.lr" in str(error)
    else:
        assert all(torch.isfinite(tensor).all() for tensor in weights.values())


class Hungry:
    """Runs out of memory where more than so many pictures come at once."""

    def __init__(self, most):
        self.most, self.seen, self.honest = most, [], RotationTask.forward

    def __call__(self, task, backbone, views, clock):
        outcome = self.honest(task, backbone, views, clock)
        count = len(views.turns)
        if count > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self.seen.append(count)
        return outcome


@pytest.mark.parametrize(("most", "parts"), [(6, 2), (3, 4)])
def test_out_of_memory_halves_micro_batches_to_the_same_weights(most, parts, monkeypatch):
    whole = train("rotation", steps=4)
    hungry = Hungry(most)
    monkeypatch.setattr(RotationTask, "forward", lambda *words: hungry(*words))
    assert farthest(whole, train("rotation", steps=4)) < 1e-12
    assert len(hungry.seen) == 4 * parts and max(hungry.seen) == most


def test_a_resumed_run_keeps_to_the_smaller_parts(tmp_path, monkeypatch):
    hungry = Hungry(6)
    monkeypatch.setattr(RotationTask, "forward", lambda *words: hungry(*words))
    words = {"precision": "float32", "steps": 6, "save_every": 2}
    whole = train("rotation", **words, run=str(tmp_path / "whole"))
    train("rotation", **words, run=str(tmp_path / "cut"), stop_after=3)
    hungry.seen.clear()
    assert farthest(whole, train("rotation", **words, run=str(tmp_path / "cut"), resume=True)) == 0.0
    assert set(hungry.seen) == {6}


def resumed(run, accumulate):
    """The rest of a run of 13 pictures a step."""
    return train("rotation", steps=6, batch=13, run=run, resume=True, accumulate=accumulate)


@pytest.mark.parametrize("accumulate", [1, 8])
def test_parts_that_memory_forced_are_never_empty_on_more_processes(accumulate, tmp_path, monkeypatch, workers):
    whole = train("rotation", steps=6, batch=13)
    hungry = Hungry(2)
    with monkeypatch.context() as patch:
        patch.setattr(RotationTask, "forward", lambda *words: hungry(*words))
        train("rotation", steps=6, batch=13, run=str(tmp_path), stop_after=3)
    assert latest(tmp_path)[0].state["accumulate"] == 8
    for weights in workers(3).run(resumed, str(tmp_path), accumulate):  # of 5, 4 and 4 pictures
        assert farthest(whole, weights) < 1e-12
    state = latest(tmp_path)[0].state
    assert state["skipped"] == 0 and state["accumulate"] == 8, "which fewer processes may want again"


def test_where_halves_would_change_the_loss_memory_is_a_matter_for_the_user(monkeypatch):
    def forward(self, backbone, views, clock):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(SimCLRTask, "forward", forward)
    with pytest.raises(HeadwayError, match=r"out of memory with 12 pictures .* would change it; try --recompute"):
        train("simclr")
    monkeypatch.setattr(RotationTask, "forward", forward)
    with pytest.raises(HeadwayError, match=r"a single picture does not fit; try --recompute"):
        train("rotation", batch=1)


def test_planning_halves_too(tmp_path, monkeypatch):
    import headway
    from headway.samples import DrawnAnimals

    hungry = Hungry(8)
    monkeypatch.setattr(RotationTask, "forward", lambda *words: hungry(*words))
    words = {"data": DrawnAnimals(40, 32), "backbone": "vit_nano", "stem": "conv", "patch": 8, "precision": "float32"}
    headway.pretrain("rotation", **words, out=tmp_path / "r", steps=2)
    record = json.loads((tmp_path / "r" / "run.json").read_text())
    assert record["plan"]["batch"] == 40 and record["plan"]["accumulate"] == 8
    assert record["stretches"][-1]["accumulate"] == 8
