"""Processes that read different images would diverge silently: all of them report it before the first step."""

import json

import pytest

import headway
from headway.distributed import rank
from headway.errors import HeadwayError, UnreadableImageError
from headway.pretext import TASKS
from headway.synthetic import DrawnAnimals
from headway.train.config import PretrainConfig
from headway.train.engine.workers import WorkerChoice
from headway.train.plan import make_plan as planning
from headway.train.plan.make_plan import PlanRequest, make_plan
from tests.small import make_images, small_train_module


class PartlyUnreadable(DrawnAnimals):
    """Synthetic animals, some of which the processes in ``by`` cannot read."""

    def __init__(self, by, lost=(3,)):
        super().__init__(24, 32)
        self.by, self.lost = by, lost

    def image(self, index):
        if rank() in self.by and index in self.lost:
            raise UnreadableImageError("the disk is gone")
        return super().image(index)


def pretrained(out, by, lost):
    """The error of a process, or the number of its steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "select_fastest", lambda module, images, plan, optim, **_: (plan, {}))
        patch.setattr(planning, "select_workers", lambda module, images, plan, *_, **__: WorkerChoice(plan, 0.02, {}))
        patch.setenv("HEADWAY_CACHE", f"{out}-cache")
        try:
            return headway.pretrain(
                "rotation",
                data=PartlyUnreadable(by, lost),
                out=out,
                backbone="vit_nano",
                patch=8,
                steps=2,
                precision="float32",
            ).steps
        except HeadwayError as error:
            return str(error)


@pytest.mark.parametrize("other", [0, 1])
def test_every_process_names_the_one_that_skipped_an_image(other, workers, tmp_path):
    first, second = workers(2).run(pretrained, str(tmp_path / "r"), (other,), (3,))
    assert first == second and not (tmp_path / "r").exists()
    assert f"process {other} does not have the images of process {1 - other} (23 and 24 of them)" in first
    name = PartlyUnreadable((), ()).name(3)
    assert f"it skipped {name} (the disk is gone); let every process read the same complete files" in first


def test_many_are_counted_and_images_that_all_skip_are_no_error(workers, tmp_path):
    first, second = workers(2).run(pretrained, str(tmp_path / "r"), (1,), tuple(range(8)))
    assert first == second and " and 5 more; let every" in first
    assert workers(2).run(pretrained, str(tmp_path / "r"), (0, 1), (3,)) == [2, 2]
    assert json.loads((tmp_path / "r" / "run.json").read_text())["data"]["skipped"] == 1


def planned(cache):
    """The steps that a process plans, where each has another number of images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "select_fastest", lambda module, images, plan, optim, **_: (plan, {}))
        patch.setattr(planning, "select_workers", lambda module, images, plan, *_, **__: WorkerChoice(plan, 0.02, {}))
        patch.setenv("HEADWAY_CACHE", cache)
        config = PretrainConfig(task="rotation", recipe=TASKS["rotation"], epochs=10, precision="float32")
        request = PlanRequest(config, make_images(20 + 10 * rank()), small_train_module("rotation"), 5, 0.0)
        return make_plan(request)[0].steps


def test_the_number_of_steps_is_that_of_the_first_process(workers, tmp_path):
    assert workers(2).run(planned, str(tmp_path)) == [40, 40]
