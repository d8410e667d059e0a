"""NaN and infinite losses and gradients: such steps are skipped and counted, and several in a row cause a rollback."""

import json
import math

import pytest
import torch

from headway.config import Optim
from headway.errors import HeadwayError
from headway.pretext.rotation import RotationTask
from headway.pretext.simclr import SimCLRTask
from headway.train.config import Plan
from headway.train.log.events import Note, StepMetrics
from headway.train.loop.context import Observers
from headway.train.loop.loop import fit
from headway.train.run_dir.checkpoint import load_latest
from tests.errors import raises
from tests.small import make_images, max_difference, small_train_module, train


def make_nonfinite(patch, task, when, how="loss"):
    """Make the loss (or only its gradient) NaN or infinite where ``when(clock, views)`` is true."""
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
    module = small_train_module(task)
    run = plan.pop("run", None)
    resume = plan.pop("resume", False)
    plan = Plan(**{"steps": 12, "batch_size": 12, "log_every": 1, **plan})
    optim, words = (
        Optim(lr=lr, warmup_fraction=0.1),
        {"resume": resume, "observers": Observers(sinks), "stop_after": stop_after},
    )
    report = fit(module, make_images(), plan, optim, run=run, **words)
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}, report


@pytest.mark.parametrize("how", ["loss", "gradient"])
@pytest.mark.parametrize("task", ["rotation", "simclr"])
def test_a_nonfinite_step_changes_nothing_and_is_counted(task, how, monkeypatch):
    module, kind = small_train_module(task), {"rotation": RotationTask, "simclr": SimCLRTask}[task]
    make_nonfinite(monkeypatch, kind, lambda self, clock, views: clock.step == 0, how)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    events = []
    report = fit(
        module, make_images(), Plan(steps=1, batch_size=12), Optim(lr=0.02), observers=Observers([events.append])
    )
    assert report.skipped_steps == 1 and math.isnan(report.loss)
    assert max_difference(before, dict(module.state_dict())) == 0.0  # statistics of batch norms too
    assert not [event for event in events if isinstance(event, StepMetrics)]


def test_the_run_continues_and_the_log_counts_skipped_steps(monkeypatch):
    make_nonfinite(monkeypatch, RotationTask, lambda self, clock, views: clock.step in (3, 4))
    events = []
    weights, report = fitted(sinks=[events.append])
    steps = [event for event in events if isinstance(event, StepMetrics)]
    assert report.skipped_steps == 2 and [event.step for event in steps] == [1, 2, 3, 6, 7, 8, 9, 10, 11, 12]
    assert steps[-1].metrics["skipped_steps"] == 2 and all(torch.isfinite(tensor).all() for tensor in weights.values())


def one_nan_image(step):
    """Rotation with a NaN loss for one image of one process only."""
    patch = pytest.MonkeyPatch()

    def when(self, clock, views):
        from headway.distributed import rank

        return clock.step == step and rank() == 1

    make_nonfinite(patch, RotationTask, when)
    try:
        return fitted(precision="float64")
    finally:
        patch.undo()


def test_processes_skip_together(workers):
    (first, report), (second, other) = workers(2).run(one_nan_image, 5)
    assert report.skipped_steps == other.skipped_steps == 1 and max_difference(first, second) == 0.0


def test_ten_in_a_row_roll_back_to_the_checkpoint_with_half_the_learning_rate(tmp_path, monkeypatch):
    attempts = []

    def when(self, clock, views):
        if clock.step == 8:
            attempts.append(clock.step)
        return 8 <= clock.step < 18 and len(attempts) == 1

    make_nonfinite(monkeypatch, RotationTask, when)
    events = []
    _, report = fitted(run=tmp_path, steps=24, save_every=5, sinks=[events.append])
    notes = [event.text for event in events if isinstance(event, Note)]
    assert len(notes) == 1 and "10 steps in a row; back to step 5, at 0.5 times the learning rate" in notes[0]
    state = load_latest(tmp_path)[0].state
    assert state["lr_factor"] == 0.5 and state["rollbacks"] == 1 and report.skipped_steps == 0 and state["step"] == 24
    rates = {event.step: event.lr for event in events if isinstance(event, StepMetrics)}  # of the second attempt
    monkeypatch.undo()
    honest = []
    fitted(steps=24, sinks=[honest.append])
    assert rates[6] == pytest.approx(honest[5].lr / 2) and rates[5] == pytest.approx(honest[4].lr)


def test_no_checkpoint_is_written_between_skipped_steps(tmp_path, monkeypatch):
    make_nonfinite(monkeypatch, RotationTask, lambda self, clock, views: 4 <= clock.step < 9)
    saved = []
    monkeypatch.setattr(
        "headway.train.loop.loop.save_checkpoint",
        lambda engine, run, plan, progress: saved.append((progress.step, progress.consecutive_skips)),
    )
    fitted(run=tmp_path, save_every=2)
    assert saved == [(0, 0), (2, 0), (4, 0), (10, 0), (12, 0)]


def test_a_run_without_recovery_ends_with_advice(tmp_path, monkeypatch):
    make_nonfinite(monkeypatch, RotationTask, lambda self, clock, views: clock.step >= 2)
    with raises("training-failed", "--recipe", "optim.lr"):
        fitted(run=tmp_path, steps=30)
    with raises("training-failed", "10", "12"):
        fitted(steps=30)  # no checkpoint to return to


def test_a_kill_after_a_rollback_ends_in_the_same_bits(tmp_path, monkeypatch):
    def bad(self, clock, views):
        return 8 <= clock.step < 18 and self.lr_is_full

    honest = fit.__globals__["_train_step_in_memory"]

    def step(context, progress, *rest):
        context.engine.train_module.task.lr_is_full = progress.lr_factor == 1.0
        if progress.lr_factor < 1.0 and progress.step == cut[0]:
            raise KeyboardInterrupt
        return honest(context, progress, *rest)

    make_nonfinite(monkeypatch, RotationTask, bad)
    monkeypatch.setitem(fit.__globals__, "_train_step_in_memory", step)
    cut = [None]
    whole, _ = fitted(run=tmp_path / "whole", steps=24, save_every=5)
    for cut[0] in (5, 7, 13):
        run = tmp_path / str(cut[0])
        with pytest.raises(KeyboardInterrupt):
            fitted(run=run, steps=24, save_every=5)
        cut[0] = None
        assert max_difference(whole, fitted(run=run, steps=24, save_every=5, resume=True)[0]) == 0.0
    fitted(run=tmp_path / "asked", steps=24, save_every=5, stop_after=12)  # with a checkpoint between skipped steps
    assert max_difference(whole, fitted(run=tmp_path / "asked", steps=24, save_every=5, resume=True)[0]) == 0.0


def test_a_learning_rate_far_too_high_ends_in_an_error_or_finite_weights(tmp_path):
    try:
        weights, _ = fitted("simclr", lr=1e30, run=tmp_path, steps=40, save_every=1)
    except HeadwayError as error:
        assert "optim.lr" in str(error)
    else:
        assert all(torch.isfinite(tensor).all() for tensor in weights.values())


class LimitedMemory:
    """Runs out of memory where a micro-batch has more than so many images."""

    def __init__(self, most):
        self.most, self.seen, self.honest = most, [], RotationTask.forward

    def __call__(self, task, backbone, views, clock):
        outcome = self.honest(task, backbone, views, clock)
        count = len(views.targets)
        if count > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self.seen.append(count)
        return outcome


@pytest.mark.parametrize(("most", "parts"), [(6, 2), (3, 4)])
def test_out_of_memory_halves_micro_batches_to_the_same_weights(most, parts, monkeypatch):
    whole = train("rotation", steps=4)
    limited = LimitedMemory(most)
    monkeypatch.setattr(RotationTask, "forward", lambda *words: limited(*words))
    assert max_difference(whole, train("rotation", steps=4)) < 1e-12
    assert len(limited.seen) == 4 * parts and max(limited.seen) == most


def test_a_resumed_run_keeps_the_smaller_micro_batches(tmp_path, monkeypatch):
    limited = LimitedMemory(6)
    monkeypatch.setattr(RotationTask, "forward", lambda *words: limited(*words))
    words = {"precision": "float32", "steps": 6, "save_every": 2}
    whole = train("rotation", **words, run=str(tmp_path / "whole"))
    train("rotation", **words, run=str(tmp_path / "cut"), stop_after=3)
    limited.seen.clear()
    assert max_difference(whole, train("rotation", **words, run=str(tmp_path / "cut"), resume=True)) == 0.0
    assert set(limited.seen) == {6}


def resumed(run, grad_accum):
    """The rest of a run with 13 images per step."""
    return train("rotation", steps=6, batch=13, run=run, resume=True, accumulate=grad_accum)


@pytest.mark.parametrize("grad_accum", [1, 8])
def test_micro_batches_are_never_empty_on_more_processes(grad_accum, tmp_path, monkeypatch, workers):
    whole = train("rotation", steps=6, batch=13)
    limited = LimitedMemory(2)
    with monkeypatch.context() as patch:
        patch.setattr(RotationTask, "forward", lambda *words: limited(*words))
        train("rotation", steps=6, batch=13, run=str(tmp_path), stop_after=3)
    assert load_latest(tmp_path)[0].state["grad_accum"] == 8
    for weights in workers(3).run(resumed, str(tmp_path), grad_accum):  # of 5, 4 and 4 images
        assert max_difference(whole, weights) < 1e-12
    state = load_latest(tmp_path)[0].state
    assert state["skipped_steps"] == 0 and state["grad_accum"] == 8, "fewer processes may need it again"


def test_out_of_memory_is_an_error_where_halving_would_change_the_loss(monkeypatch):
    def forward(self, backbone, views, clock):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(SimCLRTask, "forward", forward)
    with raises("out-of-memory", "12", "--activation-checkpointing"):
        train("simclr")
    monkeypatch.setattr(RotationTask, "forward", forward)
    with raises("out-of-memory", "--activation-checkpointing"):
        train("rotation", batch=1)


def test_planning_halves_micro_batches_too(tmp_path, monkeypatch):
    import headway
    from headway.synthetic import DrawnAnimals

    limited = LimitedMemory(8)
    monkeypatch.setattr(RotationTask, "forward", lambda *words: limited(*words))
    words = {"data": DrawnAnimals(40, 32), "backbone": "vit_nano", "stem": "conv", "patch": 8, "precision": "float32"}
    headway.pretrain("rotation", **words, out=tmp_path / "r", steps=2)
    record = json.loads((tmp_path / "r" / "run.json").read_text())
    assert record["plan"]["batch_size"] == 40 and record["plan"]["grad_accum"] == 8
    assert record["segments"][-1]["grad_accum"] == 8
