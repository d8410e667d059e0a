"""What docs/build.py writes into the pages of the tasks."""

import runpy
from pathlib import Path

import pytest

from headway.config import Optim, Recipe
from headway.pretext.rotation import Rotation

BUILD = Path(__file__).parents[2] / "docs" / "build.py"
PROBES = {"knn": 40.0, "linear": 50.0, "best": 51.0, "ten": 30.0, "labels": 50000, "test": 10000}


def cell(task, seed=0, data="cifar10", **more):
    probes = {
        name: value + seed if name in ("knn", "linear", "best", "ten") else value for name, value in PROBES.items()
    }
    machine = {"processor": "Fast", "cores": 1}
    made = {"task": task, "data": data, "budget": 360.0, "variant": "", "seed": seed, "probes": probes}
    return made | {"machine": machine} | more


@pytest.fixture(scope="module")
def build():
    return runpy.run_path(str(BUILD))


@pytest.fixture(scope="module")
def measured(build):
    return build["measured"]


def test_a_page_shows_its_own_task_beside_the_baselines(measured):
    text = measured("mae", [cell("mae"), cell("mae", 1), cell("rotation"), cell("untrained"), cell("mae", 0, "x-dev")])
    assert "| mae | 2 | 40.5 ± 0.7 |" in text and "| untrained | 1 | 40.0 |" in text
    assert "rotation" not in text and "x-dev" not in text and "--run mae --data cifar10=FOLDER" in text
    assert "(6 minutes of one core)" in text and "--budget 360 --cores 1 --seeds 0 1`" in text


def test_the_page_of_combinations_shows_all_of_them(measured):
    cells = [cell("rotation+mae"), cell("simclr+colorization"), cell("mae"), cell("untrained in gray")]
    text = measured("combined", cells)
    assert "| rotation+mae | 1 | 40.0 |" in text and "| simclr+colorization | 1 |" in text and "| mae |" not in text
    assert "--run rotation+mae simclr+colorization --data" in text
    assert "| untrained in gray |" in text, "one of them plays on gray images"


def test_what_was_not_measured_is_said_so(measured):
    assert "has not been measured yet" in measured("combined", [cell("mae")])
    assert "has not been measured yet" in measured("dino", [cell("mae")])


def test_a_page_says_its_recipe(build):
    optim = Optim(method="muon", lr=8e-3)
    text = build["by_recipe"](Recipe(task=Rotation(), optim=optim, epochs=100, batch_size=64))
    assert text.startswith(
        "By its recipe: Muon at 0.008 for 256 images, 64 images a step (0.002 in force), weight decay 0.05"
    )
    assert "100 epochs" in text and "By its recipe: " in build["measured"]("mae", [cell("mae")])
    rising = Optim(weight_decay=0.04, final_weight_decay=0.4)
    assert "weight decay 0.04 to 0.4;" in build["by_recipe"](Recipe(task=Rotation(), optim=rising))
    text = build["by_recipe"](Recipe(task=Rotation(), optim=Optim(lr=1.5e-3), epochs=9, batch_size=256))
    assert "AdamW at 0.0015 for 256 images, 256 images a step, weight" in text


def test_a_leaderboard_has_the_best_first_and_training_from_scratch_last(build):
    scratch = cell("from scratch", probes={"ten": 20.0, "test": 10000})
    rows = {"from scratch": [scratch], "mae": [cell("mae", steps=900)], "dino": [cell("dino", 1), cell("dino", 2)]}
    head, _, *lines = build["leaderboard"](rows).splitlines()
    assert head == "| task | seeds | processor | steps | 20-NN | linear | best layer | 10 labels a class |"
    assert lines[0] == "| dino | 2 | Fast |  | 41.5 ± 0.7 | 51.5 ± 0.7 | 52.5 ± 0.7 | 31.5 ± 0.7 |"
    assert lines[1] == "| mae | 1 | Fast | 900 | 40.0 | 50.0 | 51.0 | 30.0 |"
    assert lines[2] == "| from scratch | 1 | Fast |  |  |  |  | 20.0 |"
