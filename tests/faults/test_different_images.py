"""Processes that could not read the same images would part ways unseen: all of them say so before a step is taken."""

import json

import pytest

import headway
from headway.distributed import rank
from headway.errors import HeadwayError, UnreadableImageError
from headway.pretext import TASKS
from headway.synthetic import DrawnAnimals
from headway.train.config import PretrainConfig
from headway.train.plan import make_plan as planning
from headway.train.plan.make_plan import PlanRequest, make_plan
from tests.small import make_images, small_train_module


class Torn(DrawnAnimals):
    """Drawn animals, of which the processes in ``by`` cannot read some."""

    def __init__(self, by, lost=(3,)):
        super().__init__(24, 32)
        self.by, self.lost = by, lost

    def image(self, index):
        if rank() in self.by and index in self.lost:
            raise UnreadableImageError("the disk is gone")
        return super().image(index)


def pretrained(out, by, lost):
    """What a process is told, or the steps that it took."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "select_fastest", lambda module, images, plan, optim, **_: (plan, {}))
        patch.setattr(planning, "measure_step", lambda *_, **__: 0.02)
        patch.setenv("HEADWAY_CACHE", f"{out}-cache")
        try:
            return headway.pretrain(
                "rotation", data=Torn(by, lost), out=out, backbone="vit_nano", patch=8, steps=2, precision="float32"
            )["steps"]
        except HeadwayError as error:
            return str(error)


@pytest.mark.parametrize("odd", [0, 1])
def test_every_process_names_the_one_that_skipped_a_picture(odd, workers, tmp_path):
    one, other = workers(2).run(pretrained, str(tmp_path / "r"), (odd,), (3,))
    assert one == other and not (tmp_path / "r").exists()
    assert f"process {odd} does not have the images of process {1 - odd} (23 and 24 of them)" in one
    assert (
        f"it skipped {Torn((), ()).name(3)} (the disk is gone); let every process read the same complete files" in one
    )


def test_many_are_counted_and_what_all_skip_is_no_fault(workers, tmp_path):
    one, other = workers(2).run(pretrained, str(tmp_path / "r"), (1,), tuple(range(8)))
    assert one == other and " and 5 more; let every" in one
    assert workers(2).run(pretrained, str(tmp_path / "r"), (0, 1), (3,)) == [2, 2]
    assert json.loads((tmp_path / "r" / "run.json").read_text())["data"]["skipped"] == 1


def planned(cache):
    """The steps that a process plans, where each believes in another number of images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "select_fastest", lambda module, images, plan, optim, **_: (plan, {}))
        patch.setattr(planning, "measure_step", lambda *_, **__: 0.02)
        patch.setenv("HEADWAY_CACHE", cache)
        config = PretrainConfig(task="rotation", recipe=TASKS["rotation"], epochs=10, precision="float32")
        request = PlanRequest(config, make_images(20 + 10 * rank()), small_train_module("rotation"), 5, 0.0)
        return make_plan(request)[0].steps


def test_the_number_of_steps_is_that_of_the_first_process(workers, tmp_path):
    assert workers(2).run(planned, str(tmp_path)) == [40, 40]
