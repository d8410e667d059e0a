"""What docs/build.py writes into the pages of docs/ and README.md, and the diagram that it draws."""

import json
import runpy
from pathlib import Path

import pytest

from headway.config import Optim, Recipe
from headway.pretext.rotation import Rotation

BUILD = Path(__file__).parents[2] / "docs" / "build.py"
SCORES = {"knn": 40.0, "linear": 50.0, "linear_best_layer": 51.0, "linear_10_per_class": 30.0}


def cell(task, seed=0, data="cifar10", **more):
    probes = {name: value + seed for name, value in SCORES.items()} | {"labels": 50000, "test": 10000}
    machine = {"processor": "Fast", "cores": 1}
    made = {"task": task, "data": data, "budget": 360.0, "variant": "", "seed": seed, "probes": probes}
    return made | {"machine": machine} | more


@pytest.fixture(scope="module")
def build():
    return runpy.run_path(str(BUILD))


@pytest.fixture(scope="module")
def task_results(build):
    return build["task_results"]


def test_the_page_of_errors_lists_all_codes(build):
    assert build["error_table"]() in (BUILD.parent / "errors.md").read_text()


def test_a_page_shows_its_own_task_beside_the_baselines(task_results):
    cells = [cell("mae"), cell("mae", 1), cell("rotation"), cell("untrained"), cell("mae", 0, "x-dev")]
    text = task_results("mae", cells)
    assert "| mae | 2 | 40.5 ± 0.7 |" in text and "| untrained | 1 | 40.0 |" in text
    assert "rotation" not in text and "x-dev" not in text and "--run mae --data cifar10=FOLDER" in text
    assert "(6 minutes of one core)" in text and "--budget 360 --cores 1 --seeds 0 1`" in text


def test_the_page_of_combinations_shows_all_of_them(task_results):
    cells = [cell("rotation+mae"), cell("simclr+colorization"), cell("mae"), cell("untrained in grayscale")]
    text = task_results("combined", cells)
    assert "| rotation+mae | 1 | 40.0 |" in text and "| simclr+colorization | 1 |" in text and "| mae |" not in text
    assert "--run rotation+mae simclr+colorization --data" in text
    assert "| untrained in grayscale |" in text, "one of the combined tasks takes grayscale images"


def test_a_page_says_what_was_not_measured(task_results):
    assert "has not been measured yet" in task_results("combined", [cell("mae")])
    assert "has not been measured yet" in task_results("dino", [cell("mae")])


def test_a_page_states_the_recipe(build):
    optim = Optim(method="muon", lr=8e-3)
    text = build["recipe_sentence"](Recipe(task=Rotation(), optim=optim, epochs=100, batch_size=64))
    assert text.startswith(
        "The recipe: Muon at learning rate 0.008 for 256 images, 64 images per step (peak 0.002), weight decay 0.05"
    )
    assert "100 epochs" in text and "The recipe: " in build["task_results"]("mae", [cell("mae")])
    rising = Optim(weight_decay=0.04, final_weight_decay=0.4)
    assert "weight decay 0.04 to 0.4;" in build["recipe_sentence"](Recipe(task=Rotation(), optim=rising))
    text = build["recipe_sentence"](Recipe(task=Rotation(), optim=Optim(lr=1.5e-3), epochs=9, batch_size=256))
    assert "AdamW at learning rate 0.0015 for 256 images, 256 images per step, weight" in text


def test_a_leaderboard_has_the_best_first_and_training_from_scratch_last(build):
    scratch = cell("from scratch", probes={"linear_10_per_class": 20.0, "test": 10000})
    rows = {"from scratch": [scratch], "mae": [cell("mae", steps=900)], "dino": [cell("dino", 1), cell("dino", 2)]}
    head, _, *lines = build["leaderboard"](rows).splitlines()
    assert head == "| task | seeds | processor | steps | 20-NN | linear | best layer | 10 labels per class |"
    assert lines[0] == "| dino | 2 | Fast |  | 41.5 ± 0.7 | 51.5 ± 0.7 | 52.5 ± 0.7 | 31.5 ± 0.7 |"
    assert lines[1] == "| mae | 1 | Fast | 900 | 40.0 | 50.0 | 51.0 | 30.0 |"
    assert lines[2] == "| from scratch | 1 | Fast |  |  |  |  | 20.0 |"


def test_the_leaderboard_page_is_what_the_cells_say(build):
    page = (BUILD.parent / "leaderboard.md").read_text(encoding="utf-8")
    groups = build["group_rows"](build["read_cells"](build["CELLS"]))
    assert len(groups) == 3
    for (data, budget), rows in groups.items():
        assert f"<!-- measured: {data} {budget:g} -->\n{build['leaderboard'](rows)}<!-- end -->" in page


def test_every_cell_of_the_leaderboard_has_the_keys_that_are_read(build):
    for file in build["CELLS"].glob("*.json"):
        probes = json.loads(file.read_text())["probes"]
        assert probes.keys() & build["PROBES"].keys() in (set(build["PROBES"]), {"linear_10_per_class"}), file.name


def test_the_rows_of_the_diagram_import_only_rows_below(build, monkeypatch):
    monkeypatch.syspath_prepend(str(BUILD.parent))
    from architecture_diagram import ROOT, read_rows

    rows = read_rows()
    names = [row.name for row in rows]
    assert names[0] == ROOT and set(names[-2:]) == {"cli", "estimator"} and {"data", "pretext", "train"} < set(names)
    for number, row in enumerate(rows):
        assert row.imports <= set(names[:number]), row.name
    assert "sources/" in rows[names.index("data")].parts and "mae" in rows[names.index("pretext")].parts
    assert "utils/" in rows[0].parts or "files" in str(rows[0].parts)


def test_the_diagram_is_drawn_alike_every_time(build, tmp_path):
    for name in ("a.png", "b.png"):
        build["draw_architecture"](tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_circle_of_imports_has_no_diagram(build, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BUILD.parent))
    from architecture_diagram import read_rows

    for name, other in (("data", "nn"), ("nn", "data")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.py").write_text(f"from headway.{other}.a import x\n")
    with pytest.raises(ValueError, match=r"circle: \['data', 'nn'\]"):
        read_rows(tmp_path)
