"""What a comparison says about the steps of its sides, and about a machine that was too busy."""

import json

import pytest

from headway.data.sources.in_memory import ArraySource
from headway.pretext import find_recipe
from headway.reports.demo_outputs import sentence
from headway.reports.steps import (
    SLOWED_RATIO,
    pretraining_steps,
    slowed_sentence,
    steps_sentence,
    too_little_to_judge,
)
from headway.train.config import PretrainConfig
from headway.train.plan.auto import FEW_PASSES
from headway.train.pretrain import run_pretraining
from tests.small import make_images

ENOUGH = {
    "steps": 1200, "planned_steps": 1200, "passes": FEW_PASSES + 1, "images_per_second": 100.0, "slow_by": 1.0,
    "slowed": False,
}  # fmt: skip
FEW, SLOWED = {**ENOUGH, "passes": FEW_PASSES - 0.5}, {**ENOUGH, "slow_by": 6.0, "slowed": True}


def run_of(**changes):
    return {"title": "mae (seed 0)", "name": "mae", **ENOUGH, **changes}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "r"
    config = PretrainConfig(
        task="rotation", recipe=find_recipe("rotation"), backbone="vit_nano", stem="conv", patch=8, size=32, steps=3
    )
    run_pretraining(config, ArraySource(make_images(20)), out)
    return out


def rewritten(run, folder, *, budget, seconds_per_step, rate):
    """The record of a run with other numbers."""
    record = json.loads((run / "run.json").read_text())
    record["config"] |= {"budget": budget, "steps": None if budget else 3}
    record["measurements"]["seconds_per_step"], record["result"]["images_per_second"] = seconds_per_step, rate
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def test_the_steps_of_a_run_come_from_its_record(run, tmp_path):
    found = pretraining_steps(run)
    assert (found["steps"], found["planned_steps"], found["passes"]) == (3, 3, 3.0)  # batches of all 20 images
    assert found["images_per_second"] > 0 and not found["slowed"], "without a budget no step is lost"
    assert pretraining_steps(tmp_path) is None, "a folder without a record"
    (tmp_path / "run.json").write_text("{}")
    assert pretraining_steps(tmp_path) is None, "the record of something else"


@pytest.mark.parametrize(
    ("budget", "factor", "slowed"),
    [(60.0, 1.1 * SLOWED_RATIO, True), (60.0, 0.9 * SLOWED_RATIO, False), (None, 9.0, False)],
)
def test_a_run_under_a_budget_is_slowed_down_below_half_of_the_measured_speed(run, tmp_path, budget, factor, slowed):
    measured = 0.1  # seconds for a step of 20 images: 200 images/s
    folder = rewritten(run, tmp_path / "r", budget=budget, seconds_per_step=measured, rate=200 / factor)
    found = pretraining_steps(folder)
    assert found["slow_by"] == pytest.approx(factor, abs=0.01) and found["slowed"] is slowed


def test_a_comparison_names_the_runs_that_were_slowed_down():
    fair, unfair = run_of(title="rotation (seed 0)"), run_of(slowed=True)
    assert slowed_sentence([fair]) is None and slowed_sentence([]) is None
    text = slowed_sentence([unfair, fair])
    assert text.startswith("Unequal conditions: mae (seed 0) ran at less than half the speed")
    assert "rotation (seed 0) did not" in text and "quieter machine" in text
    assert "while training from scratch took all of its steps" in slowed_sentence([unfair])


def test_the_steps_of_both_sides_in_a_sentence():
    runs = [run_of(steps=1500, passes=12.0), run_of(steps=900, passes=7.2), run_of(name="simclr", steps=700)]
    text = steps_sentence(runs, {"fine-tuned": [150], "from scratch": [300, 1200], "linear": [0, 0]})
    assert text == (
        "Steps: pretraining mae 900 to 1,500 (7.2 to 12.0 passes over the images), simclr 700 (9.0 passes over the "
        "images); on labels fine-tuned 150, from scratch 300 to 1,200."
    )
    assert steps_sentence([], {"linear": [0]}) == "Steps: on labels none."


def test_too_few_passes_and_a_busy_machine_are_too_little_to_judge():
    assert too_little_to_judge(ENOUGH) is None and too_little_to_judge({**ENOUGH, "passes": FEW_PASSES}) is None
    assert "budget was too short, or the machine too busy" in too_little_to_judge(FEW)
    assert "--budget" in too_little_to_judge(FEW) and "7.5 passes" in too_little_to_judge(FEW)
    assert "too busy to judge" in too_little_to_judge(SLOWED) and "6.0 times as long" in too_little_to_judge(SLOWED)


@pytest.mark.parametrize(
    ("low", "high", "pretraining", "words"),
    [
        (1.0, 5.0, ENOUGH, "Pretraining helped: +"),
        (1.0, 5.0, SLOWED, "Pretraining helped: +"),
        (1.0, 5.0, FEW, "Pretraining helped: +"),
        (-1.0, 3.0, ENOUGH, "Cannot tell whether pretraining helped: +"),
        (-5.0, -1.0, ENOUGH, "Pretraining hurt: -"),
        (-1.0, 3.0, FEW, "The budget was too short, or the machine too busy, to judge"),
        (-5.0, -1.0, FEW, "The budget was too short, or the machine too busy, to judge"),
        (-1.0, 3.0, SLOWED, "The machine was too busy to judge"),
        (-5.0, -1.0, SLOWED, "The machine was too busy to judge"),
        (-8.0, -2.6, {**SLOWED, **FEW, "slowed": True}, "The machine was too busy to judge"),
    ],
)
def test_the_demo_blames_no_pretraining_that_had_too_few_steps(low, high, pretraining, words):
    gain = {"points": (low + high) / 2, "low": low, "high": high}
    details = {"data": "photos", "shuffled_labels": False, "method": "pretrained linear", "labels_per_class": 5}
    steps = {
        "pretraining": pretraining, "fine_tuning": {"steps": 10, "planned_steps": 40},
        "from_scratch": {"steps": 300, "planned_steps": 400},
    }  # fmt: skip
    text = sentence(gain, details, steps)
    assert text.startswith(words) and text.count("hurt") == words.count("hurt")
    assert "Pretraining took 1,200 steps" in text and f"{pretraining['passes']:.1f} passes" in text
    assert "fine-tuning 10 and training from scratch 300" in text and "40 and 400" in text
